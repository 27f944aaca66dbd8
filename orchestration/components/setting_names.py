"""Settings in `defs/` that name connections, syncs, tables or projects, compared with those that exist. Imports no Dagster: the doctor reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from orchestration.components import fivetran_selection
from orchestration.settings import REPOSITORY
from product_events.registry import owners

if TYPE_CHECKING:
    from orchestration.lineage.consumers import Finding

DEFS = REPOSITORY / "orchestration" / "defs"
NEAREST = 3
"""So many existing names are given for one that does not exist."""
RUN_CATEGORY = "Run when its data lands"
"""The category of Hex projects by default, which need not be used."""
LEFT_OUT = ":excluded"
"""The part of the state of landed tables that has those that are excluded. No dataset's name has a colon."""


@dataclass(frozen=True)
class UnknownName:
    """A name in a setting that nothing has. `what` is what it should name; `nearest` are existing names that are like it."""

    setting: str
    name: str
    what: str
    nearest: tuple[str, ...]
    file: str

    @property
    def text(self) -> str:
        """What is wrong, and what to do."""
        like = f" The nearest: {', '.join(f'`{one}`' for one in self.nearest)}." if self.nearest else " There is none."
        return f"`{self.name}` in {self.file} names no {self.what}.{like} Correct it, or take it out."

    @property
    def finding(self) -> Finding:
        """The same for `dataplatform lineage check`."""
        from orchestration.lineage.consumers import Finding

        return Finding("setting", self.setting, self.text)


Named = tuple[str, str, str, Sequence[str]]
"""A setting, the name in it that nothing has, what it should name, and the names that exist."""


def find_unknown_names(component: object, state: Any) -> list[UnknownName]:
    """Return the names in a component's settings that its state does not have. `state` is the saved state, decoded."""
    kind = f"{type(component).__module__}.{type(component).__qualname__}"
    return _find(kind, _plain(vars(component)), state, None)


def check_files(states: Mapping[str, Any], folder: Path = DEFS) -> list[UnknownName]:
    """Return the names in the files of `defs/` that the saved states do not have. `states` are decoded, by their file names."""
    found: list[UnknownName] = []
    for path, document in _documents(folder):
        kind = str(document.get("type"))
        if kind in FINDERS and FINDERS[kind][0] in states:
            state = states[FINDERS[kind][0]]
            found += _find(kind, document.get("attributes") or {}, state, _relative(path))
    return found


def _find(kind: str, attributes: Mapping[str, Any], state: Any, file: str | None) -> list[UnknownName]:
    if kind not in FINDERS:
        return []
    return [
        UnknownName(setting, name, what, _nearest(name, existing), file or _file_of(kind, name))
        for setting, name, what, existing in FINDERS[kind][1](attributes, state)
    ]


def _of_fivetran(attributes: Mapping[str, Any], state: Any) -> Iterator[Named]:
    account = state.get("account")
    if account is None:  # written by an earlier version of this code
        return
    groups, connections = fivetran_selection.from_json(account)
    for setting in ("include", "exclude"):
        for pattern in attributes.get(setting) or ():
            listed = any(fivetran_selection.matches(one, pattern) for one in (*groups, *connections))
            if not listed and pattern not in fivetran_selection.PLATFORM:
                names = list(fivetran_selection.names_of(groups, connections))
                what = "connection, service, group or BigQuery project of the Fivetran account"
                yield setting, pattern, what, names
    names = [one.name for one in connections]
    yield from _keys(attributes, "freshness_of", "Fivetran connection", names)


def _of_hightouch(attributes: Mapping[str, Any], state: Any) -> Iterator[Named]:
    names = [sync["slug"] for sync in state.get("syncs", ())]
    also = list(cast("Mapping[str, str]", state.get("renamed") or {}).values())
    for setting in ("cron_of", "rejected_rows_of"):
        yield from _keys(attributes, setting, "Hightouch sync", names, also)


