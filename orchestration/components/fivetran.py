"""Fivetran connections as assets: one for each table that a connection lands, all synced by one step."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, override

import dagster as dg
from dagster._serdes import deserialize_value
from dagster_fivetran import DagsterFivetranTranslator
from dagster_fivetran.translator import FivetranConnectorTableProps, FivetranMetadataSet, FivetranWorkspaceData

from orchestration.components import source_checks as checks
from orchestration.components.check_reports import CheckReports, Decide, specs, table_schema, table_url
from orchestration.components.dbt_exposures import dbt_models
from orchestration.components.fivetran_account import (
    Connection,
    PlatformFivetranWorkspace,
    Table,
    connections,
    fivetran,
)
from orchestration.components.fivetran_collisions import (
    describe_built,
    describe_collision,
    leave_out_built,
    resolve_collisions,
)
from orchestration.components.fivetran_columns import read_columns
from orchestration.components.fivetran_selection import PLATFORM, from_json, to_json
from orchestration.components.fivetran_sync import Limits, Result, Syncs
from orchestration.components.outside_syncs import NOT_FOUND, Ended, Look, UnitFault, watch
from orchestration.components.saved_state import StateIncomplete, VendorState
from orchestration.components.setting_names import find_unknown_names
from orchestration.components.source_checks import Freshness, Volume
from orchestration.components.steps import Failures, Sleep, find_output_keys_once, side_by_side, start_sync
from orchestration.components.table_counts import unreadable
from orchestration.lineage import keys
from orchestration.lineage.consumers import Finding
from orchestration.lineage.failures import SYNC_KEY
from orchestration.settings import FivetranSettings, VendorSettings, fivetran_settings
from orchestration.vendors import fivetran as api
from orchestration.vendors.bigquery import Schema
from orchestration.vendors.http import VendorError

GROUP = "ingestion"
ACCOUNT = "account"
"""The part of the saved state that says what the account had, also what is not selected."""
ASKED_AT_ONCE = 8
"""So many connections that a listing lacks are asked for side by side."""
NO_SCHEMA = Schema({})


@dataclass
class FivetranConnections(VendorState, dg.Resolvable):
    """Every connection of a Fivetran account that is set up. What it runs is read from Fivetran by `dataplatform refresh`."""

    owners: list[str] = field(default_factory=list[str])
    """Who is asked about a failure: e-mail addresses, or `team:<name>`."""
    include: list[str] = field(default_factory=list[str])
    """The connections that are in the graph, by patterns; without any, all are.

    A pattern is compared with a connection's name, its service, its group's name or id, and the BigQuery project of its destination.
    `name:`, `service:`, `group:` or `project:` before it limits it to one of these: `group:analytics*`.
    """
    exclude: list[str] = field(default_factory=lambda: list(PLATFORM))
    """Connections that are left out of these, by such patterns. A group that is excluded is not asked for its connections."""
    sync_timeout_minutes: int = 180
    concurrent_syncs: int = 8
    manage_schedules: bool = False
    """Switch a connection's own schedule off when it is synced from here."""
    freshness: Freshness = field(default_factory=lambda: Freshness(warn_hours=3, fail_hours=12))
    """How long after a sync its tables are fresh."""
    freshness_of: dict[str, Freshness] = field(default_factory=dict[str, Freshness])
    """The same for single connections, by name."""
    volume: Volume = field(default_factory=Volume)

    state_name: ClassVar[str] = "fivetran.json"
    vendor_settings: ClassVar[tuple[type[VendorSettings], ...]] = (FivetranSettings,)
    tells_losses: ClassVar[bool] = True

    @property
    @override
    def source(self) -> str:
        return str(fivetran_settings().fivetran_api_url)

    @override
    def read(self, last: str | None) -> str:
        values = fivetran_settings()
        workspace = PlatformFivetranWorkspace(
            account_id=values.fivetran_account_id,
            api_key="",
            api_secret="",
            include=self.include,
            exclude=self.exclude,
        )
        state, client = workspace.fetch_fivetran_workspace_data(), workspace.get_client()
        before = deserialize_value(last, FivetranWorkspaceData) if last is not None else None
        if before is not None:
            _refuse_losses(before, state, client.listed)
        saved = json.loads(dg.serialize_value(read_columns(client.api, state, before, client.broken)))
        # Dagster leaves out what its own class does not have when it reads the state.
        return json.dumps(saved | {ACCOUNT: to_json(client.groups.values(), client.connections)})

    @override
    def definitions(self, state: str) -> dg.Definitions:
        workspace, _ = resolve_collisions(deserialize_value(state, FivetranWorkspaceData))
        workspace, _ = leave_out_built(workspace, set(dbt_models().values()))
        found = [own for own in connections(workspace) if own.tables]

        @dg.multi_asset(
            name="fivetran",
            specs=[self.get_asset_spec(props) for props in workspace.to_fivetran_connector_table_props_data()],
            check_specs=[
                spec for own in found for table in own.tables for spec in specs(table.key, checks_of(own, table))
            ],
            config_schema=config_schema(found),
            can_subset=True,
            pool="fivetran",
        )
        def sync(context: dg.AssetExecutionContext) -> Iterator[Any]:
            yield from self.execute(context, found)

        return dg.Definitions(
            assets=[sync],
            sensors=[watch("fivetran_syncs", "Fivetran", partial(look_at_account, found), at_once=ASKED_AT_ONCE)],
        )

    @override
    def findings(self, state: str) -> list[Finding]:
        """Return the connections that land the same tables, and the settings that name what the account does not have."""
        saved = json.loads(state)
        workspace = deserialize_value(state, FivetranWorkspaceData)
        groups = {group.id: group for group in from_json(saved.get(ACCOUNT, {}))[0]}
        kept, collisions = resolve_collisions(workspace)
        found = [Finding("collision", one.dataset, describe_collision(one, workspace, groups)) for one in collisions]
        _, built = leave_out_built(kept, set(dbt_models().values()))
        found += [Finding("collision", one.key.to_user_string(), describe_built(one, kept)) for one in built]
        return [*found, *(name.finding for name in find_unknown_names(self, saved))]

    def get_asset_spec(self, props: FivetranConnectorTableProps) -> dg.AssetSpec:
        spec = DagsterFivetranTranslator().get_asset_spec(props)
        found = FivetranMetadataSet.extract(spec.metadata)
        assert found.destination_schema_name is not None
        assert found.destination_table_name is not None
        return spec.replace_attributes(
            key=keys.table(found.destination_schema_name, found.destination_table_name),
            group_name=GROUP,
            owners=self.owners,
            freshness_policy=self.freshness_of.get(props.connector_name, self.freshness).policy(),
        )

    def execute(self, context: dg.AssetExecutionContext, found: Sequence[Connection]) -> Iterator[Any]:
        """Sync the connections of the selected tables side by side, and report each as soon as it has ended.

        The run's configuration may name connections or tables to resync. Where only checks are selected, nothing is synced. Raises
        dagster.Failure at the end, with a report of every connection that failed, and of every table that failed a check.
        """
        find_output_keys_once(context)
        config: Mapping[str, Any] = context.op_execution_context.op_config
        resync: Mapping[str, list[str]] = config["resync"]
        selected, checked = (
            context.selected_asset_keys,
            {check.asset_key for check in context.selected_asset_check_keys},
        )
        syncs, failed, reports = (
            Syncs(Limits(self.sync_timeout_minutes * 60, self.manage_schedules), context.log),
            Failures(context),
            CheckReports(context),
        )

        def sync(own: Connection, sleep: Sleep) -> Result:
            start_sync(context, own.tables[0].key)
            return syncs.run(own, resync.get(own.name), sleep)

        jobs: dict[str, Callable[[Sleep], Result]] = {}
        for own in found:
            if own.name in resync or any(table.key in selected for table in own.tables):
                jobs[own.id] = partial(sync, own)
            elif any(table.key in checked for table in own.tables):
                jobs[own.id] = partial(syncs.look, own)
        by_id = {own.id: own for own in found}
        for id_, future in side_by_side(jobs, self.concurrent_syncs):
            own = by_id[id_]
            if error := future.exception():
                asked = [table.key for table in own.tables if table.key in selected]
                first = own.tables[0].key if own.name in resync or asked else None
                failed.add(f"fivetran/{own.name}", asked, error, api.connection_url(id_), sync_of=first)
                continue
            result = future.result()
            yield from _report(context, own, result)
            for table in own.tables:
                if (problem := result.unreadable.get(table.key)) is not None:
                    error = unreadable(table.dataset, table.name, problem)
                    failed.add(f"landed/{table.key.to_user_string()}", [table.key], error, table_url(*table.key.path))
                decisions = self._decisions(own, table, result, reports, accept=config["accept_schema"])
                yield from reports.report(table.key, decisions)
        reports.fail(failed)
        failed.raise_any()

    def _decisions(
        self, own: Connection, table: Table, result: Result, reports: CheckReports, *, accept: bool
    ) -> dict[str, Decide]:
        decisions: dict[str, Decide] = dict.fromkeys(
            checks_of(own, table), partial(checks.unknown, "what the table holds is not known.")
        )
        decisions[checks.CONNECTION] = lambda _: checks.connection(result.connection.wishes)
        if (syncs := result.syncs) is not None:
            unknown = {f"{dataset}.{name}" for dataset, name in syncs} - {f"{t.dataset}.{t.name}" for t in own.tables}
            decisions[checks.NEW_TABLES] = lambda _: checks.new_tables(unknown, own.name)
        if result.schemas is not None:
            columns = result.schemas.get(table.key, NO_SCHEMA).columns
            risk = partial(reports.models_at_risk, table.key)
            decisions[checks.SCHEMA] = lambda last: checks.drift(columns, last, risk, accept=accept)
        if (counted := result.counted.get(table.key)) is not None:
            newest = checks.newest_day(result.counted.values(), datetime.now(UTC).date())
            decisions[checks.KEYS] = lambda _: checks.keys_not_null(counted.nulls)
            decisions[checks.VOLUME] = lambda last: checks.volume(counted.days, newest, self.volume, last)
        if not table.keys:
            decisions[checks.KEYS] = lambda _: checks.key_unknown()
        return decisions


