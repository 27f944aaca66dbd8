"""Which tables and columns dbt's models read from each source, compared with what the warehouse has. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

from orchestration.doctor.model import Outcome, failed, ok, warning

LAYOUTS = Path(__file__).with_name("known_layouts.yaml")
SEGMENT = "segment"
"""How the names of dbt's sources begin that Segment lands: a table exists after its first event, a column after its first value
(https://github.com/segmentio/segment-docs, src/connections/storage/warehouses/schema.md)."""
READS = {"model", "snapshot"}
SAME_TYPE = {
    "INTEGER": "INT64", "INT": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "DECIMAL": "NUMERIC", "BIGDECIMAL": "BIGNUMERIC",
    # JSON functions take both, and Fivetran lands either by the age of the connection.
    "JSON": "STRING",
}  # fmt: skip
TEXT = re.compile(r"\{#.*?#\}|/\*.*?\*/|--[^\n]*", re.DOTALL)
"""Comments of SQL and Jinja."""

Columns = Mapping[str, Mapping[str, str]]
"""The columns of a dataset: table to column to type; names in lower case."""


class Layout(BaseModel, extra="forbid"):
    """An entry of known_layouts.yaml."""

    source: str
    table: str
    column: str | None = None
    other_table: str | None = None
    other_column: str | None = None
    note: str
    remedy: str

    def explains(self, source: str, table: str, column: str | None, found: Columns) -> bool:
        """Return whether this layout says why a table (`column` is None) or a column is missing."""
        if not fnmatchcase(source, self.source) or not fnmatchcase(table, self.table):
            return False
        if (column is None) != (self.column is None) or (column and not fnmatchcase(column, self.column or "")):
            return False
        if self.other_table is None and self.other_column is None:
            return True
        others = [
            name for name in found if fnmatchcase(name, self.other_table or table) and (column is None or name != table)
        ]
        if self.other_table is None:
            others = [table]
        columns = {name for other in others for name in found.get(other, {})}
        return (
            bool(others) if self.other_column is None else any(fnmatchcase(name, self.other_column) for name in columns)
        )


@dataclass(frozen=True)
class _Gap:
    """Columns of a table, or a whole table, without which the same models fail for the same reason."""

    table: str
    affected: str
    note: str

    def named(self, columns: Sequence[str]) -> str:
        if not columns:
            return f"table `{self.table}` is"
        names = ", ".join(f"`{column}`" for column in columns)
        return f"column {names} of `{self.table}` is" if len(columns) == 1 else f"columns {names} of `{self.table}` are"

    @property
    def noted(self) -> str:
        return f" ({self.note})" if self.note else ""


@dataclass(frozen=True)
class SourceTable:
    """A table of a source, with the columns that are declared for it, and their types where these are declared.

    `readers` are the models that read it, and the declared columns that each names. `downstream` has the models below each reader.
    """

    source: str
    dataset: str
    name: str
    columns: Mapping[str, str]
    readers: Mapping[str, frozenset[str]]
    downstream: Mapping[str, frozenset[str]]

    @property
    def created_later(self) -> bool:
        """Whether the table and its columns are created by the first event and value that have them."""
        return self.source.startswith(SEGMENT)

    def affected(self, column: str | None = None) -> str:
        """Return the models that fail without the table, or without one of its columns, and those below them."""
        direct = {name for name, columns in self.readers.items() if column is None or column in columns}
        below = sorted({name for reader in direct for name in self.downstream[reader]} - direct)
        return ", ".join(sorted(direct)) + (f", and downstream {', '.join(below)}" if below else "")


def source_tables(manifest: Mapping[str, Any]) -> dict[str, list[SourceTable]]:
    """Return the tables that models read, by dbt's name of their source.

    A model reads the declared columns whose names are in its SQL (the compiled one where the manifest has it) or in the
    project's macros that it calls. Where a name stands for another table's column, too, the model is named once too often.
    """
    nodes = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] in READS}
    children: dict[str, set[str]] = defaultdict(set)
    for key, node in nodes.items():
        for parent in node["depends_on"]["nodes"]:
            children[parent].add(key)

    def below(key: str) -> set[str]:
        found: set[str] = set()
        waiting = [*children[key]]
        while waiting:
            if (child := waiting.pop()) not in found:
                found.add(child)
                waiting += children[child]
        return found

    tables: dict[str, list[SourceTable]] = defaultdict(list)
    for key, source in manifest["sources"].items():
        columns = {
            name.lower(): str(column.get("data_type") or "") for name, column in source.get("columns", {}).items()
        }
        readers = {child: _named(_text(manifest, nodes[child]), columns) for child in children[key]}
        if readers:
            tables[source["source_name"]].append(
                SourceTable(
                    source["source_name"], source["schema"], source["identifier"], columns,
                    {nodes[child]["name"]: named for child, named in readers.items()},
                    {nodes[child]["name"]: frozenset(nodes[one]["name"] for one in below(child)) for child in readers},
                )
            )  # fmt: skip
    return {name: sorted(found, key=lambda table: table.name) for name, found in sorted(tables.items())}


