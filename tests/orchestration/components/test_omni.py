from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import httpx
import pytest
import stamina
from google.cloud import bigquery

from orchestration.components.dbt import MANIFEST, DbtModels
from orchestration.components.omni import OmniDocuments, OmniState, table_of, tables_of
from orchestration.components.omni_changes import unwell
from orchestration.components.omni_schema import KEY, by_document, content
from orchestration.components.saved_state import StateIncomplete
from orchestration.lineage.failures import FailedUnit, from_metadata
from orchestration.lineage.graph import AUDIENCE_TAG
from orchestration.settings import settings
from orchestration.vendors.http import VendorError
from orchestration.vendors.omni_payloads import Broken, Query
from sandbox.config import PROJECT
from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from sandbox.vendors.omni import state as memory
from sandbox.vendors.omni.catalogue import DOCUMENTS
from sandbox.vendors.omni.catalogue import Query as OmniQuery
from sandbox.vendors.omni.content import add_documents
from sandbox.vendors.store import Store
from tests.stand_ins import Vendors

TABLES = ["sales.account_health", "core.organisations", "core.incidents", "insights.time_spent_on_incidents_v2"]
HEALTH = dg.AssetKey(["omni", "account_health"])
MARTS = sorted({field.partition("__")[0] + "." + field.partition("__")[2] for document in DOCUMENTS for field in
                (query.table or "" for query in document.queries)})  # fmt: skip


@pytest.fixture(scope="module")
def store(vendors: Vendors) -> Store:
    """What the stand-in remembers; its key may ask as often as the tests like."""
    found = VendorContext.of(vendors.config).store
    rate_limits.override(found, "omni", "requests", 100_000)
    return found


