"""Tables that somebody else writes into BigQuery as assets: observed, never materialized, since nothing is made here.

A table of such a dataset that dbt builds, such as a seed, is dbt's asset alone.
"""

import json
import logging
from dataclasses import dataclass, field
from typing import ClassVar, override

import dagster as dg

from orchestration.components.dbt_exposures import dbt_models
from orchestration.components.landed_step import LandedSource, Looking, Table, matches
from orchestration.components.saved_state import StateIncomplete, StateMissing, VendorState
from orchestration.components.schema_drift import standard
from orchestration.components.setting_names import LEFT_OUT, find_unknown_names
from orchestration.lineage.consumers import Finding
from orchestration.settings import settings
from orchestration.vendors.bigquery import Warehouse
from product_events.registry import expected_schema, owners

log = logging.getLogger(__name__)

State = dict[str, dict[str, dict[str, str]]]
"""Dataset, table, column, type. Beside the datasets, `LEFT_OUT` has the names of the tables that are excluded, by dataset."""


@dataclass
class LandedTables(VendorState, dg.Resolvable):
    """The tables of each source, one step a source. Which there are is read from BigQuery by `dataplatform refresh`."""

    sources: list[LandedSource] = field(default_factory=list[LandedSource])

    state_name: ClassVar[str] = "landed.json"
    tells_losses: ClassVar[bool] = True

    @override
    def stale(self) -> bool:
        return super().stale() or bool(self._read_datasets - json.loads(self.saved()).keys())

    @property
    @override
    def source(self) -> str:
        return f"BigQuery, {settings().raw_project}"

    @override
    def read(self, last: str | None) -> str:
        settings()
        warehouse = Warehouse.configured()
        before: State = json.loads(last or "{}")
        state: State = {}
        left_out: dict[str, list[str]] = {}
        for source, dataset in ((one, name) for one in self.sources if not one.registry for name in one.datasets):
            schemas = warehouse.schemas(dataset)
            excluded = {table for table in schemas if matches(table, source.exclude)}
            left_out[dataset] = sorted(excluded)
            # A view that cannot be read may have no columns. It stays in the graph, so that its failure is reported until it is corrected.
            unread = before.get(dataset, {}).keys() - schemas.keys()
            kept = unread & warehouse.tables(dataset) if unread else set[str]()
            state[dataset] = {table: dict(one.columns) for table, one in schemas.items() if table not in excluded}
            state[dataset] |= {table: before[dataset][table] for table in kept if not matches(table, source.exclude)}
        lost = sorted(dataset for dataset, tables in state.items() if not tables and before.get(dataset))
        if lost:
            raise StateIncomplete(
                f"BigQuery has no tables in {', '.join(lost)}, which would take their assets out of the graph. Where they are really "
                "gone, take them out of defs/ingestion/defs.yaml, and refresh again."
            )
        for dataset in (dataset for dataset, tables in state.items() if not tables):
            log.warning("%s has no tables in BigQuery yet; refresh again when rows have landed", dataset)
        return json.dumps({**state, LEFT_OUT: left_out})

    @override
    def findings(self, state: str) -> list[Finding]:
        """Return the patterns of tables that no table of their source matches."""
        return [name.finding for name in find_unknown_names(self, json.loads(state))]

    @property
    def _read_datasets(self) -> set[str]:
        return {dataset for source in self.sources if not source.registry for dataset in source.datasets}

    @override
    def definitions(self, state: str) -> dg.Definitions:
        found: State = json.loads(state)
        if missing := self._read_datasets - found.keys():
            raise StateMissing(f"The saved state lacks {', '.join(sorted(missing))}: run `dataplatform refresh`.")
        built = set(dbt_models().values())
        looking: list[Looking] = []
        for source in self.sources:
            tables = [table for table in _tables(source, found) if table.key not in built]
            if tables:
                looking.append(Looking(source, tables))
        return dg.Definitions(assets=[source.step() for source in looking])


def _tables(source: LandedSource, state: State) -> list[Table]:
    if not source.registry:
        return [
            Table(dataset, name, columns, source.owners)
            for dataset in source.datasets
            for name, columns in sorted(state[dataset].items())
        ]
    return [
        Table(dataset, name, {column.name: standard(column.field_type) for column in expected_schema(name)}, who)
        for dataset in source.datasets
        for name, who in sorted(owners().items())
    ]
