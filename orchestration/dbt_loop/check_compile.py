"""Run dbt without a warehouse: an adapter that opens no connection and answers from the columns that are known."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, override

import agate
from dbt.adapters.base.meta import available
from dbt.adapters.bigquery import Plugin
from dbt.adapters.bigquery.column import BigQueryColumn
from dbt.adapters.bigquery.connections import BigQueryAdapterResponse, BigQueryConnectionManager
from dbt.adapters.bigquery.impl import BigQueryAdapter
from dbt.adapters.bigquery.relation import BigQueryRelation
from dbt.adapters.contracts.connection import ConnectionState
from dbt.adapters.contracts.relation import RelationType
from dbt.cli.main import dbtRunner
from dbt_common.exceptions import DbtRuntimeError

from googlesql import Column
from orchestration.dbt_loop.workspace import Refused

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult
    from dbt.contracts.graph.manifest import Manifest

TARGET = "prod"
"""Consumers read what production builds, so that names have to be production's. Nothing is connected to."""
FOLDER = "check"
VARIABLES = {"source_columns": "declared"}
"""Staging models then take the columns of a source from its YAML, and do not ask the warehouse which of them exist."""
ASKS = "it asks the warehouse"
"""What the message begins with on a node that compiles with the warehouse's help only."""
MOST_FAILURES = 20
"""dbt stops at the first node that it cannot compile. So many are left out, one by one, before the command gives up."""


class Warehouse(Protocol):
    """What an adapter without a warehouse is told to answer."""

    def columns(self, database: str, schema: str, name: str) -> Sequence[Column] | None:
        """The columns of a table; None where they are not known."""
        ...

    def exists(self, schema: str, name: str) -> bool:
        """Whether a table is there."""
        ...

    def execute(self, node: str, sql: str) -> Sequence[Column]:
        """Take a statement of a node, and return the columns of its result, which has no rows. Raises DbtRuntimeError."""
        ...


class WarehouseAskedError(DbtRuntimeError):
    """A node asks the warehouse something while it compiles, and nothing here knows the answer."""


class _NoConnection(BigQueryConnectionManager):
    @classmethod
    @override
    def open(cls, connection: Any) -> Any:
        raise WarehouseAskedError(f"{ASKS} while it compiles")

    @classmethod
    @override
    def close(cls, connection: Any) -> Any:
        # The original opens a connection that nothing has used, to close it.
        connection.state = ConnectionState.CLOSED
        return connection


def _no_rows(*_arguments: Any, **_options: Any) -> tuple[str, agate.Table]:
    """What a statement answers while dbt parses."""
    return "", agate.Table([], [], [])


def adapter_for(warehouse: Warehouse) -> type[BigQueryAdapter]:
    """Return dbt-bigquery's adapter with a warehouse in the place of BigQuery."""

    class Offline(BigQueryAdapter):
        ConnectionManager = _NoConnection

        @override
        def get_columns_in_relation(self, relation: BigQueryRelation) -> list[BigQueryColumn]:
            found = warehouse.columns(str(relation.database), str(relation.schema), str(relation.identifier))
            if found is None:
                raise WarehouseAskedError(
                    f"{ASKS} for the columns of {relation}, and its YAML declares none with a `data_type`"
                )
            return [BigQueryColumn(column.name, column.type) for column in found]

        @available.parse_none
        @override
        def get_relation(self, database: str, schema: str, identifier: str) -> BigQueryRelation | None:
            if not warehouse.exists(schema, identifier):
                return None
            return BigQueryRelation.create(
                database=database, schema=schema, identifier=identifier, type=RelationType.Table
            )

        @available
        @override
        def list_schemas(self, database: str) -> list[str]:
            return []

        @override
        def create_schema(self, relation: BigQueryRelation) -> None:
            """No dataset is made."""

        @available.parse_none
        @override
        def drop_relation(self, relation: BigQueryRelation) -> None:
            """No table is there."""

        @available.parse(_no_rows)
        @override
        def execute(
            self, sql: str, auto_begin: bool = False, fetch: bool = False, limit: int | None = None
        ) -> tuple[BigQueryAdapterResponse, agate.Table]:
            node = str(self.connections.get_thread_connection().name)
            columns = warehouse.execute(node, sql)
            names = [column.name for column in columns]
            return BigQueryAdapterResponse(_message="OK"), agate.Table([], names, [agate.Text()] * len(names))

    return Offline