@pytest.fixture(autouse=True)
def fast(configured: None, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMNI_REQUESTS_PER_MINUTE", "100000")
    settings.cache_clear()
    yield
    # Documents that a test has added are gone again.
    known = [document.identifier for document in DOCUMENTS]
    store.execute(f"delete from omni_document where identifier not in ({', '.join('?' * len(known))})", known)
    store.execute(f"delete from omni_query where document not in ({', '.join('?' * len(known))})", known)


@pytest.fixture
def component() -> OmniDocuments:
    made = OmniDocuments(owners=["team:data"])
    made.refresh()
    return made


def definitions(component: OmniDocuments) -> dg.Definitions:
    return component.definitions(component.saved())


def specs(component: OmniDocuments) -> dict[dg.AssetKey, dg.AssetSpec]:
    assets = definitions(component).assets or []
    found = [one.specs if isinstance(one, dg.AssetsDefinition) else [one] for one in assets]
    return {spec.key: spec for several in found for spec in several if isinstance(spec, dg.AssetSpec)}


def upstream(spec: dg.AssetSpec) -> list[str]:
    return sorted(dep.asset_key.to_user_string() for dep in spec.deps)


def by_identifier(component: OmniDocuments) -> dict[str, list[str]]:
    """What each document in the graph reads, as `schema.table`."""
    known = {one.slug: one.identifier for one in OmniState.model_validate_json(component.saved()).documents}
    return {
        known[key.path[-1]]: [name.replace("/", ".") for name in upstream(spec)]
        for key, spec in specs(component).items()
        if key != KEY
    }


def asked(vendors: Vendors) -> list[str]:
    """The documents whose queries Omni was asked for."""
    return vendors.asked("omni", "queries")


def test_a_document_has_what_it_reads_its_owner_and_its_page(component: OmniDocuments, vendors: Vendors) -> None:
    found = specs(component)
    assert upstream(found[HEALTH]) == ["sales/account_health"]
    assert (found[HEALTH].group_name, found[HEALTH].tags[AUDIENCE_TAG], found[HEALTH].owners) == (
        "analytics",
        "internal",
        ["revops@example.com"],
    )
    assert found[HEALTH].kinds == {"omni"}
    assert found[HEALTH].automation_condition is None
    url = found[HEALTH].metadata["dashboard"].value
    assert url == f"{vendors.config.url('omni')}/dashboards/{DOCUMENTS[0].identifier}"
    assert "Account health" in httpx.get(url).text
    assert upstream(found[dg.AssetKey(["omni", "finance_overview"])]) == ["finance/invoices", "finance/mrr_movements"]
    assert upstream(found[KEY]) == [name.replace(".", "/") for name in MARTS]
    assert (found[KEY].group_name, found[KEY].owners) == ("analytics", ["team:data"])


def test_the_companys_documents_read_what_their_exposures_declare(component: OmniDocuments) -> None:
    assert {key.path[-1]: upstream(spec) for key, spec in specs(component).items() if key != KEY} == {
        "account_health": ["sales/account_health"],
        "sales_pipeline": ["sales/pipeline"],
        "finance_overview": ["finance/invoices", "finance/mrr_movements"],
        "support_overview": ["support/support_load_by_week", "support/tickets"],
    }


def test_every_document_that_has_queries_is_joined_to_the_tables_that_they_read(
    component: OmniDocuments, store: Store, vendors: Vendors
) -> None:
    before = by_identifier(component)
    truth = add_documents(store, 80, TABLES, seed=1)
    earlier = len(asked(vendors))
    came = component.refresh()
    assert (len(came.new), came.gone) == (80, ())
    assert {id_: reads for id_, reads in by_identifier(component).items() if id_ not in before} == truth
    # Every name is taken several times: each document has a key of its own.
    assert len(specs(component)) == len(truth) + len(before) + 1
    assert set(truth) <= set(asked(vendors)[earlier:])


def test_what_cannot_be_told_of_a_document_leaves_what_can(store: Store) -> None:
    odd = [
        OmniQuery.of("Q", "core.incidents", "count"),
        OmniQuery("A note", None),
        OmniQuery("An upload", "upload_targets_2026"),
        OmniQuery("", None, bare=True),
    ]
    memory.add(store, (), [memory.Document("ffff0002", "Odd", "left@example.com", tuple(odd), updated_at=None)])
    component = OmniDocuments(owners=["team:data"])
    component.refresh()
    spec = specs(component)[dg.AssetKey(["omni", "odd"])]
    assert (upstream(spec), spec.owners) == (["core/incidents"], ["team:data"])
    [consumer] = [one for one in component.consumers(component.saved()) if one.key == spec.key]
    assert consumer.unknown == (
        "Omni does not say what its query `A note` reads.",
        "It reads the view `upload_targets_2026`, whose name has no schema in it.",
        "Omni does not say what its query `unnamed` reads.",
    )


def test_documents_that_nobody_has_edited_are_not_asked_for_again(
    component: OmniDocuments, store: Store, vendors: Vendors
) -> None:
    add_documents(store, 30, TABLES, seed=2)
    component.refresh()
    never = store.execute("select identifier from omni_document where updated_at is null and deleted = 0")
    before, earlier = component.saved(), len(asked(vendors))
    component.refresh()
    assert component.saved() == before
    # Of those without a time nobody knows.
    assert sorted(asked(vendors)[earlier:]) == sorted(row["identifier"] for row in never)
    earlier = len(asked(vendors))
    [edited] = [document for document in DOCUMENTS if document.name == "Account health"]
    memory.change_queries(store, edited.identifier, [OmniQuery.of("Other", "sales.pipeline", "amount")])
    try:
        component.refresh()
        assert edited.identifier in asked(vendors)[earlier:]
        assert upstream(specs(component)[HEALTH]) == ["sales/pipeline"]
    finally:
        memory.change_queries(store, edited.identifier, edited.queries)


def test_a_renamed_document_keeps_its_key_and_one_without_queries_its_slug_for_later(
    component: OmniDocuments, store: Store
) -> None:
    document = DOCUMENTS[0]
    store.execute("update omni_document set name = 'Something else' where identifier = ?", (document.identifier,))
    try:
        component.refresh()
        assert specs(component)[HEALTH].description == "Something else"
        memory.change_queries(store, document.identifier, [])
        assert component.refresh().gone == (HEALTH.to_user_string(),)
        memory.change_queries(store, document.identifier, document.queries)
        assert component.refresh().new == (HEALTH.to_user_string(),)
    finally:
        memory.change_queries(store, document.identifier, document.queries)
        store.execute("update omni_document set name = ? where identifier = ?", (document.name, document.identifier))


def test_a_document_is_not_called_what_the_schema_model_is(store: Store) -> None:
    query = OmniQuery.of("Q", "core.incidents", "count")
    memory.add(store, (), [memory.Document("ffff0001", "Schema model", "data@example.com", (query,))])
    component = OmniDocuments()
    component.refresh()
    assert dg.AssetKey(["omni", "schema_model_ffff0001"]) in specs(component)


@pytest.mark.parametrize(
    ("query", "reads", "unknown"),
    [
        (Query(name="Q", views=["sales__account_health"]), ["sales/account_health"], None),
        (Query(name="Q", views=["staging__stg_a__b"]), ["staging/stg_a__b"], None),
        (Query(name="Q", views=["omni_dbt_sales__pipeline"]), ["sales/pipeline"], None),
        (Query(name="Q", views=["omni_dbt__pipeline"]), [], "virtual schema"),
        (Query(name="Q", views=["Order Items", "a__b"]), ["a/b"], "no schema in it"),
        (Query(name="Q", views=["__x"]), [], "no schema in it"),
        (Query(name="Q", sql="select * from `p.core.users`", views=["query_1"]), ["core/users"], None),
        (Query(name="Q", sql="select {% from"), [], "cannot be read"),
        (Query(name="Q"), [], "Omni does not say what its query `Q` reads"),
    ],
)  # fmt: skip
def test_what_a_query_reads(query: Query, reads: list[str], unknown: str | None) -> None:
    found = list(tables_of(query))
    assert [one.to_user_string() for one in found if isinstance(one, dg.AssetKey)] == reads
    reasons = [one for one in found if isinstance(one, str)]
    assert len(reasons) == (unknown is not None)
    assert unknown is None or unknown in reasons[0]


def test_a_view_without_a_schema_is_no_table() -> None:
    with pytest.raises(ValueError, match="no schema in it"):
        table_of("orders")


@pytest.mark.parametrize("kind", ["truncated", "refused"])
def test_an_outage_at_refresh_keeps_the_last_state(kind: str, component: OmniDocuments, vendors: Vendors) -> None:
    before = component.state_path().read_bytes()
    vendors.faults.add("omni", kind=kind)
    with stamina.set_testing(True), pytest.raises(VendorError):
        component.refresh()
    assert component.state_path().read_bytes() == before
    assert HEALTH in specs(component)


def test_an_omni_that_lists_nothing_any_more_is_not_believed(component: OmniDocuments, store: Store) -> None:
    store.execute("update omni_document set deleted = 1")
    try:
        with pytest.raises(StateIncomplete, match="lists nothing any more"):
            component.refresh()
    finally:
        store.execute("update omni_document set deleted = 0")
    assert HEALTH in specs(component)


def test_users_that_may_not_be_read_leave_the_owners_as_they_were(component: OmniDocuments, vendors: Vendors) -> None:
    vendors.faults.add("omni", "/scim/", "http_403", times=1)
    component.refresh()
    assert not vendors.faults.active("omni"), "Omni was asked"
    assert specs(component)[HEALTH].owners == ["revops@example.com"]


def test_a_document_that_omni_keeps_to_itself_stays_with_what_was_known(
    component: OmniDocuments, vendors: Vendors, store: Store
) -> None:
    vendors.faults.add("omni", "/queries", "http_403")
    store.execute("update omni_document set updated_at = null")
    try:
        came = component.refresh()
    finally:
        vendors.faults.remove("omni")
        store.execute("update omni_document set updated_at = ?", (DOCUMENTS[0].updated_at,))
    assert (came.new, came.gone) == ((), ())
    [health] = [one for one in component.consumers(component.saved()) if one.key == HEALTH]
    assert len(health.reads) == 1
    [why] = health.unknown
    assert why.startswith("Omni does not say what it reads: Omni: GET ")
    assert why.endswith("answered 403: The key may not do that")


# The schema model


@pytest.fixture
def marts(store: Store) -> Iterator[bigquery.Client]:
    """The tables that documents read, with the columns that they refer to; a document more than the company has."""
    client = bigquery.Client(project=PROJECT)
    columns: dict[str, set[str]] = {}
    for document in DOCUMENTS:
        for view, field in memory.fields(document.queries):
            columns.setdefault(view.replace("__", ".", 1), set()).add(field)
    for table, names in columns.items():
        make(client, table, names - {memory.COUNT})
    yield client
    for table in columns:
        client.delete_table(f"{PROJECT}.{table}", not_found_ok=True)


def make(client: bigquery.Client, table: str, columns: set[str]) -> None:
    client.create_dataset(table.split(".", maxsplit=1)[0], exists_ok=True)
    client.delete_table(f"{PROJECT}.{table}", not_found_ok=True)
    fields = [bigquery.SchemaField(name, "STRING") for name in sorted(columns)]
    client.create_table(bigquery.Table(f"{PROJECT}.{table}", schema=fields))


def columns_of(client: bigquery.Client, table: str) -> set[str]:
    return {field.name for field in client.get_table(f"{PROJECT}.{table}").schema}


def run(component: OmniDocuments) -> tuple[dict[str, Any], list[FailedUnit], dg.AssetCheckEvaluation | None]:
    """A refresh of the schema model: the metadata of the materialization, or none; the units that failed; and the check."""
    step = [one for one in definitions(component).assets or [] if isinstance(one, dg.AssetsDefinition)]
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(step, instance=instance, raise_on_error=False)
    metadata: dict[str, Any] = {}
    failed: list[FailedUnit] = []
    for event in result.all_events:
        if event.is_step_materialization:
            metadata = {name: value.value for name, value in event.materialization.metadata.items()}
        elif event.is_step_failure:
            data = event.step_failure_data.user_failure_data
            assert data is not None
            failed = from_metadata({name: value.value for name, value in data.metadata.items()}) or []
    return metadata, failed, next(iter(result.get_asset_check_evaluations()), None)


def test_a_renamed_column_fails_the_check_which_names_the_documents_and_fields(
    component: OmniDocuments, marts: bigquery.Client
) -> None:
    metadata, failed, check = run(component)
    assert (failed, check and check.passed, check and check.description) == ([], True, "No document is broken.")
    assert metadata["duration_seconds"] > 0

    make(marts, "sales.account_health", columns_of(marts, "sales.account_health") - {"health_score"} | {"score"})
    metadata, failed, check = run(component)
    assert (failed, metadata != {}) == ([], True)
    assert check is not None
    assert (check.passed, check.severity, check.blocking) == (False, dg.AssetCheckSeverity.ERROR, False)
    assert check.description == (
        "A document refers to what is not in Omni's model any more, in 1 place.\n"
        "Account health: Accounts to call: Field 'sales__account_health.health_score' not found in model"
    )
    print(check.description)
    said: dict[str, Any] = {name: value.value for name, value in check.metadata.items()}
    assert (said["documents"], said["issues"]) == (1, 1)
    assert said["broken"][0]["name"] == "Account health"

    make(marts, "sales.account_health", columns_of(marts, "sales.account_health") - {"score"} | {"health_score"})
    marts.delete_table(f"{PROJECT}.support.tickets")
    _, _, check = run(component)
    assert check is not None
    assert "Support overview: Slowest replies: View 'support__tickets' not found in model" in (check.description or "")
    assert "Account health" not in (check.description or "")


def test_a_failed_job_is_a_failed_unit(component: OmniDocuments, marts: bigquery.Client, vendors: Vendors) -> None:
    vendors.faults.add("omni", kind="job_failure", times=1)
    metadata, [failure], check = run(component)
    assert (metadata, check) == ({}, None)
    assert (failure.unit, failure.asset_keys, failure.permanent) == ("omni/schema_model", ("omni/schema_model",), False)
    assert failure.error.startswith("Omni could not refresh the schema model `Warehouse` (job ")
    assert run(component)[1] == []


def test_an_omni_that_does_not_answer_is_a_failed_unit(component: OmniDocuments, vendors: Vendors) -> None:
    vendors.faults.add("omni", "content-validator", "html", times=10)
    with stamina.set_testing(True):
        _, [failure], check = run(component)
    assert "502: 502 Bad Gateway" in failure.error
    assert check is None


def test_what_the_check_says_is_bounded() -> None:
    broken = [
        Broken(identifier=f"d{n}", name="N" * 500, issues=["i" * 500 + str(i) for i in range(40)]) for n in range(400)
    ]
    result = content(by_document([*broken, *broken]), "https://acme.omniapp.co/")
    assert len(result.description or "") < 8_000
    assert (result.description or "").endswith("And 390 more documents.")
    assert (result.metadata["documents"].value, result.metadata["issues"].value) == (400, 16_000)


# The sensor


class Ticks:
    """The sensor over ticks that hand on their cursor."""

    def __init__(self, component: OmniDocuments) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        made = definitions(component)
        self.repository = made.get_repository_def()
        [sensor] = made.sensors or []
        assert isinstance(sensor, dg.SensorDefinition)
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
        self.sensor, self.cursor = sensor, None
        self.said: str | None = None

    def asks(self) -> bool:
        context = dg.build_sensor_context(self.instance, cursor=self.cursor, repository_def=self.repository)
        tick = self.sensor.evaluate_tick(context)
        self.cursor, self.said, self.requests = tick.cursor or self.cursor, tick.skip_message, tick.run_requests or []
        return bool(self.requests)

    def made(self, table: str, **columns: str) -> None:
        schema = dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()])
        metadata = {"dagster/column_schema": schema} if columns else {}
        key = dg.AssetKey(table.split("."))
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata))


