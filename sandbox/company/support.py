"""The company's support desk as Zendesk keeps it: organisations, people, tickets, their comments and the changes of their fields.

A pure function of the seed and of the product database's rows: requesters are users of the product, by the same e-mail address.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from sandbox.company.history import Row, Rows

TABLES = ("support_organizations", "support_users", "support_tickets", "support_comments", "support_changes")
SCHEMA = """
create sequence if not exists company_state.support_change;
create table if not exists company_state.support_organizations (
    id bigint primary key, name text not null, external_id text not null, created_at timestamptz not null,
    updated_at timestamptz not null, change bigint not null default nextval('company_state.support_change')
);
create table if not exists company_state.support_users (
    id bigint primary key, name text not null, email text not null, role text not null, organization_id bigint,
    created_at timestamptz not null, updated_at timestamptz not null,
    change bigint not null default nextval('company_state.support_change')
);
create table if not exists company_state.support_tickets (
    id bigint primary key, subject text not null, status text not null, priority text, type text, via_channel text not null,
    requester_id bigint not null, assignee_id bigint, organization_id bigint not null, created_at timestamptz not null,
    updated_at timestamptz not null, change bigint not null default nextval('company_state.support_change')
);
create table if not exists company_state.support_comments (
    id bigint primary key, ticket_id bigint not null, author_id bigint not null, body text not null, public boolean not null,
    created_at timestamptz not null, change bigint not null default nextval('company_state.support_change')
);
create table if not exists company_state.support_changes (
    id bigint primary key, ticket_id bigint not null, author_id bigint not null, field_name text not null, value text,
    previous_value text, created_at timestamptz not null
);
"""

AGENTS = ("Ivy Marsh", "Leo Brandt", "Sana Qureshi", "Theo Nilsson", "Uma Iyer")
"""The last one runs the desk."""
DAYS = 90
ORGANIZATION_IDS, USER_IDS = 360_000_000_000, 370_000_000_000
SYSTEM = -1
"""Zendesk's id for itself, who closes what has been solved for four days."""
TRACKED = ("status", "assignee_id")
"""The fields of a ticket whose changes are kept."""
SUBJECTS = (
    "Pages arrive twice", "How do I change a schedule?", "Slack channel is not created", "Cannot sign in with SSO",
    "Export of post-incident tasks is empty", "Question about our invoice", "Escalation skipped a person",
    "Add seats to our plan", "Webhook signature does not verify", "Time zone of a shift is wrong",
    "Status page shows an old incident", "API answers 429",
)  # fmt: skip
PRIORITIES = (("low", "normal", "high", "urgent", None), (15, 40, 20, 6, 19))
TYPES = (("question", "incident", "problem", "task", None), (40, 30, 12, 6, 12))
CHANNELS = (("email", "web", "chat", "api"), (50, 28, 17, 5))
ANSWER_HOURS = {"urgent": 0.6, "high": 2.0, "normal": 6.0, "low": 14.0, None: 8.0}


def support(seed: int, rows: Rows, until: datetime) -> Rows:
    """Every row of the desk as of `until`, by table. `rows` are the product's: organisations and users."""
    made: Rows = {table: [] for table in TABLES}
    opened = min((row["created_at"] for row in rows["organisations"]), default=until)
    for index, name in enumerate(AGENTS, 1):
        made["support_users"].append({
            "id": USER_IDS + index, "name": name, "email": f"{name.split()[0].lower()}@example.com",
            "role": "admin" if index == len(AGENTS) else "agent", "organization_id": None, "created_at": opened,
            "updated_at": opened,
        })  # fmt: skip
    users: dict[str, list[Row]] = {}
    for user in rows["users"]:
        users.setdefault(user["organisation_id"], []).append(user)
    for organisation in rows["organisations"]:
        if people := users.get(organisation["id"]):
            _organization(random.Random(f"support:{seed}:{organisation['id']}"), organisation, people, until, made)
    return made


def organization_id(organisation_id: str) -> int:
    """The desk's id of a product organisation, `org_<number>`."""
    return ORGANIZATION_IDS + int(organisation_id.removeprefix("org_"))


def ticket(
    rng: random.Random, organization: int, requester: int, index: int, created: datetime
) -> tuple[Row, Row, Row]:  # fmt: skip
    """A new ticket of an organisation, its `index`-th, the comment that it begins with, and the change that set its status."""
    row = {
        "id": (organization - ORGANIZATION_IDS) * 100_000 + index, "subject": rng.choice(SUBJECTS), "status": "new",
        "priority": rng.choices(*PRIORITIES)[0], "type": rng.choices(*TYPES)[0], "via_channel": rng.choices(*CHANNELS)[0],
        "requester_id": requester, "assignee_id": None, "organization_id": organization, "created_at": created,
        "updated_at": created,
    }  # fmt: skip
    first = {
        "id": row["id"] * 1000, "ticket_id": row["id"], "author_id": requester, "field_name": "status", "value": "new",
        "previous_value": None, "created_at": created,
    }  # fmt: skip
    return row, comment(row, 0, requester, f"{row['subject']}. Could you have a look?", created), first


