"""The history of a company that sells incident management, as a pure function of a seed, a scale and an hour.

Each organisation is drawn from its own random numbers: a larger scale adds organisations and changes none of the others.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

ORGANISATIONS = 60
DAYS = 90

Row = dict[str, Any]
Rows = dict[str, list[Row]]

TABLES = (
    "organisations", "users", "subscriptions", "schedules", "shifts", "incidents", "incident_updates",
    "incident_participants", "alerts", "escalations", "pages", "post_incident_tasks",
)  # fmt: skip

PLACES = (
    ("emea", "Europe/London"), ("emea", "Europe/Berlin"), ("emea", "Europe/Madrid"), ("amer", "America/New_York"),
    ("amer", "America/Los_Angeles"), ("amer", "America/Sao_Paulo"), ("apac", "Asia/Singapore"), ("apac", "Australia/Sydney"),
)  # fmt: skip
FIRST = (
    "Ada",
    "Bo",
    "Cleo",
    "Dev",
    "Eve",
    "Finn",
    "Gia",
    "Hal",
    "Ines",
    "Jon",
    "Kai",
    "Lia",
    "Max",
    "Noor",
    "Oli",
    "Pia",
)
LAST = (
    "Abara",
    "Bauer",
    "Costa",
    "Dahl",
    "Evans",
    "Fujii",
    "Green",
    "Haas",
    "Ito",
    "Jain",
    "Kent",
    "Lopez",
    "Moss",
    "Ng",
)
COMPANY = (
    "Alder",
    "Birch",
    "Cobalt",
    "Delta",
    "Ember",
    "Fjord",
    "Granite",
    "Harbor",
    "Indigo",
    "Juniper",
    "Kestrel",
    "Lumen",
)
TRADE = ("Bank", "Freight", "Games", "Health", "Media", "Pay", "Retail", "Travel")
SYSTEMS = (
    "checkout",
    "search",
    "login",
    "payments",
    "exports",
    "webhooks",
    "mobile api",
    "billing",
    "uploads",
)
SYMPTOMS = ("errors", "latency", "queue backlog", "timeouts", "stale data", "crash loop")
SOURCES = ("datadog", "grafana", "sentry", "prometheus")
TASKS = (
    "Add an alert for",
    "Write a runbook for",
    "Raise the limit of",
    "Add a retry to",
    "Fix the root cause in",
)
MINUTES = {"minor": 45, "major": 110, "critical": 180}
PRICES = {"team": 1900, "pro": 2900, "enterprise": 4500}
HOUR_WEIGHTS = [1, 1, 1, 1, 1, 1, 2, 3, 5, 8, 9, 9, 8, 8, 9, 9, 8, 6, 4, 3, 2, 2, 1, 1]


@dataclass(frozen=True)
class Organisation:
    """What the rest of its history is drawn from."""

    number: int
    size: float
    """Incidents on a working day."""
    row: Row
    users: list[Row]
    schedule: Row
    shifts: list[Row]

    @property
    def id(self) -> str:
        return self.row["id"]


def history(seed: int, scale: float, until: datetime) -> Rows:
    """Every row of every table as the product database holds them at `until` (an hour, in UTC), by table.

    `scale` 1.0 is 60 organisations over 90 days. Raises ValueError for a scale that gives no organisation.
    """
    count = round(ORGANISATIONS * scale)
    if count < 1:
        raise ValueError(f"a scale of {scale} gives no organisation; the smallest is {1 / ORGANISATIONS:.3f}")
    rows: Rows = {table: [] for table in TABLES}
    for number in range(1, count + 1):
        rng = random.Random(f"{seed}:{number}")
        organisation = _organisation(rng, number, until, rows)
        for declared in _moments(rng, organisation, until):
            _incident(rng, organisation, declared, until, rows)
        _noise(rng, organisation, until, rows)
    return rows


def out_of_hours(moment: datetime, schedule: Row) -> bool:
    """Whether `moment` is outside the schedule's working hours, Monday to Friday in its own time zone."""
    local = moment.astimezone(ZoneInfo(schedule["timezone"]))
    return local.weekday() >= 5 or not schedule["working_hours_start"] <= local.hour < schedule["working_hours_end"]