def manifest(description: str) -> None:
    """A dbt project of one model, which the company's documents read."""
    node = {
        "resource_type": "model", "name": "account_health", "schema": "sales", "config": {"schema": "sales"}, "alias": "account_health",
        "description": "", "columns": {"mrr": {"name": "mrr", "description": description, "data_type": "numeric"}},
    }  # fmt: skip
    path = DbtModels.state_path() / MANIFEST
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"nodes": {"model.p.account_health": node}, "sources": {}, "exposures": {}}))


def test_a_refresh_is_asked_for_once_and_again_only_when_columns_are_others(component: OmniDocuments) -> None:
    ticks = Ticks(component)
    ticks.made("sales.account_health", mrr="NUMERIC")
    assert ticks.asks()
    assert not ticks.asks()
    assert ticks.said == "No table that documents read has other columns."
    ticks.made("sales.account_health", mrr="NUMERIC")
    assert not ticks.asks()
    ticks.made("sales.account_health", mrr="FLOAT64")
    assert ticks.asks()
    assert not ticks.asks()
    # Its columns could not be looked up this time: those that were known count.
    ticks.made("sales.account_health")
    assert not ticks.asks()
    ticks.made("core.nobody_reads_this", id="STRING")
    assert not ticks.asks()
    ticks.made("sales.pipeline", amount="NUMERIC")
    assert ticks.asks()


