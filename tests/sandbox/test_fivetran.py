"""Fivetran's stand-in over HTTP: its API, and what a sync does to the warehouse."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx
import psycopg
import pytest
from google.cloud import bigquery

from sandbox.company.history import TABLES
from sandbox.company.tick import tick
from sandbox.config import PROJECT
from sandbox.services import postgres
from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from tests.stand_ins import Vendors, at, wait_for

PLATFORM = "platform_conn"
PRODUCT, SALESFORCE, STRIPE, ZENDESK = "product_conn", "salesforce_conn", "stripe_conn", "zendesk_conn"
# What a landed row has to agree with, and where the company keeps it.
STATE = {
    "stripe.customer": ("id, delinquent", "select id, delinquent from company_state.billing_customers"),
    "stripe.subscription_history": (
        "id, status, ended_at",
        "select id, status, ended_at from company_state.billing_subscriptions",
    ),
    "stripe.subscription_item": (
        "subscription_id, quantity, current_period_end",
        "select id, quantity, current_period_end from company_state.billing_subscriptions",
    ),
    "stripe.invoice": (
        "id, status, amount_due, amount_paid, status_transitions_paid_at",
        "select id, status, quantity * unit_amount, amount_paid, paid_at from company_state.billing_invoices",
    ),
    "zendesk.organization": ("id, external_id", "select id, external_id from company_state.support_organizations"),
    "zendesk.user": ("id, email", "select id, email from company_state.support_users"),
    "zendesk.ticket": (
        "id, status, assignee_id, updated_at",
        "select id, status, assignee_id, updated_at from company_state.support_tickets",
    ),
    "zendesk.ticket_comment": (
        "id, ticket_id, created",
        "select id, ticket_id, created_at from company_state.support_comments",
    ),
    "zendesk.ticket_field_history": (
        "ticket_id, field_name, updated, value",
        "select ticket_id, field_name, created_at, value from company_state.support_changes",
    ),
}
# What says that a row is as the source has it now; a table that is not named has no such column.
CURRENT = {
    "stripe.customer": "not is_deleted",
    "stripe.subscription_history": "_fivetran_active",
    "stripe.invoice": "not is_deleted",
    "stripe.price": "not is_deleted",
    "zendesk.user": "not _fivetran_deleted",
    "zendesk.ticket": "not _fivetran_deleted",
    "zendesk.ticket_comment": "not _fivetran_deleted",
}


@pytest.fixture(scope="module")
def landed(vendors: Vendors) -> Vendors:
    """The stand-ins after a first sync of every connection."""
    for connection in (PRODUCT, SALESFORCE, STRIPE, ZENDESK):
        assert vendors.sync(connection)["status"] == "succeeded"
    return vendors


def live(vendors: Vendors, table: str) -> dict[str, object]:
    """What the warehouse holds of a table's rows that are not deleted: `updated_at` by key."""
    rows = vendors.query(f"select id, updated_at from product_public.{table} where not _fivetran_deleted")
    assert len(rows) == len(dict(rows)), f"{table} has rows twice"
    return dict(rows)


def in_source(vendors: Vendors, table: str) -> dict[str, object]:
    return dict(vendors.sql(f"select id, updated_at from {table}"))


def written_since(vendors: Vendors, table: str, moment: str) -> int:
    [(count,)] = vendors.query(
        f"select count(*) from product_public.{table} where _fivetran_synced >= timestamp '{moment}'"
    )
    return count


def test_a_first_sync_lands_every_row_and_a_second_moves_none(landed):
    for table in TABLES:
        assert live(landed, table) == in_source(landed, table), table
    before = landed.connection(PRODUCT)["succeeded_at"]
    again = landed.sync(PRODUCT)
    assert set(again["rows"]) == set(TABLES)
    assert sum(again["rows"].values()) == 0
    assert written_since(landed, "incidents", again["sync_start_time"]) == 0
    assert at(landed.connection(PRODUCT)["succeeded_at"]) > at(before)


