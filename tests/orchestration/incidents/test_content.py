from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import get_args

import dagster as dg
import pytest

from orchestration.core.causes import Cause
from orchestration.incidents import causes
from orchestration.incidents.content import (
    asset_url,
    in_words,
    of,
    readable,
    rerun_keys,
    selection,
    team_of,
    title_of,
    what_is_left,
)
from orchestration.incidents.model import Failure, Staleness
from orchestration.lineage.ages import age
from orchestration.lineage.failures import FailedUnit
from tests.orchestration.incidents.failures import (
    CHECK,
    CHECKS,
    DAYS,
    DAYS_LEFT,
    DBT,
    EXPLO,
    FIVETRAN,
    FLAPPING,
    FRESHNESS,
    HIGHTOUCH,
    HOSTILE,
    JOB,
    KILLED,
    PARTIAL,
    QUEUE,
    REFUSED_BOTH,
    REFUSED_TICKS,
    RUN,
    SAME_WORDS,
    TICK,
    TRANSIENT,
    URL,
    VENDOR,
    WAREHOUSE,
    WEEK,
)


@pytest.mark.parametrize(
    ("failure", "title"),
    [
        (FIVETRAN, "Fivetran sync of `product` failed: 3 customer dashboards hurt"),
        (VENDOR, "Fivetran sync of `product` failed: 3 customer dashboards hurt"),
        (replace(FIVETRAN, consumers=EXPLO[:1]), "Fivetran sync of `product` failed: 1 customer dashboard hurt"),
        (replace(FIVETRAN, consumers=()), "Fivetran sync of `product` failed"),
        (DBT, "dbt model `insights/time_spent_on_incidents_v2` failed: 1 customer dashboard hurt"),
        (HIGHTOUCH, "Hightouch sync `salesforce_account_health` failed"),
        (CHECK, "Check `volume` of `product_public/incidents` failed"),
        (CHECKS, "Check of `product_public/incidents` failed"),
        (FRESHNESS, "`finance/mrr_movements` is late"),
        (KILLED, "Run of 12 assets failed"),
        (JOB, "Run of job `transform` failed"),
        (QUEUE, "Runs hang in the queue: 2 assets wait"),
        (TICK, "Schedule `hourly_export_history` fails"),
        (WAREHOUSE, "BigQuery cannot be reached: 42 assets not made, 3 customer dashboards hurt"),
        (replace(WAREHOUSE, consumers=()), "BigQuery cannot be reached: 42 assets not made"),
        (SAME_WORDS, "6 assets failed with the same error"),
        (REFUSED_TICKS, "BigQuery refuses the platform's credentials: 2 failures"),
        (REFUSED_BOTH, "BigQuery refuses the platform's credentials: 1 asset not made"),
        (replace(REFUSED_TICKS, name="cause/8c5f0be2f1"), "2 failures failed with the same error"),
        (replace(WAREHOUSE, kind="freshness", consumers=()), "BigQuery cannot be reached: 42 assets not made"),
        (TRANSIENT, "dbt model `insights/time_spent_on_incidents_v2` failed once; the retry succeeded"),
        (
            replace(TRANSIENT, count=2),
            "dbt model `insights/time_spent_on_incidents_v2` failed 2 times; the retry succeeded",
        ),
        (FLAPPING, "Fivetran sync of `product` is flapping: 3 customer dashboards hurt"),
        (replace(WAREHOUSE, flapping=True, consumers=()), "BigQuery cannot be reached is flapping"),
        (replace(HIGHTOUCH, name="step/notify"), "Step `notify` failed"),
    ],
)
def test_the_title_says_what_broke_and_who_is_hurt(failure: Failure, title: str) -> None:
    assert of(failure, URL).title == title


def test_every_known_cause_has_a_title() -> None:
    assert causes.TITLES.keys() == set(get_args(Cause))
    for name in causes.TITLES:
        assert of(replace(WAREHOUSE, name=f"cause/{name}"), URL).title.startswith(causes.TITLES[name])


@pytest.mark.parametrize(
    ("owners", "owner", "team"),
    [
        ((), "nobody", "data"),
        (("ada@example.com",), "ada@example.com", "ada"),
        (("ada@example.com", "team:growth", "team:data"), "ada@example.com, team:growth, team:data", "growth"),
    ],
)
def test_owner_and_team(owners: tuple[str, ...], owner: str, team: str) -> None:
    told = of(replace(DBT, owners=owners), URL)
    assert (told.owner, told.team) == (owner, team) == (owner, team_of(owners))


def error(text: str) -> tuple[str, ...]:
    return of(replace(DBT, units=(FailedUnit("dbt/a/b", ("a/b",), text),)), URL).error


