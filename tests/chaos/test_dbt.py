"""A real dbt on the warehouse: a model that fails is told while dbt goes on, and a retry builds again only what it has to."""

import time
from collections.abc import Iterator, Sequence
from datetime import datetime

import dagster as dg
import pytest
from dagster import DagsterEventType, DagsterRunStatus, RunsFilter

from sandbox.config import PROJECT
from sandbox.services.bigquery import client
from sandbox.stack import stack
from tests.chaos import forty
from tests.chaos.platform import Alert, Platform, running, wait_for

pytestmark = pytest.mark.long

HEARD_SECONDS = 10.0
"""After dbt's own line of the error."""
STILL_TO_RUN = 30


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    root = tmp_path_factory.mktemp("forty")
    forty.write(root / "forty")
    forty.parse(root / "forty", root / "state" / "dbt", {"GOOGLE_CLOUD_PROJECT": PROJECT, "DBT_TARGET": "prod"})
    with running(root, "tests.chaos.dbt_location") as started:
        warehouse = stack(started.config, with_platform=False, only=("warehouse",))
        try:
            warehouse.up(lambda _done: None)
            client(started.config).create_dataset(forty.RAW)
            for model in forty.COLUMNS:
                land(started, model)
            yield started
        finally:
            warehouse.down(lambda _name: None)


def land(platform: Platform, model: str, column: str = "", value: str = "'x'") -> None:
    """The raw table that a model reads, made anew."""
    column = column or forty.COLUMNS[model]
    statement = f"create or replace table {forty.RAW}.{model} as select 1 as id, {value} as {column}"
    client(platform.config).query_and_wait(statement)


@pytest.mark.timeout(600)
def test_a_model_that_fails_is_told_while_thirty_more_are_to_be_built_with_what_it_holds_up(platform: Platform) -> None:
    land(platform, forty.BROKEN, column="renamed")
    run_id = platform.launch(job="build")
    alert, heard = wait_for(lambda: _opened(platform, forty.BROKEN), 240, "the model's alert opens")
    still_runs = not platform.status(run_id).is_finished
    run = platform.ended(run_id)

    said, place = forty.ended_at(platform.config.root / "state" / "dbt" / "runs" / run_id / "dbt.log", forty.BROKEN)
    assert place <= 4
    assert len(forty.MODELS) - place - len(forty.HELD_UP) >= STILL_TO_RUN
    assert heard - datetime.fromisoformat(said).timestamp() < HEARD_SECONDS
    assert still_runs
    assert alert.first["held_up"] == _keys(forty.HELD_UP)
    assert alert.first["assets"] == _keys([forty.BROKEN])
    assert forty.COLUMNS[forty.BROKEN] in alert.first["error"]
    assert alert.paged_at_once

    assert run.status == DagsterRunStatus.FAILURE
    assert made(platform, run_id) == {*_keys(forty.MODELS)} - {*_keys([forty.BROKEN, *forty.HELD_UP])}
    # The same SQL gets the same error: it is not tried again.
    assert retries(platform, run_id) == []

    land(platform, forty.BROKEN)
    platform.run(_keys([forty.BROKEN, *forty.HELD_UP]))
    wait_for(lambda: not any(one.open for one in platform.alerts()), 60, "it is resolved")
    [alert] = platform.alerts()
    assert [event["status"] for event in alert.events][-1] == "resolved"
    assert len(alert.pages) == 1


@pytest.mark.timeout(600)
def test_a_test_that_passes_when_it_is_tried_again_is_transient_and_only_what_it_stopped_is_built_again(
    platform: Platform,
) -> None:
    land(platform, forty.TESTED, value="cast(null as string)")
    run = platform.run(job="build")
    land(platform, forty.TESTED)
    assert run.status == DagsterRunStatus.FAILURE
    assert made(platform, run.run_id) == {*_keys(forty.MODELS)} - {*_keys([forty.BELOW_TESTED])}

    [retry_id] = wait_for(lambda: retries(platform, run.run_id), 120, "Dagster tries again")
    assert platform.ended(retry_id).status == DagsterRunStatus.SUCCESS
    assert made(platform, retry_id) == {*_keys([forty.TESTED, forty.BELOW_TESTED])}
    assert evaluated(platform, run.run_id) == [(f"{forty.DATASET}/{forty.TESTED}", False)]
    assert evaluated(platform, retry_id) == [(f"{forty.DATASET}/{forty.TESTED}", True)]

    unit = f"dbt/{forty.DATASET}/{forty.TESTED}"
    [alert] = wait_for(
        lambda: [one for one in platform.alerts_of(unit) if not one.open], 60, "the failure is recorded and resolved"
    )
    assert alert.first["transient"] is True
    assert alert.pages == ()
    incidents = [one for one in platform.incidents() if forty.TESTED in one["name"]]
    assert [one["incident_status"]["category"] for one in incidents] == ["closed"]


def made(platform: Platform, run_id: str) -> set[str]:
    """The assets that a run has built."""
    events = _events(platform, run_id, DagsterEventType.ASSET_MATERIALIZATION)
    return {event.asset_key.to_user_string() for event in events if event.asset_key}


def evaluated(platform: Platform, run_id: str) -> list[tuple[str, bool]]:
    """The tests that a run has carried out: of which model each is, and whether it passed."""
    events = _events(platform, run_id, DagsterEventType.ASSET_CHECK_EVALUATION)
    results = [event.asset_check_evaluation_data for event in events]
    return [(result.asset_key.to_user_string(), result.passed) for result in results]


def retries(platform: Platform, run_id: str) -> list[str]:
    found = platform.instance.get_runs(RunsFilter(tags={"dagster/parent_run_id": run_id}))
    return [run.run_id for run in found]


def _events(platform: Platform, run_id: str, kind: DagsterEventType) -> list[dg.DagsterEvent]:
    records = platform.instance.get_records_for_run(run_id, of_type=kind).records
    return [event for record in records if (event := record.event_log_entry.dagster_event)]


def _opened(platform: Platform, model: str) -> tuple[Alert, float] | None:
    found = platform.alerts_of(f"dbt/{forty.DATASET}/{model}")
    return (found[-1], time.time()) if found else None


def _keys(models: Sequence[str]) -> list[str]:
    return [f"{forty.DATASET}/{model}" for model in models]