def test_salesforce_lands_in_snake_case(landed):
    columns = landed.query("select column_name from salesforce.INFORMATION_SCHEMA.COLUMNS where table_name = 'account'")
    expected = {
        "id", "name", "industry", "owner_id", "organisation_id_c", "health_score_c", "health_band_c", "incidents_28d_c",
        "open_tasks_c", "mrr_c", "is_deleted", "_fivetran_synced",
    }  # fmt: skip
    assert {name for (name,) in columns} == expected
    [(accounts,)] = landed.query("select count(*) from salesforce.account")
    count = landed.salesforce.get("/services/data/v59.0/query", params={"q": "SELECT COUNT() FROM Account"}).json()
    assert accounts == count["totalSize"] > 0
    assert sum(landed.sync(SALESFORCE)["rows"].values()) == 0


def test_after_hours_of_business_exactly_what_changed_is_written(landed):
    landed.sync(PRODUCT)
    deleted: set[str] = set()
    for _ in range(20):
        before = {table: in_source(landed, table) for table in TABLES}
        tick(postgres.dsn(landed.config), hours=2)
        after = {table: in_source(landed, table) for table in TABLES}
        moved = landed.sync(PRODUCT)
        for table in TABLES:
            new, old = after[table], before[table]
            changed = {key for key in new if old.get(key) != new[key]}
            deleted |= old.keys() - new.keys()
            expected = len(changed) + len(old.keys() - new.keys())
            assert moved["rows"][table] == expected, table
            assert written_since(landed, table, moved["sync_start_time"]) == expected, table
            assert live(landed, table) == new, table
        if deleted:
            break
    gone = {key for (key,) in landed.query("select id from product_public.post_incident_tasks where _fivetran_deleted")}
    assert deleted
    assert gone == deleted


def test_a_column_and_a_table_that_are_added_to_the_source_appear(landed):
    landed.sql("alter table users add column locale text")
    landed.sql(
        "create table teams (id integer primary key, score numeric, tags jsonb, updated_at timestamptz not null)"
    )
    landed.sql("create table notes (body text)")
    try:
        landed.sync(PRODUCT)
        columns = landed.query(
            "select column_name from product_public.INFORMATION_SCHEMA.COLUMNS where table_name = 'users'"
        )
        assert ("locale",) in columns
        assert landed.query("select * from product_public.teams") == []

        landed.sql("update users set locale = 'fr', updated_at = now() where id = (select min(id) from users)")
        landed.sql("""insert into teams values (1, 2.5, '["a"]', now()), (2, null, null, now())""")
        moved = landed.sync(PRODUCT)
        assert (moved["rows"]["users"], moved["rows"]["teams"]) == (1, 2)
        assert "notes" not in moved["rows"]
        assert landed.query("select count(*) from product_public.users where locale = 'fr'") == [(1,)]
        assert landed.query("select id, score, tags from product_public.teams order by id") == [
            (1, 2.5, '["a"]'),
            (2, None, None),
        ]
        landed.sql("delete from teams where id = 2")
        assert landed.sync(PRODUCT)["rows"]["teams"] == 1
        assert landed.query("select id from product_public.teams where _fivetran_deleted") == [(2,)]
        tables = landed.fivetran.get(f"/v1/connections/{PRODUCT}/schemas").json()["data"]["schemas"]["public"]["tables"]
        assert tables["users"]["columns"] == {}, "no one has edited a column"
        assert "teams" in tables
        path = f"/v1/connections/{PRODUCT}/schemas/public/tables/users/columns"
        shown = landed.fivetran.get(path).json()["data"]["columns"]
        assert "locale" in shown
        assert [name for name, column in shown.items() if column["is_primary_key"]] == ["id"]
    finally:
        landed.sql("alter table users drop column locale; drop table teams; drop table notes")


