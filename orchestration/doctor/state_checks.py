"""What this machine has: the saved state of each vendor, dbt's manifest, and the versions of the packages."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from packaging.requirements import Requirement
from pydantic import AwareDatetime, BaseModel, JsonValue, ValidationError

from orchestration.components.dbt_files import FOLDER, MANIFEST, changed_since
from orchestration.components.setting_names import UnknownName, check_files
from orchestration.doctor.datasets import Datasets, of_fivetran, of_landed, of_manifest, projects
from orchestration.doctor.google_errors import ERRORS, explained
from orchestration.doctor.landed_columns import SourceTable, source_tables
from orchestration.doctor.model import Check, Outcome, failed, ok, skipped, warning
from orchestration.doctor.storage_checks import ADDRESS, kept_at, state_bucket
from orchestration.doctor.usage import NOT_USED, Usage
from orchestration.lineage.ages import age
from orchestration.settings import REPOSITORY, Settings

DATASETS_OF: Mapping[str, Callable[[Any], Iterator[str]]] = {"fivetran.json": of_fivetran, "landed.json": of_landed}
STATES = (*DATASETS_OF, "hightouch.json", "omni.json", "explo.json", "hex.json")
OLD = timedelta(hours=24)
"""It is read anew every hour; a day is when the platform's own check of it becomes an error."""
REFRESH = "`dataplatform refresh`"
STATE_CHECK, MANIFEST_CHECK, NAMES_CHECK = "state: saved", "dbt: manifest", "state: names in defs/"
NAMED = 5
"""So many names in settings are shown in a line; of more, the number is given."""
SHOWN = ("dagster", "dbt-core", "dbt-bigquery")


class Saved(BaseModel):
    """A file of saved state, as `orchestration.components.saved_state` stamps it, which would import Dagster."""

    read_at: AwareDatetime
    state: dict[str, JsonValue]


@dataclass(frozen=True)
class States:
    """The files of a state directory that can be read, and what is wrong with the others."""

    saved: Mapping[str, Saved]
    manifest: Mapping[str, Any] | None
    wrong: Mapping[str, str]
    parsed_at: datetime | None

    @property
    def sources(self) -> Mapping[str, Sequence[SourceTable]]:
        """The tables that dbt's models read, by source; none where no manifest tells of any."""
        return source_tables(self.manifest) if self.manifest else {}

    @property
    def datasets(self) -> Datasets | None:
        """Those of the graph; None where no file tells of any."""
        found = of_manifest(self.manifest) if self.manifest else Datasets({}, frozenset())
        more = [name for file, of in DATASETS_OF.items() if file in self.saved for name in of(self.saved[file].state)]
        landed = dict.fromkeys((name for name in more if name not in found.built), None) | dict(found.landed)
        return replace(found, landed=landed) if landed or found.built else None


def read(folder: Path, used: Collection[str] | None = None) -> States:
    """Return what can be read of a state directory; of `used`, where these are the states that components have. A file of a component
    that was taken away may still be there."""
    saved, wrong = dict[str, Saved](), dict[str, str]()
    for name in STATES:
        if used is not None and name not in used:
            wrong[name] = NOT_USED
            continue
        try:
            saved[name] = Saved.model_validate_json((folder / name).read_bytes())
        except OSError as error:
            wrong[name] = _unread(error, folder / name)
        except ValidationError:
            wrong[name] = "is of another version of this code, or broken"
    path = folder / FOLDER / MANIFEST
    manifest, parsed_at = None, None
    try:
        found = json.loads(path.read_text("utf-8"))
        of_manifest(found)
        source_tables(found)
        manifest, parsed_at = cast("Mapping[str, Any]", found), datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError as error:
        wrong[MANIFEST] = _unread(error, path)
    except (ValueError, KeyError, TypeError, AttributeError):
        wrong[MANIFEST] = "is no manifest of dbt, or is broken"
    return States(saved, manifest, wrong, parsed_at)


def checks(values: Settings, states: States, usage: Usage | None = None) -> Iterator[Check]:
    """States that no component has are left out; `usage` as in `catalogue.all_checks`."""

    def look(name: str, read: Callable[[], Outcome]) -> Callable[[], Outcome]:
        return read if usage is None or name in usage.states else lambda: skipped(NOT_USED)

    after = (STATE_CHECK,)
    yield Check(STATE_CHECK, lambda: _any(states, values.dataplatform_state_dir), needs=("dataplatform_state_dir",))
    for name in STATES:
        saved = look(name, lambda name=name: _saved(values, states, name, datetime.now(UTC)))
        yield Check(f"state: {name}", saved, after=after)
    yield Check(
        NAMES_CHECK, lambda: named(check_files({name: one.state for name, one in states.saved.items()})), after=after
    )
    yield Check(MANIFEST_CHECK, look(FOLDER, lambda: _manifest(values, states)), after=after)
    yield Check("versions", lambda: versions(required(REPOSITORY / "pyproject.toml"), _version))


