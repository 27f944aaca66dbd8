"""The company's billing as Stripe keeps it: customers, subscriptions, monthly invoices and the events that tell of their changes.

A pure function of the seed and of the product database's rows. Every organisation has a customer; its newest subscription agrees with
the product's: plan, seats, status. Months before it are drawn: seats that grow and shrink, plans that were smaller, customers who left and came back.
"""

from __future__ import annotations

import calendar
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sandbox.company.history import PRICES, Row, Rows

TABLES = ("billing_customers", "billing_subscriptions", "billing_invoices", "billing_events")
SCHEMA = """
create table if not exists company_state.billing_customers (
    id text primary key, organisation_id text not null, name text not null, email text not null, currency text not null,
    delinquent boolean not null, created_at timestamptz not null
);
create table if not exists company_state.billing_subscriptions (
    id text primary key, customer_id text not null, organisation_id text not null, status text not null, plan text not null,
    quantity integer not null, unit_amount integer not null, collection_method text not null, created_at timestamptz not null,
    current_period_start timestamptz not null, current_period_end timestamptz not null, canceled_at timestamptz,
    ended_at timestamptz, trial_end timestamptz
);
create table if not exists company_state.billing_invoices (
    id text primary key, customer_id text not null, subscription_id text not null, number text, status text not null,
    quantity integer not null, unit_amount integer not null, amount_paid integer not null, created_at timestamptz not null,
    service_start timestamptz not null, service_end timestamptz not null, period_start timestamptz not null,
    due_at timestamptz, paid_at timestamptz
);
create table if not exists company_state.billing_events (
    number bigint generated always as identity primary key, id text not null unique, type text not null, object_id text not null,
    created_at timestamptz not null
);
"""

EVENT_DAYS = 30
"""Stripe answers for the events of the last 30 days."""
NET_DAYS = 30
SMALLER = {"enterprise": "pro", "pro": "team"}

PRICE_IDS = {plan: f"price_{plan}" for plan in PRICES}
PRICED_AT = datetime(2024, 1, 8, 9, tzinfo=UTC)
PRICE_LIST = " union all ".join(
    f"select '{PRICE_IDS[plan]}' as id, '{plan}' as plan, {amount} as unit_amount, true as active,"
    f" timestamptz '{PRICED_AT.isoformat()}' as created_at"
    for plan, amount in PRICES.items()
)
"""A query for what a seat costs a month on each plan, since `PRICED_AT`."""
STATUSES = {"cancelled": "canceled"}
"""Stripe's word where the product has another one."""


@dataclass(frozen=True)
class Month:
    """What a customer is billed in a period."""

    starts: datetime
    ends: datetime
    plan: str
    seats: int


def billing(seed: int, rows: Rows, until: datetime) -> Rows:
    """Every billing row as of `until`, by table. `rows` are the product's: organisations, users and subscriptions."""
    made: Rows = {table: [] for table in TABLES}
    emails: dict[str, str] = {}
    for user in rows["users"]:
        emails.setdefault(user["organisation_id"], user["email"])
    subscriptions = {row["organisation_id"]: row for row in rows["subscriptions"]}
    for organisation in rows["organisations"]:
        if organisation["id"] in subscriptions:
            rng = random.Random(f"billing:{seed}:{organisation['id']}")
            email = emails.get(organisation["id"], f"billing@{organisation['slug']}.example")
            _customer(rng, organisation, email, subscriptions[organisation["id"]], until, made)
    made["billing_events"] = _events(seed, made, until)
    return made


def new_id(rng: random.Random, prefix: str) -> str:
    """An id as Stripe writes them: `sub_` and letters and digits."""
    length = 14 if prefix == "cus" else 24
    return f"{prefix}_{''.join(rng.choices(string.ascii_letters + string.digits, k=length))}"