def comment(row: Row, index: int, author: int, body: str, at: datetime, *, public: bool = True) -> Row:
    return {
        "id": row["id"] * 1000 + index, "ticket_id": row["id"], "author_id": author, "body": body, "public": public,
        "created_at": at,
    }  # fmt: skip


def update(row: Row, known: int, author: int, at: datetime, **values: Any) -> list[Row]:
    """Give a ticket other values; return the changes of its tracked fields. It has had `known` changes before."""
    changed = [field for field in TRACKED if field in values and values[field] != row[field]]
    found = [
        {
            "id": row["id"] * 1000 + known + number, "ticket_id": row["id"], "author_id": author, "field_name": field,
            "value": str(values[field]), "previous_value": None if row[field] is None else str(row[field]),
            "created_at": at,
        }
        for number, field in enumerate(changed)
    ]  # fmt: skip
    row |= values | {"updated_at": at}
    return found


def agent(rng: random.Random) -> int:
    return USER_IDS + rng.randint(1, len(AGENTS))


def _organization(
    rng: random.Random, organisation: Row, people: list[Row], until: datetime, made: Rows
) -> None:  # fmt: skip
    organization = organization_id(organisation["id"])
    made["support_organizations"].append({
        "id": organization, "name": organisation["name"], "external_id": organisation["id"],
        "created_at": organisation["created_at"], "updated_at": organisation["created_at"],
    })  # fmt: skip
    writers = people[: max(2, len(people) // 3)]
    for index, person in enumerate(writers):
        made["support_users"].append({
            "id": USER_IDS + (organization - ORGANIZATION_IDS) * 1000 + index, "name": person["name"],
            "email": person["email"], "role": "end-user", "organization_id": organization,
            "created_at": person["created_at"], "updated_at": person["created_at"],
        })  # fmt: skip
    ids = [row["id"] for row in made["support_users"][-len(writers) :]]
    count = round(len(people) * rng.uniform(1.0, 2.4))
    moments = sorted(until - timedelta(seconds=rng.randint(600, DAYS * 86400)) for _ in range(count))
    for index, created in enumerate(moments, 1):
        made["support_changes"] += _life(rng, organization, rng.choice(ids), index, created, until, made)


def _life(
    rng: random.Random, organization: int, requester: int, index: int, created: datetime, until: datetime, made: Rows
) -> list[Row]:
    """Add a ticket as it stands at `until`, and return its changes: each step that lies after it has not happened yet."""
    row, said, first = ticket(rng, organization, requester, index, created)
    made["support_tickets"].append(row)
    made["support_comments"].append(said)
    changes = [first]
    wait = timedelta(hours=rng.expovariate(1 / ANSWER_HOURS[row["priority"]]) + 0.05)
    helper = agent(rng)
    at = created
    for number in range(1, rng.choices((2, 3, 4, 6), (35, 35, 20, 10))[0] + 1):
        at += timedelta(seconds=int(wait.total_seconds()))
        if at > until:
            return changes
        answers = number % 2 == 1
        author = helper if answers else requester
        made["support_comments"].append(
            comment(row, number, author, _said(rng, answers=answers), at, public=rng.random() < 0.9 or not answers)
        )
        status = "pending" if answers else "open"
        changes += update(row, len(changes), author, at, assignee_id=helper, status=status)
        wait = timedelta(hours=rng.expovariate(1 / 9) + 0.1)
    if rng.random() < 0.04:
        # A minute after the answer: a field changes at most once at a time.
        if (held := at + timedelta(minutes=1)) <= until:
            changes += update(row, len(changes), helper, held, status="hold")
        return changes
    solved = at + timedelta(seconds=rng.randint(300, 40 * 3600))
    if solved <= until:
        changes += update(row, len(changes), helper, solved, status="solved")
    # The desk closes what has been solved for four days.
    if solved + timedelta(days=4) <= until:
        changes += update(row, len(changes), SYSTEM, solved + timedelta(days=4), status="closed")
    return changes


def _said(rng: random.Random, *, answers: bool) -> str:
    if answers:
        return rng.choice(("Thank you, we are looking into it.", "Could you send us the time?", "This is fixed now."))
    return rng.choice(("It was this morning.", "It happened again.", "Thank you, that helped."))