def test_a_column_that_the_source_drops_stays_and_one_of_another_type_is_widened_with_its_values(landed):
    landed.sql(
        "create table readings (id integer primary key, size integer, kind text, ratio numeric, updated_at timestamptz);"
        "insert into readings select n, n * 10, 'old', n, now() from generate_series(1, 3) n"
    )
    try:
        landed.sync(PRODUCT)
        landed.sql("alter table readings alter size type text, alter ratio type integer, drop kind")
        assert landed.sync(PRODUCT)["rows"]["readings"] == 0
        assert columns(landed, "product_public.readings")[:4] == (
            "id INT64",
            "size STRING",
            "kind STRING",
            "ratio FLOAT64",
        )
        statement = "select id, size, kind, ratio from product_public.readings order by id"
        assert landed.query(statement) == [(1, "10", "old", 1.0), (2, "20", "old", 2.0), (3, "30", "old", 3.0)]

        landed.sql("update readings set size = 'large', updated_at = now() where id = 2")
        landed.sql("insert into readings values (4, 'small', 8, now())")
        assert landed.sync(PRODUCT)["rows"]["readings"] == 2
        expected = [(1, "10", "old", 1.0), (2, "large", None, 2.0), (3, "30", "old", 3.0), (4, "small", None, 8.0)]
        assert landed.query(statement) == expected

        # Back to a number: text holds both, so text it stays.
        landed.sql("update readings set size = '7', updated_at = now()")
        landed.sql("alter table readings alter size type integer using size::integer, add kind boolean")
        landed.sync(PRODUCT)
        landed.sql("update readings set kind = true, updated_at = now() where id = 1")
        assert landed.sync(PRODUCT)["rows"]["readings"] == 1
        assert landed.query("select distinct size from product_public.readings") == [("7",)]
        assert landed.query("select kind from product_public.readings where id = 1") == [("true",)]
        assert columns(landed, "product_public.readings")[1:3] == ("size STRING", "kind STRING")
    finally:
        landed.sql("drop table readings")


def test_stripe_and_zendesk_land_as_the_company_has_them_and_a_second_sync_moves_nothing(landed):
    for connection in (STRIPE, ZENDESK):
        landed.sync(connection)
    for table, (names, statement) in STATE.items():
        found = rows(landed, table, names)
        assert found, table
        assert found == sorted(landed.sql(statement)), table
    for connection in (STRIPE, ZENDESK):
        assert sum(landed.sync(connection)["rows"].values()) == 0


def test_after_hours_of_business_stripe_and_zendesk_land_what_changed(landed):
    for connection in (STRIPE, ZENDESK):
        landed.sync(connection)
    before = {table: set(landed.sql(statement)) for table, (_, statement) in STATE.items()}
    moved = tick(postgres.dsn(landed.config), hours=24)
    assert moved.services["billing_subscriptions"].updated
    assert moved.services["support_changes"].inserted
    assert moved.services["support_tickets"].inserted
    counts = {f"{c}.{t}": n for c in ("stripe", "zendesk") for t, n in landed.sync(f"{c}_conn")["rows"].items()}
    for table, (names, statement) in STATE.items():
        after = landed.sql(statement)
        assert rows(landed, table, names) == sorted(after), table
        changed = len(set(after) - before[table])
        assert counts[table] >= changed, table
        assert bool(counts[table]) == bool(changed), table
    assert sum(landed.sync(ZENDESK)["rows"].values()) == sum(landed.sync(STRIPE)["rows"].values()) == 0


def test_a_ticket_deleted_in_zendesk_lands_as_deleted(landed):
    landed.sync(ZENDESK)
    [(ticket,)] = landed.sql("select max(id) from company_state.support_tickets where status <> 'deleted'")
    landed.zendesk.delete(f"/api/v2/tickets/{ticket}.json").raise_for_status()
    assert landed.sync(ZENDESK)["rows"]["ticket"] == 1
    assert landed.query("select id from zendesk.ticket where status = 'deleted'") == [(ticket,)]
    assert sum(landed.sync(ZENDESK)["rows"].values()) == 0


