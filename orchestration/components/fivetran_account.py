"""What a Fivetran account runs: dagster_fivetran's reading of it, over this project's client, and the tables that come of it."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
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

from orchestration.lineage import keys
from orchestration.settings import fivetran_settings
from orchestration.vendors.fivetran import Fivetran
from orchestration.vendors.http import VendorError

log = logging.getLogger(__name__)


def fivetran() -> Fivetran:
    values = fivetran_settings()
    return Fivetran(
        str(values.fivetran_api_url), values.fivetran_api_key, values.fivetran_api_secret.get_secret_value()
    )


class PlatformFivetranClient(FivetranClient):
    """dagster_fivetran's client over this project's HTTP client.

    The library's own has a fixed address, repeats answers of 404, ends with UnboundLocalError where a connection is
    refused, ignores Retry-After, and pages by `nextCursor`, which Fivetran does not send.
    """

    def __init__(self, api: Fivetran, exclude: Sequence[str] = ()) -> None:
        super().__init__("", "", 0, 0.0, 1.0, disable_schedule_on_trigger=False)
        self.api, self._exclude = api, exclude
        self.listed: dict[str, str] = {}
        """The connections that Fivetran has listed and that are not excluded, by id, with their names."""
        self.broken: dict[str, str] = {}
        """Those of them that are not connected to their source."""
        self._destinations: dict[str, Mapping[str, Any]] = {}

    @override
    def _make_and_handle_request(
        self, method: str, endpoint: str, data: str | None = None, params: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        return self.api.request(method, endpoint, params=params, body=json.loads(data) if data else None)

    @override
    def get_groups(self) -> Mapping[str, Any]:
        """The groups that have a destination. One without has no connections, and the library cannot read it."""
        found: list[Mapping[str, Any]] = []
        for group in self.api.items("groups"):
            try:
                # "Groups and destinations are mapped 1:1" by their id (GET /v1/destinations/{id} in Fivetran's OpenAPI file).
                self._destinations[group["id"]] = self.api.request("GET", f"destinations/{group['id']}")
            except VendorError as error:
                if error.status != 404:
                    raise
                name = group.get("name") or group["id"]
                log.warning("The Fivetran group `%s` has no destination, so it is left out", name)
            else:
                found.append(group)
        return {"items": found}

    @override
    def list_connectors_for_group(self, group_id: str) -> Sequence[Mapping[str, Any]]:
        listed = list(self.api.items("connections", group_id=group_id))
        connections = [one for one in listed if not is_excluded(one["schema"], one["service"], self._exclude)]
        for connection in connections:
            self.listed[connection["id"]] = connection["schema"]
            if connection["status"]["setup_state"] != "connected":
                self.broken[connection["id"]] = connection["schema"]
            # The library leaves out a connection that is broken; it is an outage, which its sync has to report.
            if connection["status"]["setup_state"] == "broken":
                connection["status"]["setup_state"] = "connected"
        return connections

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
        try:
            details = self.api.request("GET", f"connections/{connector_id}/schemas")
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
    """dagster_fivetran's workspace, at the address of the settings, without the connections of `exclude`."""

    exclude: list[str] = Field(default_factory=list[str])

    @override
    @cached_method
    def get_client(self) -> PlatformFivetranClient:
        return PlatformFivetranClient(fivetran(), self.exclude)


def is_excluded(name: str, service: str, patterns: Sequence[str]) -> bool:
    """Whether a connection's name or the name of its service matches one of the patterns."""
    return any(fnmatch(name, pattern) or fnmatch(service, pattern) for pattern in patterns)


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
    return [
        Connection(connector.id, connector.name, tuple(
            _table(schema_name, schema, table_name, table)
            for schema_name, schema in state.schema_configs_by_connector_id[connector.id].schemas.items() if schema.enabled
            for table_name, table in schema.tables.items() if table.enabled
        ))
        for connector in state.connectors_by_id.values()
    ]  # fmt: skip


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