def test_a_deploy_that_changes_a_description_asks_for_a_refresh(component: OmniDocuments) -> None:
    manifest("Monthly recurring revenue.")
    ticks = Ticks(component)
    assert not ticks.asks()
    assert ticks.said == "Not built yet: sales/account_health."
    ticks.made("sales.account_health", mrr="NUMERIC")
    assert ticks.asks()
    manifest("Monthly recurring revenue.")
    assert not ticks.asks()
    manifest("Recurring revenue of a month, in euros.")
    assert ticks.asks()
    assert not ticks.asks()


def test_a_refresh_that_did_not_end_well_is_asked_for_again_after_an_hour(
    component: OmniDocuments, marts: bigquery.Client, vendors: Vendors
) -> None:
    [step] = [one for one in definitions(component).assets or [] if isinstance(one, dg.AssetsDefinition)]
    check = dg.AssetCheckKey(KEY, "content")
    soon, later = datetime.now(UTC) + timedelta(minutes=50), datetime.now(UTC) + timedelta(hours=2)
    with dg.DagsterInstance.ephemeral() as instance:
        assert unwell(instance, check, later) is None
        vendors.faults.add("omni", kind="job_failure", times=1)
        dg.materialize([step], instance=instance, raise_on_error=False)
        assert (unwell(instance, check, soon), unwell(instance, check, later)) == (None, "the last refresh failed")
        kept = columns_of(marts, "sales.account_health")
        make(marts, "sales.account_health", {"score"})
        dg.materialize([step], instance=instance)
        assert (unwell(instance, check, soon), unwell(instance, check, later)) == (None, "the check `content` failed")
        make(marts, "sales.account_health", kept)
        dg.materialize([step], instance=instance)
        assert unwell(instance, check, later) is None


def test_the_request_is_for_the_schema_model_and_may_be_tried_again(component: OmniDocuments) -> None:
    ticks = Ticks(component)
    assert ticks.asks()
    [request] = ticks.requests
    assert (request.asset_selection, request.tags["dagster/max_retries"]) == ([KEY], "1")
