"""The event models on the warehouse stand-in: every number here is worked out a second time, in Python."""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from google.cloud import bigquery

from sandbox.config import PROJECT, SandboxConfig
from tests.dbt.project import Dbt

Row = dict[str, Any]

pytestmark = pytest.mark.long

FIRST = date(2026, 3, 1)
DAYS = 10
LATE_DAYS = 3
PAUSE = timedelta(minutes=30)
MODELS = ("+sessions", "+daily_active_users", "+feature_adoption", "+events_by_day")
EVENT_TABLES = {
    "website": ("pages", "demo_requested", "signed_up"),
    "web_app": ("pages", "feature_used", "integration_connected"),
    "mobile": ("screens", "push_notification_opened", "page_acknowledged"),
    "product_events": (
        "status_page_viewed",
        "slack_command_invoked",
        "workflow_run_finished",
        "insight_viewed",
    ),
}
BUILT = {
    "product.sessions": "started_on",
    "product.daily_active_users": "occurred_on",
    "product.events_by_day": "occurred_on",
    "intermediate.int_activity": "occurred_on",
    **{
        f"staging.stg_{'segment_' * (source != 'product_events')}{source}__{table}": "occurred_on"
        for source, tables in EVENT_TABLES.items()
        for table in tables
    },
}
BACKFILL = (FIRST + timedelta(days=2), FIRST + timedelta(days=8))


@dataclass(frozen=True)
class Delivery:
    """One row that landed: an event as it was delivered, once of perhaps several times."""

    source: str
    table: str
    key: str
    person: int
    occurred_at: datetime
    received_at: datetime

    @property
    def in_time(self) -> bool:
        return -1 <= (self.received_at.date() - self.occurred_at.date()).days <= LATE_DAYS

    @property
    def user_id(self) -> str | None:
        """On the website nobody is signed in; and every fourth person never is."""
        return None if self.source == "website" or self.person % 4 == 0 else f"usr_{self.person}"

    def row(self) -> Row:
        at, received = self.occurred_at.isoformat(), self.received_at.isoformat()
        common = {"user_id": self.user_id, "received_at": received, "organisation_id": f"org_{self.person % 3}"}
        if self.source == "product_events":
            return common | {"event_id": self.key, "event_version": 1, "occurred_at": at, "visitor_id": "v"}
        return common | {
            "id": self.key,
            "anonymous_id": f"anon_{self.person}",
            "event": self.table,
            "timestamp": at,
            "feature": "alerts",
        }


def history() -> list[Delivery]:
    """Some 1,400 deliveries over ten days: duplicates, some of them over midnight, late ones, some too late, and night owls."""
    rng = random.Random(20260301)
    found = []
    for day in range(DAYS):
        for person in range(12):
            hour = 23.4 if person < 4 else rng.uniform(0, 24)
            moment = datetime.combine(FIRST + timedelta(days=day), time(), UTC) + timedelta(hours=hour)
            source = rng.choice(list(EVENT_TABLES))
            for _ in range(rng.randint(1, 14)):
                table = rng.choice(EVENT_TABLES[source])
                late = timedelta(seconds=rng.choice([1, 1, 1, 1, 40_000, 200_000, 300_000, 500_000]))
                found += deliveries(rng, source, table, f"{len(found)}", person, moment, late)
                moment += timedelta(minutes=rng.choice([0.5, 5, 20, 29, 31]))
    return found


def deliveries(
    rng: random.Random, source: str, table: str, key: str, person: int, at: datetime, late: timedelta
) -> Iterator[Delivery]:
    first = Delivery(source, table, key, person, at, at + late)
    yield first
    if rng.random() < 0.15:
        # Segment corrects the sender's clock at every delivery, so that a copy is not dated quite the same.
        yield Delivery(source, table, key, person, at + timedelta(seconds=40), first.received_at + timedelta(hours=9))