def _organisation(rng: random.Random, number: int, until: datetime, rows: Rows) -> Organisation:
    # Sizes fall off as 1 over the rank: a few large customers and many small ones.
    size = 4.0 / (1 + (number * 7) % 23 / 2) + 0.1
    region, zone = PLACES[number % len(PLACES)]
    name = f"{COMPANY[number % len(COMPANY)]} {TRADE[number % len(TRADE)]}" + (f" {number}" if number > 24 else "")
    start = until - timedelta(days=DAYS)
    joined = start - timedelta(days=rng.randint(5, 400), hours=rng.randint(0, 23))
    row = {
        "id": f"org_{number:04}", "name": name, "slug": name.lower().replace(" ", "-"),
        "industry": TRADE[number % len(TRADE)].lower(), "region": region, "timezone": zone,
        "created_at": joined, "updated_at": joined,
    }  # fmt: skip
    users = [_user(rng, row, index, joined) for index in range(round(4 + size * 6))]
    schedule = {
        "id": f"sch_{number:04}", "organisation_id": row["id"], "name": "Primary", "timezone": zone,
        "working_hours_start": 9, "working_hours_end": 18 if number % 3 else 17, "created_at": joined, "updated_at": joined,
    }  # fmt: skip
    shifts = _shifts(row, users, schedule, start, until)
    rows["organisations"].append(row)
    rows["users"] += users
    rows["schedules"].append(schedule)
    rows["shifts"] += shifts
    rows["subscriptions"] += _subscriptions(rng, row, len(users), until)
    return Organisation(number, size, row, users, schedule, shifts)


def _user(rng: random.Random, organisation: Row, index: int, joined: datetime) -> Row:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    number = organisation["id"].removeprefix("org_")
    at = joined + timedelta(hours=index * 5)
    return {
        "id": f"usr_{number}_{index:03}", "organisation_id": organisation["id"],
        "email": f"{first}.{last}.{index}@{organisation['slug']}.example".lower(), "name": f"{first} {last}",
        "role": ("owner", "admin")[index] if index < 2 else "viewer" if index % 7 == 6 else "responder",
        "created_at": at, "updated_at": at,
    }  # fmt: skip


