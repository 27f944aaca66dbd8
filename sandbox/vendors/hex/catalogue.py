"""What the company itself has in this Hex workspace; generated projects come on top (`content.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.config import PROJECT

RUN_WHEN_LANDED = "Run when its data lands"
"""The category that marks a project whose runs the platform starts."""


@dataclass(frozen=True)
class Table:
    """A table as a project's SQL spells it, and the `dataset.table` that this means; None for what is not in the warehouse."""

    spelling: str
    reads: str | None


@dataclass(frozen=True)
class Project:
    id: str
    title: str
    tables: tuple[Table, ...]
    description: str | None = None
    owner: str = ""
    """An e-mail address; empty where Hex knows of none."""
    categories: tuple[str, ...] = ()
    created_at: str = "2026-01-12T10:00:00.000Z"
    edited_at: str = "2026-02-02T15:30:00.000Z"
    published_at: str | None = "2026-02-02T15:31:00.000Z"
    archived_at: str | None = None
    trashed_at: str | None = None


def plainly(*tables: str) -> tuple[Table, ...]:
    """Tables spelled as BigQuery's console copies them."""
    return tuple(Table(f"`{PROJECT}.{table}`", table) for table in tables)


PROJECTS = (
    Project(
        "0195f0c1-5d1e-7a3b-8c11-0242ac120001",
        "Churn analysis",
        (
            *plainly("finance.mrr_movements", "snapshots.stripe_subscriptions_history", "core.organisations"),
            Table("core.incidents", "core.incidents"),
            Table("support.tickets", "support.tickets"),
        ),
        description="Why customers leave, and what those who are about to have in common.",
        owner="finance@example.com",
        categories=("Finance",),
    ),
    Project(
        "0195f0c1-5d1e-7a3b-8c11-0242ac120002",
        "Weekly reliability review",
        plainly("data_platform.asset_reliability", "data_platform.incident_response", "core.incidents"),
        description="What broke last week, for how long, and who was paged for it.",
        owner="data@example.com",
        categories=(RUN_WHEN_LANDED,),
    ),
)