def kept(landed: list[Delivery]) -> list[Delivery]:
    """The events that the models should have: each once, as it was first received in time."""
    firsts: dict[tuple[str, str, str], Delivery] = {}
    for one in sorted(landed, key=lambda one: (one.received_at, one.occurred_at)):
        if one.in_time:
            firsts.setdefault((one.source, one.table, one.key), one)
    return list(firsts.values())


def sessions(events: list[Delivery]) -> Counter[tuple[str, str, int]]:
    """(person, beginning, events) of every session, with visitors of the website as the users that they sign in as on day 4."""
    moments: dict[str, list[datetime]] = {}
    for one in events:
        if one.source != "product_events":
            moments.setdefault(person_of(one), []).append(one.occurred_at)
    found: Counter[tuple[str, str, int]] = Counter()
    for person, times in moments.items():
        began, count, before = None, 0, None
        for moment in sorted(times):
            if before is None or moment - before > PAUSE:
                if began:
                    found[person, began.isoformat(), count] += 1
                began, count = moment, 0
            before, count = moment, count + 1
        if began:
            found[person, began.isoformat(), count] += 1
    return found


def person_of(one: Delivery) -> str:
    known = one.person % 4 != 0 and one.occurred_at.date() >= IDENTIFIED_ON - timedelta(days=LATE_DAYS)
    return one.user_id or (f"usr_{one.person}" if known else f"anon_{one.person}")


IDENTIFIED_ON = FIRST + timedelta(days=4)
IDENTIFIES = [
    {
        "id": f"identify_{person}",
        "anonymous_id": f"anon_{person}",
        "user_id": f"usr_{person}",
        "organisation_id": f"org_{person % 3}",
        "timestamp": f"{IDENTIFIED_ON}T12:00:00+00:00",
        "received_at": f"{IDENTIFIED_ON}T12:00:00+00:00",
    }
    for person in range(12)
    if person % 4
]


@dataclass
class Warehouse:
    """Landed deliveries, and the event models built of them."""

    dbt: Dbt
    landed: list[Delivery]

    def build(self, days: tuple[date, date] | None = None, **variables: Any) -> None:
        done = self.run(days, **variables)
        assert done.returncode == 0, done.stdout

    def run(self, days: tuple[date, date] | None = None, **variables: Any) -> subprocess.CompletedProcess[str]:
        chosen = {"partition_start": f"{days[0]}", "partition_end": f"{days[1]}"} if days else {}
        return self.dbt.run("run", "--select", *MODELS, "--vars", json.dumps(chosen | variables))

    def land(self, loaded_at: str = "received_at") -> None:
        """Create every table again with the columns that the dbt project declares, and load it.

        Segment's tables are partitioned by when a row was loaded, which is `loaded_at`, a SQL expression.
        """
        rows: dict[tuple[str, str], list[Row]] = {("web_app", "identifies"): IDENTIFIES}
        for one in self.landed:
            rows.setdefault((one.source, one.table), []).append(one.row())
            if one.source != "product_events" and one.table not in {"pages", "screens"}:
                rows.setdefault((one.source, "tracks"), []).append(one.row())
        client = bigquery.Client(project=PROJECT)
        for dataset in (*EVENT_TABLES, "landing"):
            client.create_dataset(dataset, exists_ok=True)
        for source in self.dbt.manifest()["sources"].values():
            if source["schema"] in EVENT_TABLES:
                self._replace(client, source, rows.get((source["schema"], source["identifier"]), []), loaded_at)

    def _replace(self, client: bigquery.Client, source: Row, rows: list[Row], loaded_at: str) -> None:
        kinds = {column["name"]: column["data_type"] for column in source["columns"].values()}
        table = f"{PROJECT}.{source['schema']}.{source['identifier']}"
        partition = "date(received_at)" if source["schema"] == "product_events" else "_partitiondate"
        fields = ", ".join(f"`{name}` {kind}" for name, kind in kinds.items())
        self.query(f"create or replace table `{table}` ({fields}) partition by {partition}")
        if not rows:
            return
        complete = [{name: row.get(name) for name in kinds} for row in rows]
        columns = [bigquery.SchemaField(name, kind) for name, kind in kinds.items()]
        options = bigquery.LoadJobConfig(schema=columns, write_disposition="WRITE_TRUNCATE")
        client.load_table_from_json(complete, f"{PROJECT}.landing.batch", job_config=options).result()
        names = ", ".join(f"`{name}`" for name in kinds)
        if partition == "_partitiondate":
            self.query(
                f"insert into `{table}` (_partitiontime, {names})"
                f" select timestamp_trunc({loaded_at}, day), {names} from landing.batch"
            )
        else:
            self.query(f"insert into `{table}` ({names}) select {names} from landing.batch")

    def rows(self, table: str) -> list[str]:
        """Every row of a table as text, sorted."""
        return sorted(json.dumps(row, default=str) for row in self.query(f"select * from {table}"))

    def query(self, statement: str) -> list[Row]:
        return [dict(row) for row in bigquery.Client(project=PROJECT).query_and_wait(statement)]