def compare(tables: Sequence[SourceTable], found: Columns) -> Outcome:
    """Compare the tables of one source with the columns of its dataset.

    What is missing fails, or is a warning where Segment creates it later. Types that differ are a warning.
    """
    missing, later = dict[_Gap, list[str]](), dict[_Gap, list[str]]()
    types, remedies = list[str](), list[str]()
    for table in tables:
        there = found.get(table.name.lower())
        for column in [None] if there is None else [name for name in table.columns if name not in there]:
            affected = table.affected(column)
            if not affected:
                continue  # it is declared, and no model reads it
            layout = next(
                (one for one in layouts() if one.explains(table.source, table.name.lower(), column, found)), None
            )
            gap = _Gap(f"{table.dataset}.{table.name}", affected, layout.note if layout else "")
            (later if table.created_later else missing).setdefault(gap, []).extend([column] if column else [])
            remedies += [layout.remedy] if layout and layout.remedy not in remedies else []
        types += [
            f"`{table.dataset}.{table.name}.{name}` is {there[name]}, and is declared as {kind}"
            for name, kind in table.columns.items()
            if there and name in there and kind and _standard(there[name]) != _standard(kind)
        ]
    if missing:
        other = "Change the staging models and the columns of the source's YAML to what lands, or land what they read"
        lines = [
            f"{gap.named(columns)} missing{gap.noted}: would fail: {gap.affected}" for gap, columns in missing.items()
        ]
        return failed("; ".join([*lines, *types]), ". ".join(remedies or [other]))
    if later:
        lines = [f"{gap.named(columns)} not there yet: {gap.affected}" for gap, columns in later.items()]
        return warning(
            "; ".join([*lines, *types]),
            "Segment creates a table with its first event and a column with its first value. See whether the source sends them",
        )
    if types:
        return warning(
            "; ".join(types), "Compare the models that read them with what lands, and change `data_type` in the YAML"
        )
    return ok(f"{len(tables)} tables have the columns that models read")


@cache
def layouts() -> tuple[Layout, ...]:
    """Return the known layouts."""
    return tuple(TypeAdapter(list[Layout]).validate_python(yaml.safe_load(LAYOUTS.read_text("utf-8"))))


def _standard(kind: str) -> str:
    plain = re.split(r"[(<]", kind.upper())[0].strip()
    return SAME_TYPE.get(plain, plain)


def _named(text: str, columns: Mapping[str, str]) -> frozenset[str]:
    words = set(re.findall(r"\w+", text.lower()))
    return frozenset(name for name in columns if name in words)


def _text(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    if compiled := node.get("compiled_code"):
        return TEXT.sub(" ", compiled)
    return TEXT.sub(" ", "\n".join([node.get("raw_code") or "", *_macros(manifest, node)]))


def _macros(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[str]:
    """The text of the project's own macros that a node calls, also through each other."""
    known, seen = manifest.get("macros", {}), set[str]()
    waiting = list(node["depends_on"].get("macros", ()))
    while waiting:
        name = waiting.pop()
        macro = known.get(name)
        if name in seen or macro is None or macro["package_name"] != node["package_name"]:
            continue
        seen.add(name)
        waiting += macro["depends_on"]["macros"]
        yield macro["macro_sql"]