def test_an_error_has_five_lines_at_most() -> None:
    assert error("one\n\n  two  \n") == ("one", "two")
    assert error("\n".join(map(str, range(9)))) == ("0", "1", "2", "… 5 more lines …", "8")
    assert error("") == ("It gives no reason.",)
    long = error("word " * 1000)
    assert len(long) == 5
    assert long[-1].endswith("…")
    assert all(len(line) <= 140 for line in long)


def test_the_same_words_are_said_once() -> None:
    assert of(WAREHOUSE, URL).error == ("bigquery: could not connect: connection refused",)
    assert of(SAME_WORDS, URL).error == (
        "5 such as dbt/sales/m0: Access denied: table sales.m0",
        "fivetran/stripe: Reconnect it.",
    )
    assert len(of(HOSTILE, URL).error) == 5


def test_of_a_consumer_of_which_nothing_is_known_its_age_is_not() -> None:
    told = of(replace(FIVETRAN, background=replace(FIVETRAN.background, stale=())), URL)
    assert [reader.consumer.key for reader in told.customers] == [consumer.key for consumer in EXPLO]
    assert told.readers[0] == Staleness(EXPLO[0], None, None)


def test_what_is_run_again_is_what_failed_and_what_it_held_up() -> None:
    assert rerun_keys(FIVETRAN) == (*FIVETRAN.asset_keys, *FIVETRAN.held_up)
    assert rerun_keys(replace(PARTIAL, left=("product_public/users",)))[0] == "product_public/users"
    assert "product_public/incidents" not in rerun_keys(replace(PARTIAL, left=("product_public/users",)))
    # The asset of a check that still fails is made again.
    assert rerun_keys(PARTIAL)[:2] == FIVETRAN.asset_keys
    assert rerun_keys(CHECK) == ("product_public/incidents",)


def test_where_it_is_run_again() -> None:
    dbt = of(DBT, URL).rerun
    assert dbt.url == (
        f"{URL}/asset-groups~%28key%3A%22insights%2Ftime_spent_on_incidents_v2%22%29"
        "/insights%2Ftime_spent_on_incidents_v2"
    )
    assert of(TICK, URL).rerun.url == f"{URL}/locations/orchestration/schedules/hourly_export_history"
    assert of(JOB, URL).rerun.url == of(WAREHOUSE, URL).rerun.url == f"{URL}/runs/{RUN}"
    assert of(QUEUE, URL).rerun.url == f"{URL}/runs?q%5B0%5D=status%3AQUEUED"
    assert all(of(failure, URL).rerun.command is None for failure in (TICK, JOB, WAREHOUSE, QUEUE))


def test_a_cause_that_was_first_seen_in_a_tick_is_no_schedule() -> None:
    ticks, both = of(REFUSED_TICKS, URL), of(REFUSED_BOTH, URL)
    assert (ticks.rerun.url, ticks.links, ticks.rerun.command) == (f"{URL}/automation", (), None)
    assert [link.text for link in both.links] == ["asset"]
    assert both.rerun.text == "Materialize the asset"
    hung = of(replace(WAREHOUSE, kind="queue", units=WAREHOUSE.units[:1]), URL)
    assert [link.text for link in hung.links] == ["run", "log", "asset"]
    assert hung.rerun.text == "Materialize the asset"


@pytest.mark.parametrize(
    ("failure", "text", "options"),
    [
        (DAYS, "these 2 assets for 2026-11-02 to 2026-11-08", ["--partition-range 2026-11-02...2026-11-08"]),
        (replace(DAYS, partitions=("2026-11-02",)), "these 2 assets for 2026-11-02", ["--partition 2026-11-02"]),
        (
            DAYS_LEFT,
            "these 2 assets for 2026-11-02 to 2026-11-04, 2026-11-07",
            ["--partition-range 2026-11-02...2026-11-04", "--partition 2026-11-07"],
        ),
        # What is left counts, whatever failed before.
        (
            replace(DAYS, left=("product/sessions@2026-11-05",)),
            "these 2 assets for 2026-11-05",
            ["--partition 2026-11-05"],
        ),
        (replace(DAYS, partitions=("two words",)), "these 2 assets for two words", ["--partition 'two words'"]),
    ],
)
def test_the_partitions_that_failed_are_run_again(failure: Failure, text: str, options: list[str]) -> None:
    rerun = of(failure, URL).rerun
    assert rerun.text == f"Materialize {text}"
    command = (
        "dagster asset materialize -m orchestration.definitions"
        """ --select 'key:"product/sessions" or key:"product/daily_active_users"' """
    )
    assert rerun.command == " && ".join(command + option for option in options)