def test_each_version_of_a_subscription_lands_and_ends_where_the_next_one_begins(landed):
    landed.sync(STRIPE)
    [(key,)] = landed.sql("select min(id) from company_state.billing_subscriptions where status = 'active'")
    table = "company_state.billing_subscriptions"
    statuses = ("past_due", "unpaid", "active")
    known = landed.query(f"select status from stripe.subscription_history where id = '{key}' order by _fivetran_start")
    for number, status in enumerate(statuses):
        landed.sql(
            f"update {table} set status = '{status}' where id = '{key}';"
            "insert into company_state.billing_events (id, type, object_id, created_at)"
            f" select 'evt_version_{number}', 'customer.subscription.updated', '{key}', now from company_state.clock"
        )
        assert landed.sync(STRIPE)["rows"]["subscription_history"] == 1
    # An event after which the subscription is as it was before.
    landed.sql(
        "insert into company_state.billing_events (id, type, object_id, created_at)"
        f" select 'evt_version_same', 'customer.subscription.updated', '{key}', now from company_state.clock"
    )
    assert landed.sync(STRIPE)["rows"]["subscription_history"] == 0
    versions = landed.query(
        "select status, _fivetran_active, _fivetran_start, _fivetran_end from stripe.subscription_history"
        f" where id = '{key}' order by _fivetran_start"
    )
    assert [status for status, *_ in versions] == [*(status for (status,) in known), *statuses]
    assert [active for _, active, *_ in versions] == [False] * (len(versions) - 1) + [True]
    for (*_, end), (_, _, start, _) in pairwise(versions):
        assert end == start - timedelta(milliseconds=1)
    assert versions[-1][-1].year == 9999


def test_a_record_that_vanishes_from_salesforce_is_marked_in_the_column_of_its_object(landed):
    store = VendorContext.of(landed.config).store
    for table, column in (("account", "is_deleted"), ("user", "_fivetran_deleted")):
        landed.sync(SALESFORCE)
        [row] = store.execute(f'select max("Id") as key from salesforce_{table}')
        store.execute(f'delete from salesforce_{table} where "Id" = ?', (row["key"],))
        assert landed.sync(SALESFORCE)["rows"][table] == 1
        assert landed.query(f"select id from salesforce.{table} where {column}") == [(row["key"],)]


def columns(vendors: Vendors, table: str) -> tuple[str, ...]:
    dataset, _, name = table.partition(".")
    found = vendors.query(
        f"select column_name, data_type from {dataset}.INFORMATION_SCHEMA.COLUMNS where table_name = '{name}'"
        " order by ordinal_position"
    )
    return tuple(f"{column} {kind}" for column, kind in found)


def rows(vendors: Vendors, table: str, names: str = "id") -> list[tuple[object, ...]]:
    return sorted(vendors.query(f"select {names} from {table} where {CURRENT.get(table, 'true')}"))


def cursors(vendors: Vendors) -> dict[str, str]:
    statement = "select name, cursor from fivetran_table where connection = ?"
    return {row["name"]: row["cursor"] for row in VendorContext.of(vendors.config).store.execute(statement, (PRODUCT,))}


def test_killed_in_the_middle_of_a_sync_nothing_is_lost(landed):
    tick(postgres.dsn(landed.config), hours=3)
    for table in TABLES:
        landed.sql(f"update {table} set updated_at = now()")
    changed = {table: in_source(landed, table) for table in TABLES}
    before = cursors(landed)
    landed.fivetran.post(f"/v1/connections/{PRODUCT}/sync").raise_for_status()
    wait_for(lambda: cursors(landed) != before, 60, "a table has landed")
    landed.stop(signal.SIGKILL)
    assert set(cursors(landed).items()) & set(before.items()), "the sync was over before it was killed"
    landed.start()

    shown = landed.connection(PRODUCT)
    assert shown["status"]["sync_state"] == "scheduled"
    assert shown["status"]["tasks"] == []
    assert landed.synced(PRODUCT)["status"] == "failed"
    assert "interrupted" in landed.synced(PRODUCT)["reason"]
    assert landed.sync(PRODUCT)["status"] == "succeeded"
    for table in TABLES:
        assert live(landed, table) == changed[table], table
    assert sum(landed.sync(PRODUCT)["rows"].values()) == 0


