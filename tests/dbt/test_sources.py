"""The sources' YAML next to what the loaders land: names and types of every column.

The tables of Salesforce, Stripe and Zendesk are compared with Fivetran's own packages instead, by the tests of the landing contracts.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from google.cloud import bigquery

from orchestration.components import platform_history
from orchestration.vendors.bigquery_tables import Tables
from sandbox.company.product_events import seed_product_events
from sandbox.config import PROJECT, SandboxConfig
from sandbox.vendors.context import VendorContext
from sandbox.vendors.fivetran.destination import Destination
from sandbox.vendors.fivetran.sync import source_of
from sandbox.vendors.segment.history import seed_history

DDL_TYPES = {"STRING", "INT64", "FLOAT64", "BOOL", "TIMESTAMP", "DATE", "DATETIME", "NUMERIC", "JSON", "BYTES"}
"""https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types; FLOAT and INTEGER exist in the tables API only, or as aliases."""
SAAS = {"salesforce", "stripe", "zendesk"}
Columns = dict[str, str]


@pytest.fixture(scope="module")
def landed(company: SandboxConfig) -> dict[str, dict[str, Columns]]:
    """Types by dataset, table and column, as each loader lands them."""
    with closing(source_of(VendorContext.of(company), "postgres", "product")) as source:
        destination = Destination(source.dataset)
        for table in source.tables():
            destination.replace(table, source.changes(table, None, set()).rows, datetime.now(UTC))
    seed_history(company)
    seed_product_events(company)
    history = Tables(PROJECT, "US", 60)
    for table in platform_history.TABLES:
        history.ensure(table)
    client = bigquery.Client(project=PROJECT)
    found: dict[str, dict[str, Columns]] = {}
    for dataset in client.list_datasets():
        statement = f"select table_name, column_name, data_type from {dataset.dataset_id}.INFORMATION_SCHEMA.COLUMNS"
        for row in client.query_and_wait(statement):
            tables = found.setdefault(dataset.dataset_id, {})
            tables.setdefault(row["table_name"], {})[row["column_name"]] = row["data_type"]
    return found


def declared(manifest: dict[str, Any]) -> dict[tuple[str, str], Columns]:
    """Types of the columns of each source, by dataset and table; those of the SaaS sources left out."""
    return {
        (source["schema"], source["identifier"]): {
            column["name"]: str(column["data_type"]).upper() for column in source["columns"].values()
        }
        for source in manifest["sources"].values()
        if source["schema"] not in SAAS
    }


def test_every_column_of_a_source_has_a_type_of_ddl(manifest: dict[str, Any]) -> None:
    assert {
        f"{table}.{name}": kind
        for (_dataset, table), columns in declared(manifest).items()
        for name, kind in columns.items()
        if kind not in DDL_TYPES
    } == {}


@pytest.mark.timeout(300)
def test_what_a_loader_lands_is_what_its_source_declares(
    manifest: dict[str, Any], landed: dict[str, dict[str, Columns]]
) -> None:
    differing = {}
    for (dataset, table), columns in declared(manifest).items():
        there = landed.get(dataset, {}).get(table, {})
        # Segment has a table or column only once something was sent for it; what is there has to be declared all the same.
        expected = {name: columns[name] for name in columns if name in there} if is_segment(dataset) else columns
        if there != expected:
            only_landed, only_declared = there.items() - expected.items(), expected.items() - there.items()
            differing[f"{dataset}.{table}"] = {"landed": sorted(only_landed), "declared": sorted(only_declared)}
    assert differing == {}


def test_segment_has_sent_all_that_its_sources_declare(
    manifest: dict[str, Any], landed: dict[str, dict[str, Columns]]
) -> None:
    """A column that nothing sends, or that is misspelt in the YAML, would be null for ever."""
    missing = {
        f"{dataset}.{table}": sorted(columns.keys() - landed[dataset].get(table, {}).keys())
        for (dataset, table), columns in declared(manifest).items()
        if is_segment(dataset) and columns.keys() - landed[dataset].get(table, {}).keys()
    }
    assert missing == {}


def is_segment(dataset: str) -> bool:
    return dataset in {"website", "web_app", "mobile"}