def _of_landed(attributes: Mapping[str, Any], state: Any) -> Iterator[Named]:
    left_out = cast("Mapping[str, Sequence[str]]", state.get(LEFT_OUT) or {})
    for source in attributes.get("sources") or ():
        datasets = source.get("datasets") or ()
        found = {name: list(owners()) if source.get("registry") else list(state.get(name) or ()) for name in datasets}
        if not all(found.values()):
            # Nothing has landed there yet, or it was never read: any name may come.
            continue
        tables = sorted({table for names in found.values() for table in names})
        excluded = sorted({table for name in datasets for table in left_out.get(name) or ()})
        for setting, existing in (("exclude", excluded), ("rewritten", tables), ("fresh_tables", tables)):
            if setting == "exclude" and (source.get("registry") or LEFT_OUT not in state):
                continue
            for pattern in source.get(setting) or ():
                if pattern != "*" and not any(fnmatchcase(table, pattern) for table in existing):
                    yield (
                        f"{source['name']}: {setting}",
                        pattern,
                        f"table of {', '.join(datasets)}",
                        [*tables, *excluded],
                    )


def _of_explo(attributes: Mapping[str, Any], state: Any) -> Iterator[Named]:
    queries = [
        dataset["query"]
        for one in state.get("dashboards", ())
        for dataset in one.get("datasets") or ()
        if dataset.get("query")
    ]
    if queries:
        for name in attributes.get("variables") or ():
            if not any(name in query for query in queries):
                yield "variables", name, "variable of an Explo dashboard", []


def _of_hex(attributes: Mapping[str, Any], state: Any) -> Iterator[Named]:
    category = attributes.get("run_category")
    projects = [one["project"] for one in state.get("projects", ())]
    names = sorted({found["name"].strip() for one in projects for found in one.get("categories") or ()})
    if category and projects and category not in (*names, RUN_CATEGORY):
        yield "run_category", category, "category of a Hex project", names


FINDERS: Mapping[str, tuple[str, Callable[[Mapping[str, Any], Any], Iterator[Named]]]] = {
    "orchestration.components.fivetran.FivetranConnections": ("fivetran.json", _of_fivetran),
    "orchestration.components.hightouch.HightouchSyncs": ("hightouch.json", _of_hightouch),
    "orchestration.components.landed.LandedTables": ("landed.json", _of_landed),
    "orchestration.components.explo.ExploDashboards": ("explo.json", _of_explo),
    "orchestration.components.hex.HexProjects": ("hex.json", _of_hex),
}
"""The state that the settings of a component are compared with, and how. By the component's type, as the files in `defs/` name it."""


def _keys(
    attributes: Mapping[str, Any], setting: str, what: str, names: Sequence[str], also: Sequence[str] = ()
) -> Iterator[Named]:
    """The keys of a setting that are none of the names. `also` may be used too, and is not proposed."""
    for name in attributes.get(setting) or ():
        if name not in names and name not in also:
            yield setting, name, what, names


def _nearest(name: str, existing: Iterable[str]) -> tuple[str, ...]:
    """Return the existing names that are most like a name or a pattern, the nearest first; some of them where none is like it."""
    names = sorted(set(existing))
    plain = name.rpartition(":")[2].replace("*", "")
    return tuple(get_close_matches(plain, names, NEAREST, cutoff=0.5) or names[:NEAREST])


def _plain(value: Any) -> Any:
    """Return settings as they are in YAML."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in cast("Mapping[str, Any]", value).items()}
    return [_plain(one) for one in cast("list[Any]", value)] if isinstance(value, list) else value


def _file_of(kind: str, name: str) -> str:
    """Return the file in `defs/` that configures a component of a type: the one that has the name, where there are several."""
    found = [path for path, document in _documents(DEFS) if document.get("type") == kind]
    named = [path for path in found if name in path.read_text("utf-8")]
    return _relative((named or found or [DEFS])[0])


def _documents(folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for path in sorted(folder.rglob("*.yaml")):
        try:
            documents = list(yaml.safe_load_all(path.read_text("utf-8")))
        except (OSError, yaml.YAMLError):  # the code location says so when it loads
            continue
        yield from ((path, cast("Mapping[str, Any]", one)) for one in documents if isinstance(one, dict))


def _relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)