def _shifts(organisation: Row, users: list[Row], schedule: Row, start: datetime, until: datetime) -> list[Row]:
    """A week each, Monday 09:00 in the schedule's zone, from before the history to two weeks after its end."""
    zone = ZoneInfo(schedule["timezone"])
    on_call = [user for user in users if user["role"] != "viewer"]
    first = start.astimezone(zone).date() - timedelta(days=14)
    monday = first - timedelta(days=first.weekday())
    shifts = []
    while monday < until.date() + timedelta(days=15):
        begins, ends = (
            datetime.combine(day, time(9), zone).astimezone(UTC) for day in (monday, monday + timedelta(days=7))
        )
        user = on_call[(monday.toordinal() // 7) % len(on_call)]
        made = min(begins - timedelta(days=14), until)
        shifts.append({
            "id": f"shf_{organisation['id'][4:]}_{monday:%Y%m%d}", "schedule_id": schedule["id"], "user_id": user["id"],
            "starts_at": begins, "ends_at": ends, "created_at": made, "updated_at": made,
        })  # fmt: skip
        monday += timedelta(days=7)
    return shifts


def _subscriptions(rng: random.Random, organisation: Row, seats: int, until: datetime) -> list[Row]:
    plan = "enterprise" if seats > 18 else "pro" if seats > 8 else "team"
    began = organisation["created_at"]
    status = rng.choices(("active", "past_due", "trialing", "cancelled"), (86, 5, 4, 5))[0]
    ended = until - timedelta(days=rng.randint(1, 40)) if status == "cancelled" else None
    if ended and ended <= began:
        ended = until
    changed = ended or began
    return [{
        "id": f"sub_{organisation['id'][4:]}_1", "organisation_id": organisation["id"], "plan": plan, "seats": seats,
        "mrr_cents": 0 if status == "trialing" else PRICES[plan] * seats, "status": status, "started_at": began,
        "cancelled_at": ended, "created_at": began, "updated_at": changed,
    }]  # fmt: skip


def _moments(rng: random.Random, organisation: Organisation, until: datetime) -> Iterator[datetime]:
    """When incidents are declared: more on working days and in working hours of the organisation's own zone."""
    zone = ZoneInfo(organisation.row["timezone"])
    day: date = (until - timedelta(days=DAYS)).astimezone(zone).date()
    while day <= until.astimezone(zone).date():
        expected = organisation.size * (0.3 if day.weekday() >= 5 else 1.0)
        for _ in range(_poisson(rng, expected)):
            hour = rng.choices(range(24), HOUR_WEIGHTS)[0]
            local = datetime.combine(day, time(hour, rng.randint(0, 59), rng.randint(0, 59)), zone)
            moment = local.astimezone(UTC)
            if moment <= until:
                yield moment
        day += timedelta(days=1)


def _poisson(rng: random.Random, expected: float) -> int:
    limit, count, product = math.exp(-expected), 0, rng.random()
    while product > limit:
        count += 1
        product *= rng.random()
    return count


def _incident(rng: random.Random, organisation: Organisation, declared: datetime, until: datetime, rows: Rows) -> None:
    index = 1 + sum(1 for row in reversed(rows["incidents"]) if row["organisation_id"] == organisation.id)
    number = f"{organisation.number:04}_{index:05}"
    severity = rng.choices(("minor", "major", "critical"), (68, 25, 7))[0]
    length = timedelta(minutes=max(6.0, rng.lognormvariate(math.log(MINUTES[severity]), 0.7)))
    mitigated, resolved = declared + length * rng.uniform(0.4, 0.9), declared + length
    declined = rng.random() < 0.05
    lead = rng.choice(organisation.users)
    ended = resolved <= until
    status = (
        "declined"
        if declined and ended
        else "resolved"
        if ended
        else "mitigated"
        if mitigated <= until
        else "investigating"
    )
    what = f"{rng.choice(SYSTEMS)} {rng.choice(SYMPTOMS)}"
    newest = resolved if ended else mitigated if mitigated <= until else declared
    incident = {
        "id": f"inc_{number}", "organisation_id": organisation.id, "reference": f"INC-{index}", "name": what.capitalize(),
        "severity": severity, "status": status, "declared_by_user_id": lead["id"], "declared_at": declared,
        "mitigated_at": mitigated if mitigated <= until and status != "declined" else None,
        "resolved_at": resolved if ended else None, "created_at": declared, "updated_at": newest,
    }  # fmt: skip
    rows["incidents"].append(incident)
    _updates(incident, lead, rows)
    _participants(rng, organisation, incident, lead, until, rows)
    if rng.random() < 0.75:
        alert(
            rng,
            organisation.schedule,
            organisation.shifts,
            organisation.users,
            f"{number}_a",
            incident,
            declared,
            until,
            rows,
        )
    if status == "resolved":
        _tasks(rng, organisation, incident, what, until, rows)


def _updates(incident: Row, lead: Row, rows: Rows) -> None:
    posts = [("investigating", incident["declared_at"], "We are looking into it.")]
    if incident["mitigated_at"]:
        posts.append(("mitigated", incident["mitigated_at"], "The impact is contained."))
    if incident["resolved_at"]:
        posts.append((incident["status"], incident["resolved_at"], "It is over."))
    for index, (status, at, message) in enumerate(posts):
        rows["incident_updates"].append({
            "id": f"upd_{incident['id'][4:]}_{index}", "incident_id": incident["id"], "user_id": lead["id"],
            "to_status": status, "message": message, "posted_at": at, "created_at": at, "updated_at": at,
        })  # fmt: skip


def _participants(
    rng: random.Random, organisation: Organisation, incident: Row, lead: Row, until: datetime, rows: Rows
) -> None:
    others = [user for user in organisation.users if user is not lead]
    people = [lead, *rng.sample(others, min(len(others), rng.choices((0, 1, 2, 3), (3, 4, 2, 1))[0]))]
    minutes = ((incident["resolved_at"] or until) - incident["declared_at"]).total_seconds() // 60
    for index, user in enumerate(people):
        role = "lead" if index == 0 else "observer" if index == 3 else "responder"
        rows["incident_participants"].append({
            "id": f"par_{incident['id'][4:]}_{index}", "incident_id": incident["id"], "user_id": user["id"], "role": role,
            "minutes_worked": int(minutes * rng.uniform(0.2, 1.0)),
            "created_at": incident["declared_at"], "updated_at": incident["updated_at"],
        })  # fmt: skip


def alert(
    rng: random.Random,
    schedule: Row,
    shifts: list[Row],
    users: list[Row],
    number: str,
    incident: Row | None,
    fired: datetime,
    until: datetime,
    rows: Rows,
) -> None:
    """Add an alert, its escalation and its pages: the person on shift, then another if nobody acknowledges in ten minutes."""
    ended = incident["resolved_at"] if incident else fired + timedelta(minutes=rng.randint(3, 90))
    ended = ended if ended and ended <= until else None
    # Some sources are late: the row is written after the alert fired.
    written = min(until, fired + timedelta(minutes=rng.choices((0, 12, 95), (88, 9, 3))[0]))
    changed = max(written, ended or written)
    organisation = schedule["organisation_id"]
    title = incident["name"] if incident else f"{rng.choice(SYSTEMS)} {rng.choice(SYMPTOMS)}".capitalize()
    rows["alerts"].append({
        "id": f"alr_{number}", "organisation_id": organisation, "incident_id": incident and incident["id"],
        "source": rng.choice(SOURCES), "title": title, "status": "resolved" if ended else "firing", "fired_at": fired,
        "resolved_at": ended, "created_at": written, "updated_at": changed,
    })  # fmt: skip
    on_shift = next(shift["user_id"] for shift in shifts if shift["starts_at"] <= fired < shift["ends_at"])
    other = rng.choice([user["id"] for user in users if user["id"] != on_shift and user["role"] != "viewer"])
    acked = False
    newest = fired
    for index, user in enumerate((on_shift, other)):
        paged = fired + timedelta(minutes=10 * index)
        if acked or paged > until:
            break
        wait = timedelta(seconds=rng.randint(20, 540))
        acked = rng.random() < 0.88 and paged + wait <= until
        newest = paged + wait if acked else paged
        rows["pages"].append({
            "id": f"pag_{number}_{index}", "escalation_id": f"esc_{number}", "user_id": user,
            "channel": rng.choices(("push", "phone", "sms", "email"), (6, 3, 2, 1))[0], "paged_at": paged,
            "acked_at": newest if acked else None, "out_of_hours": out_of_hours(paged, schedule),
            "created_at": paged, "updated_at": newest,
        })  # fmt: skip
    rows["escalations"].append({
        "id": f"esc_{number}", "organisation_id": organisation, "alert_id": f"alr_{number}", "schedule_id": schedule["id"],
        "status": "resolved" if ended else "acked" if acked else "triggered", "created_at": fired,
        "updated_at": max(newest, ended or newest),
    })  # fmt: skip


def _noise(rng: random.Random, organisation: Organisation, until: datetime, rows: Rows) -> None:
    """Alerts that nobody declared an incident for."""
    for index in range(round(organisation.size * DAYS * 0.5)):
        fired = until - timedelta(seconds=rng.randint(60, DAYS * 86400))
        number = f"{organisation.number:04}_n{index:05}"
        alert(
            rng,
            organisation.schedule,
            organisation.shifts,
            organisation.users,
            number,
            None,
            fired,
            until,
            rows,
        )


def _tasks(
    rng: random.Random, organisation: Organisation, incident: Row, what: str, until: datetime, rows: Rows
) -> None:
    most = {"minor": 1, "major": 3, "critical": 4}[incident["severity"]]
    for index in range(rng.randint(0, most)):
        made = incident["resolved_at"] + timedelta(hours=index)
        if made > until:
            return
        due = made + timedelta(days=14)
        finish = made + timedelta(days=rng.expovariate(1 / 9))
        fate = rng.choices(("done", "dropped", "open"), (75, 8, 17))[0]
        over = fate != "open" and finish <= until
        rows["post_incident_tasks"].append({
            "id": f"tsk_{incident['id'][4:]}_{index}", "incident_id": incident["id"], "organisation_id": organisation.id,
            "assignee_user_id": rng.choice(organisation.users)["id"], "title": f"{rng.choice(TASKS)} {what}",
            "status": fate if over else "open", "due_at": due, "completed_at": finish if over and fate == "done" else None,
            "created_at": made, "updated_at": finish if over else made,
        })  # fmt: skip
