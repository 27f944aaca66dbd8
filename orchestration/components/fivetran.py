"""Fivetran connections as assets: one for each table that a connection lands, all synced by one step."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, override

import dagster as dg
import requests
from dagster._serdes import deserialize_value
from dagster._utils.cached_method import cached_method
from dagster_fivetran import DagsterFivetranTranslator, FivetranWorkspace
from dagster_fivetran.resources import FivetranClient
from dagster_fivetran.translator import FivetranConnectorTableProps, FivetranMetadataSet, FivetranWorkspaceData
from google.api_core.exceptions import GoogleAPIError

from orchestration.components.saved_state import StateIncomplete, VendorState
from orchestration.components.steps import Failures, Sleep, side_by_side
from orchestration.lineage import keys
from orchestration.settings import settings
from orchestration.vendors.bigquery import Landed, Warehouse
from orchestration.vendors.fivetran import Fivetran, Synced, connection_url
from orchestration.vendors.http import VendorError
from orchestration.vendors.waiting import Wait

GROUP = "ingestion"
LATE = "If it is only slow, raise `sync_timeout_minutes` in defs/ingestion/defs.yaml."


def fivetran() -> Fivetran:
    values = settings()
    return Fivetran(
        str(values.fivetran_api_url), values.fivetran_api_key, values.fivetran_api_secret.get_secret_value()
    )


class PlatformFivetranClient(FivetranClient):
    """dagster_fivetran's client over this project's HTTP client.

    The library's own has a fixed address, repeats answers of 404, ends with UnboundLocalError where a connection is
    refused, ignores Retry-After, and pages by `nextCursor`, which Fivetran does not send.
    """

    def __init__(self, api: Fivetran) -> None:
        super().__init__("", "", 0, 0.0, 1.0, disable_schedule_on_trigger=False)
        self._api = api
        self.listed: dict[str, str] = {}
        """The connections that Fivetran has listed, by id, with their names."""

    @override
    def _make_and_handle_request(
        self, method: str, endpoint: str, data: str | None = None, params: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        return self._api.request(method, endpoint, params=params, body=json.loads(data) if data else None)

    @override
    def get_groups(self) -> Mapping[str, Any]:
        return {"items": list(self._api.items("groups"))}

    @override
    def list_connectors_for_group(self, group_id: str) -> Sequence[Mapping[str, Any]]:
        connections = list(self._api.items("connections", group_id=group_id))
        for connection in connections:
            self.listed[connection["id"]] = connection["schema"]
            # The library leaves out a connection that is broken; it is an outage, which its sync has to report.
            if connection["status"]["setup_state"] == "broken":
                connection["status"]["setup_state"] = "connected"
        return connections

    @override
    def get_destination_details(self, destination_id: str) -> Mapping[str, Any]:
        details = self._api.request("GET", f"destinations/{destination_id}")
        # BigQuery calls `project_id` what other warehouses call `database`, and the library reads only that.
        config = {"database": details["config"].get("project_id"), **details["config"]}
        return {**details, "config": config}

    @override
    def get_schema_config_for_connector(
        self, connector_id: str, raise_on_not_found_error: bool = True
    ) -> Mapping[str, Any]:
        try:
            details = self._api.request("GET", f"connections/{connector_id}/schemas")
        except VendorError as error:
            if error.status == 404 and not raise_on_not_found_error:
                return {}
            raise
        # A schema that is not synced comes without `tables`, which the library takes for granted.
        schemas: dict[str, Any] = {
            name: {"tables": {}, **schema} for name, schema in details.get("schemas", {}).items()
        }
        return {**details, "schemas": schemas}


class PlatformFivetranWorkspace(FivetranWorkspace):
    """dagster_fivetran's workspace, at the address of the settings."""

    @override
    @cached_method
    def get_client(self) -> PlatformFivetranClient:
        return PlatformFivetranClient(fivetran())


@dataclass(frozen=True)
class Table:
    key: dg.AssetKey
    dataset: str
    name: str


@dataclass(frozen=True)
class Result:
    """What one sync brought, by table."""

    synced: Synced
    landed: dict[dg.AssetKey, Landed]


