"""State of a vendor or of dbt, read once and saved, so that loading the code location calls nobody."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, override

import dagster as dg
from dagster.components.component.state_backed_component import StateBackedComponent
from dagster.components.utils.defs_state import DefsStateConfig, DefsStateConfigArgs
from pydantic import AwareDatetime, BaseModel, JsonValue, ValidationError

from orchestration.components.state_files import finish_publication, open_staging, put_in_place
from orchestration.lineage.consumers import Finding
from orchestration.settings import settings

log = logging.getLogger(__name__)


class StateMissing(dg.DagsterError):
    """There is no saved state to build assets from; the message has the command that makes it."""


class StateUnreadable(StateMissing):
    """There is a saved state, but no assets can be built from it: it is broken, or another version of this code wrote it."""


class StateRefused(dg.DagsterError):
    """Assets cannot be built from a state that was just read. `path` is where that state is; `cause` is the error."""

    def __init__(self, path: Path, cause: Exception) -> None:
        super().__init__(str(cause))
        self.path, self.cause = path, cause


class StateIncomplete(dg.DagsterError):
    """What a vendor answered lacks something that it had before and that it does not say is gone."""


Lineage = Mapping[str, frozenset[str]]
"""The assets of a state by key, each with the keys of what is upstream of it."""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh has brought: how many assets there are now, and which are new since the one before, or gone, by key."""

    assets: int
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    @classmethod
    def of(cls, before: Lineage, after: Lineage) -> Refreshed:
        """The first time all is new, which is no news."""
        new = tuple(sorted(after.keys() - before.keys())) if before else ()
        return cls(len(after), new, tuple(sorted(before.keys() - after.keys())))


@dataclass(frozen=True)
class Candidate:
    """A state that was just read and is not in place yet."""

    part: SavedState
    path: Path
    """The file or folder with the state, named like the state in place, on the same file system."""
    refreshed: Refreshed
    read_at: datetime
    """When the state was read (UTC)."""


class SavedState(StateBackedComponent):
    """A state-backed component whose state is below `DATAPLATFORM_STATE_DIR`.

    Dagster's own local file is inside the package and is deleted before the new state is read. Here a refresh that fails
    leaves the last state as it was, and a location without any state does not load, where Dagster would show no assets.
    """

    state_name: ClassVar[str]
    """The name of the file or folder, and what messages call the state."""
    left_out: ClassVar[dict[str, str] | None] = None
    """In a proof (`state_proof`), the parts that have no readable state, each with the reason: they make no assets there. Else None,
    and a part without a readable state raises StateMissing."""

    @property
    @override
    def defs_state_config(self) -> DefsStateConfig:
        # Never on load: `dg` commands would call every vendor each time.
        arguments = DefsStateConfigArgs.local_filesystem().model_copy(update={"refresh_if_dev": False})
        return DefsStateConfig.from_args(arguments, default_key=self.state_name)

    @classmethod
    def state_path(cls) -> Path:
        """Return where the state in place is."""
        return settings().dataplatform_state_dir / cls.state_name

    @override
    async def refresh_state(self, project_root: Path) -> str:
        from orchestration.components.refresh import refresh_all  # it imports this module

        for line in await asyncio.to_thread(refresh_all, [self], lambda _line: None):
            if line.failed:
                raise dg.DagsterError(line.text)
        return self.state_name

    @abstractmethod
    def stage(self, folder: Path) -> Candidate:
        """Read the state and write it to `folder`, under its name. The state in place stays as it is.

        Raises StateRefused where no assets can be built from what was read, StateIncomplete where it lacks what was there before,
        and whatever reading raises.
        """

    @abstractmethod
    def differs(self, path: Path) -> bool:
        """Return whether the state at `path` differs from the one in place in more than when it was read."""

    @abstractmethod
    def find_fault(self) -> str | None:
        """Return why the state in place cannot be read, or None where it can be, or where there is none."""

    @abstractmethod
    def read_at(self) -> datetime | None:
        """Return when the state in place was read (UTC), or None where there is none that can be read."""

    def stale(self) -> bool:
        """Whether a refresh is due before the code location can load."""
        return self.read_at() is None

    def refresh(self) -> Refreshed:
        """Read the state and put it in place, without building the rest of the code location from it: `refresh_all` does that first.

        Raises what `stage` raises; the state in place then stays.
        """
        with open_staging(settings().dataplatform_state_dir) as folder:
            candidate = self.stage(folder)
            put_in_place(candidate.path, self.state_path())
        return candidate.refreshed

    @classmethod
    def missing(cls) -> StateMissing:
        """Return the error that there is no state."""
        return StateMissing(
            f"There is no saved state of {cls.state_name} at {cls.state_path()}: run `dataplatform refresh`."
        )

    @classmethod
    def unreadable(cls, why: str) -> StateUnreadable:
        """Return the error that the state in place cannot be read. `why` is a clause."""
        return StateUnreadable(
            f"The saved state of {cls.state_name} at {cls.state_path()} cannot be used: {why}. Run `dataplatform refresh`."
        )

    def is_left_out(self) -> bool:
        """Return whether this is a proof, and this part has no readable state and makes no assets in it. Record the reason."""
        if SavedState.left_out is None:
            return False
        why = self.find_fault() or ("there is none" if self.read_at() is None else None)
        if why is not None:
            SavedState.left_out[self.state_name] = why
        return why is not None

    @abstractmethod
    @override
    def write_state_to_path(self, state_path: Path) -> None: ...