def _refuse_losses(last: FivetranWorkspaceData, state: FivetranWorkspaceData, listed: Mapping[str, str]) -> None:
    """Raise StateIncomplete where a connection that has assets now is still there, but came without its tables."""
    lost = sorted(listed[id_] for id_ in listed.keys() & last.connectors_by_id.keys() - state.connectors_by_id.keys())
    if lost:
        raise StateIncomplete(
            f"Fivetran lists {', '.join(lost)} without tables, which would take their assets out of the graph. Look at "
            "these connections in Fivetran, or pause or delete what is not wanted any more, and refresh again."
        )


def look_at_account(found: Sequence[Connection]) -> Iterator[Look]:
    """Yield the last syncs of each connection, by one listing of the account.

    A connection that the listing lacks is asked for by itself, so that nothing is taken for deleted because it was left out of a page.
    Raises VendorError where nothing can be listed.
    """
    # A tick is over before a rate limit has passed.
    client = fivetran(patience_seconds=0)
    listing = client.list_connections()
    if listing.error is not None and not listing.connections:
        raise listing.error
    missing: list[Look] = []
    for own in found:
        unit = f"fivetran/{own.name}"
        if (now := listing.connections.get(own.id)) is not None:
            yield Look(unit, partial(_ends_of, own, now))
        elif own.id in listing.unreadable:
            yield Look(unit, partial(_refuse_unreadable, own, listing.unreadable[own.id]))
        elif listing.error is not None:
            missing.append(Look(unit, partial(_raise, listing.error)))
        else:
            missing.append(Look(unit, partial(_ends_of_unlisted, client, own)))
    # Each may take a request, and where the listing broke off they all have its error: the others come first.
    yield from missing


