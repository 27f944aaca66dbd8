"""Failures of every kind, as triage hands them over: what the tests of content and of words are about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from orchestration.incidents.model import Background, Failure, Recovery, Staleness
from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.graph import Consumer

URL = "https://dagster.example.com"
SINCE = datetime(2026, 11, 23, 3, 4, tzinfo=UTC)
RUN = "0f6c1a52-6b0e-4f7f-9d25-3f1d6f1c7a10"

EXPLO = tuple(
    Consumer(f"explo/{name}", "customer")
    for name in ("on_call_load", "post_incident_follow_through", "time_spent_on_incidents")
)
OMNI = Consumer("omni/account_health", "internal")
STALE = tuple(
    Staleness(consumer, SINCE - timedelta(hours=1 + number), timedelta(minutes=95) if number == 0 else None)
    for number, consumer in enumerate((*EXPLO, OMNI))
)

FIVETRAN = Failure(
    name="fivetran/product",
    kind="asset",
    units=(
        FailedUnit(
            "fivetran/product",
            ("product_public/incidents", "product_public/users"),
            "Fivetran: sync_failure: FATAL: password authentication failed for user fivetran (reconnect it)",
            "https://fivetran.example.com/connections/product",
            held_up=("staging/stg_product__incidents", "core/incidents", "insights/time_spent_on_incidents_v2"),
        ),
    ),
    deduplication_key=f"fivetran/product:{RUN}",
    since=SINCE,
    last_seen=SINCE + timedelta(hours=2, minutes=6),
    count=3,
    run_id=RUN,
    job="job:ingest",
    consumers=(*EXPLO, OMNI),
    owners=("data-engineering@example.com", "team:platform"),
    background=Background(
        last_success=SINCE - timedelta(hours=1),
        failures=7,
        transients=2,
        stale=STALE,
    ),
)
DBT = Failure(
    name="dbt/insights/time_spent_on_incidents_v2",
    kind="asset",
    units=(
        FailedUnit(
            "dbt/insights/time_spent_on_incidents_v2",
            ("insights/time_spent_on_incidents_v2",),
            "Database Error in model time_spent_on_incidents_v2 (models/marts/insights/time_spent_on_incidents_v2.sql)\n"
            "  Unrecognized name: acknowledged_at; Did you mean acknowledged_on? at [12:5]\n"
            "  compiled code at target/run/dataplatform/models/marts/insights/time_spent_on_incidents_v2.sql",
            permanent=True,
        ),
    ),
    deduplication_key=f"dbt/insights/time_spent_on_incidents_v2:{RUN}",
    since=SINCE,
    last_seen=SINCE,
    run_id=RUN,
    job="job:__ASSET_JOB",
    consumers=EXPLO[2:],
    owners=("insights@example.com",),
    background=Background(
        last_success=SINCE - timedelta(days=1, hours=2),
        changes=(
            "product_public/incidents: column acknowledged_at (TIMESTAMP) is gone, noticed 22 Nov 23:10 UTC",
            "commit 1a2b3c4 Count acknowledgements once, Ada, 22 Nov 17:02",
        ),
        stale=STALE[2:3],
    ),
)
WEEK = tuple(f"2026-11-0{day}" for day in range(2, 9))
DAYS = Failure(
    name="dbt/product/sessions",
    kind="asset",
    units=(
        FailedUnit(
            "dbt/product/sessions",
            ("product/sessions",),
            "Database Error in model sessions (models/marts/product/sessions.sql)\n  Array index 7 is out of bounds",
            held_up=("product/daily_active_users",),
        ),
    ),
    deduplication_key=f"dbt/product/sessions:{RUN}",
    since=SINCE,
    last_seen=SINCE,
    run_id=RUN,
    job="job:__ASSET_JOB",
    owners=("product@example.com",),
    partitions=WEEK,
)
DAYS_LEFT = replace(
    DAYS,
    left=("check:product/sessions:unique", *(f"product/sessions@2026-11-0{day}" for day in (2, 3, 4, 7))),
    partitions=("2026-11-02", "2026-11-03", "2026-11-04", "2026-11-07"),
)
HIGHTOUCH = Failure(
    name="hightouch/salesforce_account_health",
    kind="asset",
    units=(
        FailedUnit(
            "hightouch/salesforce_account_health",
            ("hightouch/salesforce_account_health",),
            "3 rows were rejected: REQUIRED_FIELD_MISSING",
            "https://hightouch.example.com/syncs/1/runs/9",
        ),
    ),
    deduplication_key=f"hightouch/salesforce_account_health:{RUN}",
    since=SINCE,
    last_seen=SINCE,
    run_id=RUN,
)
CHECK = Failure(
    name="check/product_public/incidents/volume",
    kind="check",
    units=(
        FailedUnit(
            "check/product_public/incidents/volume",
            ("product_public/incidents",),
            "Nothing came: 0 rows on Sunday 2026-11-22, 410 on such days before (400, 410, 420).",
            awaits=("check:product_public/incidents:volume",),
        ),
    ),
    deduplication_key=f"check/product_public/incidents/volume:{RUN}",
    since=SINCE,
    last_seen=SINCE,
    run_id=RUN,
    consumers=(OMNI,),
    owners=("team:data-engineering",),
)
CHECKS = replace(
    CHECK,
    name="check/product_public/incidents",
    units=(
        FailedUnit("check/product_public/incidents", ("product_public/incidents",), "keys_not_null: id in 3 rows."),
    ),
)
FRESHNESS = Failure(
    name="freshness/finance/mrr_movements",
    kind="freshness",
    units=(
        FailedUnit(
            "freshness/finance/mrr_movements",
            ("finance/mrr_movements",),
            "It was not made in time, by its freshness policy.",
            awaits=("fresh:finance/mrr_movements",),
        ),
    ),
    deduplication_key="freshness/finance/mrr_movements:fresh:finance/mrr_movements:1",
    since=SINCE,
    last_seen=SINCE,
    owners=("finance@example.com",),
)
KILLED = Failure(
    name="run/0a1b2c3d4e",
    kind="run",
    units=(
        FailedUnit("run/0a1b2c3d4e", tuple(f"sales/model_{n}" for n in range(12)), "The run's process was killed."),
    ),
    deduplication_key=f"run/0a1b2c3d4e:{RUN}",
    since=SINCE,
    last_seen=SINCE,
    run_id=RUN,
    job="job:transform",
    consumers=(OMNI,),
)
JOB = replace(KILLED, units=(FailedUnit("run/0a1b2c3d4e", (), "The run could not start."),), consumers=())
QUEUE = Failure(
    name="queue",
    kind="queue",
    units=(
        FailedUnit(
            "queue", ("a/b", "a/c"), "2 runs wait in the queue for more than 30 min (ingest).", awaits=("queue",)
        ),
    ),
    deduplication_key="queue:queue:1234567890",
    since=SINCE,
    last_seen=SINCE,
)
TICK = Failure(
    name="tick/hourly_export_history",
    kind="tick",
    units=(
        FailedUnit(
            "tick/hourly_export_history",
            (),
            "The schedule `hourly_export_history` failed: KeyError: 'x'",
            awaits=("tick:hourly_export_history",),
        ),
    ),
    deduplication_key="tick/hourly_export_history:tick:hourly_export_history:1",
    since=SINCE,
    last_seen=SINCE,
    count=4,
)
REFUSED_TICKS = Failure(
    name="cause/bigquery-credentials",
    kind="tick",
    units=tuple(
        FailedUnit(
            f"tick/{name}",
            (),
            f"The schedule `{name}` failed: google.auth.exceptions.RefreshError: invalid_grant",
            awaits=(f"tick:{name}",),
        )
        for name in ("hourly_export_history", "daily_warnings_digest")
    ),
    deduplication_key="cause/bigquery-credentials:tick:hourly_export_history:1",
    since=SINCE,
    last_seen=SINCE,
)
REFUSED_BOTH = replace(
    REFUSED_TICKS,
    units=(*REFUSED_TICKS.units, FailedUnit("dbt/sales/m0", ("sales/m0",), "BigQuery: 401 Invalid Credentials")),
)
VENDOR = replace(FIVETRAN, kind="vendor", run_id=None, job=None, count=1, last_seen=SINCE)
WAREHOUSE = Failure(
    name="cause/bigquery-unreachable",
    kind="asset",
    units=tuple(
        FailedUnit(f"dbt/sales/m{n}", (f"sales/m{n}",), "bigquery: could not connect: connection refused")
        for n in range(42)
    ),
    deduplication_key=f"cause/bigquery-unreachable:{RUN}",
    since=SINCE,
    last_seen=SINCE,
    run_id=RUN,
    consumers=(*EXPLO, OMNI),
    owners=("revenue-operations@example.com",),
)
SAME_WORDS = Failure(
    name="cause/8c5f0be2f1",
    kind="asset",
    units=(
        *(FailedUnit(f"dbt/sales/m{n}", (f"sales/m{n}",), f"Access denied: table sales.m{n}") for n in range(5)),
        FailedUnit("fivetran/stripe", ("stripe/invoice",), "Reconnect it."),
    ),
    deduplication_key=f"cause/8c5f0be2f1:{RUN}",
    since=SINCE,
    last_seen=SINCE,
    run_id=RUN,
)
TRANSIENT = replace(DBT, transient=True, background=Background(failures=4, transients=3))
FLAPPING = replace(FIVETRAN, flapping=True, background=Background())
PARTIAL = replace(
    FIVETRAN, left=("product_public/users", "check:product_public/incidents:volume"), background=Background()
)
UNKNOWN = replace(
    DBT,
    background=Background(problems=("commits: there is no git here", "schema changes: there was no time left to look")),
)
HOSTILE = Failure(
    name="step/notify",
    kind="asset",
    units=(
        FailedUnit(
            "step/notify",
            tuple(f"{'x' * 300}/{n}" for n in range(600)),
            "```\n# not a heading\n[click](https://evil.example)\n"
            + "postgres://fivetran:hunter2@db.example.com/product\n"
            + "\x1b[31mred\x1b[0m\n" * 9
            + "the end " * 400,
            held_up=tuple(f"held/{n}" for n in range(600)),
        ),
    ),
    deduplication_key=f"step/notify:{RUN}",
    since=SINCE,
    last_seen=SINCE,
    run_id=RUN,
    consumers=tuple(Consumer(f"explo/{n}", "customer") for n in range(300)),
    owners=tuple(f"owner{n}@example.com" for n in range(200)),
    background=Background(changes=("c" * 5000,) * 10, problems=("p" * 5000,)),
)

FIRING = {
    "fivetran": FIVETRAN,
    "dbt": DBT,
    "hightouch": HIGHTOUCH,
    "check": CHECK,
    "checks": CHECKS,
    "freshness": FRESHNESS,
    "killed_run": KILLED,
    "job": JOB,
    "queue": QUEUE,
    "tick": TICK,
    "cause_of_ticks": REFUSED_TICKS,
    "partitions": DAYS,
    "partitions_left": DAYS_LEFT,
    "vendor": VENDOR,
    "warehouse": WAREHOUSE,
    "same_words": SAME_WORDS,
    "transient": TRANSIENT,
    "flapping": FLAPPING,
    "partial_recovery": PARTIAL,
    "unknown_background": UNKNOWN,
}

RECOVERY = Recovery(
    name=FIVETRAN.name,
    kind="asset",
    deduplication_key=FIVETRAN.deduplication_key,
    title="Fivetran sync of `product` failed: 3 customer dashboards hurt",
    since=SINCE,
    at=SINCE + timedelta(hours=4, minutes=20),
    run_id="5d1f7f9e-0a1c-4a0e-8f0e-0c9b8a7d6e5f",
)
RESOLVED = {
    "recovery": RECOVERY,
    "recovery_without_a_run": replace(RECOVERY, run_id=None, title=""),
    "recovery_of_a_transient": replace(RECOVERY, transient=True, title="", run_id=RUN),
}
