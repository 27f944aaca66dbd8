"""Fivetran connections that land the same tables, of which the graph can have one: the others go on without these tables.

A table that dbt builds, too, is dbt's asset.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import dagster as dg
from dagster_fivetran.translator import FivetranSchema, FivetranSchemaConfig, FivetranWorkspaceData

from orchestration.components.fivetran_account import rank
from orchestration.components.fivetran_selection import Group
from orchestration.lineage import keys

NAMED = 3
"""So many tables are named in a finding; of more, the number is given."""


@dataclass(frozen=True)
class Claim:
    """An enabled table of a connection, by where it lands and by its names at the source."""

    dataset: str
    table: str
    connector_id: str
    group_id: str
    schema: str
    source_table: str

    @property
    def key(self) -> dg.AssetKey:
        """The key of the table's asset."""
        return keys.table(self.dataset, self.table)

    @property
    def place(self) -> tuple[str, str, str]:
        """The connection, the schema and the table at the source."""
        return self.connector_id, self.schema, self.source_table


@dataclass(frozen=True)
class Collision:
    """Tables that two connections land under the same names. Those of the `left_out` connection are not in the graph."""

    dataset: str
    tables: tuple[str, ...]
    kept: str
    left_out: str
    whole_dataset: bool
    """The connections are of different destinations: the dataset of the other one is left out as a whole."""


def resolve_collisions(state: FivetranWorkspaceData) -> tuple[FivetranWorkspaceData, list[Collision]]:
    """Return the state in which each table is landed by one connection, and what was left out of it.

    An asset is named by its dataset and table, so that two destinations with one dataset collide. The connection that comes first by
    `rank` keeps its tables: of a dataset that several destinations have, only one destination's tables are in the graph, since their
    tables are different ones. Within a destination single tables may collide, such as those of Postgres connections with overlapping
    prefixes.
    """
    claims = sorted(_claims(state), key=lambda one: (*rank(state, one.connector_id), one.schema, one.source_table))
    group_of, kept = dict[str, str](), dict[tuple[str, str], Claim]()
    first_of = dict[str, Claim]()
    lost = dict[tuple[str, str, str, bool], list[Claim]]()
    for claim in claims:
        first = first_of.setdefault(claim.dataset, claim)
        elsewhere = group_of.setdefault(claim.dataset, claim.group_id) != claim.group_id
        winner = first if elsewhere else kept.setdefault((claim.dataset, claim.table), claim)
        if winner is not claim:
            place = (claim.dataset, winner.connector_id, claim.connector_id, elsewhere)
            lost.setdefault(place, []).append(claim)
    removed = {one.place for some in lost.values() for one in some}
    collisions = [
        Collision(dataset, tuple(sorted(one.table for one in some)), winner, loser, elsewhere)
        for (dataset, winner, loser, elsewhere), some in sorted(lost.items())
    ]
    return (_without(state, removed) if removed else state), collisions


def leave_out_built(
    state: FivetranWorkspaceData, built: Collection[dg.AssetKey]
) -> tuple[FivetranWorkspaceData, list[Claim]]:
    """Return the state without the tables whose assets are in `built`, which dbt builds, and these tables."""
    claims = [claim for claim in _claims(state) if claim.key in built]
    return (_without(state, {claim.place for claim in claims}) if claims else state), claims


def describe_built(claim: Claim, state: FivetranWorkspaceData) -> str:
    """Return what a person has to know and do about a table that a connection and dbt both write."""
    name = state.connectors_by_id[claim.connector_id].name
    return (
        f"The connection `{name}` ({claim.connector_id}) and dbt both write the table `{claim.dataset}.{claim.table}`. It is the asset of dbt's node alone. "
        "Deselect the table in Fivetran, or give dbt's node another schema or alias."
    )


def describe_collision(collision: Collision, state: FivetranWorkspaceData, groups: Mapping[str, Group]) -> str:
    """Return what a person has to know and do about a collision: both connections, both destinations, and the setting."""
    more = f" and {len(collision.tables) - NAMED} more" if len(collision.tables) > NAMED else ""
    tables = ", ".join(f"`{name}`" for name in collision.tables[:NAMED])
    kept, left_out = (_describe(state, groups, one) for one in (collision.kept, collision.left_out))
    group = state.connectors_by_id[collision.left_out].group_id
    choice = f"`group:{group}`" if collision.whole_dataset else f"`{state.connectors_by_id[collision.left_out].name}`"
    return (
        f"{kept[0].upper()}{kept[1:]} and {left_out} both land tables in the dataset `{collision.dataset}`. The first is in the graph; the tables of the second"
        f" ({tables}{more}) are not. Choose one in defs/ingestion/defs.yaml, such as `exclude: [{choice}]`."
    )


def _describe(state: FivetranWorkspaceData, groups: Mapping[str, Group], connector_id: str) -> str:
    connector = state.connectors_by_id[connector_id]
    group = groups.get(connector.group_id)
    if group is None:
        destination = state.destinations_by_id.get(connector.destination_id)
        group = Group(connector.group_id, connector.group_id, destination.database if destination else None)
    return f"the connection `{connector.name}` ({connector_id}) of {group}"


def _claims(state: FivetranWorkspaceData) -> Iterator[Claim]:
    for id_, connector in state.connectors_by_id.items():
        for schema_name, schema in state.schema_configs_by_connector_id[id_].schemas.items():
            for name, table in schema.tables.items() if schema.enabled else ():
                if table.enabled:
                    yield Claim(
                        schema.name_in_destination,
                        table.name_in_destination,
                        id_,
                        connector.group_id,
                        schema_name,
                        name,
                    )


def _without(state: FivetranWorkspaceData, removed: set[tuple[str, str, str]]) -> FivetranWorkspaceData:
    def schema(id_: str, name: str, one: FivetranSchema) -> FivetranSchema:
        tables = {table: value for table, value in one.tables.items() if (id_, name, table) not in removed}
        return FivetranSchema(enabled=one.enabled, name_in_destination=one.name_in_destination, tables=tables)

    return FivetranWorkspaceData(
        connectors_by_id=state.connectors_by_id,
        destinations_by_id=state.destinations_by_id,
        schema_configs_by_connector_id={
            id_: FivetranSchemaConfig(schemas={name: schema(id_, name, one) for name, one in config.schemas.items()})
            for id_, config in state.schema_configs_by_connector_id.items()
        },
    )
