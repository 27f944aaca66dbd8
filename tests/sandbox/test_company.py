"""The company's history, checked by SQL on a real PostgreSQL rather than by the code that made it."""

import itertools
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import pytest

from sandbox.company.billing import billing
from sandbox.company.history import TABLES, history
from sandbox.company.seed import seed
from sandbox.company.support import support
from sandbox.company.tick import MOST_ORGANISATIONS, NotSeeded, tick
from sandbox.services import postgres
from sandbox.stack import stack

UNTIL = datetime(2026, 11, 2, 15, tzinfo=UTC)

# Each selects the rows that would be wrong.
INCOHERENT = {
    "mitigated before declared": "select id from incidents where mitigated_at < declared_at",
    "resolved before mitigated": "select id from incidents where resolved_at < mitigated_at",
    "resolved without a time": "select id from incidents where (status in ('resolved', 'declined')) <> (resolved_at is not null)",
    "acknowledged before paged": "select id from pages where acked_at < paged_at",
    "worked longer than it lasted": """
        select p.id from incident_participants p join incidents i on i.id = p.incident_id
        where p.minutes_worked * interval '1 minute' > coalesce(i.resolved_at, %(now)s) - i.declared_at""",
    "a stranger was paged": """
        select g.id from pages g join escalations e on e.id = g.escalation_id join users u on u.id = g.user_id
        where u.organisation_id <> e.organisation_id""",
    "out of hours by another rule": """
        select g.id from pages g join escalations e on e.id = g.escalation_id join schedules s on s.id = e.schedule_id
        where g.out_of_hours <> (
            extract(isodow from g.paged_at at time zone s.timezone) > 5
            or extract(hour from g.paged_at at time zone s.timezone) < s.working_hours_start
            or extract(hour from g.paged_at at time zone s.timezone) >= s.working_hours_end)""",
    "first page not to the person on shift": """
        select g.id from pages g join escalations e on e.id = g.escalation_id
        where g.id like '%%\\_0' and not exists (
            select from shifts f where f.schedule_id = e.schedule_id and f.user_id = g.user_id
            and f.starts_at <= g.paged_at and g.paged_at < f.ends_at)""",
    "task done without a time": "select id from post_incident_tasks where (status = 'done') <> (completed_at is not null)",
    "changed before it was made": " union all ".join(
        f"select id from {t} where updated_at < created_at" for t in TABLES
    ),
    "changed in the future": " union all ".join(f"select id from {t} where updated_at > %(now)s" for t in TABLES),
}


AROUND = tuple(
    f"company_state.{table}"
    for table in (
        "billing_customers", "billing_subscriptions", "billing_invoices", "billing_events", "support_organizations",
        "support_users", "support_tickets", "support_comments",
    )
)  # fmt: skip


def dump(dsn: str, tables: tuple[str, ...] = TABLES) -> dict[str, list]:
    with psycopg.connect(dsn) as connection:
        return {t: connection.execute(f"select * from {t} order by id".encode()).fetchall() for t in tables}


def one(dsn: str, query: str, **values: object) -> tuple:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query, values).fetchone()
    assert row is not None
    return row


def incoherent(dsn: str, now: datetime) -> dict[str, list]:
    with psycopg.connect(dsn) as connection:
        found = {name: connection.execute(query, {"now": now}).fetchall() for name, query in INCOHERENT.items()}
    return {name: rows[:5] for name, rows in found.items() if rows}


def test_the_history_is_coherent_and_stays_so(database):
    seed(database, scale=0.3, until=UNTIL)
    assert incoherent(database, UNTIL) == {}
    moved = tick(database, hours=12)
    assert moved.now is not None
    assert incoherent(database, moved.now) == {}


def test_days_and_organisations_differ(database):
    seed(database, scale=1.0, until=UNTIL)
    weekdays, weekends = one(
        database,
        """select count(*) filter (where extract(isodow from i.declared_at at time zone o.timezone) <= 5) / 5.0,
                  count(*) filter (where extract(isodow from i.declared_at at time zone o.timezone) > 5) / 2.0
           from incidents i join organisations o on o.id = i.organisation_id""",
    )
    assert weekdays > 2 * weekends
    largest, smallest = one(
        database, "select max(n), min(n) from (select count(*) n from incidents group by organisation_id) s"
    )
    assert largest > 5 * smallest
    (late,) = one(database, "select count(*) from alerts where created_at > fired_at + interval '1 hour'")
    assert late > 0


