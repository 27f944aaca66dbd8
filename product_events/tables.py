"""The tables of the product events in BigQuery, made and extended from the registry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from google.api_core.exceptions import Conflict, NotFound, PreconditionFailed
from google.cloud.bigquery import Client, DatasetReference, SchemaField, Table, TimePartitioning

from product_events.registry import CLUSTERING, DEAD_LETTERS, PARTITION, Registry, registry

ATTEMPTS = 5


class SchemaConflict(RuntimeError):
    """A table has columns that the registry contradicts; the message names each."""


class DatasetElsewhere(RuntimeError):
    """The dataset exists in another location; the message names both."""


@dataclass(frozen=True)
class Change:
    """What was done to a table: `created`, `extended` (by those columns) or `unchanged`."""

    table: str
    done: str
    columns: tuple[str, ...] = ()


def apply(client: Client, dataset: str, events: Registry | None = None) -> list[Change]:
    """Create the dataset and the tables that are missing, and add the columns that are; repeating it changes nothing.

    The dataset is created in the client's location; without one BigQuery creates it in the US. Raises DatasetElsewhere where it
    exists in another. Columns are only ever added. Raises SchemaConflict, before it changes any table, where a table has a column of another type or
    one that rows could not do without; and google.api_core's exceptions.
    """
    events = events or registry()
    found = client.create_dataset(dataset, exists_ok=True)
    if client.location and str(found.location).upper() != str(client.location).upper():
        raise DatasetElsewhere(
            f"Dataset {client.project}.{dataset} is in {found.location}, and {client.location} is wanted. BigQuery cannot move a "
            f"dataset: set BIGQUERY_LOCATION to {found.location}, or copy its tables into a new dataset in {client.location}."
        )
    reference = DatasetReference(client.project, dataset)
    wanted = {name: events.schema(name) for name in (*events.events, DEAD_LETTERS)}
    conflicts: list[str] = []
    for name, schema in wanted.items():
        found = _find(client, reference, name)
        conflicts += _conflicts(found, schema) if found else []
    if conflicts:
        raise SchemaConflict("\n".join(conflicts))
    return [_apply(client, reference, name, schema, events) for name, schema in wanted.items()]


def _apply(
    client: Client, dataset: DatasetReference, name: str, schema: Sequence[SchemaField], events: Registry
) -> Change:
    for _ in range(ATTEMPTS):
        found = _find(client, dataset, name)
        try:
            if found is None:
                client.create_table(_table(dataset, name, schema, events))
                return Change(name, "created", tuple(column.name for column in schema))
            present = {column.name for column in _columns(found)}
            missing = [column for column in schema if column.name not in present]
            if not missing:
                return Change(name, "unchanged")
            # BigQuery adds a column to a table with rows only where rows may lack it.
            found.schema = [*_columns(found), *(_nullable(column) for column in missing)]
            client.update_table(found, ["schema"])
            return Change(name, "extended", tuple(column.name for column in missing))
        except (Conflict, PreconditionFailed):
            continue  # somebody else changed it since it was read: the client sends the table's etag
    raise RuntimeError(f"{name}: others kept changing the table while it was extended")


def _find(client: Client, dataset: DatasetReference, name: str) -> Table | None:
    try:
        return client.get_table(dataset.table(name))
    except NotFound:
        return None


def _conflicts(found: Table, schema: Sequence[SchemaField]) -> Iterator[str]:
    wanted = {column.name: column for column in schema}
    for column in _columns(found):
        match = wanted.get(column.name)
        if column.mode == "REQUIRED" and (match is None or match.mode != "REQUIRED"):
            yield f"{found.table_id}.{column.name} is required, and the registry lets rows lack it"
        if match and (column.field_type, column.mode == "REPEATED") != (match.field_type, False):
            is_now = "repeated " * (column.mode == "REPEATED") + str(column.field_type)
            yield f"{found.table_id}.{column.name} is {is_now}, and the registry says {match.field_type}: types do not change"
    partition = found.time_partitioning
    if partition is None or partition.field != PARTITION:
        yield f"{found.table_id} is not partitioned by {PARTITION}: only a new table can be"


def _columns(table: Table) -> list[SchemaField]:
    return list(cast(Any, table.schema))


def _table(dataset: DatasetReference, name: str, schema: Sequence[SchemaField], events: Registry) -> Table:
    table = Table(dataset.table(name), schema=schema)
    table.time_partitioning = TimePartitioning(type_="DAY", field=PARTITION)
    if name == DEAD_LETTERS:
        table.description = "Product events that are not in their event's table, with the reason."
    else:
        table.clustering_fields = [CLUSTERING]
        table.description = events.events[name].latest.description
    return table


def _nullable(column: SchemaField) -> SchemaField:
    return SchemaField(column.name, column.field_type, description=column.description or "")
