from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import Any

import dagster as dg
import pytest
from dagster import AssetCheckEvaluation, AssetKey
from google.cloud import bigquery

from orchestration.components.dbt import MANIFEST, DbtModels
from orchestration.components.fivetran import FivetranConnections
from orchestration.components.landed import LandedTables
from orchestration.components.landed_step import LandedSource
from orchestration.components.saved_state import StateIncomplete, StateMissing
from orchestration.components.source_checks import Freshness
from orchestration.lineage.failures import FailedUnit, from_metadata
from orchestration.settings import REPOSITORY, settings
from product_events.registry import owners
from product_events.tables import apply
from sandbox.config import PROJECT, SandboxConfig
from tests.orchestration.wire import refused_port, reply
from tests.product_events.faulty import network

pytestmark = pytest.mark.usefixtures("configured")
SITE, EVENTS, MANY, BELOW = "landed_site", "landed_events", "landed_many", "landed_below"
TRACKS, PAGES = AssetKey([SITE, "tracks"]), AssetKey([SITE, "pages"])
SEGMENT = LandedSource(
    name="segment", datasets=[SITE], owners=["data@example.com"], kinds=["segment"], exclude=["*_view"],
    rewritten=["users"], fresh_tables=["tracks"], freshness=Freshness(warn_hours=6, fail_hours=24),
)  # fmt: skip
PRODUCT = LandedSource(
    name="product", datasets=[EVENTS], registry=True, id="event_id", freshness=Freshness(warn_hours=6, fail_hours=24)
)


@dataclass
class Platform:
    """A component with an event log, and what its runs have left there."""

    component: LandedTables
    instance: dg.DagsterInstance
    downstream: Sequence[Any] = ()
    result: dg.ExecuteInProcessResult = field(init=False)

    @property
    def defs(self) -> dg.Definitions:
        made = self.component.definitions(self.component.saved())
        everything = dg.AssetSelection.groups("ingestion", include_sources=True)
        job = dg.define_asset_job("ingest", selection=everything)
        return dg.Definitions(assets=[*(made.assets or []), *self.downstream], jobs=[job])

    def run(self, *keys: AssetKey, step: str = "segment", **config: Any) -> None:
        job = self.defs.resolve_job_def("ingest")
        run_config = {"ops": {step: {"config": config}}} if config else {}
        self.result = job.execute_in_process(
            run_config, instance=self.instance, asset_selection=list(keys) or None, raise_on_error=False
        )

    @property
    def observed(self) -> dict[str, dict[str, Any]]:
        return {
            event.asset_key.to_user_string(): {
                name: value.value for name, value in event.asset_observation_data.asset_observation.metadata.items()
            }
            for event in self.result.all_events
            if event.is_asset_observation and event.asset_key
        }

    def check(self, key: AssetKey, name: str) -> AssetCheckEvaluation:
        found = [e for e in self.result.get_asset_check_evaluations() if (e.asset_key, e.check_name) == (key, name)]
        [evaluation] = found
        return evaluation

    @property
    def failed(self) -> dict[str, FailedUnit]:
        failures = [
            event.step_failure_data.user_failure_data for event in self.result.all_events if event.is_step_failure
        ]
        return {
            unit.unit: unit
            for data in failures
            if data
            for unit in from_metadata({name: value.value for name, value in data.metadata.items()}) or []
        }


@pytest.fixture(scope="module")
def client(company: Any) -> bigquery.Client:
    return bigquery.Client(project=PROJECT)


@pytest.fixture
def sql(client: bigquery.Client) -> Callable[[str], None]:
    def run(statement: str) -> None:
        client.query(statement).result(timeout=60)

    return run


@pytest.fixture
def landed(client: bigquery.Client, sql: Callable[[str], None]) -> None:
    """Two tables of a website as Segment lands them, with the view that it makes of one."""
    client.create_dataset(SITE, exists_ok=True)
    for table in client.list_tables(SITE):
        client.delete_table(table.reference)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    for name in ("tracks", "pages", "users"):
        sql(
            f"create or replace table {SITE}.{name} as select 'm1' as id, 'u1' as user_id, timestamp '{hour:%F %T}' as received_at"
        )
    sql(f"create or replace view {SITE}.tracks_view as select * from {SITE}.tracks")


@pytest.fixture
def platform(landed: None) -> Platform:
    component = LandedTables(sources=[SEGMENT])
    component.refresh()
    return Platform(component, dg.DagsterInstance.ephemeral())