class Stamped(BaseModel):
    """A file of saved state: what was read, when, and from where."""

    read_at: AwareDatetime
    source: str
    state: JsonValue


class VendorState(SavedState):
    """A saved state that is one file, read from a vendor's API."""

    tells_losses: ClassVar[bool] = False
    """Whether `read` itself refuses an answer that lacks what is not gone; else an answer without any asset is refused."""

    @property
    @abstractmethod
    def source(self) -> str:
        """The address that the state is read from."""

    @abstractmethod
    def read(self, last: str | None) -> str:
        """What there is now, as JSON. `last` is what there was at the refresh before, if any."""

    @abstractmethod
    def definitions(self, state: str) -> dg.Definitions:
        """The assets of a state."""

    def findings(self, state: str) -> list[Finding]:
        """Return what a person has to correct, of a state: settings that name what it does not have, and what could not be in the graph."""
        return []

    @classmethod
    def stamped(cls) -> Stamped | None:
        """The saved state; None where there is none, or none that can be read, as one that an older version of this code wrote."""
        try:
            return read_stamped(cls.state_path())
        except (OSError, ValueError):
            return None

    @classmethod
    def saved(cls) -> str:
        """The saved state. Raises StateMissing."""
        try:
            return json.dumps(read_stamped(cls.state_path()).state)
        except FileNotFoundError:
            raise cls.missing() from None
        except (OSError, ValueError) as error:
            raise cls.unreadable(explain(error)) from error

    def save(self, state: str) -> None:
        """Save a state in place of the last one, whole, with the time and where it is from."""
        self.put(Stamped(read_at=datetime.now(UTC), source=self.source, state=json.loads(state)))

    @classmethod
    def put(cls, stamped: Stamped) -> None:
        """The same, of a state that was read elsewhere."""
        path = cls.state_path()
        with open_staging(path.parent) as folder:
            put_in_place(write_stamped(folder / path.name, stamped), path)

    @override
    def read_at(self) -> datetime | None:
        stamped = self.stamped()
        return stamped.read_at if stamped else None

    @override
    def find_fault(self) -> str | None:
        try:
            stamped = read_stamped(self.state_path())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return explain(error)
        try:
            self.lineage(json.dumps(stamped.state))
        except Exception as error:  # whatever the component's code raises of a state that it did not write
            return explain(error)
        return None

    @override
    def differs(self, path: Path) -> bool:
        stamped = self.stamped()
        return stamped is None or stamped.state != read_stamped(path).state

    @override
    def stage(self, folder: Path) -> Candidate:
        stamped = self.stamped()
        last = json.dumps(stamped.state) if stamped else None
        try:
            before: Lineage = self.lineage(last) if last else {}
        except Exception:  # whatever the component's code raises of a state that it did not write: the same as no state
            last, before = None, {}
        state = self.read(last)
        new = Stamped(read_at=datetime.now(UTC), source=self.source, state=json.loads(state))
        path = write_stamped(folder / self.state_name, new)
        try:
            after = self.lineage(state)
        except Exception as error:
            raise StateRefused(path, error) from error
        if before and not after and not self.tells_losses:
            raise StateIncomplete(
                f"{self.source} lists nothing any more, which would take {len(before)} assets out of the graph. Where that is so, "
                f"delete {self.state_path()} and refresh again."
            )
        for finding in self.findings(state):
            log.warning("%s: %s: %s", self.state_name, finding.key, finding.why)
        return Candidate(self, path, Refreshed.of(before, after), new.read_at)

    @override
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        finish_publication(settings().dataplatform_state_dir)
        if settings().dataplatform_state_on_load:
            from orchestration.components.state_bucket import take_newer  # it imports this module

            take_newer(self, context.component_tree)
        if self.is_left_out():
            return dg.Definitions()
        state = self.saved()
        try:
            return self.definitions(state)
        except StateMissing:
            raise
        except Exception as error:  # whatever the component's code raises of a state that another version wrote
            raise self.unreadable(explain(error)) from error

    @override
    def build_defs_from_state(self, context: dg.ComponentLoadContext, state_path: Path | None) -> dg.Definitions:
        return self.build_defs(context)

    @override
    def write_state_to_path(self, state_path: Path) -> None:
        # Only Dagster's own way to refresh asks for this, and `refresh_state` above replaces it.
        with tempfile.TemporaryDirectory(dir=state_path.parent) as folder:
            put_in_place(self.stage(Path(folder)).path, state_path)

    def lineage(self, state: str) -> Lineage:
        """The assets that a state makes. Raises what `definitions` raises."""
        return {spec.key.to_user_string(): frozenset(_upstream(spec)) for spec, _ in self._specs(state)}

    def described(self) -> list[str]:
        """The saved state as a code location that has loaded it knows it: a line for each asset, another one where Dagster would do
        or show something else. Raises StateMissing, and what `definitions` raises."""
        return sorted(
            repr(
                (
                    spec.key.to_user_string(), sorted(_upstream(spec)), sorted(spec.owners), sorted(spec.tags.items()),
                    spec.description, executable, spec.automation_condition is not None,
                )
            )
            for spec, executable in self._specs(self.saved())
        )  # fmt: skip

    def _specs(self, state: str) -> Iterator[tuple[dg.AssetSpec, bool]]:
        """Each asset of a state, and whether it is made here."""
        assets: Any = self.definitions(state).assets or []
        for one in assets:
            if isinstance(one, dg.AssetSpec):
                yield one, False
            else:
                yield from ((spec, True) for spec in one.specs)


def _upstream(spec: dg.AssetSpec) -> Iterator[str]:
    return (dep.asset_key.to_user_string() for dep in spec.deps)


def read_stamped(path: Path) -> Stamped:
    """Return the saved state of a file. Raises OSError, and ValueError where the file is broken or of an older version of this code."""
    return Stamped.model_validate_json(path.read_bytes())


def write_stamped(path: Path, stamped: Stamped) -> Path:
    """Write a state to a file that nobody reads yet, and return its path."""
    path.write_text(stamped.model_dump_json(indent=1), encoding="utf-8")
    return path


def explain(error: BaseException) -> str:
    """Return an error as a clause, on one line."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(one) for one in first["loc"])
        return f"it is broken, or another version of this code wrote it ({where + ': ' if where else ''}{first['msg']})"
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
