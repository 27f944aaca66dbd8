"""The digest: its words by themselves, what warns from a real instance's checks, and the job over Slack's stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import create_execution_plan

from orchestration.incidents import mutes, warned
from orchestration.incidents.digest import daily, warnings_digest
from orchestration.incidents.digest_message import message
from orchestration.incidents.mutes import Mute
from orchestration.incidents.warned import Warned
from orchestration.settings import settings
from orchestration.vendors.slack import LONGEST_MESSAGE, client, length
from sandbox.env_file import environment
from sandbox.services import postgres
from sandbox.vendors.context import VendorContext
from tests.on_call import OnCall, running

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
GROUP = "<!subteam^S00000001>"

OUTCOMES: dict[str, tuple[bool, dg.AssetCheckSeverity, str]] = {}
"""What the checks say in the next run; those that are not in it pass."""
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


@dg.asset(
    key=["insights", "time"],
    owners=["data@example.com", "team:core"],
    check_specs=[dg.AssetCheckSpec(name, asset=["insights", "time"]) for name in ("volume", "schema", "keys")],
    freshness_policy=dg.FreshnessPolicy.time_window(timedelta(hours=24), timedelta(hours=6)),
)
def time_spent() -> Iterator[Any]:
    yield dg.MaterializeResult()
    for name in ("volume", "schema", "keys"):
        passed, severity, text = OUTCOMES.get(name, (True, WARN, ""))
        yield dg.AssetCheckResult(check_name=name, passed=passed, severity=severity, description=text or None)


@dg.asset(key=["salesforce", "account"], check_specs=[dg.AssetCheckSpec("volume", asset=["salesforce", "account"])])
def account() -> Iterator[Any]:
    yield dg.MaterializeResult()
    passed, severity, text = OUTCOMES.get("account", (True, WARN, ""))
    metadata = {} if text else {"dagster_dbt/failed_row_count": 12}
    yield dg.AssetCheckResult(passed=passed, severity=severity, description=text or None, metadata=metadata)


DEFS = dg.Definitions([time_spent, account], jobs=[warnings_digest], executor=dg.in_process_executor)


@pytest.fixture(params=["sqlite", "postgres"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance on either storage."""
    overrides: dict[str, Any] = {}
    if request.param == "postgres":
        config, name = request.getfixturevalue("postgres_alone"), f"digest_{abs(hash(request.node.nodeid))}"
        with psycopg.connect(postgres.dsn(config, "postgres"), autocommit=True) as connection:
            connection.execute(f"create database {name}".encode())
        url = postgres.dsn(config, name).replace("postgresql:", "postgresql+psycopg2:")
        overrides = {"storage": {"postgres": {"postgres_url": url}}}
    with dg.instance_for_test(temp_dir=str(tmp_path), overrides=overrides) as made:
        yield made


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("digest"), "slack") as started:
        started.lift_limits("slack")
        yield started


@pytest.fixture
def slack(on_call: OnCall, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnCall]:
    for name, value in environment(on_call.config).items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield on_call
    settings.cache_clear()
    VendorContext.of(on_call.config).faults.remove()


def evaluate(instance: dg.DagsterInstance, **outcomes: tuple[bool, dg.AssetCheckSeverity, str]) -> None:
    OUTCOMES.clear()
    OUTCOMES.update(outcomes)
    assert DEFS.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance).success


def read(instance: dg.DagsterInstance) -> list[Warned]:
    return warned.read(instance, DEFS.resolve_asset_graph())


def post(instance: dg.DagsterInstance) -> bool:
    """Run the job as a run of it is: from the code location. Returns whether it succeeded."""
    job = ReconstructableRepository.for_module(__name__, "DEFS").get_reconstructable_job("warnings_digest")
    with dg.execute_job(job, instance) as result:
        return result.success


# What warns