@pytest.fixture
def product(client: bigquery.Client) -> Platform:
    client.delete_dataset(EVENTS, delete_contents=True, not_found_ok=True)
    apply(client, EVENTS)
    component = LandedTables(sources=[PRODUCT])
    component.refresh()
    return Platform(component, dg.DagsterInstance.ephemeral())


def arrives(table: str, id: str = "'m2'") -> str:
    return f"insert into {SITE}.{table} (id, user_id, received_at) values ({id}, 'u1', current_timestamp())"


def test_tables_that_bigquery_has_are_assets_but_views_are_not(platform: Platform) -> None:
    specs = {spec.key.to_user_string(): spec for spec in platform.defs.resolve_all_asset_specs()}
    assert set(specs) == {f"{SITE}/{table}" for table in ("tracks", "pages", "users")}
    spec = specs[f"{SITE}/tracks"]
    assert (spec.group_name, list(spec.owners), spec.kinds) == (
        "ingestion",
        ["data@example.com"],
        {"segment", "bigquery"},
    )
    assert spec.metadata["dagster/table_name"] == f"local-dev.{SITE}.tracks"
    [tracks] = [c for c in spec.metadata["dagster/column_schema"].columns if c.name == "received_at"]
    assert tracks.type == "TIMESTAMP"


def test_what_the_company_lands_is_declared_in_yaml() -> None:
    tree = dg.ComponentTree.for_project(REPOSITORY / "orchestration")
    [component] = tree.get_all_components(LandedTables)
    assert {source.name: source.datasets for source in component.sources} == {
        "segment": ["website", "web_app", "mobile"],
        "product_events": ["product_events"],
    }
    [connections] = tree.get_all_components(FivetranConnections)
    assert connections.freshness == Freshness(warn_hours=3, fail_hours=12)


def test_an_event_tables_owner_is_the_events(product: Platform) -> None:
    specs = {spec.key.path[1]: list(spec.owners) for spec in product.defs.resolve_all_asset_specs()}
    assert specs == owners()


def test_a_dataset_that_is_not_there_yet_has_no_assets_and_one_that_vanished_keeps_its_own(
    platform: Platform, client: bigquery.Client, caplog: pytest.LogCaptureFixture
) -> None:
    early = LandedTables(sources=[SEGMENT, LandedSource("later", ["not_yet"], SEGMENT.freshness)])
    assert early.stale()
    with pytest.raises(StateMissing, match="lacks not_yet: run `dataplatform refresh`"):
        early.definitions(early.saved())
    early.refresh()
    assert "not_yet has no tables in BigQuery yet" in caplog.text
    assert not early.stale()
    before = early.state_path().read_text()
    client.delete_dataset(SITE, delete_contents=True)
    with pytest.raises(StateIncomplete, match=rf"BigQuery has no tables in {SITE}"):
        early.refresh()
    assert early.state_path().read_text() == before
    assert len(list(early.definitions(early.saved()).resolve_all_asset_specs())) == 3


def test_what_reads_a_table_runs_when_rows_have_come_and_only_then(
    platform: Platform, sql: Callable[[str], None]
) -> None:
    @dg.asset(deps=[TRACKS], automation_condition=dg.AutomationCondition.eager())
    def model() -> None: ...

    platform.downstream = [model]
    cursor: Any = None

    def requested() -> int:
        nonlocal cursor
        ticked = dg.evaluate_automation_conditions(platform.defs, platform.instance, cursor=cursor)
        cursor = ticked.cursor
        if ticked.total_requested:
            dg.materialize([model], instance=platform.instance)
        return ticked.total_requested

    platform.run()
    assert platform.result.success
    assert platform.observed[f"{SITE}/tracks"]["rows_moved"] == 1
    requested()
    platform.run()
    assert platform.observed[f"{SITE}/tracks"]["rows_moved"] == 0
    assert requested() == 0
    sql(arrives("tracks"))
    platform.run()
    metadata = platform.observed[f"{SITE}/tracks"]
    assert (metadata["rows_moved"], metadata["dagster/row_count"]) == (1, 2)
    assert datetime.now(UTC).timestamp() - metadata["dagster/last_updated_timestamp"] < 600
    assert (requested(), requested()) == (1, 0)
    # A row that was late to be written has an older time; a deleted one is nothing that came.
    sql(f"insert into {SITE}.tracks (id, received_at) values ('m3', timestamp '2026-01-01 00:00:00')")
    platform.run(TRACKS)
    assert platform.observed[f"{SITE}/tracks"]["rows_moved"] == 1
    assert (requested(), requested()) == (1, 0)
    sql(f"delete from {SITE}.tracks where id = 'm3'")
    platform.run(TRACKS)
    assert requested() == 0