@pytest.fixture(scope="module")
def warehouse(company: SandboxConfig, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Landed and built, every day at once; the tests below go on from what the ones before them left."""
    dbt = Dbt(tmp_path_factory.mktemp("events"), {})
    assert dbt.run("parse", "--vars", "{}").returncode == 0
    warehouse = Warehouse(dbt, history())
    warehouse.land()
    warehouse.build()
    return warehouse


def test_counts_agree_to_the_row(warehouse: Warehouse) -> None:
    events = kept(warehouse.landed)
    assert len(warehouse.landed) > len(events) + 100
    activity = warehouse.query("select event_id, event_name, occurred_on from intermediate.int_activity")
    name = {"pages": "page_viewed", "screens": "screen_viewed"}
    assert Counter((row["event_id"], row["event_name"], row["occurred_on"]) for row in activity) == Counter(
        (one.key, name.get(one.table, one.table), one.occurred_at.date()) for one in events
    )
    counted = warehouse.query("select source_name, sum(events) as events from product.events_by_day group by 1")
    assert {row["source_name"].removeprefix("segment_"): row["events"] for row in counted} == Counter(
        one.source for one in events
    )
    assert_sessions(warehouse)


def assert_sessions(warehouse: Warehouse) -> None:
    found = warehouse.query("select person_id, started_at, events from product.sessions")
    assert Counter((row["person_id"], row["started_at"].isoformat(), row["events"]) for row in found) == sessions(
        kept(warehouse.landed)
    )


def test_a_rebuild_of_days_that_were_loaded_again_today_leaves_no_day_empty(warehouse: Warehouse) -> None:
    built = {table: warehouse.rows(table) for table in BUILT}
    warehouse.land(loaded_at="current_timestamp()")
    [loaded] = warehouse.query("select count(distinct _partitiontime) as days from web_app.pages")
    assert loaded == {"days": 1}

    warehouse.build(BACKFILL)

    assert {table for table in BUILT if warehouse.rows(table) != built[table]} == set()


def test_a_backfill_builds_its_days_anew_and_no_other(warehouse: Warehouse) -> None:
    pages, other_days = "staging.stg_segment_web_app__pages", f"not between '{BACKFILL[0]}' and '{BACKFILL[1]}'"
    warehouse.query(f"update {pages} set locale = 'marked' where occurred_on {other_days}")
    gone, at = FIRST + timedelta(days=5), datetime.combine(FIRST + timedelta(days=3), time(12), UTC)
    # What went on from the lost day past midnight begins on the day after it now.
    touched = f"between '{at.date()}' and '{gone + timedelta(days=1)}'"
    same = {table: f"{day} not {touched}" for table, day in BUILT.items()}
    built = {table: warehouse.rows(f"{table} where {days}") for table, days in same.items()}
    assert all(built.values())
    late, too_late = (Delivery("web_app", "pages", f"after_{n}", 1, at, at + timedelta(days=n)) for n in (3, 4))
    warehouse.landed = [one for one in warehouse.landed if one.occurred_at.date() != gone] + [late, too_late]
    warehouse.land()

    refused = warehouse.run(BACKFILL)
    assert refused.returncode != 0
    failed = [name for name, status in warehouse.dbt.statuses().items() if status == "error"]
    assert failed
    said = " ".join(refused.stdout.split())
    for model in failed:
        refusal = f"The rebuild of {PROJECT}.staging.{model} would leave days without rows that have rows now: {gone}."
        assert refusal in said
        [left] = warehouse.query(f"select count(*) as rows_left from staging.{model} where occurred_on = '{gone}'")
        assert left["rows_left"] > 0

    warehouse.build(BACKFILL, allow_empty_days=True)

    marked = warehouse.query(f"select distinct locale from {pages} where occurred_on {other_days}")
    assert marked == [{"locale": "marked"}]
    assert {table for table, days in same.items() if warehouse.rows(f"{table} where {days}") != built[table]} == set()
    assert warehouse.query(f"select event_id from {pages} where event_id like 'after%'") == [{"event_id": late.key}]
    for table, day in BUILT.items():
        left = warehouse.query(f"select count(*) as rows_left from {table} where {day} = '{gone}'")
        assert left == [{"rows_left": 0}], table
    assert_sessions(warehouse)


@pytest.mark.parametrize(
    ("days", "reason"),
    [
        ({"partition_start": "2026-06-31", "partition_end": "2026-07-01"}, "partition_start is no date like"),
        ({"partition_start": "2026-03-02", "partition_end": "2026-03-01"}, "partition_end (2026-03-01) is before"),
    ],
)
def test_days_that_make_no_sense_are_refused_by_name(warehouse: Warehouse, days: dict[str, str], reason: str) -> None:
    parsed = warehouse.dbt.run("parse", "--vars", json.dumps(days))
    assert parsed.returncode != 0
    assert reason in " ".join(parsed.stdout.split())


def test_a_table_and_a_column_that_do_not_exist_yet_are_built_empty_with_a_warning(warehouse: Warehouse) -> None:
    warehouse.query("drop table mobile.page_acknowledged")
    warehouse.query("alter table web_app.feature_used drop column feature")

    built = warehouse.dbt.run("build", "--full-refresh", "--select", *MODELS, "--exclude-resource-type", "unit_test")

    assert built.returncode == 0, built.stdout
    said = " ".join(built.stdout.split())
    for warning in (
        f"Source table `segment_mobile.page_acknowledged` ({PROJECT}.mobile.page_acknowledged) does not exist yet:"
        " `stg_segment_mobile__page_acknowledged` reads it as an empty table.",
        f"Source table `segment_web_app.feature_used` ({PROJECT}.web_app.feature_used) does not have the column `feature` yet:"
        " `stg_segment_web_app__feature_used` reads null instead.",
    ):
        assert said.count(warning) == 1, said
    events = kept([one for one in warehouse.landed if one.table != "page_acknowledged"])
    assert {"feature_used", "push_notification_opened"} <= {one.table for one in events}
    [counted] = warehouse.query(
        "select count(*) as events, countif(feature = 'alerts') as alerts from intermediate.int_activity"
    )
    assert counted == {"events": len(events), "alerts": 0}
    [kinds] = warehouse.query(
        "select count(*) as number from staging.INFORMATION_SCHEMA.COLUMNS"
        " where table_name = 'stg_segment_mobile__page_acknowledged'"
        " and (column_name, data_type) in (('seconds_to_acknowledge', 'INT64'), ('occurred_on', 'DATE'))"
    )
    assert kinds == {"number": 2}