def add_months(at: datetime, months: int, day: int | None = None) -> datetime:
    """The same day (`day`, where an earlier month was too short for it) some months later, or the month's last one."""
    year, month = divmod(at.year * 12 + at.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return at.replace(year=year, month=month + 1, day=min(day or at.day, last))


def invoice(
    rng: random.Random, subscription: Row, month: Month, number: str | None, previous: datetime, status: str
) -> Row:
    """An invoice in advance for a month. Its `period_start` looks back a period, as Stripe's does; the service's is apart."""
    sent = subscription["collection_method"] == "send_invoice"
    return {
        "id": new_id(rng, "in"), "customer_id": subscription["customer_id"], "subscription_id": subscription["id"],
        "number": number, "status": status, "quantity": month.seats,
        "unit_amount": 0 if subscription["status"] == "trialing" else PRICES[month.plan], "amount_paid": 0,
        "created_at": month.starts, "service_start": month.starts, "service_end": month.ends, "period_start": previous,
        "due_at": month.starts + timedelta(days=NET_DAYS) if sent else None, "paid_at": None,
    }  # fmt: skip


def _customer(
    rng: random.Random, organisation: Row, email: str, product: Row, until: datetime, made: Rows
) -> None:  # fmt: skip
    status = STATUSES.get(product["status"], product["status"])
    customer = {
        "id": new_id(rng, "cus"), "organisation_id": organisation["id"], "name": organisation["name"], "email": email,
        "currency": "usd", "delinquent": status == "past_due", "created_at": product["started_at"],
    }  # fmt: skip
    made["billing_customers"].append(customer)
    # A trial is at most two weeks old: sales starts it anew for those who have not decided.
    began = until - timedelta(days=rng.randint(2, 12)) if status == "trialing" else product["started_at"]
    months = list(_months(rng, product, began, product["cancelled_at"] or until))
    spans = [(0, len(months))]
    if len(months) >= 7 and rng.random() < 0.18:
        left = rng.randint(2, len(months) - 4)
        spans = [(0, left), (min(left + rng.randint(1, 3), len(months) - 1), len(months))]
    prefix = "".join(rng.choices(string.ascii_uppercase + string.digits, k=8))
    for index, (first, last) in enumerate(spans):
        current = index == len(spans) - 1
        _subscription(
            rng, customer, product, months[first:last], status if current else "canceled", prefix, until, made
        )


def _months(rng: random.Random, product: Row, began: datetime, until: datetime) -> Iterator[Month]:
    """The billed months, oldest first. Drawn backwards from what the product has now."""
    starts = [began]
    while (following := add_months(began, len(starts), began.day)) <= until:
        starts.append(following)
    if product["status"] == "trialing":
        yield Month(began, began + timedelta(days=14), product["plan"], product["seats"])
        return
    seats, plan = product["seats"], product["plan"]
    upgraded = rng.randint(1, len(starts)) if rng.random() < 0.25 else None
    drawn: list[tuple[str, int]] = []
    for _ in starts:
        drawn.append((plan, seats))
        if upgraded == len(drawn) and plan in SMALLER:
            plan = SMALLER[plan]
        step = rng.choices(("grew", "shrank", "same"), (30, 10, 60))[0]
        most = max(1, seats // 5)
        seats = max(2, seats - rng.randint(1, most)) if step == "grew" else seats
        seats = seats + rng.randint(1, most) if step == "shrank" else seats
    for index, (starts_at, (plan, seats)) in enumerate(zip(starts, reversed(drawn), strict=True)):
        yield Month(starts_at, add_months(began, index + 1, began.day), plan, seats)


def _subscription(
    rng: random.Random, customer: Row, product: Row, months: list[Month], status: str, prefix: str, until: datetime, made: Rows
) -> None:  # fmt: skip
    newest = months[-1]
    current = status != "canceled" or product["status"] == "cancelled"
    ended = (product["cancelled_at"] or newest.ends if current else newest.ends) if status == "canceled" else None
    subscription = {
        "id": new_id(rng, "sub"), "customer_id": customer["id"], "organisation_id": customer["organisation_id"],
        "status": status, "plan": newest.plan, "quantity": newest.seats, "unit_amount": PRICES[newest.plan],
        "collection_method": "send_invoice" if product["plan"] == "enterprise" else "charge_automatically",
        "created_at": months[0].starts, "current_period_start": newest.starts, "current_period_end": newest.ends,
        "canceled_at": ended, "ended_at": ended, "trial_end": newest.ends if status == "trialing" else None,
    }  # fmt: skip
    made["billing_subscriptions"].append(subscription)
    known = sum(1 for row in made["billing_invoices"] if row["customer_id"] == customer["id"])
    previous = months[0].starts
    for index, month in enumerate(months):
        row = invoice(rng, subscription, month, f"{prefix}-{known + index + 1:04}", previous, "open")
        made["billing_invoices"].append(row)
        previous = month.starts
        last = month is newest
        if last and status == "past_due":
            continue
        if last and status == "canceled" and rng.random() < 0.25:
            row["status"] = rng.choice(("uncollectible", "void"))
            continue
        wait = timedelta(days=rng.uniform(4, 28)) if row["due_at"] else timedelta(minutes=rng.randint(60, 75))
        paid = (month.starts + wait).replace(microsecond=0)
        if paid <= until:
            row |= {"status": "paid", "paid_at": paid, "amount_paid": row["quantity"] * row["unit_amount"]}


def _events(seed: int, made: Rows, until: datetime) -> list[Row]:
    """What the last 30 days told, oldest first."""
    told = [(row["created_at"], "customer.created", row["id"]) for row in made["billing_customers"]]
    for row in made["billing_subscriptions"]:
        told.append((row["created_at"], "customer.subscription.created", row["id"]))
        if row["current_period_start"] > row["created_at"]:
            told.append((row["current_period_start"], "customer.subscription.updated", row["id"]))
        if row["ended_at"]:
            told.append((row["ended_at"], "customer.subscription.deleted", row["id"]))
    for row in made["billing_invoices"]:
        told.append((row["created_at"], "invoice.created", row["id"]))
        if row["paid_at"]:
            told.append((row["paid_at"], "invoice.paid", row["id"]))
    rng = random.Random(f"billing events:{seed}")
    recent = sorted(event for event in told if until - timedelta(days=EVENT_DAYS) <= event[0] <= until)
    return [{"id": new_id(rng, "evt"), "type": kind, "object_id": key, "created_at": at} for at, kind, key in recent]
