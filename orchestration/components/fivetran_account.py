"""What a Fivetran account runs: dagster_fivetran's reading of it, over this project's client, and the tables that come of it."""

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, override

import dagster as dg
from dagster._utils.cached_method import cached_method
from dagster_fivetran import FivetranWorkspace
from dagster_fivetran.resources import FivetranClient
from dagster_fivetran.translator import (
    FivetranSchema,
    FivetranTable,
    FivetranWorkspaceData,
)
from pydantic import Field

from orchestration.components.fivetran_selection import Group, Listed, is_excluded, is_selected
from orchestration.lineage import keys
from orchestration.settings import fivetran_settings, settings
from orchestration.vendors.fivetran import BROKEN, CONNECTED, Fivetran
from orchestration.vendors.http import PATIENCE_SECONDS, VendorError

log = logging.getLogger(__name__)


REQUESTS_AT_ONCE = 8
"""So many connections are asked for their schemas side by side: an account may have a thousand."""


def fivetran(patience_seconds: float = PATIENCE_SECONDS) -> Fivetran:
    """Return a client of the account of the settings. `patience_seconds` is how long a request waits for a rate limit to pass."""
    values = fivetran_settings()
    return Fivetran(
        str(values.fivetran_api_url),
        values.fivetran_api_key,
        values.fivetran_api_secret.get_secret_value(),
        patience_seconds=patience_seconds,
    )