def test_what_warns_now_is_found_with_the_time_since_which_it_does(instance: dg.DagsterInstance) -> None:
    evaluate(instance, volume=(False, WARN, "old"), account=(False, WARN, ""))
    evaluate(instance, account=(False, WARN, ""))
    began = datetime.now(UTC)
    evaluate(instance, volume=(False, WARN, "half"), account=(False, WARN, ""), keys=(False, WARN, "a null"))
    evaluate(instance, volume=(False, WARN, "less"), schema=(False, ERROR, "worse"), account=(False, WARN, ""))
    evaluate(instance, volume=(False, WARN, "none"), schema=(False, ERROR, "worse"), account=(False, WARN, ""))
    found = read(instance)
    assert [(one.asset, one.check, one.text) for one in found] == [
        ("salesforce/account", "volume", "12 rows fail it."),
        ("insights/time", "volume", "none"),
    ]
    first, second = found
    assert first.since < began < second.since < datetime.now(UTC)
    assert (first.owners, second.owners) == ((), ("data@example.com", "team:core"))


@pytest.mark.long
def test_a_long_series_of_failures_is_dated_to_its_first(tmp_path: Path) -> None:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        key = dg.AssetKey(["insights", "time"])
        for number in range(300):
            passed = number in {0, 70}
            for name in ("volume", "schema"):
                severity = ERROR if number % 2 else WARN
                text = f"{name} {number}"
                one = dg.AssetCheckEvaluation(
                    key, name, passed, {}, severity=severity if number < 298 else WARN, description=text
                )
                instance.report_runless_asset_event(one)
        history = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(key, "volume"), 300)
        [first] = [one for one in history if one.evaluation and one.evaluation.description == "volume 71"]
        assert first.event
        found = {one.check: one for one in read(instance)}
        assert set(found) == {"volume", "schema"}
        assert found["volume"].since.timestamp() == pytest.approx(first.event.timestamp)
        assert found["volume"].text == "volume 299"


def test_a_run_that_is_under_way_does_not_hide_what_warned_before(instance: dg.DagsterInstance) -> None:
    evaluate(instance, volume=(False, WARN, "half"))
    check = dg.AssetCheckKey(dg.AssetKey(["insights", "time"]), "volume")
    job = DEFS.resolve_implicit_global_asset_job_def()
    # What a run stores as soon as it is made.
    instance.create_run_for_job(job, asset_selection=None, execution_plan=create_execution_plan(job))
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])
    assert latest[check].status.value == "PLANNED"
    assert [one.text for one in read(instance)] == ["half"]


def test_data_that_is_late_but_not_too_late_is_a_warning(instance: dg.DagsterInstance) -> None:
    key, since = dg.AssetKey(["insights", "time"]), datetime.now(UTC) - timedelta(hours=3)

    def change(state: FreshnessState, at: datetime) -> None:
        was = FreshnessStateChange(
            key=key, new_state=state, previous_state=FreshnessState.PASS, state_change_timestamp=at.timestamp()
        )
        instance.report_runless_asset_event(was)

    change(FreshnessState.WARN, since)
    [late] = read(instance)
    assert (late.asset, late.check, late.owners) == ("insights/time", "freshness", ("data@example.com", "team:core"))
    assert late.text == "It was not made for 6 h; after 1 d that is an incident."
    assert abs(late.since - since) < timedelta(seconds=1)
    change(FreshnessState.FAIL, datetime.now(UTC))
    assert read(instance) == []


# Its words


def some(count: int, text: str = "Unusual: 12 rows.") -> list[Warned]:
    return [
        Warned(f"insights/model_{n}", "volume", text, NOW - timedelta(days=count - n), ("data@example.com",))
        for n in range(count)
    ]


def texts(blocks: Any) -> list[str]:
    return [block["elements"][0]["text"] if block["type"] == "context" else block["text"]["text"] for block in blocks]


def test_nothing_that_warns_is_no_message() -> None:
    assert message([], GROUP, "http://dagster", NOW) is None


def test_a_message_says_what_whose_and_since_when() -> None:
    late = Warned("core/users", "freshness", "It was not made for 6 h.", NOW - timedelta(hours=3))
    told = message([*some(1), late], GROUP, "http://dagster", NOW, muted=2)
    assert told
    assert told.text == "2 warnings, ignored for up to 1 d"
    assert texts(told.blocks) == [
        "2 warnings, ignored for up to 1 d",
        f"{GROUP} These page nobody. They come again each working morning until they are mended, accepted or muted.",
        "*<http://dagster/assets/insights/model_0?view=checks&amp;checkDetail=volume|insights/model_0>* `volume`\n"
        "ignored for *1 d*, owned by data@example.com\nUnusual: 12 rows.",
        "*<http://dagster/assets/core/users|core/users>* `freshness`\nignored for *3 h*, owned by nobody\nIt was not made for 6 h.",
        "2 warnings of muted assets left out",
    ]


