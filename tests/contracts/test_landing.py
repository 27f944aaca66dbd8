"""What the emulated connectors land, what the dbt sources declare and what the staging models read, against what Fivetran lands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from googlesql import Analyzer, Column, RejectedError, Table
from sandbox.company.tick import tick
from sandbox.services import postgres
from sandbox.services.warehouse import CREDENTIALS
from tests.contracts.landing_specs import SERVICES, SOURCES, Columns, Landing, declared
from tests.dbt.project import ENVIRONMENT, Dbt
from tests.stand_ins import Vendors


@pytest.fixture(scope="module")
def landed(vendors: Vendors) -> dict[str, dict[str, Columns]]:
    """The columns of every table, by service, after a first sync and one of what changed since."""
    for _ in range(2):
        for service in SERVICES:
            assert vendors.sync(f"{service}_conn")["status"] == "succeeded"
        tick(postgres.dsn(vendors.config), hours=12)
    return {service: columns(vendors, service) for service in SERVICES}


def columns(vendors: Vendors, dataset: str) -> dict[str, Columns]:
    rows = vendors.query(f"select table_name, column_name, data_type from {dataset}.INFORMATION_SCHEMA.COLUMNS")
    found: dict[str, Columns] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_an_emulated_connector_lands_what_fivetran_lands(landed, service):
    spec = Landing.of(service)
    assert landed[service], "nothing has landed"
    assert [fault for table, found in landed[service].items() for fault in spec.faults(table, found)] == []


@pytest.mark.parametrize("service", SERVICES)
def test_sources_declare_what_lands(landed, service):
    assert declared(service) == landed[service]


@pytest.mark.parametrize("service", SERVICES)
def test_sources_declare_what_fivetran_lands(service):
    spec = Landing.of(service)
    assert [fault for table, found in declared(service).items() for fault in spec.faults(table, found)] == []


@pytest.mark.parametrize(
    ("service", "table", "columns", "fault"),
    [
        ("stripe", "subscription_items", {"id": "STRING"}, "stripe.subscription_items: Fivetran lands no such table"),
        ("stripe", "customer", {"id": "STRING", "metadata_organisation_id": "STRING"}, "no such column"),
        ("stripe", "invoice", {"amount_due": "FLOAT64"}, "amount_due: FLOAT64, and Fivetran lands INT64"),
        ("stripe", "invoice", {"_fivetran_deleted": "BOOL"}, "no such column"),
        ("salesforce", "account", {"mood_c": "STRING"}, "no such column"),
        ("zendesk", "organization", {"_fivetran_deleted": "BOOL"}, "no such column"),
    ],
)
def test_what_differs_is_named(service, table, columns, fault):
    [found] = Landing.of(service).faults(table, columns)
    assert fault in found


@pytest.mark.parametrize("service", SERVICES)
def test_corrections_say_where_they_are_from_and_change_something(service):
    spec = Landing.of(service)
    for correction in spec.corrections:
        tables = [table for table in spec.names() if spec.corrects(correction, table)]
        assert correction["source"]
        assert any(spec.of_package(table).get(correction["column"]) != correction["type"] for table in tables), (
            correction
        )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The compiled SQL of the staging models of these services, by name. Nothing is asked of a warehouse."""
    target = tmp_path_factory.mktemp("compiled")
    credentials = target / "credentials.json"
    credentials.write_text(json.dumps(CREDENTIALS))
    dbt = Dbt(target, ENVIRONMENT | {"GOOGLE_APPLICATION_CREDENTIALS": str(credentials), "BIGQUERY_RAW_PROJECT": "raw"})
    selected = [f"staging.{service},resource_type:model" for service in SERVICES]
    done = dbt.run(
        "compile", "--target", "prod", "--no-introspect", "--no-populate-cache", "--select", *selected,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    nodes: Iterator[dict[str, Any]] = iter(dbt.manifest()["nodes"].values())
    return {
        node["name"]: node["compiled_code"]
        for node in nodes
        if node["resource_type"] == "model" and node["fqn"][1] == "staging" and node["fqn"][2] in SERVICES
    }


def catalog(*, corrected: bool) -> list[Table]:
    """Every table that Fivetran lands of these services, with every column that one may have."""
    specs = [Landing.of(service) for service in SERVICES]
    return [
        Table(
            f"raw.{spec.service}.{name}", tuple(Column(*one) for one in spec.types(name, corrected=corrected).items())
        )
        for spec in specs
        for name in spec.names()
    ]


@pytest.mark.parametrize("corrected", [True, False], ids=["corrected", "as in the packages"])
def test_every_staging_model_compiles_on_the_specs_alone(compiled, corrected):
    files = {path.stem for service in SERVICES for path in (SOURCES / service).glob("stg_*.sql")}
    assert compiled.keys() == files
    analyzer, tables = Analyzer(), catalog(corrected=corrected)
    rejected: dict[str, str] = {}
    for name, sql in compiled.items():
        try:
            analyzer.analyze(sql, tables, default_project="raw")
        except RejectedError as error:
            rejected[name] = str(error)
    assert rejected == {}


@pytest.mark.parametrize(
    ("model", "before", "after", "message"),
    [
        ("stg_stripe__invoices", "due_date", "paid_at", "paid_at"),
        ("stg_zendesk__tickets", "priority", "mood", "mood"),
        ("stg_salesforce__accounts", "is_deleted", "_fivetran_deleted", "_fivetran_deleted"),
        ("stg_stripe__subscriptions", "subscription_history", "subscriptions", "not found"),
    ],
)
def test_a_model_that_reads_what_no_spec_has_is_rejected(compiled, model, before, after, message):
    sql = compiled[model].replace(before, after, 1)
    assert sql != compiled[model]
    with pytest.raises(RejectedError, match=message):
        Analyzer().analyze(sql, catalog(corrected=True), default_project="raw")