class PlatformFivetranClient(FivetranClient):
    """dagster_fivetran's client over this project's HTTP client.

    The library's own has a fixed address, repeats answers of 404, ends with UnboundLocalError where a connection is
    refused, ignores Retry-After, and pages by `nextCursor`, which Fivetran does not send.
    """

    def __init__(self, api: Fivetran, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        super().__init__("", "", 0, 0.0, 1.0, disable_schedule_on_trigger=False)
        self.api, self._include, self._exclude = api, include, exclude
        self.groups: dict[str, Group] = {}
        """The groups of the account that have a destination, by id. The project is not known of those that are excluded."""
        self.connections: list[Listed] = []
        """Every connection of the groups that are not excluded, also of those that are not selected."""
        self.listed: dict[str, str] = {}
        """The connections that Fivetran has listed and that are selected, by id, with their names."""
        self.broken: dict[str, str] = {}
        """Those of them that are not connected to their source."""
        self._destinations: dict[str, Mapping[str, Any]] = {}
        self._schemas: dict[str, Mapping[str, Any] | None] = {}

    @override
    def _make_and_handle_request(
        self, method: str, endpoint: str, data: str | None = None, params: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        return self.api.request(method, endpoint, params=params, body=json.loads(data) if data else None)

    @override
    def get_groups(self) -> Mapping[str, Any]:
        """The groups that are not excluded and have a destination. One without has no connections, and the library cannot read it."""
        found: list[Mapping[str, Any]] = []
        for details in self.api.items("groups"):
            group = Group(details["id"], details.get("name") or details["id"])
            # An excluded group is not asked for anything: the key may not be allowed to.
            if is_excluded(group, self._exclude):
                self.groups[group.id] = group
                continue
            try:
                # "Groups and destinations are mapped 1:1" by their id (GET /v1/destinations/{id} in Fivetran's OpenAPI file).
                destination = self.api.request("GET", f"destinations/{group.id}")
            except VendorError as error:
                if error.status != 404:
                    raise
                log.warning("The Fivetran group `%s` has no destination, so it is left out", group.name)
                continue
            group = Group(group.id, group.name, destination.get("config", {}).get("project_id"))
            self.groups[group.id], self._destinations[group.id] = group, destination
            if not is_excluded(group, self._exclude):
                found.append(details)
        return {"items": found}

    @override
    def list_connectors_for_group(self, group_id: str) -> Sequence[Mapping[str, Any]]:
        selected: list[Mapping[str, Any]] = []
        for connection in self.api.items("connections", group_id=group_id):
            listed = Listed(connection["id"], connection["schema"], connection["service"], self.groups[group_id])
            self.connections.append(listed)
            if is_selected(listed, self._include, self._exclude):
                selected.append(connection)
        for connection in selected:
            self.listed[connection["id"]] = connection["schema"]
            if connection["status"]["setup_state"] != CONNECTED:
                self.broken[connection["id"]] = connection["schema"]
            # The library leaves out a connection that is broken; it is an outage, which its sync has to report.
            if connection["status"]["setup_state"] == BROKEN:
                connection["status"]["setup_state"] = CONNECTED
        # The library asks for one after the other.
        ids = [one["id"] for one in selected if one["status"]["setup_state"] == CONNECTED]
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            self._schemas |= zip(ids, pool.map(self._read_schemas, ids), strict=True)
        return selected

    @override
    def get_destination_details(self, destination_id: str) -> Mapping[str, Any]:
        details = self._destinations[destination_id]
        # BigQuery calls `project_id` what other warehouses call `database`, and the library reads only that.
        config = {"database": details["config"].get("project_id"), **details["config"]}
        return {**details, "config": config}

    @override
    def get_schema_config_for_connector(
        self, connector_id: str, raise_on_not_found_error: bool = True
    ) -> Mapping[str, Any]:
        if connector_id not in self._schemas:
            self._schemas[connector_id] = self._read_schemas(connector_id)
        # What was read is read anew the next time.
        details = self._schemas.pop(connector_id)
        if details is None and raise_on_not_found_error:
            raise VendorError(
                f"Fivetran has no schemas of the connection {connector_id}", vendor="Fivetran", status=404
            )
        return details or {}

    def _read_schemas(self, connection_id: str) -> Mapping[str, Any] | None:
        """Return the schemas of a connection; None where Fivetran has none, since the connection has not synced yet."""
        try:
            details = self.api.request("GET", f"connections/{connection_id}/schemas")
        except VendorError as error:
            if error.status == 404:
                return None
            raise
        # A schema that is not synced comes without `tables`, which the library takes for granted.
        schemas: dict[str, Any] = {
            name: {"tables": {}, **schema} for name, schema in details.get("schemas", {}).items()
        }
        return {**details, "schemas": schemas}


class PlatformFivetranWorkspace(FivetranWorkspace):
    """dagster_fivetran's workspace, at the address of the settings, with the connections that `include` and `exclude` select."""

    include: list[str] = Field(default_factory=list[str])
    exclude: list[str] = Field(default_factory=list[str])

    @override
    @cached_method
    def get_client(self) -> PlatformFivetranClient:
        return PlatformFivetranClient(fivetran(), self.include, self.exclude)


CREATED = ("created_at", "created", "created_date")
"""Where sources keep when a row came to be; the first of these that a table has gives the row its day."""


@dataclass(frozen=True)
class Table:
    """A table of a connection: where it lands, and what it is called at the source.

    `columns` are those that Fivetran knows, and `keys` those of its primary key. Both are empty where Fivetran could not be asked.
    """

    dataset: str
    name: str
    source_schema: str
    source_name: str
    columns: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def has_days(self) -> bool:
        """Whether its rows say when they came to be, as far as is known."""
        return not self.columns or any(name in self.columns for name in CREATED)

    @property
    def key(self) -> dg.AssetKey:
        return keys.table(self.dataset, self.name)


@dataclass(frozen=True)
class Connection:
    """A connection of the saved state, by the name that people know it by, with the tables that are synced."""

    id: str
    name: str
    tables: tuple[Table, ...]


def connections(state: FivetranWorkspaceData) -> list[Connection]:
    """Return the connections of a state, each with a name of its own.

    Of several with one name, which are of different groups, the one that ranks first keeps the name, and the others have their group's id
    after it.
    """
    names = _unique_names(state)
    return [
        Connection(connector.id, names[connector.id], tuple(
            _table(schema_name, schema, table_name, table)
            for schema_name, schema in state.schema_configs_by_connector_id[connector.id].schemas.items() if schema.enabled
            for table_name, table in schema.tables.items() if table.enabled
        ))
        for connector in state.connectors_by_id.values()
    ]  # fmt: skip


def rank(state: FivetranWorkspaceData, connector_id: str) -> tuple[bool, str]:
    """Return the rank of a connection among those that land the same tables, the first is the lowest.

    Connections that land in the project of the settings are first, since dbt reads that one; then those with the lower id. The order in
    which Fivetran lists them does not matter.
    """
    destination = state.destinations_by_id.get(state.connectors_by_id[connector_id].destination_id)
    return (destination is None or destination.database != settings().raw_project, connector_id)


def _unique_names(state: FivetranWorkspaceData) -> dict[str, str]:
    names, taken = dict[str, str](), set[str]()
    for id_ in sorted(state.connectors_by_id, key=lambda one: rank(state, one)):
        connector = state.connectors_by_id[id_]
        names[id_] = f"{connector.name}@{connector.group_id}" if connector.name in taken else connector.name
        taken.add(connector.name)
    return names


def _table(schema_name: str, schema: FivetranSchema, name: str, table: FivetranTable) -> Table:
    columns = list((table.columns or {}).values())
    return Table(
        dataset=schema.name_in_destination,
        name=table.name_in_destination,
        source_schema=schema_name,
        source_name=name,
        columns=tuple(column["name_in_destination"] for column in columns),
        keys=tuple(column["name_in_destination"] for column in columns if column.get("is_primary_key")),
    )