@pytest.mark.parametrize("text", ["short", "x" * 100_000, "<&>" * 2000, "long " * 1000])
@pytest.mark.parametrize("count", [1, 46, 47, 48, 2000])
def test_its_size_is_bounded_and_it_says_how_many_are_left_out(
    on_call: OnCall, slack: OnCall, count: int, text: str
) -> None:
    told = message(some(count, text), GROUP, "http://dagster", NOW)
    assert told
    assert len(told.blocks) <= 50
    assert all(len(one) <= 3000 for one in texts(told.blocks))
    assert sum(map(length, told.blocks)) <= LONGEST_MESSAGE
    shown = sum("ignored for *" in one for one in texts(told.blocks))
    left = [one for one in texts(told.blocks) if one == f"and {count - shown} more"]
    assert len(left) == (count > shown)
    taken = client(settings())
    assert taken
    taken.post_message("C1", told.text, told.blocks)


def test_names_and_texts_mention_nobody_and_tell_no_secret() -> None:
    odd = Warned(
        "a|b/<!channel>", "`c`", "<!here> password=hunter2 Key (email)=(ada@example.com)\nexists", NOW, ("<@U1>",)
    )
    told = message([odd], GROUP, "http://dagster", NOW)
    assert told
    body = texts(told.blocks)[2]
    for secret in ("<!channel>", "<!here>", "<@U1>", "hunter2", "ada@example.com"):
        assert secret not in body
    # With a blank after the bracket: a client that takes the escapes back mentions nobody, either.
    assert "|a¦b/&lt; !channel&gt;>* `'c'`" in body


# The job


def test_each_morning_all_warnings_are_one_message_that_calls_the_data_responder(
    slack: OnCall, instance: dg.DagsterInstance
) -> None:
    before = len(slack.inspect("slack", "messages"))
    evaluate(instance, volume=(False, WARN, "half"), account=(False, WARN, ""))
    mutes.add(instance, Mute("salesforce/*", datetime.now(UTC) + timedelta(days=1), "moving", "ada"), [], 0)
    post(instance)
    [sent] = slack.inspect("slack", "messages")[before:]
    assert sent["channel"] == "C00000002"
    assert sent["text"].startswith("1 warning, ignored for up to ")
    body = "\n".join(texts(sent["blocks"]))
    assert GROUP in body
    assert "insights/time>* `volume`" in body
    assert "1 warning of muted assets left out" in body
    assert "salesforce" not in body


def test_nothing_is_posted_when_nothing_warns(slack: OnCall, tmp_path: Path) -> None:
    before = len(slack.inspect("slack", "messages"))
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        evaluate(instance, schema=(False, ERROR, "an incident, not a warning"))
        assert post(instance)
    assert len(slack.inspect("slack", "messages")) == before