def test_of_partitions_far_apart_somebody_has_to_choose() -> None:
    rerun = of(replace(DAYS, partitions=WEEK[::2]), URL).rerun
    assert rerun.text == "Materialize these 2 assets for 2026-11-02, 2026-11-04, 2026-11-06, and 1 more"
    assert rerun.command is None


@pytest.mark.parametrize(
    ("partitions", "words"),
    [
        ((), ()),
        (("2026-11-02",), ("2026-11-02",)),
        (("2026-12-31", "2027-01-01"), ("2026-12-31 to 2027-01-01",)),
        (("2026-11-03", "2026-11-02", "2026-11-05"), ("2026-11-02 to 2026-11-03", "2026-11-05")),
        (("2026-11-02-05:00", "2026-11-02-06:00"), ("2026-11-02-05:00", "2026-11-02-06:00")),
        (("de", "uk", "us"), ("de", "uk", "us")),
    ],
)
def test_days_one_after_the_other_are_one(partitions: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert in_words(partitions) == words


def test_the_partitions_of_an_asset_that_are_left_are_said_together() -> None:
    assert of(DAYS_LEFT, URL).left == (
        "check unique of product/sessions",
        "product/sessions (2026-11-02 to 2026-11-04, 2026-11-07)",
    )
    assert what_is_left(["a/b@1", "a/c@1", "a/d", "a/b@2"]) == ("a/b (1, 2)", "a/c (1)", "a/d")
    assert rerun_keys(replace(DAYS, left=("product/sessions@2026-11-02",))) == rerun_keys(DAYS)


def test_the_selection_is_exactly_these_assets() -> None:
    defs = dg.Definitions([dg.AssetSpec(["a", "b"]), dg.AssetSpec(["a", "b", "c"]), dg.AssetSpec(["c", "d"])])
    found = dg.AssetSelection.from_string(selection(["a/b", "c/d"])).resolve(defs.resolve_asset_graph())
    assert {key.to_user_string() for key in found} == {"a/b", "c/d"}


def test_links_lead_to_the_run_the_log_the_asset_and_the_vendor() -> None:
    links = {link.text: link.url for link in of(HIGHTOUCH, URL).links}
    assert links == {
        "run": f"{URL}/runs/{RUN}",
        "log": f"{URL}/runs/{RUN}?logs=type%3ASTEP_FAILURE",
        "asset": f"{URL}/assets/hightouch/salesforce_account_health",
        "vendor": "https://hightouch.example.com/syncs/1/runs/9",
    }
    step = {link.text: link.url for link in of(replace(HIGHTOUCH, name="step/notify"), URL).links}
    assert step["log"] == f"{URL}/runs/{RUN}?selection=notify&logs=step%3Anotify"
    check = {link.text: link.url for link in of(CHECK, URL).links}
    assert check["asset"] == f"{URL}/assets/product_public/incidents?view=checks&checkDetail=volume"
    assert asset_url(URL, "a b/c?d") == f"{URL}/assets/a%20b/c%3Fd"


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("a/b", "a/b"),
        ("a/b@2026-11-02", "a/b (2026-11-02)"),
        ("a/b@2026-11-02-05:00", "a/b (2026-11-02-05:00)"),
        ("check:a/b:at@noon", "check at@noon of a/b"),
        ("check:a/b:volume", "check volume of a/b"),
        ("fresh:a/b", "freshness of a/b"),
        ("tick:hourly", "sensor hourly"),
        ("job:ingest", "job ingest"),
    ],
)
def test_what_is_left_is_said_in_words(token: str, words: str) -> None:
    assert readable(token) == words


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(seconds=20), "under a minute"),
        (timedelta(minutes=95), "1 h 35 min"),
        (timedelta(days=2, hours=4, minutes=9), "2 d 4 h"),
        (timedelta(days=1, minutes=5), "1 d 5 min"),
        (timedelta(seconds=-5), "under a minute"),
    ],
)
def test_spans(span: timedelta, words: str) -> None:
    assert age(span) == words


@pytest.mark.parametrize(
    ("keys", "title"),
    [
        (("shop/odd",), "A record of `shop/odd` cannot be read"),
        ((), "A record of Dagster's storage cannot be read"),
        (("a/b", "a/c"), "A record of Dagster's storage cannot be read"),
    ],
)
def test_the_title_of_a_record_that_cannot_be_read_says_so(keys: tuple[str, ...], title: str) -> None:
    unit = FailedUnit("unreadable/0123456789", keys, "The event 7 cannot be read.")
    assert title_of(replace(TICK, name=unit.unit, kind="run", units=(unit,))) == title