def test_a_run_may_load_some_tables_and_look_at_others(platform: Platform) -> None:
    @dg.asset(group_name="ingestion")
    def loaded() -> None: ...

    platform.downstream = [loaded]
    platform.run()
    assert platform.result.success
    assert len(platform.observed) == 3
    assert platform.result.asset_materializations_for_node("loaded")


def test_a_row_without_a_key_fails_its_table_and_the_others_are_reported(
    platform: Platform, sql: Callable[[str], None]
) -> None:
    sql(arrives("tracks", "null"))
    platform.run()
    assert set(platform.observed) == {f"{SITE}/{table}" for table in ("tracks", "pages", "users")}
    [unit] = platform.failed.values()
    assert (unit.unit, unit.asset_keys) == (f"check/{SITE}/tracks", (f"{SITE}/tracks",))
    assert unit.error == "keys_not_null: Rows lack a key: id in 1 rows."
    assert (
        unit.vendor_url
        == "https://console.cloud.google.com/bigquery?project=local-dev&p=local-dev&d=landed_site&t=tracks&page=table"
    )
    assert platform.check(PAGES, "keys_not_null").passed


def test_silence_warns_at_the_first_look_and_then_fails(platform: Platform, sql: Callable[[str], None]) -> None:
    sql(f"update {SITE}.tracks set received_at = timestamp_sub(received_at, interval 30 hour) where true")
    platform.run(TRACKS)
    assert platform.result.success
    assert not platform.check(TRACKS, "fresh").passed
    platform.run(TRACKS)
    assert "fresh: The newest row is of" in platform.failed[f"check/{SITE}/tracks"].error


def test_a_change_at_the_source_names_the_models_at_risk_until_somebody_accepts_it(
    platform: Platform, sql: Callable[[str], None]
) -> None:
    (DbtModels.state_path()).mkdir()
    source = {"resource_type": "source", "name": "tracks", "schema": SITE, "identifier": "tracks"}
    model = {
        "resource_type": "model",
        "name": "stg_tracks",
        "config": {"schema": "staging"},
        "schema": "x",
        "raw_code": "select user_id from t",
    }
    (DbtModels.state_path() / MANIFEST).write_text(json.dumps({
        "sources": {"source.p.s.tracks": source | {"original_file_path": "models/_sources.yml"}},
        "nodes": {"model.p.stg": model | {"original_file_path": "models/stg_tracks.sql"}},
        "exposures": {},
        "child_map": {"source.p.s.tracks": ["model.p.stg"]},
    }))  # fmt: skip
    platform.run()
    assert platform.check(TRACKS, "schema").passed
    sql(f"alter table {SITE}.tracks drop column user_id")
    sql(f"create table {SITE}.signed_up as select 'x' as id")
    for _ in range(2):
        platform.run()
        assert platform.result.success
        schema = platform.check(TRACKS, "schema")
        assert (schema.passed, schema.severity) == (False, dg.AssetCheckSeverity.WARN)
        assert schema.metadata["models_at_risk"].value == ["staging/stg_tracks"]
        assert "column user_id (STRING) is gone. Models at risk: staging/stg_tracks." in (schema.description or "")
    new = platform.check(PAGES, "new_tables")
    assert (new.passed, new.metadata["tables"].value) == (False, ["signed_up"])
    assert "dataplatform refresh" in (new.description or "")
    platform.run(TRACKS, accept_schema=True)
    assert platform.check(TRACKS, "schema").passed
    platform.run(TRACKS)
    assert platform.check(TRACKS, "schema").passed


def test_checks_alone_observe_nothing(platform: Platform) -> None:
    one = dg.AssetSelection.checks(dg.AssetCheckKey(TRACKS, "schema"))
    platform.result = dg.materialize(
        list(platform.defs.assets or []), selection=one, instance=platform.instance, raise_on_error=False
    )
    assert platform.result.success
    assert platform.observed == {}
    assert [e.check_name for e in platform.result.get_asset_check_evaluations()] == ["schema"]


