"""The columns of each table that Fivetran syncs, with its key: read at a refresh, at most one request a table, and saved with the state."""

import logging
import threading
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dagster_fivetran.translator import FivetranSchema, FivetranSchemaConfig, FivetranTable, FivetranWorkspaceData

from orchestration.vendors.fivetran import Fivetran
from orchestration.vendors.http import VendorError

REQUESTS_AT_ONCE = 8
BUDGET_SECONDS = 600.0
"""How long a refresh reads columns. What is not read by then keeps its last known columns, and comes first at the next refresh."""
HOURS_KNOWN = 7 * 24
"""Columns that are known are read again once in so many hours: each request makes Fivetran query the source, and refreshes are hourly."""
log = logging.getLogger(__name__)

Columns = Mapping[str, Any]
Place = tuple[str, str, str]
"""The id of a connection, and the names of a schema and a table at the source."""


def read_columns(
    api: Fivetran,
    state: FivetranWorkspaceData,
    last: FivetranWorkspaceData | None,
    unreadable: Mapping[str, str],
    now: datetime | None = None,
) -> FivetranWorkspaceData:
    """Return the state with the columns of every enabled table.

    A connection's schemas have only the columns that someone has edited ("Unedited columns are omitted from the response", Fivetran's
    OpenAPI file), so each table is asked for, unless its columns are known from the last state and are not due. Where that fails, a table
    keeps its columns of the last state.

    Args:
        unreadable: Connections that cannot be asked, by id, with their names: the endpoint "works only for an existing connection that
            is in a 'Connected' state".
    """
    known = dict(_columns(last)) if last else {}
    hour = int((now or datetime.now(UTC)).timestamp() // 3600)
    places = [
        place
        for place in _columns(state)
        if place[0] not in unreadable and (not known.get(place) or _is_due(place, hour))
    ]
    for name in sorted(unreadable.values()):
        log.warning("Fivetran: %s is not connected, so that its tables keep the key columns that are known", name)
    names = {id_: connector.name for id_, connector in state.connectors_by_id.items()}
    landing = {
        (id_, schema_name): schema.name_in_destination
        for id_, config in state.schema_configs_by_connector_id.items()
        for schema_name, schema in config.schemas.items()
    }
    reader = _Reader(api, names, landing)
    # Tables whose columns are not known come first: a refresh may run out of time.
    places.sort(key=lambda place: bool(known.get(place)))
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        found = dict(zip(places, pool.map(reader.read, places), strict=True))
    return _with_columns(state, known | {place: columns for place, columns in found.items() if columns is not None})


@dataclass
class _Reader:
    """What the threads share. A connection that fails once is not asked again: each further table would take as long to fail."""

    api: Fivetran
    names: Mapping[str, str]
    landing: Mapping[tuple[str, str], str]
    """The dataset of each schema of each connection."""
    _failed: set[str] = field(default_factory=set[str])
    _stopped: bool = False
    _began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, place: Place) -> Columns | None:
        """Return the columns of a table; None where they cannot be read now."""
        connection, schema, table = place
        if self._stopped or connection in self._failed:
            return None
        if time.monotonic() - self._began > BUDGET_SECONDS:
            self._stop(f"not every table's columns were read within {BUDGET_SECONDS:.0f} s")
            return None
        try:
            return self._ask(connection, schema, table)
        except VendorError as error:
            if error.status == 429:
                self._stop(f"the rate limit does not pass: {error}")
            elif error.status in {400, 404}:
                log.warning(
                    "The key columns of %s.%s.%s are not known: %s", self.names[connection], schema, table, error
                )
            else:
                self._fail(connection, error)
            return None

    def _ask(self, connection: str, schema: str, table: str) -> Columns:
        try:
            return self.api.columns(connection, schema, table)
        except VendorError as error:
            # The OpenAPI file describes the parameter as "the database schema name within your destination"; its name suggests the
            # source's. Which one is meant is unverified.
            landed = self.landing[connection, schema]
            if error.status != 404 or landed == schema:
                raise
            return self.api.columns(connection, landed, table)

    def _stop(self, why: str) -> None:
        with self._lock:
            if not self._stopped:
                log.warning("Fivetran: %s. The other tables keep the key columns that are known", why)
            self._stopped = True

    def _fail(self, connection: str, error: VendorError) -> None:
        with self._lock:
            if connection not in self._failed:
                log.warning("Fivetran: %s keeps the key columns that are known: %s", self.names[connection], error)
            self._failed.add(connection)


def _is_due(place: Place, hour: int) -> bool:
    """Whether known columns are read again in this hour: each table has its own hour of the week."""
    return (zlib.crc32(".".join(place).encode()) - hour) % HOURS_KNOWN == 0


def _columns(state: FivetranWorkspaceData) -> Mapping[Place, Columns]:
    """The columns of each enabled table that a state has."""
    return {
        (id_, schema_name, name): table.columns or {}
        for id_, config in state.schema_configs_by_connector_id.items()
        for schema_name, schema in config.schemas.items()
        if schema.enabled
        for name, table in schema.tables.items()
        if table.enabled
    }


def _with_columns(state: FivetranWorkspaceData, columns: Mapping[Place, Columns]) -> FivetranWorkspaceData:
    def table(place: Place, one: FivetranTable) -> FivetranTable:
        return FivetranTable(
            enabled=one.enabled, name_in_destination=one.name_in_destination, columns=columns.get(place, {})
        )

    def schema(id_: str, name: str, one: FivetranSchema) -> FivetranSchema:
        tables = {key: table((id_, name, key), value) for key, value in one.tables.items()}
        return FivetranSchema(enabled=one.enabled, name_in_destination=one.name_in_destination, tables=tables)

    return FivetranWorkspaceData(
        connectors_by_id=state.connectors_by_id,
        destinations_by_id=state.destinations_by_id,
        schema_configs_by_connector_id={
            id_: FivetranSchemaConfig(schemas={name: schema(id_, name, one) for name, one in config.schemas.items()})
            for id_, config in state.schema_configs_by_connector_id.items()
        },
    )