def test_the_same_seed_gives_the_same_rows_and_a_larger_scale_only_adds():
    small, same, large = (history(7, scale, UNTIL) for scale in (0.1, 0.1, 0.2))
    assert small == same
    assert small != history(8, 0.1, UNTIL)
    for table in TABLES:
        assert small[table] == large[table][: len(small[table])]


def test_a_second_seed_does_nothing(database):
    assert seed(database, scale=0.05, until=UNTIL).fresh
    before = dump(database)
    assert not seed(database, scale=0.5, until=UNTIL).fresh
    assert dump(database) == before


def test_an_hour_changes_a_few_organisations_and_a_cursor_meets_every_change(database):
    seed(database, scale=0.5, until=UNTIL)
    before = dump(database)
    newest = max(row[-1] for rows in before.values() for row in rows)
    moved = tick(database)
    after = dump(database)
    assert 2 <= len(moved.organisations) <= MOST_ORGANISATIONS
    for table in TABLES:
        old, new = ({row[0]: row for row in rows[table]} for rows in (before, after))
        changed = [row for key, row in new.items() if old.get(key) != row]
        assert all(row[-1] > newest for row in changed), table
        counts = moved.tables[table]
        assert len(new.keys() - old.keys()) == counts.inserted
        assert len(old.keys() - new.keys()) == counts.deleted


def test_ticks_are_deterministic(postgres_server, database):
    dumps = []
    for name in ("one", "two"):
        with psycopg.connect(postgres.dsn(postgres_server, "postgres"), autocommit=True) as connection:
            connection.execute(f"drop database if exists {name}".encode())
            connection.execute(f"create database {name}".encode())
        dsn = postgres.dsn(postgres_server, name)
        seed(dsn, scale=0.1, until=UNTIL)
        tick(dsn, hours=30)
        dumps.append(dump(dsn, TABLES + AROUND))
    assert dumps[0] == dumps[1]


def test_billing_is_monthly_and_ends_where_the_product_stands():
    product = history(7, 0.6, UNTIL)
    made = billing(7, product, UNTIL)
    assert made == billing(7, product, UNTIL)
    invoices: dict[str, list[dict]] = {}
    for invoice in made["billing_invoices"]:
        invoices.setdefault(invoice["subscription_id"], []).append(invoice)
        assert invoice["created_at"] <= UNTIL
        assert (invoice["status"] == "paid") == (invoice["paid_at"] is not None)
    newest = {row["organisation_id"]: row for row in made["billing_subscriptions"]}
    for subscription in product["subscriptions"]:
        billed = newest[subscription["organisation_id"]]
        assert (billed["quantity"], billed["plan"]) == (subscription["seats"], subscription["plan"])
        if subscription["status"] in {"active", "past_due"}:
            last = invoices[billed["id"]][-1]
            assert last["quantity"] * last["unit_amount"] == subscription["mrr_cents"]
            assert last["service_start"] <= UNTIL < last["service_end"]
    for rows in invoices.values():
        assert all(a["service_end"] == b["service_start"] for a, b in itertools.pairwise(rows))
    steps = {
        (b["quantity"] > a["quantity"]) - (b["quantity"] < a["quantity"])
        for rows in invoices.values()
        for a, b in itertools.pairwise(rows)
    }
    assert steps == {-1, 0, 1}, "seats grow and shrink"
    left = [row for row in made["billing_subscriptions"] if row is not newest[row["organisation_id"]]]
    assert left, "some left"
    assert all(row["ended_at"] < newest[row["organisation_id"]]["created_at"] for row in left), "and came back"


def test_a_larger_scale_changes_no_ones_billing_or_support():
    for make in (billing, support):
        small, large = (make(7, history(7, scale, UNTIL), UNTIL) for scale in (0.1, 0.2))
        for table, rows in small.items():
            if table != "billing_events":
                assert rows == large[table][: len(rows)] or all(row in large[table] for row in rows), table