def test_a_group_that_is_not_found_costs_the_call_and_not_the_message(
    slack: OnCall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_RESPONDER_GROUP", "night-watch")
    settings.cache_clear()
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        evaluate(instance, volume=(False, WARN, "half"))
        post(instance)
    assert texts(slack.inspect("slack", "messages")[-1]["blocks"])[1].startswith("@night-watch These page nobody.")


def test_it_is_posted_once_when_slack_is_back(slack: OnCall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.incidents.digest.PAUSE_SECONDS", 0.2)
    before = len(slack.inspect("slack", "messages"))
    VendorContext.of(slack.config).faults.add("slack", "chat.postMessage", "http_500", times=2)
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        evaluate(instance, volume=(False, WARN, "half"))
        assert post(instance)
    assert len(slack.inspect("slack", "messages")) == before + 1


def test_what_slack_refuses_fails_the_run_so_that_it_is_heard(
    slack: OnCall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-wrong")
    settings.cache_clear()
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        evaluate(instance, volume=(False, WARN, "half"))
        assert not post(instance)


# The schedule


def test_it_is_due_on_working_mornings_of_the_responders_zone(slack: OnCall) -> None:
    schedule = daily(settings())
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    from dagster._utils.schedules import schedule_execution_time_iterator

    friday = datetime(2026, 10, 23, 12, tzinfo=UTC)
    times = schedule_execution_time_iterator(
        friday.timestamp(), str(schedule.cron_schedule), schedule.execution_timezone
    )
    # The clocks change on Sunday the 25th.
    assert [next(times).astimezone(UTC).isoformat() for _ in range(2)] == [
        "2026-10-26T09:00:00+00:00",
        "2026-10-27T09:00:00+00:00",
    ]


@pytest.mark.parametrize("missing", ["SLACK_BOT_TOKEN", "SLACK_DIGEST_CHANNEL"])
def test_without_slack_the_schedule_says_so(slack: OnCall, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    schedule = daily(settings())
    with dg.instance_for_test() as instance:
        context = dg.build_schedule_context(instance)
        assert len(schedule.evaluate_tick(context).run_requests or ()) == 1
        for name in (missing, "SLACK_ALERTS_CHANNEL", "ROTA_SYNC", "SLACK_DIGEST_CHANNEL"):
            monkeypatch.delenv(name, raising=False)
        settings.cache_clear()
        tick = schedule.evaluate_tick(context)
    assert not tick.run_requests
    assert "SLACK_BOT_TOKEN and SLACK_DIGEST_CHANNEL are not set" in (tick.skip_message or "")


@dg.asset
def seed() -> None: ...


@dg.observable_source_asset
def sheet() -> dg.DataVersion:
    return dg.DataVersion("1")


EAGER = dg.AutomationCondition.eager()


@dg.asset(deps=[seed], automation_condition=EAGER)
def only_of_the_seed() -> None: ...


@dg.asset(deps=["only_of_the_seed"], automation_condition=EAGER)
def below() -> None: ...


@dg.asset(deps=[sheet], automation_condition=EAGER)
def of_the_sheet() -> None: ...


@dg.asset(automation_condition=EAGER, freshness_policy=dg.FreshnessPolicy.time_window(timedelta(hours=30)))
def fresh_enough() -> None: ...


@dg.asset(automation_condition=EAGER, owners=["data@example.com"])
def never() -> None: ...


@dg.asset
def by_hand() -> None: ...


def test_what_the_automation_has_not_built_for_long_is_a_warning() -> None:
    found = [seed, sheet, only_of_the_seed, below, of_the_sheet, fresh_enough, never, by_hand]
    assets, instance = dg.Definitions(found).resolve_asset_graph(), dg.DagsterInstance.ephemeral()

    def warns(after: timedelta) -> dict[str, str]:
        warnings = warned.find_unbuilt(instance, assets, datetime.now(UTC) + after)
        return {one.asset: one.text for one in warnings if one.asset != "never"}

    for name in ("seed", "only_of_the_seed", "below", "of_the_sheet", "fresh_enough", "by_hand"):
        instance.report_runless_asset_event(dg.AssetMaterialization(name))
    [first] = warned.find_unbuilt(instance, assets, datetime.now(UTC))
    assert (first.asset, first.check, first.owners) == ("never", warned.AUTOMATION, ("data@example.com",))
    assert first.text.startswith("It has never been built.")
    assert warns(timedelta(hours=29)) == {}
    assert warns(timedelta(hours=31)) == {
        "fresh_enough": "It was last built 1 d 7 h ago; its freshness policy allows 1 d 6 h."
    }
    # What only reads a seed that no one has edited is as it should be.
    assert warns(timedelta(days=8)).keys() == {"fresh_enough", "of_the_sheet"}
    instance.report_runless_asset_event(dg.AssetMaterialization("seed"))
    assert warns(timedelta(days=8)).keys() == {"fresh_enough", "of_the_sheet", "only_of_the_seed", "below"}


def test_a_warning_of_the_automation_links_to_its_asset() -> None:
    one = Warned("shop/orders", warned.AUTOMATION, "It has never been built.", NOW)
    made = message([one], GROUP, "http://127.0.0.1:3000", NOW)
    assert made is not None
    text = str(made.blocks)
    assert "shop/orders" in text
    assert "checkDetail" not in text
