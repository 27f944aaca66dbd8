"""The nodes of dbt's manifest, as the check takes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from orchestration.dbt_loop.check_compile import ASKS
from orchestration.dbt_loop.check_sql import Declared, Kind, Node

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

KINDS: dict[str, Kind] = {"model": "model", "snapshot": "snapshot", "seed": "seed", "test": "test"}
VIEWS = {"view", "ephemeral", "materialized_view"}
SNAPSHOT_COLUMNS = ("dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to", "dbt_is_deleted")


def sources(manifest: Manifest) -> Iterator[Node]:
    for source in manifest.sources.values():
        yield Node(
            id=source.unique_id,
            kind="source",
            name=f"{source.source_name}.{source.name}",
            file=source.original_file_path,
            table=f"{source.database}.{source.schema}.{source.identifier}",
            columns=_columns(source),
        )


def nodes(manifest: Manifest, failed: Mapping[str, str]) -> Iterator[Node]:
    for node in cast("Iterable[Any]", manifest.nodes.values()):
        kind = KINDS.get(str(node.resource_type))
        if kind is None:
            continue
        sql = getattr(node, "compiled_code", None)
        message = failed.get(node.unique_id)
        problem = plain(message) if message and ASKS in message else None
        fault = f"dbt cannot compile it: {plain(message)}" if message and not problem else None
        if getattr(node, "language", "sql") == "python":
            problem, sql = "it is a Python model", None
        elif kind != "seed" and sql is None and message is None:
            problem = "dbt did not compile it"
        yield Node(
            id=node.unique_id,
            kind=kind,
            name=node.name,
            file=node.original_file_path,
            sql=sql,
            table=None if kind == "test" else f"{node.database}.{node.schema}.{node.alias}",
            reads=tuple(node.depends_on_nodes),
            columns=_columns(node),
            contract=kind == "model" and node.config.contract.enforced,
            view=node.config.materialized in VIEWS,
            cluster_by=_texts(node.config.get("cluster_by")),
            fail_calc=getattr(node.config, "fail_calc", None) or "count(*)",
            added=tuple(_snapshot_columns(node.config)) if kind == "snapshot" else (),
            problem=problem,
            fault=fault,
        )


def _columns(node: Any) -> tuple[Declared, ...]:
    return tuple(Declared(column.name, column.data_type) for column in node.columns.values())


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(each) for each in cast("Sequence[object]", value or ()))


def _snapshot_columns(config: Any) -> Iterator[tuple[str, str]]:
    """What dbt adds to a snapshot, with the types that it gives (dbt's macro `snapshot_staging_table`)."""
    named = config.snapshot_meta_column_names
    keys = ", ".join(f"cast({key} as string)" for key in _texts(config.unique_key))
    changed = config.get("updated_at") or "current_timestamp()"
    expressions = [f"to_hex(md5(concat({keys})))", changed, changed, changed, "'False'"]
    for name, expression in zip(SNAPSHOT_COLUMNS, expressions, strict=True):
        if name != "dbt_is_deleted" or config.get("hard_deletes") == "new_record":
            yield expression, getattr(named, name, None) or name


def plain(message: str) -> str:
    """dbt's message in one line, without its headings."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(line for line in lines if not re.fullmatch(r"\w+ Error( in .*)?", line)) or " ".join(lines)