class Dbt:
    """dbt on one project, in this process."""

    def __init__(self, project_dir: Path, variables: Mapping[str, Any]) -> None:
        self.project_dir = project_dir
        self.target_path = project_dir / "target" / FOLDER
        self._variables = {**variables, **VARIABLES}

    def parse(self) -> Manifest:
        """Parse the project. Raises Refused where dbt cannot: it has printed why."""
        result = self._invoke(["parse", "--no-write-json"])
        if not result.success:
            raise Refused(f"dbt cannot parse {self.project_dir}.") from result.exception
        return cast("Manifest", result.result)

    def compile(self, manifest: Manifest, warehouse: Warehouse, select: Sequence[str] = ()) -> Mapping[str, str]:
        """Compile models, snapshots and data tests into the manifest; return dbt's message on each node that it cannot compile, by id.

        Raises Refused where dbt stops for another reason than a node.
        """
        for node in manifest.nodes.values():
            # Without this, what was compiled before keeps no CTEs of ephemeral models.
            if hasattr(node, "extra_ctes"):
                cast("Any", node).extra_ctes, cast("Any", node).extra_ctes_injected = [], False
        selected = ["--select", *select] if select else []
        failed: dict[str, str] = {}
        with _adapter(warehouse):
            for _ in range(MOST_FAILURES):
                excluded = ["--exclude", *(manifest.nodes[id_].name for id_ in failed)] if failed else []
                messages: dict[str, str] = {}
                result = self._invoke(["compile", "--no-write-json", *selected, *excluded], manifest, messages)
                if result.success:
                    return failed
                if not messages.keys() - failed.keys():
                    raise Refused(f"dbt cannot compile {self.project_dir}: {result.exception}") from result.exception
                failed |= messages
        raise Refused(f"dbt cannot compile {MOST_FAILURES} nodes and more:\n" + "\n".join(failed.values()))

    def unit_tests(self, manifest: Manifest, warehouse: Warehouse, select: Sequence[str] = ()) -> Mapping[str, str]:
        """Have dbt run the unit tests on tables without rows; return dbt's message on each that is not valid, by id.

        What a test expects is compared with no rows, so that its outcome says nothing.
        """
        selected = ["--select", *select] if select else []
        arguments = ["test", "--resource-type", "unit_test", "--no-write-json", *selected]
        messages: dict[str, str] = {}
        with _adapter(warehouse):
            result = self._invoke(arguments, manifest, messages)
        if result.result is None:
            raise Refused(
                f"dbt cannot run the unit tests of {self.project_dir}: {result.exception}"
            ) from result.exception
        return messages

    def select(self, manifest: Manifest, select: Sequence[str]) -> frozenset[str]:
        """The ids of what is selected. Raises Refused where nothing is."""
        result = self._invoke(["list", "--output", "json", "--output-keys", "unique_id", "--select", *select], manifest)
        if not result.success or not result.result:
            raise Refused(f"Nothing in {self.project_dir} is selected by {' '.join(select)}.") from result.exception
        return frozenset(json.loads(line)["unique_id"] for line in cast("list[str]", result.result))

    def _invoke(
        self, command: list[str], manifest: Manifest | None = None, messages: dict[str, str] | None = None
    ) -> dbtRunnerResult:
        """Run dbt; what it says about nodes that fail goes to `messages` by their ids."""

        def listen(event: Any) -> None:
            if messages is not None and event.info.name in (
                "CatchableExceptionOnRun",
                "InternalErrorOnRun",
                "GenericExceptionOnRun",
            ):
                messages[event.data.node_info.unique_id] = str(event.data.exc)

        name, *options = command
        places = ["--project-dir", str(self.project_dir), "--profiles-dir", str(self.project_dir), "--target", TARGET]
        places += ["--target-path", str(self.target_path), "--log-path", str(self.target_path)]
        quiet = ["--quiet"] if name == "parse" else ["--log-level", "none"]
        arguments = [*quiet, "--no-send-anonymous-usage-stats", "--no-populate-cache"]
        return dbtRunner(manifest=manifest, callbacks=[listen]).invoke(
            [*arguments, name, *places, "--vars", json.dumps(self._variables), *options]
        )


@contextmanager
def _adapter(warehouse: Warehouse) -> Generator[None]:
    """Let dbt use the adapter without a warehouse: dbt takes the class that the plugin of the profile's type names."""
    plugin = cast("Any", Plugin)
    original = plugin.adapter
    plugin.adapter = adapter_for(warehouse)
    try:
        yield
    finally:
        plugin.adapter = original