def ends_of(client: api.Fivetran, own: Connection) -> list[Ended]:
    """Return the last sync of a connection that succeeded, and the last one that failed. Raises VendorError."""
    return _ends_of(own, client.connection(own.id))


def _ends_of(own: Connection, now: api.Connection) -> list[Ended]:
    tables = tuple(table.key for table in own.tables)
    ends: dict[datetime, str | None] = {}
    if now.failed_at is not None:
        ends[now.failed_at] = now.reason
    if now.succeeded_at is not None:
        ends[now.succeeded_at] = None
    return [
        Ended(tables, at, now.sync_that_ended(at), lambda problem=problem: problem, now.url)
        for at, problem in ends.items()
    ]


def _ends_of_unlisted(client: api.Fivetran, own: Connection) -> list[Ended]:
    try:
        return ends_of(client, own)
    except VendorError as error:
        if error.status != NOT_FOUND:
            raise
        count = f"{len(own.tables)} table{'s' if len(own.tables) > 1 else ''}"
        text = (
            f"Fivetran has no connection `{own.name}` ({own.id}) any more: it was deleted there. Nothing updates its {count} now. Run"
            " `dataplatform refresh` to take them out of the graph, or set the connection up again in Fivetran."
        )
        raise _fault(own, "was deleted", text) from error