def test_refused_credentials_are_a_task_until_a_sync_succeeds(landed):
    reason = "The password of fivetran was rotated"
    landed.faults.add("fivetran", "product", "broken_credentials", {"reason": reason})
    failed = landed.sync(PRODUCT)
    shown = landed.connection(PRODUCT)
    assert (failed["status"], failed["reason"]) == ("failed", reason)
    assert shown["status"]["tasks"] == [{"code": "reconnect", "message": "Reconnect", "details": reason}]
    assert shown["status"]["setup_state"] == "broken"
    assert at(shown["failed_at"]) > at(shown["succeeded_at"])

    landed.faults.remove()
    assert landed.connection(PRODUCT)["status"]["setup_state"] == "connected"
    landed.sync(PRODUCT)
    shown = landed.connection(PRODUCT)
    assert shown["status"]["tasks"] == []
    assert at(shown["succeeded_at"]) > at(shown["failed_at"])


def test_another_failure_leaves_no_task(landed):
    landed.faults.add("fivetran", "product", "sync_failure", times=1)
    assert landed.sync(PRODUCT)["status"] == "failed"
    shown = landed.connection(PRODUCT)["status"]
    assert (shown["tasks"], shown["setup_state"]) == ([], "connected")
    landed.sync(PRODUCT)


@pytest.mark.parametrize("schedule", ["auto", "manual"])
def test_a_rescheduled_sync_starts_by_itself_unless_its_schedule_is_manual(landed, schedule):
    landed.fivetran.patch(f"/v1/connections/{SALESFORCE}", json={"schedule_type": schedule}).raise_for_status()
    before = int(landed.synced(SALESFORCE)["sync_id"])
    landed.faults.add("fivetran", "salesforce", "reschedule", {"seconds": 1}, times=1)
    landed.fivetran.post(f"/v1/connections/{SALESFORCE}/sync").raise_for_status()
    shown = landed.connection(SALESFORCE)["status"]
    assert shown["sync_state"] == "rescheduled"
    wait_for(lambda: datetime.now(UTC) > at(shown["rescheduled_for"]), 5, "its time comes")
    if schedule == "manual":
        assert landed.connection(SALESFORCE)["status"]["sync_state"] == "rescheduled"
        landed.fivetran.post(f"/v1/connections/{SALESFORCE}/sync").raise_for_status()
    wait_for(lambda: int(landed.synced(SALESFORCE)["sync_id"]) > before, 30, "it has synced")
    assert landed.connection(SALESFORCE)["status"]["rescheduled_for"] is None
    landed.fivetran.patch(f"/v1/connections/{SALESFORCE}", json={"schedule_type": "auto"}).raise_for_status()


def test_the_platform_connection_is_in_the_destination_and_lands_nothing(landed):
    shown = landed.connection(PLATFORM)
    assert (shown["service"], shown["schema"]) == ("fivetran_log", "fivetran_metadata")
    assert landed.sync(PLATFORM)["status"] == "succeeded"


def test_a_group_may_have_no_destination(landed):
    landed.faults.add("fivetran", kind="group_without_destination")
    groups = landed.fivetran.get("/v1/groups").json()["data"]["items"]
    found = [landed.fivetran.get(f"/v1/destinations/{group['id']}").status_code for group in groups]
    assert found == [200, 404]


def test_requests_that_ask_the_source_have_a_limit_of_their_own(landed):
    store = VendorContext.of(landed.config).store
    rate_limits.override(store, "fivetran", "source_requests_minute", 1)
    try:
        path = f"/v1/connections/{PRODUCT}/schemas/public/tables/users/columns"
        answers = [landed.fivetran.get(path) for _ in range(3)]
        assert answers[-1].status_code == 429
        assert answers[-1].json()["code"] == "TooManyRequests"
        assert landed.fivetran.get(f"/v1/connections/{PRODUCT}").status_code == 200
    finally:
        rate_limits.reset(store)