def test_hours_change_billing_and_support_of_the_reported_organisations_only(database):
    seed(database, scale=0.3, until=UNTIL)
    tick(database)
    before = dump(database, AROUND)
    moved = tick(database, hours=72)
    after = dump(database, AROUND)
    owners = dict(
        row
        for table in ("billing_customers", "billing_subscriptions")
        for row in _pairs(database, table, "id, organisation_id")
    )
    owners |= {str(k): o for k, o in _pairs(database, "support_organizations", "id, external_id")}
    assert moved.services["billing_invoices"].inserted
    changed = {table: set(after[table]) - set(before[table]) for table in AROUND if "events" not in table}
    assert changed["company_state.billing_subscriptions"]
    for table, rows in changed.items():
        for row in rows:
            known = {owners[str(value)] for value in row if str(value) in owners}
            assert known <= moved.organisations, table
    assert one(
        database,
        """select count(*) from subscriptions p join company_state.billing_subscriptions b using (organisation_id)
           where b.created_at = (select max(created_at) from company_state.billing_subscriptions x
                                 where x.organisation_id = p.organisation_id)
           and (p.seats, replace(p.status, 'cancelled', 'canceled')) is distinct from (b.quantity, b.status)""",
    ) == (0,)
    (overdue,) = one(
        database,
        "select count(*) from company_state.billing_subscriptions where status <> 'canceled' and current_period_end <= %(now)s",
        now=moved.now,
    )
    assert overdue == 0


def _pairs(dsn: str, table: str, columns: str) -> list[tuple]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(f"select {columns} from company_state.{table}".encode()).fetchall()


def test_a_tick_before_the_seed_says_what_to_run(database):
    with pytest.raises(NotSeeded, match="sandbox up"):
        tick(database)


def test_a_scale_that_gives_nothing_is_refused():
    with pytest.raises(ValueError, match="gives no organisation"):
        history(1, 0.001, UNTIL)


def test_killed_at_once_the_database_comes_back_with_its_rows(postgres_server):
    seed(postgres.dsn(postgres_server), scale=0.05, until=UNTIL)
    before = dump(postgres.dsn(postgres_server))
    supervisor = stack(postgres_server, only=("postgres",))
    pid = supervisor.pid("postgres")
    assert pid is not None
    family = [psutil.Process(pid), *psutil.Process(pid).children()]
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs(family, timeout=10)
    supervisor.up(lambda _done: None)
    assert dump(postgres.dsn(postgres_server)) == before


def sandbox(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("sandbox")), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_sql_is_run_on_the_product_database_and_a_mistake_is_one_line(postgres_server):
    seed(postgres.dsn(postgres_server), scale=0.05, until=UNTIL)
    where = {"SANDBOX_DIR": str(postgres_server.root)}
    changed = sandbox("sql", "alter table users add column locale text; update users set locale = 'fr'", **where)
    (users,) = one(postgres.dsn(postgres_server), "select count(*) from users where locale = 'fr'")
    assert (changed.returncode, changed.stdout) == (0, f"{users} rows\n")
    shown = sandbox("sql", "select locale, 7 as seven, null as nothing from users limit 1", **where)
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["locale", "seven", "nothing"],
        ["fr", "7"],
        ["1", "row"],
    ]
    wrong = sandbox("sql", "select\n nobody from users", **where)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert len(wrong.stderr.splitlines()) == 1
    assert 'column "nobody" does not exist' in wrong.stderr
    assert sandbox("sql", "alter table users drop locale", **where).stdout == "0 rows\n"


@pytest.mark.parametrize("command", [["tick"], ["sql", "select 1"]])
def test_a_command_for_a_stopped_sandbox_says_what_to_do(command, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SANDBOX_DIR", str(tmp_path))
    monkeypatch.setenv("SANDBOX_PORTS", "free")
    result = sandbox(*command)
    assert result.returncode == 1
    assert "run `sandbox up`" in result.stderr
    assert "Traceback" not in result.stderr