def _refuse_unreadable(own: Connection, fields: str) -> list[Ended]:
    text = f"Fivetran lists the connection `{own.name}` ({own.id}) with values that cannot be read: {fields}. Whether it syncs is not known."
    raise _fault(own, "cannot be read", text)


def _fault(own: Connection, state: str, text: str) -> UnitFault:
    keys_of_unit = tuple(table.key for table in own.tables)
    sync = f"fivetran/{own.id}/{state.replace(' ', '_')}"
    return UnitFault(state, Ended(keys_of_unit, datetime.now(UTC), sync, lambda: text, api.connection_url(own.id)))


def _raise(error: VendorError) -> list[Ended]:
    raise error


def checks_of(own: Connection, table: Table) -> list[str]:
    of_table = [checks.SCHEMA, checks.KEYS, *([checks.VOLUME] if table.has_days else [])]
    # What is said of a whole connection is said on its first table.
    return [*of_table, checks.CONNECTION, checks.NEW_TABLES] if table == own.tables[0] else of_table


def config_schema(found: Sequence[Connection]) -> dict[str, Any]:
    """What a run may be told. The launchpad knows the names, and refuses others before anything starts."""
    scopes: dict[str, dg.Field] = {}
    for own in found:
        names = sorted({table.source_name for table in own.tables})
        # Dagster's error names the type and not its values.
        kind = dg.Enum(f"tables of {own.name} ({', '.join(names)})", [dg.EnumValue(name) for name in names])
        what = "Tables by their names at the source; an empty list means all of them."
        scopes[own.name] = dg.Field([kind], is_required=False, description=what)
    return {
        "resync": dg.Field(
            dg.Shape(scopes),
            default_value={},
            description="Connections, or tables of them, to read at the source all over again.",
        ),
        "accept_schema": dg.Field(
            bool, default_value=False, description="Take the columns of the selected tables as they are now for agreed."
        ),
    }


def _report(context: dg.AssetExecutionContext, own: Connection, result: Result) -> Iterator[dg.MaterializeResult[Any]]:
    if result.synced is None:
        return
    for table in own.tables:
        counted, schema = result.counted.get(table.key), (result.schemas or {}).get(table.key)
        metadata: dict[str, Any] = {
            "duration_seconds": round(result.synced.seconds, 1),
            "fivetran": dg.MetadataValue.url(result.connection.url),
            SYNC_KEY: result.connection.sync_that_ended(result.connection.finished_at),
        }
        if counted:
            metadata |= {"rows_moved": counted.moved, "dagster/row_count": counted.rows}
            metadata |= (
                {"dagster/last_updated_timestamp": dg.MetadataValue.timestamp(counted.newest)} if counted.newest else {}
            )
        if schema:
            metadata["dagster/column_schema"] = table_schema(schema.columns)
        if table.key in context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=table.key, metadata=metadata)
        else:
            # Fivetran syncs a whole connection: tables that were not asked for have landed as well.
            context.log_event(dg.AssetMaterialization(table.key, metadata=metadata))