@pytest.mark.parametrize("vendor", ["salesforce", "stripe", "zendesk"])
def test_a_source_that_does_not_answer_fails_the_sync(landed, vendor):
    landed.faults.add(vendor, kind="http_500")
    failed = landed.sync(f"{vendor}_conn")
    assert failed["status"] == "failed"
    assert "500" in failed["reason"]
    landed.faults.remove()
    assert landed.sync(f"{vendor}_conn")["status"] == "succeeded"


@pytest.mark.parametrize("by_fault", [True, False])
def test_a_paused_connection_does_not_sync(landed, by_fault):
    if by_fault:
        landed.faults.add("fivetran", "product", "paused")
    else:
        landed.fivetran.patch(f"/v1/connections/{PRODUCT}", json={"paused": True}).raise_for_status()
    shown = landed.connection(PRODUCT)
    assert (shown["paused"], shown["status"]["sync_state"]) == (True, "paused")
    before = landed.synced(PRODUCT)["sync_id"]
    assert landed.fivetran.post(f"/v1/connections/{PRODUCT}/sync").status_code == 409
    scope = {"scope": {"public": ["schedules"]}}
    landed.fivetran.post(f"/v1/connections/{PRODUCT}/resync", json=scope).raise_for_status()
    assert landed.synced(PRODUCT)["sync_id"] == before

    landed.faults.remove()
    landed.fivetran.patch(f"/v1/connections/{PRODUCT}", json={"paused": False}).raise_for_status()
    moved = landed.sync(PRODUCT)
    assert moved["status"] == "succeeded"
    assert moved["rows"]["schedules"] == len(in_source(landed, "schedules")), "the resync waited for the connection"


def test_a_broken_column_is_repaired_by_the_sync_after_it_was_mended(landed):
    statement = "select distinct severity from product_public.incidents where not _fivetran_deleted"
    landed.faults.add("fivetran", "product", "broken_column")
    landed.sync(PRODUCT)
    assert landed.query(statement) == [("???",)]
    landed.faults.remove()
    landed.sync(PRODUCT)
    assert {severity for (severity,) in landed.query(statement)} == {"minor", "major", "critical"}
    assert sum(landed.sync(PRODUCT)["rows"].values()) == 0


def test_a_resync_writes_the_whole_table_and_keeps_what_was_deleted(landed):
    landed.sync(PRODUCT)
    deleted = landed.query("select count(*) from product_public.post_incident_tasks where _fivetran_deleted")
    scope = {"scope": {"public": ["post_incident_tasks"]}}
    landed.fivetran.post(f"/v1/connections/{PRODUCT}/resync", json=scope).raise_for_status()
    moved = landed.synced(PRODUCT)["rows"]
    assert moved["post_incident_tasks"] == len(in_source(landed, "post_incident_tasks"))
    assert sum(moved.values()) == moved["post_incident_tasks"]
    assert landed.query("select count(*) from product_public.post_incident_tasks where _fivetran_deleted") == deleted


