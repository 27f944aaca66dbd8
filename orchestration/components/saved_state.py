"""State of a vendor or of dbt, read once and saved, so that loading the code location calls nobody."""

from __future__ import annotations

import asyncio
import json
import logging
import os
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

from orchestration.lineage.consumers import Finding
from orchestration.settings import settings

log = logging.getLogger(__name__)


class StateMissing(dg.DagsterError):
    """There is no saved state to build assets from; the message has the command that makes it."""


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


class SavedState(StateBackedComponent):
    """A state-backed component whose state is below `DATAPLATFORM_STATE_DIR`.

    Dagster's own local file is inside the package and is deleted before the new state is read. Here a refresh that fails
    leaves the last state as it was, and a location without any state does not load, where Dagster would show no assets.
    """

    state_name: ClassVar[str]
    """The name of the file or folder, and what messages call the state."""

    @property
    @override
    def defs_state_config(self) -> DefsStateConfig:
        # Never on load: `dg` commands would call every vendor each time.
        arguments = DefsStateConfigArgs.local_filesystem().model_copy(update={"refresh_if_dev": False})
        return DefsStateConfig.from_args(arguments, default_key=self.state_name)

    @classmethod
    def state_path(cls) -> Path:
        return settings().dataplatform_state_dir / cls.state_name

    @override
    async def refresh_state(self, project_root: Path) -> str:
        await asyncio.to_thread(self.refresh)
        return self.state_name

    @abstractmethod
    def refresh(self) -> Refreshed:
        """Read the state anew and save it whole, or raise and keep the last one."""

    @abstractmethod
    def read_at(self) -> datetime | None:
        """When the saved state was read; None where there is none."""

    def stale(self) -> bool:
        """Whether a refresh is due before the code location can load."""
        return self.read_at() is None

    @classmethod
    def missing(cls) -> StateMissing:
        return StateMissing(
            f"There is no saved state of {cls.state_name} at {cls.state_path()}: run `dataplatform refresh`."
        )

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
        """The saved state; None where there is none, or one that an older version of this code wrote."""
        try:
            return Stamped.model_validate_json(cls.state_path().read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    @classmethod
    def saved(cls) -> str:
        """The saved state. Raises StateMissing."""
        stamped = cls.stamped()
        if stamped is None:
            raise cls.missing()
        return json.dumps(stamped.state)

    def save(self, state: str) -> None:
        """Save a state in place of the last one, whole, with the time and where it is from."""
        self.put(Stamped(read_at=datetime.now(UTC), source=self.source, state=json.loads(state)))

    @classmethod
    def put(cls, stamped: Stamped) -> None:
        """The same, of a state that was read elsewhere."""
        path = cls.state_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            new = Path(folder) / path.name
            new.write_text(stamped.model_dump_json(indent=1), encoding="utf-8")
            os.replace(new, path)

    @override
    def read_at(self) -> datetime | None:
        stamped = self.stamped()
        return stamped.read_at if stamped else None

    @override
    def refresh(self) -> Refreshed:
        last = self.saved() if self.stamped() else None
        try:
            before: Lineage = self.lineage(last) if last else {}
        except (ValueError, KeyError, dg.DagsterError):  # that of an older version of this code
            last, before = None, {}
        state = self.read(last)
        # A state from which no assets can be built would take the whole location down, and its alerts with it.
        after = self.lineage(state)
        if before and not after and not self.tells_losses:
            raise StateIncomplete(
                f"{self.source} lists nothing any more, which would take {len(before)} assets out of the graph. Where that is so, "
                f"delete {self.state_path()} and refresh again."
            )
        self.save(state)
        for finding in self.findings(state):
            log.warning("%s: %s: %s", self.state_name, finding.key, finding.why)
        return Refreshed.of(before, after)

    @override
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        if settings().dataplatform_state_on_load:
            from orchestration.components.state_bucket import take_newer  # it imports this module

            take_newer(self)
        return self.definitions(self.saved())

    @override
    def build_defs_from_state(self, context: dg.ComponentLoadContext, state_path: Path | None) -> dg.Definitions:
        return self.build_defs(context)

    @override
    def write_state_to_path(self, state_path: Path) -> None:
        # Only Dagster's own way to refresh asks for this, and `refresh_state` above replaces it.
        self.refresh()

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
