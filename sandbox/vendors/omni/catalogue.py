"""What the company itself has in this Omni organisation; generated documents come on top (`content.py`)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

NAMESPACE = uuid.UUID("5f0c8b7e-1d0a-4c52-9a57-0d6f0e6b0001")
CONNECTION = "c0f12353-4817-4398-bcc0-d501e6dd2f64"
SCHEMA_MODEL = "bcf0cffd-ec1b-44d5-945a-a261ebe407fc"
SHARED_MODEL = "3fb59130-54fc-4848-832f-d22f61933485"
MADE = "2026-01-12T10:00:00.000Z"


@dataclass(frozen=True)
class User:
    id: str
    email: str
    name: str


@dataclass(frozen=True)
class Query:
    """A query of a view, or with `sql` one that somebody has written by hand. `fields` are `view.field`."""

    name: str
    table: str | None
    fields: tuple[str, ...] = ()
    sql: str | None = None
    bare: bool = False
    """Whether Omni gives no definition of it at all."""

    @classmethod
    def of(cls, name: str, table: str, *columns: str) -> Query:
        """A query of some columns of `schema.table`."""
        view = view_of(table)
        return cls(name, view, tuple(f"{view}.{column}" for column in columns))


@dataclass(frozen=True)
class Document:
    identifier: str
    name: str
    owner: str
    """An e-mail address."""
    queries: tuple[Query, ...]
    folder: str | None = "Company"
    labels: tuple[str, ...] = ()
    description: str | None = None
    has_dashboard: bool = True
    updated_at: str | None = "2026-02-02T15:30:00.000Z"
    deleted: bool = False


def view_of(table: str) -> str:
    """What Omni calls the view of a `schema.table`."""
    return table.replace(".", "__", 1)


def user_id(email: str) -> str:
    return str(uuid.uuid5(NAMESPACE, email))


def user(email: str, name: str) -> User:
    return User(user_id(email), email, name)


USERS = (
    user("revops@example.com", "Revenue operations"),
    user("finance@example.com", "Finance"),
    user("support@example.com", "Customer support"),
    user("data@example.com", "Data"),
)

DOCUMENTS = (
    Document(
        "00a7c1d2", "Account health", "revops@example.com",
        (
            Query.of("Accounts by health", "sales.account_health", "health_band", "count"),
            Query.of(
                "Accounts to call", "sales.account_health",
                "organisation_name", "health_score", "incidents_28d", "open_tasks", "mrr",
            ),
        ),
        labels=("Verified",),
        description="Where account managers look before they call a customer.",
    ),
    Document(
        "00b3e94f", "Sales pipeline", "revops@example.com",
        (
            Query.of("Open pipeline by stage", "sales.pipeline", "stage_name", "weighted_amount", "is_open"),
            Query.of("Overdue opportunities", "sales.pipeline", "opportunity_name", "owner_name", "amount", "closes_on", "is_overdue"),
        ),
        description="What sales goes through on Mondays, and forecasts from.",
    ),
    Document(
        "00c5520b", "Finance overview", "finance@example.com",
        (
            Query.of(
                "How recurring revenue moved", "finance.mrr_movements",
                "revenue_month[month]", "new_mrr", "expansion_mrr", "contraction_mrr", "churned_mrr", "closing_mrr",
            ),
            Query.of("What customers owe", "finance.invoices", "invoice_status", "amount_due", "amount_outstanding", "due_at[date]"),
        ),
        folder="Board & finance",
        description="Recurring revenue and how it moved, and what customers still owe.",
    ),
    Document(
        "00d81e66", "Support overview", "support@example.com",
        (
            Query.of("Tickets by week", "support.support_load_by_week", "created_week", "priority", "tickets_created", "tickets_resolved"),
            Query.of("Slowest replies", "support.tickets", "subject", "assignee_name", "first_reply_minutes", "created_at[date]"),
        ),
        description="How much the support desk has to do, and how fast it answers.",
    ),
)  # fmt: skip
"""Each reads the marts of its exposure in dbt's project, by columns that these have; `count` is a measure that Omni gives every view."""