@pytest.mark.parametrize(
    "body",
    [
        {"scope": {}},
        {"scope": {"public": []}},
        {"scope": {"public": ["nothing"]}},
        {"scope": {"private": ["users"]}},
    ],
)
def test_a_resync_of_nothing_is_refused(landed, body):
    answer = landed.fivetran.post(f"/v1/connections/{PRODUCT}/resync", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidInput")


def test_a_resync_of_a_connection_writes_every_table_and_one_of_a_table_is_refused_where_there_is_none(landed):
    landed.sync(STRIPE)
    landed.fivetran.post(f"/v1/connections/{STRIPE}/resync").raise_for_status()
    assert landed.connection(STRIPE)["status"]["is_historical_sync"]
    whole = landed.synced(STRIPE)["rows"]
    # Of subscriptions, only versions that are new would land.
    expected = {table: len(rows(landed, f"stripe.{table}")) for table in whole} | {"subscription_history": 0}
    assert whole == expected
    assert not landed.connection(STRIPE)["status"]["is_historical_sync"]


def test_a_table_dropped_from_the_warehouse_lands_again(landed):
    bigquery.Client(project=PROJECT).delete_table("product_public.pages")
    landed.sync(PRODUCT)
    assert live(landed, "pages") == in_source(landed, "pages")


def test_the_older_paths_still_work(landed):
    http = landed.fivetran
    listed = http.get("/v1/groups/local_group/connectors", params={"limit": 1}).json()["data"]
    rest = http.get("/v1/groups/local_group/connectors", params={"cursor": listed["next_cursor"]}).json()["data"]
    assert [item["id"] for item in (*listed["items"], *rest["items"])] == [
        PLATFORM,
        PRODUCT,
        SALESFORCE,
        STRIPE,
        ZENDESK,
    ]
    assert "next_cursor" not in rest
    assert http.get(f"/v1/connectors/{PRODUCT}").json() == http.get(f"/v1/connections/{PRODUCT}").json()
    before = landed.synced(PRODUCT)["sync_id"]
    http.post(f"/v1/connectors/{PRODUCT}/force").raise_for_status()
    assert int(landed.synced(PRODUCT)["sync_id"]) == int(before) + 1


def test_a_trigger_while_a_sync_runs_starts_no_second(landed):
    landed.faults.add("fivetran", "product", "slow_sync", {"seconds": 1}, times=1)
    before = int(landed.synced(PRODUCT)["sync_id"])
    for _ in range(2):
        landed.fivetran.post(f"/v1/connections/{PRODUCT}/sync").raise_for_status()
    assert landed.connection(PRODUCT)["status"]["sync_state"] == "syncing"
    assert landed.fivetran.post(f"/v1/connections/{PRODUCT}/resync").status_code == 409
    assert int(landed.synced(PRODUCT)["sync_id"]) == before + 1


def test_the_history_is_paged_and_cut_by_time(landed):
    path = f"/v1/connections/{PRODUCT}/sync-history"
    landed.sync(PRODUCT)
    landed.sync(PRODUCT)
    first = landed.fivetran.get(path, params={"limit": 1}).json()["data"]
    second = landed.fivetran.get(path, params={"limit": 1, "cursor": first["next_cursor"]}).json()["data"]
    newest, older = first["items"][0], second["items"][0]
    assert int(newest["sync_id"]) > int(older["sync_id"])
    since = landed.fivetran.get(path, params={"start_time": newest["sync_start_time"]}).json()["data"]["items"]
    assert [item["sync_id"] for item in since] == [newest["sync_id"]]


@pytest.mark.parametrize(
    ("method", "path", "auth", "status", "code"),
    [
        ("GET", "/v1/connections", ("nobody", "x"), 401, "Unauthorized"),
        ("GET", "/v1/connections/none", None, 404, "NotFound_Connection"),
        ("GET", "/v1/nothing", None, 404, "NotFound"),
        ("GET", "/v1/connections?limit=0", None, 400, "InvalidInput"),
        ("POST", "/v1/groups", None, 405, "NotFound"),
    ],
)
def test_errors_have_a_code_and_a_message(landed, method, path, auth, status, code):
    http = landed.fivetran if auth is None else httpx.Client(base_url=landed.config.url("fivetran"), auth=auth)
    answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert answer.json()["message"]


def test_rows_of_a_sync_that_meets_the_sources_writers_are_whole(landed):
    """A writer commits rows all through a sync: each is there after the next one, once."""
    with psycopg.connect(postgres.dsn(landed.config), autocommit=True) as writer:
        landed.fivetran.post(f"/v1/connections/{PRODUCT}/sync").raise_for_status()
        for number in range(60):
            writer.execute(
                "update organisations set name = %s, updated_at = now() where id = (select min(id) from organisations)",
                [f"Renamed {number}"],
            )
    landed.synced(PRODUCT)
    landed.sync(PRODUCT)
    assert live(landed, "organisations") == in_source(landed, "organisations")
    assert landed.query("select count(*) from product_public.organisations where name = 'Renamed 59'") == [(1,)]
