"""Tables and columns that models read, against what has landed: decisions on manifests and schemas, without a warehouse."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.doctor.landed_columns import compare, layouts, source_tables
from tests.orchestration.doctor.billing import STRIPE, billing, model, source


def test_the_models_that_read_a_column_are_named_with_those_below_them() -> None:
    [item, history] = [table for table in source_tables(billing())["stripe"] if table.name.startswith("subscription_")][
        ::-1
    ]
    assert (item.name, history.name) == ("subscription_item", "subscription_history")
    assert history.affected() == "stg_stripe__subscriptions, and downstream mrr_by_month, subscriptions"
    assert history.affected("status") == history.affected()
    assert history.affected("canceled_at") == "", "it is declared, and no model reads it"
    assert (
        item.affected("current_period_end") == "stg_stripe__subscriptions, and downstream mrr_by_month, subscriptions"
    )


def test_a_table_with_all_that_models_read_is_well() -> None:
    found = {name: {**columns, "more": "STRING"} for name, columns in STRIPE.items()}
    assert compare(source_tables(billing())["stripe"], found).status == "ok"
    del found["subscription_history"]["canceled_at"]
    assert compare(source_tables(billing())["stripe"], found).status == "ok"


def test_another_type_is_a_warning_and_another_name_of_the_same_is_none() -> None:
    found = {name: dict(columns) for name, columns in STRIPE.items()}
    found["customer"] |= {"metadata": "STRING", "id": "STRING(20)"}
    assert compare(source_tables(billing())["stripe"], found).status == "ok"
    found["price"]["unit_amount"] = "FLOAT64"
    outcome = compare(source_tables(billing())["stripe"], found)
    assert (outcome.status, outcome.found) == (
        "warning",
        "`stripe.price.unit_amount` is FLOAT64, and is declared as int64",
    )


def test_columns_that_a_macro_reads_are_found_in_the_macro_and_not_in_comments() -> None:
    manifest = billing()
    node = manifest["nodes"]["model.p.stg_stripe__customers"]
    node["raw_code"] = "select id, {{ not_deleted() }} from {{ source('stripe', 'customer') }} -- metadata {# email #}"
    node["depends_on"]["macros"] = ["macro.p.not_deleted", "macro.dbt.run_query"]
    manifest["macros"] = {
        "macro.p.not_deleted": {
            "package_name": "p", "macro_sql": "{{ p() }}", "depends_on": {"macros": ["macro.p.p", "macro.p.not_deleted"]},
        },
        "macro.p.p": {"package_name": "p", "macro_sql": "not coalesce(is_deleted, false)", "depends_on": {"macros": []}},
        "macro.dbt.run_query": {"package_name": "dbt", "macro_sql": "email", "depends_on": {"macros": []}},
    }  # fmt: skip
    [customer] = [table for table in source_tables(manifest)["stripe"] if table.name == "customer"]
    assert customer.readers == {"stg_stripe__customers": {"id", "is_deleted"}}
    # What dbt has compiled is read in the place of the text with macros.
    node["compiled_code"] = "select id, email from `p`.`stripe`.`customer`"
    [customer] = [table for table in source_tables(manifest)["stripe"] if table.name == "customer"]
    assert customer.readers == {"stg_stripe__customers": {"id", "email"}}


def test_what_segment_has_not_created_yet_is_a_warning() -> None:
    manifest = {
        "sources": source("segment_website", "website", {"signed_up": {"id": "string", "plan": "string", "seats": "int64"}, "pages": {"id": "string"}}),
        "nodes": model("stg_segment_website__signed_up", "select id, plan, seats", ["source.p.segment_website.signed_up"])
        | model("stg_segment_website__pages", "select id", ["source.p.segment_website.pages"]),
        "macros": {},
    }  # fmt: skip
    outcome = compare(source_tables(manifest)["segment_website"], {"signed_up": {"id": "STRING"}})
    assert outcome.status == "warning"
    assert outcome.found == (
        "table `website.pages` is not there yet: stg_segment_website__pages;"
        " columns `plan`, `seats` of `website.signed_up` are not there yet: stg_segment_website__signed_up"
    )


@pytest.mark.parametrize(
    ("source_name", "table", "column", "found", "words"),
    [
        ("stripe", "price", None, {"plan": {}}, "`plan`, `price` or both"),
        ("acme_stripe_eu", "subscription", None, {"subscription_history": {}}, "since February 2022"),
        ("stripe", "price", None, {"customer": {}}, None),
        ("product", "price", None, {"plan": {}}, None),
        ("stripe", "customer", "metadata", {"customer": {"metadata_organisation_id": ""}}, "as one column `metadata`"),
        ("stripe", "customer", "metadata_plan", {"customer": {"metadata": ""}}, "as one column `metadata`"),
        ("stripe", "customer", "metadata", {"customer": {"name": ""}, "invoice": {"metadata_a": ""}}, None),
        ("stripe", "subscription_item", "current_period_end", {
            "subscription_item": {}, "subscription_history": {"current_period_end": ""}}, "31 July 2025"),
        ("stripe", "subscription_history", "current_period_end", {
            "subscription_history": {}, "subscription_item": {"current_period_end": ""}}, "31 July 2025"),
        ("stripe", "invoice", "paid_at", {"invoice": {"status_transitions_paid_at": ""}}, "`status_transitions_paid_at`"),
        ("zendesk", "ticket", "solved_at", {"ticket": {}}, "`ticket_field_history`"),
        ("salesforce", "account", "_fivetran_deleted", {"account": {"is_deleted": ""}}, "the source's own `is_deleted`"),
        ("salesforce", "account", "organisation_id_c", {"account": {"organisation_id__c": ""}}, "`organisation_id_c`"),
    ],
)  # fmt: skip
def test_layouts_are_recognized_by_what_is_there_instead(
    source_name: str, table: str, column: str | None, found: dict[str, Any], words: str | None
) -> None:
    notes = [layout.note for layout in layouts() if layout.explains(source_name, table, column, found)]
    assert [words in note for note in notes] == [True] if words else notes == []