def test_a_table_without_the_time_of_its_rows_is_a_failure_that_says_so(
    platform: Platform, sql: Callable[[str], None]
) -> None:
    sql(f"alter table {SITE}.pages drop column received_at")
    platform.run()
    assert set(platform.observed) == {f"{SITE}/tracks", f"{SITE}/users"}
    assert "no column `received_at`" in platform.failed[f"landed/{SITE}/pages"].error
    assert not platform.check(PAGES, "volume").passed


def test_a_table_that_is_gone_is_reported_and_the_others_are_observed(
    platform: Platform, sql: Callable[[str], None]
) -> None:
    platform.run()
    sql(f"drop table {SITE}.pages")
    platform.run()
    assert platform.result.success, platform.failed
    assert set(platform.observed) == {f"{SITE}/tracks", f"{SITE}/users"}
    volume = platform.check(PAGES, "volume")
    assert (volume.passed, volume.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "the table is not in BigQuery" in str(volume.description)


def test_a_warehouse_that_cannot_be_asked_is_a_failure_and_no_check_passes(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{refused_port()}")
    monkeypatch.setenv("BIGQUERY_RETRY_SECONDS", "1")
    settings.cache_clear()
    platform.run()
    [unit] = platform.failed.values()
    assert (unit.unit, len(unit.asset_keys)) == (f"landed/{SITE}", 3)
    assert unit.error.startswith(f"BigQuery could not be asked what {SITE} holds:")
    assert platform.observed == {}
    assert list(platform.result.get_asset_check_evaluations()) == []


def many(client: bigquery.Client, number: int) -> LandedTables:
    """A dataset of so many views, each with a row as Segment lands it: half a table's work for the local warehouse."""
    for dataset in (MANY, BELOW):
        client.delete_dataset(dataset, delete_contents=True, not_found_ok=True)
        client.create_dataset(dataset)
    row = "select 'm1' as id, 'u1' as user_id, timestamp_sub(current_timestamp(), interval 1 hour) as received_at"
    client.query(f"create table {BELOW}.good as {row}").result(timeout=60)
    names = [f"t{place:04}" for place in range(number)]
    for some in batched(names, 50, strict=False):
        statements = (f"create view {MANY}.{name} as select * from {BELOW}.good" for name in some)
        client.query(";\n".join(statements)).result(timeout=600)
    return LandedTables(sources=[replace(SEGMENT, datasets=[MANY], fresh_tables=["*"], rewritten=[], exclude=[])])


@pytest.mark.parametrize("number", [12, pytest.param(200, marks=pytest.mark.long)])
def test_one_broken_view_among_many_tables_fails_alone_and_is_well_again_when_it_is_corrected(
    client: bigquery.Client, sql: Callable[[str], None], number: int
) -> None:
    component = many(client, number - 1)
    sql(f"create table {BELOW}.bad as select * from {BELOW}.good")
    sql(f"create view {MANY}.v as select * from {BELOW}.bad")
    component.refresh()
    platform = Platform(component, dg.DagsterInstance.ephemeral())
    sql(f"drop table {BELOW}.bad")
    platform.run()
    assert set(platform.observed) == {f"{MANY}/t{place:04}" for place in range(number - 1)}
    [unit] = platform.failed.values()
    assert (unit.unit, unit.asset_keys, unit.permanent) == (f"landed/{MANY}/v", (f"{MANY}/v",), True)
    assert f"BigQuery cannot read the table or view `{MANY}.v`." in unit.error
    assert "bad was not found" in unit.error
    assert unit.cause is None
    assert str(unit.vendor_url).endswith("t=v&page=table")
    broken = AssetKey([MANY, "v"])
    assert not platform.check(broken, "volume").passed
    assert platform.check(AssetKey([MANY, "t0000"]), "keys_not_null").passed
    # A refresh does not take it out of the graph, which would end its alert.
    assert component.refresh().gone == ()
    sql(f"create table {BELOW}.bad as select * from {BELOW}.good")
    platform.run(broken)
    assert platform.result.success, platform.failed
    assert set(platform.observed) == {f"{MANY}/v"}


def test_a_dataset_of_which_nothing_can_be_read_is_one_failure(
    client: bigquery.Client, sql: Callable[[str], None]
) -> None:
    component = many(client, 3)
    component.refresh()
    platform = Platform(component, dg.DagsterInstance.ephemeral())
    sql(f"drop table {BELOW}.good")
    platform.run()
    [unit] = platform.failed.values()
    assert (unit.unit, unit.asset_keys) == (f"landed/{MANY}", tuple(f"{MANY}/t{place:04}" for place in range(3)))
    assert platform.observed == {}


def test_a_bigquery_that_goes_away_while_tables_are_counted_is_not_asked_table_by_table(
    client: bigquery.Client, company: SandboxConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = many(client, 120)
    component.refresh()
    sent: list[int] = []

    def count(body: bytes) -> bytes | None:
        if b"as null_counts" in body:
            sent.append(body.count(b"from `"))
            if len(sent) > 1:
                return reply(503, {"error": {"code": 503, "message": "down", "errors": [{"reason": "backendError"}]}})
        return None

    with network(company.url("bigquery")) as between:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", between.url)
        monkeypatch.setenv("BIGQUERY_RETRY_SECONDS", "1")
        settings.cache_clear()
        between.query = count
        platform = Platform(component, dg.DagsterInstance.ephemeral())
        platform.run()
    assert len(platform.observed) == 100
    [unit] = platform.failed.values()
    assert (unit.unit, len(unit.asset_keys), unit.cause) == (
        f"landed/{MANY}",
        20,
        "bigquery-unreachable",
    )
    # The client repeats a query that fails for a second. No query is for a part of a batch.
    assert set(sent[1:]) == {20}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_source_of_2000_tables_is_observed(client: bigquery.Client) -> None:
    component = many(client, 2_000)
    component.refresh()
    platform = Platform(component, dg.DagsterInstance.ephemeral())
    platform.run()
    assert platform.result.success, platform.failed
    assert len(platform.observed) == 2_000


@pytest.mark.parametrize(
    ("setting", "patterns", "nearest"),
    [
        ("rewritten", ["user"], "users"),
        ("fresh_tables", ["tracks", "page"], "pages"),
        ("exclude", ["*_vew"], "tracks_view"),
    ],
)
def test_patterns_that_match_no_table_are_findings(
    landed: None, caplog: pytest.LogCaptureFixture, setting: str, patterns: list[str], nearest: str
) -> None:
    component = LandedTables(sources=[replace(SEGMENT, **{setting: patterns})])
    component.refresh()
    [finding] = component.findings(component.saved())
    assert (finding.kind, finding.key) == ("setting", f"segment: {setting}")
    assert f"`{patterns[-1]}` in orchestration/defs/ingestion/defs.yaml names no table of {SITE}." in finding.why
    assert f"`{nearest}`" in finding.why
    assert finding.why in caplog.text


def test_patterns_of_a_source_whose_tables_are_still_to_come_are_no_findings(landed: None) -> None:
    component = LandedTables(sources=[replace(SEGMENT, datasets=[SITE, "not_yet"], rewritten=["nothing_like_it"])])
    component.refresh()
    assert component.findings(component.saved()) == []
    assert LandedTables(sources=[PRODUCT]).findings("{}") == []


def test_product_events_are_held_to_the_registry(
    product: Platform, sql: Callable[[str], None], client: bigquery.Client
) -> None:
    product.run()
    assert product.result.success, product.failed
    sql(f"alter table {EVENTS}.insight_viewed drop column load_ms")
    client.delete_table(f"{EVENTS}.status_page_viewed")
    sql(f"alter table {EVENTS}.slack_command_invoked add column extra string")
    sql(
        f"insert into {EVENTS}.dead_letters (payload, reason, received_at) values ('[]', 'properties: no object', current_timestamp())"
    )
    product.run()
    assert set(product.failed) == {f"check/{EVENTS}/insight_viewed", f"check/{EVENTS}/status_page_viewed"}
    assert "the table is not in BigQuery" in product.failed[f"check/{EVENTS}/status_page_viewed"].error
    extra = product.check(AssetKey([EVENTS, "slack_command_invoked"]), "schema")
    assert (extra.passed, extra.severity) == (False, dg.AssetCheckSeverity.WARN)
    rejected = product.check(AssetKey([EVENTS, "dead_letters"]), "nothing_rejected")
    assert (rejected.passed, rejected.severity) == (False, dg.AssetCheckSeverity.WARN)
    product.run()
    assert product.check(AssetKey([EVENTS, "dead_letters"]), "nothing_rejected").passed
