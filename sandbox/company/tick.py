"""Moves the company forward by hours: a few organisations have incidents, make progress, tidy up; the rest do nothing."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from sandbox.company import office
from sandbox.company.history import TABLES, Row, Rows, alert
from sandbox.company.hours import OfficeHour, Ticked
from sandbox.company.seed import load

MOST_ORGANISATIONS = 6


class NotSeeded(RuntimeError):
    """There is no company yet to move forward."""


def tick(dsn: str, hours: int = 1) -> Ticked:
    """Move the company forward, an hour at a time, each in one transaction. Same history and same ticks, same rows.

    Every row that changes gets the company's new hour as `updated_at`, so that a cursor meets it. Raises NotSeeded.
    """
    result = Ticked()
    with psycopg.Connection[DictRow].connect(dsn, row_factory=dict_row) as connection:
        if connection.execute("select to_regclass('company_state.clock') as clock").fetchone()["clock"] is None:
            raise NotSeeded("the product database has no history yet: run `sandbox up`")
        office.prepare(connection)
        for _ in range(hours):
            with connection.transaction():
                _hour(connection, result)
    return result


def _hour(connection: psycopg.Connection[dict[str, Any]], result: Ticked) -> None:
    clock = connection.execute("select seed, now from company_state.clock for update").fetchone()
    if clock is None:
        raise NotSeeded("the product database has no history yet: run `sandbox up`")
    now = clock["now"] + timedelta(hours=1)
    rng = random.Random(f"{clock['seed']}:{now.isoformat()}")
    everyone = connection.execute("select * from organisations order by id").fetchall()
    chosen = rng.sample(everyone, min(len(everyone), rng.randint(2, MOST_ORGANISATIONS)))
    around = OfficeHour(connection, clock["seed"], now, result)
    around.bill()
    for organisation in chosen:
        _Hour(connection, rng, organisation, now, result).live()
        around.visit(organisation["id"])
    connection.execute("update company_state.clock set now = %s", [now])
    result.now = now


class _Hour:
    """One organisation's hour."""

    def __init__(
        self,
        connection: psycopg.Connection[dict[str, Any]],
        rng: random.Random,
        organisation: Row,
        now: datetime,
        result: Ticked,
    ) -> None:
        self._connection, self._rng, self._now, self._result = connection, rng, now, result
        self._organisation = organisation["id"]

    def live(self) -> None:
        self._declare()
        self._finish_incidents()
        self._finish_tasks()
        self._tidy_up()
        self._result.organisations.add(self._organisation)

    def _declare(self) -> None:
        users = self._all("select * from users where organisation_id = %s order by id", self._organisation)
        schedule = self._all(
            "select * from schedules where organisation_id = %s order by id limit 1", self._organisation
        )[0]
        shifts = self._all("select * from shifts where schedule_id = %s order by starts_at", schedule["id"])
        made = (
            self._all("select count(*) as n from incidents where organisation_id = %s", self._organisation)[0]["n"] + 1
        )
        declared = self._now - timedelta(minutes=self._rng.randint(5, 55))
        number = f"{self._organisation[4:]}_t{self._now:%Y%m%d%H}"
        lead = self._rng.choice(users)
        incident = {
            "id": f"inc_{number}", "organisation_id": self._organisation, "reference": f"INC-T{made}-{self._now:%d%H}",
            "name": "Elevated errors", "severity": self._rng.choice(("minor", "major", "critical")), "status": "investigating",
            "declared_by_user_id": lead["id"], "declared_at": declared, "mitigated_at": None, "resolved_at": None,
        }  # fmt: skip
        rows: Rows = {table: [] for table in TABLES}
        rows["incidents"].append(incident)
        rows["incident_updates"].append({
            "id": f"upd_{number}_0", "incident_id": incident["id"], "user_id": lead["id"], "to_status": "investigating",
            "message": "We are looking into it.", "posted_at": declared,
        })  # fmt: skip
        rows["incident_participants"].append({
            "id": f"par_{number}_0", "incident_id": incident["id"], "user_id": lead["id"], "role": "lead",
            "minutes_worked": int((self._now - declared).total_seconds() // 60),
        })  # fmt: skip
        # After a long run of ticks the rota has ended: nobody is on shift, so nobody is paged.
        if shifts and shifts[-1]["ends_at"] > declared:
            alert(self._rng, schedule, shifts, users, f"{number}_a", incident, declared, self._now, rows)
        for table, made_rows in rows.items():
            for row in made_rows:
                row |= {"created_at": self._now, "updated_at": self._now}
            self._result.tables[table].inserted += len(made_rows)
        load(self._connection, rows)

    def _finish_incidents(self) -> None:
        for incident in self._all(
            "select * from incidents where organisation_id = %s and resolved_at is null and declared_at < %s order by id",
            self._organisation, self._now - timedelta(hours=1),
        ):  # fmt: skip
            if self._rng.random() < 0.3:
                continue
            mitigated = incident["mitigated_at"] or self._now - timedelta(minutes=30)
            self._change("incidents", incident["id"], status="resolved", mitigated_at=mitigated, resolved_at=self._now)
            for person in self._all("select * from incident_participants where incident_id = %s", incident["id"]):
                minutes = person["minutes_worked"] + self._rng.randint(5, 30)
                most = int((self._now - incident["declared_at"]).total_seconds() // 60)
                self._change("incident_participants", person["id"], minutes_worked=min(minutes, most))

    def _finish_tasks(self) -> None:
        for task in self._all(
            "select * from post_incident_tasks where organisation_id = %s and status = 'open' order by id limit 2",
            self._organisation,
        ):
            self._change("post_incident_tasks", task["id"], status="done", completed_at=self._now)

    def _tidy_up(self) -> None:
        if self._rng.random() < 0.5:
            return
        old = self._all(
            "select id from post_incident_tasks where organisation_id = %s and status = 'dropped' order by id limit 1",
            self._organisation,
        )
        for task in old:
            self._connection.execute("delete from post_incident_tasks where id = %s", [task["id"]])
            self._result.tables["post_incident_tasks"].deleted += 1

    def _change(self, table: str, row_id: str, **values: Any) -> None:
        changes = values | {"updated_at": self._now}
        assignments = ", ".join(f"{column} = %s" for column in changes)
        statement = f"update {table} set {assignments} where id = %s"
        self._connection.execute(statement.encode(), [*changes.values(), row_id])
        self._result.tables[table].updated += 1

    def _all(self, statement: str, *values: Any) -> list[Row]:
        return self._connection.execute(statement.encode(), list(values)).fetchall()