@dataclass
class FivetranConnections(VendorState, dg.Resolvable):
    """Every connection of a Fivetran account that is set up. What it runs is read from Fivetran by `dataplatform refresh`."""

    owners: list[str] = field(default_factory=list[str])
    """Who is asked about a failure: e-mail addresses, or `team:<name>`."""
    sync_timeout_minutes: int = 180
    concurrent_syncs: int = 8
    manage_schedules: bool = False
    """Switch a connection's own schedule off when it is synced from here."""

    state_name: ClassVar[str] = "fivetran.json"

    @override
    def write_state_to_path(self, state_path: Path) -> None:
        values = settings()
        workspace = PlatformFivetranWorkspace(account_id=values.fivetran_account_id, api_key="", api_secret="")
        state = workspace.fetch_fivetran_workspace_data()
        self._refuse_losses(state, workspace.get_client().listed)
        state_path.write_text(dg.serialize_value(state), encoding="utf-8")

    def _refuse_losses(self, state: FivetranWorkspaceData, listed: Mapping[str, str]) -> None:
        """Raise StateIncomplete where a connection that has assets now is still there, but came without its tables."""
        if not self.state_path().exists():
            return
        last = deserialize_value(self.state_path().read_text(encoding="utf-8"), FivetranWorkspaceData)
        lost = sorted(
            listed[id_] for id_ in listed.keys() & last.connectors_by_id.keys() - state.connectors_by_id.keys()
        )
        if lost:
            raise StateIncomplete(
                f"Fivetran lists {', '.join(lost)} without tables, which would take their assets out of the graph. Look at "
                "these connections in Fivetran, or pause or delete what is not wanted any more, and refresh again."
            )

    @override
    def definitions(self, state_path: Path) -> dg.Definitions:
        state = deserialize_value(state_path.read_text(encoding="utf-8"), FivetranWorkspaceData)
        tables: dict[str, list[Table]] = {}
        specs: list[dg.AssetSpec] = []
        for props in state.to_fivetran_connector_table_props_data():
            spec = self.get_asset_spec(props)
            specs.append(spec)
            tables.setdefault(props.connector_id, []).append(_table(spec))
        names = {connector.id: connector.name for connector in state.connectors_by_id.values()}

        @dg.multi_asset(name="fivetran", specs=specs, can_subset=True)
        def sync(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
            yield from self.execute(context, tables, names)

        return dg.Definitions(assets=[sync])

    def get_asset_spec(self, props: FivetranConnectorTableProps) -> dg.AssetSpec:
        spec = DagsterFivetranTranslator().get_asset_spec(props)
        found = FivetranMetadataSet.extract(spec.metadata)
        assert found.destination_schema_name is not None
        assert found.destination_table_name is not None
        return spec.replace_attributes(
            key=keys.table(found.destination_schema_name, found.destination_table_name),
            group_name=GROUP,
            owners=self.owners,
        )

    def execute(
        self, context: dg.AssetExecutionContext, tables: Mapping[str, list[Table]], names: Mapping[str, str]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Sync the connections of the selected tables side by side, and report each as soon as it has ended.

        Raises dagster.Failure at the end, with a report of every connection that failed.
        """
        selected = context.selected_asset_keys
        wanted = {id_: own for id_, own in tables.items() if any(table.key in selected for table in own)}
        syncs, failed = _Syncs(self, context), Failures(context.log)
        jobs = {id_: partial(syncs.run, id_, own) for id_, own in wanted.items()}
        for id_, future in side_by_side(jobs, self.concurrent_syncs):
            if error := future.exception():
                keys_ = [table.key for table in wanted[id_] if table.key in selected]
                failed.add(f"fivetran/{names[id_]}", keys_, error, connection_url(id_))
            else:
                yield from _report(context, wanted[id_], selected, future.result())
        failed.raise_any()


class _Syncs:
    """What the threads of one step share."""

    def __init__(self, component: FivetranConnections, context: dg.AssetExecutionContext) -> None:
        values = settings()
        self._component, self._log = component, context.log
        self._fivetran = fivetran()
        self._warehouse = Warehouse(values.google_cloud_project, values.bigquery_location)

    def run(self, connection_id: str, tables: Sequence[Table], sleep: Sleep) -> Result:
        if self._component.manage_schedules:
            self._fivetran.hand_over_schedule(connection_id)
        datasets = _by_dataset(tables)
        before = {dataset: self._counted(self._warehouse.newest, dataset, names) for dataset, names in datasets.items()}
        limit = self._component.sync_timeout_minutes * 60
        synced = self._fivetran.sync(connection_id, Wait(limit, LATE, self._log.info, sleep))
        landed = {
            keys.table(dataset, name): counts
            for dataset, names in datasets.items()
            for name, counts in self._counted(self._warehouse.landed, dataset, names, before[dataset]).items()
        }
        return Result(synced, landed)

    def _counted[**P, T](self, count: Callable[P, dict[str, T]], *arguments: P.args, **named: P.kwargs) -> dict[str, T]:
        """What the warehouse counts; nothing where it cannot. Counts describe a sync, they are not what it is for."""
        try:
            return count(*arguments, **named)
        except (GoogleAPIError, requests.RequestException, TimeoutError) as error:
            self._log.warning(f"rows of {arguments[0]} are not counted, the sync goes on: {error}")
            return {}


def _report(
    context: dg.AssetExecutionContext, tables: Sequence[Table], selected: Any, result: Result
) -> Iterator[dg.MaterializeResult[Any]]:
    for table in tables:
        landed = result.landed.get(table.key)
        counts = {"rows_moved": landed.moved, "dagster/row_count": landed.rows} if landed else {}
        metadata: dict[str, Any] = {
            **counts,
            "duration_seconds": round(result.synced.seconds, 1),
            "fivetran": dg.MetadataValue.url(result.synced.connection.url),
        }
        if table.key in selected:
            yield dg.MaterializeResult(asset_key=table.key, metadata=metadata)
        else:
            # Fivetran syncs a whole connection: tables that were not asked for have landed as well.
            context.log_event(dg.AssetMaterialization(table.key, metadata=metadata))


def _table(spec: dg.AssetSpec) -> Table:
    dataset, name = spec.key.path
    return Table(spec.key, dataset, name)


def _by_dataset(tables: Sequence[Table]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table in tables:
        found.setdefault(table.dataset, []).append(table.name)
    return found