def _any(states: States, folder: Path) -> Outcome:
    if len(states.wrong) > len(STATES):  # not one can be read, the manifest neither
        return failed(f"nothing is saved in {folder}", f"Run {REFRESH}, or see DATAPLATFORM_STATE_DIR")
    return ok(f"in {folder}")


def _saved(values: Settings, states: States, name: str, now: datetime) -> Outcome:
    if name in states.wrong:
        return failed(states.wrong[name], f"Run {REFRESH}, without which the code location does not load")
    read_at = states.saved[name].read_at
    if now - read_at > OLD and values.dataplatform_state_on_load and values.dataplatform_state_bucket:
        # The files of a container are those of its last load, which comes when the graph has changed.
        try:
            read_at = max(read_at, kept_at(values, name) or read_at)
        except ERRORS as error:
            return explained(error, state_bucket(values).role, ADDRESS)
    return aged(read_at, now)


def named(unknown: Sequence[UnknownName]) -> Outcome:
    """The names in settings that nothing has."""
    if not unknown:
        return ok("every connection, sync and table that a setting names is there")
    more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
    found = "; ".join(f"{one.setting}: {one.text}" for one in unknown[:NAMED])
    return warning(
        f"{found}{more}", "Correct the settings, or run `dataplatform refresh` where these are new at the vendor"
    )


def aged(read_at: datetime, now: datetime) -> Outcome:
    found = f"read {age(now - read_at)} ago"
    if now - read_at <= OLD:
        return ok(found)
    return warning(found, f"Run {REFRESH}, and see why the schedule `hourly_refresh_state` does not")


def _manifest(values: Settings, states: States) -> Outcome:
    if states.manifest is None or states.parsed_at is None:
        return failed(states.wrong[MANIFEST], f"Run {REFRESH}, which parses the project")
    if other := elsewhere(states.manifest, values.modelled_project, values.raw_project):
        return failed(other, f"Run {REFRESH}, or build the image for these projects: they are fixed in it")
    made_by = str(states.manifest.get("metadata", {}).get("dbt_version", "unknown"))
    return parsed(made_by, _version("dbt-core") or "none", next(changed_since(states.parsed_at), None))


def elsewhere(manifest: Mapping[str, Any], modelled: str, raw: str) -> str | None:
    """What a manifest has in other projects than those of the settings; None where it has what it should. Some of it may be in a third."""
    sources, built = projects(manifest)
    for what, found, wanted in (("models", built, modelled), ("sources", sources, raw)):
        if found and wanted not in found:
            return f"parsed for {what} in {', '.join(sorted(found))}, and the settings say {wanted}"
    return None


def parsed(made_by: str, installed: str, changed: Path | None) -> Outcome:
    """A manifest by the version of dbt that made it, and a file that was changed since."""
    if _minor(made_by) != _minor(installed):
        return failed(f"made by dbt {made_by}, and {installed} is installed", f"Run {REFRESH}")
    if changed is not None:
        return warning(f"older than {changed.name}", f"Run {REFRESH}, and reload the code location")
    return ok(f"made by dbt {made_by}, and nothing of the project was changed since")


def required(project: Path) -> list[str]:
    """What a pyproject.toml requires (PEP 508). Read from there because the image has the project's code without installing it."""
    return tomllib.loads(project.read_text("utf-8"))["project"]["dependencies"]


def versions(required: list[str], installed: Callable[[str], str | None]) -> Outcome:
    """The packages that are required (PEP 508) against those that are installed."""
    parsed_ = [Requirement(text) for text in required]
    wanted = [one for one in parsed_ if one.marker is None or one.marker.evaluate()]
    wrong = [
        f"{one.name} {installed(one.name) or 'is missing'} ({one.specifier} is required)"
        for one in wanted
        if not one.specifier.contains(installed(one.name) or "0", prereleases=True) or installed(one.name) is None
    ]
    if wrong:
        return failed("; ".join(wrong), "Run `make install`: uv.lock has the versions that go together")
    shown = ", ".join(f"{name} {installed(name)}" for name in SHOWN if installed(name))
    return ok(f"as required: {shown}")


def _minor(text: str) -> list[str]:
    return text.split(".")[:2]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _unread(error: OSError, path: Path) -> str:
    return f"there is none at {path}" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
