"""A manifest of dbt for a company's billing: Stripe's tables as Fivetran lands them now, and models that read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.config import PROJECT

STRIPE: Mapping[str, dict[str, str]] = {
    "customer": {"id": "string", "email": "string", "metadata": "json", "is_deleted": "bool"},
    "price": {"id": "string", "unit_amount": "int64", "currency": "string"},
    "subscription_history": {
        "id": "string", "customer_id": "string", "status": "string", "canceled_at": "timestamp", "_fivetran_active": "bool",
    },
    "subscription_item": {
        "subscription_id": "string", "plan_id": "string", "quantity": "int64", "current_period_end": "timestamp",
    },
}  # fmt: skip
OLD_STRIPE: Mapping[str, dict[str, str]] = {
    "customer": {"id": "STRING", "email": "STRING", "metadata_organisation_id": "STRING", "_fivetran_deleted": "BOOL"},
    "plan": {"id": "STRING", "amount": "INT64", "currency": "STRING"},
    "subscription": {"id": "STRING", "customer_id": "STRING", "status": "STRING", "current_period_end": "TIMESTAMP"},
    "subscription_item": {"subscription_id": "STRING", "plan_id": "STRING", "quantity": "INT64"},
}


def billing() -> dict[str, Any]:
    subscriptions = """
        select history.id, history.status, items.quantity, items.current_period_end, prices.unit_amount
        from history where _fivetran_active
    """
    nodes = (
        model("stg_stripe__customers", "select id, email, metadata, is_deleted", ["source.p.stripe.customer"])
        | model(
            "stg_stripe__subscriptions",
            subscriptions,
            [f"source.p.stripe.{name}" for name in ("price", "subscription_history", "subscription_item")],
        )
        | model(
            "subscriptions", "select * from s", ["model.p.stg_stripe__subscriptions", "model.p.stg_stripe__customers"]
        )
        | model("mrr_by_month", "select * from s", ["model.p.subscriptions"])
        | model("unrelated", "select 1 as one", [])
    )
    return {"sources": source("stripe", "stripe", STRIPE), "nodes": nodes, "macros": {}}


def source(name: str, dataset: str, tables: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    return {
        f"source.p.{name}.{table}": {
            "database": PROJECT, "schema": dataset, "identifier": table, "source_name": name,
            "resource_type": "source", "name": table, "original_file_path": f"models/_{name}.yml",
            "columns": {column: {"name": column, "data_type": kind} for column, kind in columns.items()},
        }
        for table, columns in tables.items()
    }  # fmt: skip


def model(name: str, sql: str, parents: list[str]) -> dict[str, Any]:
    node = {
        "resource_type": "model", "package_name": "p", "name": name, "database": PROJECT, "schema": "core", "raw_code": sql,
        "depends_on": {"nodes": parents, "macros": []}, "config": {"materialized": "table", "schema": "core"},
    }  # fmt: skip
    return {f"model.p.{name}": node}
