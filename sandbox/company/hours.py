"""An hour of the company's billing and support: who renews and pays, who changes seats, who writes to the desk and who is answered."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sandbox.company import billing, support
from sandbox.company.billing import Month
from sandbox.company.history import PRICES, Row
from sandbox.company.office import Connection, load

SUBSCRIPTION_OF = "select * from company_state.billing_subscriptions where id = %s"


@dataclass
class Counts:
    inserted: int = 0
    updated: int = 0
    deleted: int = 0


@dataclass
class Ticked:
    """What changed, by table of the product database and by table of the services around it, and in which organisations."""

    now: datetime | None = None
    tables: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))
    services: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))
    organisations: set[str] = field(default_factory=set)


class OfficeHour:
    """The hour that ends at `now`. What it changes is of the organisations that it adds to the result."""

    def __init__(self, connection: Connection, seed: int, now: datetime, result: Ticked) -> None:
        self._connection, self._now, self._result = connection, now, result
        # Its own random numbers, so that the product's hours are drawn as if there were no billing.
        self._rng = random.Random(f"office:{seed}:{now.isoformat()}")
        self._billed: set[str] = set()

    def bill(self) -> None:
        """What is due by the clock, of every organisation: renewals, invoices that leave their draft, invoices that are paid."""
        for subscription in self._all(
            "select * from company_state.billing_subscriptions"
            " where status <> 'canceled' and current_period_end <= %s order by current_period_end, id",
            self._now,
        ):
            self._renew(subscription)
        for invoice in self._all(
            "select * from company_state.billing_invoices where status = 'draft' and created_at <= %s order by created_at, id",
            self._now - timedelta(hours=1),
        ):
            self._finalise(invoice)
        for invoice in self._all(
            "select * from company_state.billing_invoices where status = 'open' and due_at is not null and created_at <= %s"
            " order by created_at, id",
            self._now - timedelta(days=20),
        ):
            self._pay(invoice)

    def visit(self, organisation: str) -> None:
        """What one of the hour's organisations does by itself."""
        found = self._all(
            "select * from company_state.billing_subscriptions where organisation_id = %s and status <> 'canceled'"
            " order by created_at desc limit 1",
            organisation,
        )
        for subscription in found:
            if organisation in self._billed:
                continue
            if subscription["status"] == "past_due" and self._rng.random() < 0.3:
                for invoice in self._all(
                    "select * from company_state.billing_invoices where subscription_id = %s and status = 'open' order by id",
                    subscription["id"],
                ):
                    self._pay(invoice)
            elif subscription["status"] == "active" and self._rng.random() < 0.4:
                self._change_seats(subscription)
        self._write_to_the_desk(support.organization_id(organisation))

    def _renew(self, subscription: Row) -> None:
        starts, previous = subscription["current_period_end"], subscription["current_period_start"]
        ends = billing.add_months(starts, 1, subscription["created_at"].day)
        if subscription["status"] == "trialing":
            subscription["status"] = "active"
            price = PRICES[subscription["plan"]] * subscription["quantity"]
            self._change_product(subscription, status="active", mrr_cents=price)
        self._change("billing_subscriptions", subscription["id"], status=subscription["status"],
                     current_period_start=starts, current_period_end=ends)  # fmt: skip
        self._tell("customer.subscription.updated", subscription["id"], starts)
        month = Month(starts, ends, subscription["plan"], subscription["quantity"])
        invoice = billing.invoice(self._rng, subscription, month, None, previous, "draft")
        self._insert("billing_invoices", invoice)
        self._tell("invoice.created", invoice["id"], starts)
        self._bills(subscription)

    def _finalise(self, invoice: Row) -> None:
        [subscription] = self._all(SUBSCRIPTION_OF, invoice["subscription_id"])
        [newest] = self._all(
            "select max(number) as number from company_state.billing_invoices where customer_id = %s",
            invoice["customer_id"],
        )
        prefix, _, count = (newest["number"] or f"{invoice['customer_id'][4:12].upper()}-0").partition("-")
        self._change("billing_invoices", invoice["id"], number=f"{prefix}-{int(count) + 1:04}", status="open")
        self._tell("invoice.finalized", invoice["id"])
        self._bills(subscription)
        if invoice["due_at"] is not None:
            return
        if self._rng.random() < 0.95:
            self._pay(invoice)
            return
        self._tell("invoice.payment_failed", invoice["id"])
        self._owes(subscription, "past_due")

    def _pay(self, invoice: Row) -> None:
        amount = invoice["quantity"] * invoice["unit_amount"]
        self._change("billing_invoices", invoice["id"], status="paid", paid_at=self._now, amount_paid=amount)
        self._tell("invoice.paid", invoice["id"])
        [subscription] = self._all(SUBSCRIPTION_OF, invoice["subscription_id"])
        if subscription["status"] == "past_due":
            self._owes(subscription, "active")
        self._bills(subscription)

    def _owes(self, subscription: Row, status: str) -> None:
        self._change("billing_subscriptions", subscription["id"], status=status)
        self._tell("customer.subscription.updated", subscription["id"])
        self._change("billing_customers", subscription["customer_id"], delinquent=status == "past_due")
        self._tell("customer.updated", subscription["customer_id"])
        self._change_product(subscription, status=status)

    def _change_seats(self, subscription: Row) -> None:
        """More or fewer seats from now on; the next invoice bills them."""
        most = max(1, subscription["quantity"] // 6)
        step = self._rng.randint(1, most) * self._rng.choices((1, -1), (7, 3))[0]
        seats = max(2, subscription["quantity"] + step)
        if seats == subscription["quantity"]:
            return
        self._change("billing_subscriptions", subscription["id"], quantity=seats)
        self._tell("customer.subscription.updated", subscription["id"])
        self._change_product(subscription, seats=seats, mrr_cents=PRICES[subscription["plan"]] * seats)

    def _bills(self, subscription: Row) -> None:
        self._billed.add(subscription["organisation_id"])
        self._result.organisations.add(subscription["organisation_id"])

    def _tell(self, kind: str, key: str, at: datetime | None = None) -> None:
        event = {"id": billing.new_id(self._rng, "evt"), "type": kind, "object_id": key, "created_at": at or self._now}
        load(self._connection, "billing_events", [event])

    def _write_to_the_desk(self, organization: int) -> None:
        waiting = self._all(
            "select * from company_state.support_tickets where organization_id = %s"
            " and status in ('new', 'open', 'pending', 'hold') order by updated_at, id limit 2",
            organization,
        )
        for ticket in waiting:
            self._answer(ticket)
        for ticket in self._all(
            "select * from company_state.support_tickets where organization_id = %s and status = 'solved' and updated_at <= %s",
            organization, self._now - timedelta(days=4),
        ):  # fmt: skip
            self._update_ticket(ticket, support.SYSTEM, status="closed")
        writers = self._all(
            "select id from company_state.support_users where organization_id = %s order by id", organization
        )
        if writers and self._rng.random() < 0.5:
            [newest] = self._all(
                "select coalesce(max(id), 0) %% 100000 as n from company_state.support_tickets where organization_id = %s",
                organization,
            )
            created = self._now - timedelta(minutes=self._rng.randint(5, 55))
            made = support.ticket(self._rng, organization, self._rng.choice(writers)["id"], newest["n"] + 1, created)
            tables = ("support_tickets", "support_comments", "support_changes")
            for table, row in zip(tables, made, strict=True):
                self._insert(table, row)

    def _answer(self, ticket: Row) -> None:
        what = self._rng.choices(("answers", "solves", "asks", "waits"), (40, 35, 10, 15))[0]
        if what == "waits":
            return
        [said] = self._all(
            "select count(*) as n from company_state.support_comments where ticket_id = %s", ticket["id"]
        )
        helper = ticket["assignee_id"] or support.agent(self._rng)
        author = ticket["requester_id"] if what == "asks" else helper
        body = {"answers": "Thank you, we are looking into it.", "solves": "This is fixed now.", "asks": "Any news?"}[
            what
        ]
        self._insert("support_comments", support.comment(ticket, said["n"], author, body, self._now))
        status = {"answers": "pending", "solves": "solved", "asks": "open"}[what]
        self._update_ticket(ticket, author, status=status, assignee_id=helper)

    def _update_ticket(self, ticket: Row, author: int, **values: Any) -> None:
        [known] = self._all(
            "select count(*) as n from company_state.support_changes where ticket_id = %s", ticket["id"]
        )
        for change in support.update(ticket, known["n"], author, self._now, **values):
            self._insert("support_changes", change)
        self._change("support_tickets", ticket["id"], **values, updated_at=self._now)

    def _change_product(self, subscription: Row, **values: Any) -> None:
        changes = values | {"updated_at": self._now}
        assignments = ", ".join(f"{column} = %s" for column in changes)
        statement = f"update subscriptions set {assignments} where organisation_id = %s"
        done = self._connection.execute(statement.encode(), [*changes.values(), subscription["organisation_id"]])
        self._result.tables["subscriptions"].updated += done.rowcount

    def _change(self, table: str, key: str | int, **values: Any) -> None:
        assignments = ", ".join(f"{column} = %s" for column in values)
        moved = ", change = nextval('company_state.support_change')" if table in support.TABLES else ""
        statement = f"update company_state.{table} set {assignments}{moved} where id = %s"
        self._connection.execute(statement.encode(), [*values.values(), key])
        self._result.services[table].updated += 1

    def _insert(self, table: str, row: Row) -> None:
        load(self._connection, table, [row])
        self._result.services[table].inserted += 1

    def _all(self, statement: str, *values: Any) -> list[Row]:
        return self._connection.execute(statement.encode(), list(values)).fetchall()
