from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from googlesql import Analyzer
from orchestration.dbt_loop.check_consumers import consumers
from orchestration.dbt_loop.check_sql import Declared, Judge, Node

USERS = Node(
    "source.users", "source", "core.users", "s.yml", table="acme.core.users",
    columns=(Declared("id", "string"), Declared("plan", "string"), Declared("seats", "int64")),
)  # fmt: skip


def saved(folder: Path, name: str, state: Any) -> Path:
    stamped = {"read_at": "2026-11-30T12:00:00Z", "source": "https://api.example.com", "state": state}
    (folder / f"{name}.json").write_text(json.dumps(stamped))
    return folder


def dashboard(*queries: str) -> dict[str, Any]:
    datasets = [{"id": str(n), "name": str(n), "query": query} for n, query in enumerate(queries)]
    return {"dashboards": [{"slug": "load", "dashboard": {"embed_id": "e", "name": "Load"}, "datasets": datasets}]}


def outcome(state: Path) -> tuple[list[str], list[str]]:
    judge = Judge(Analyzer(), "acme")
    judge.judge_nodes([USERS])
    for consumer in consumers(state):
        judge.judge_consumer(consumer)
    return [one.message for one in judge.verdict.rejected], [one.reason for one in judge.verdict.not_judged]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("select id from core.users where plan = '{{customer_id}}' [[ and id = {{id}} ]]", None),
        ("select id from core.users limit {{rows}}", "the type of a variable is not known"),
        ("select id from core.users where seats > {{least}}", "the type of a variable is not known"),
        ("select {{column.raw()}} from core.users", "a variable of it is pasted"),
    ],
)
def test_what_explo_leaves_open_is_not_judged(tmp_path: Path, query: str, reason: str | None) -> None:
    rejected, not_judged = outcome(saved(tmp_path, "explo", dashboard(query)))
    assert rejected == []
    assert [one[: len(reason or "")] for one in not_judged] == ([reason] if reason else [])


def test_a_removed_column_is_rejected_in_an_optional_clause_too(tmp_path: Path) -> None:
    query = "select id from core.users where plan = '{{customer_id}}' [[ and email = {{email}} ]]"
    assert outcome(saved(tmp_path, "explo", dashboard(query))) == (["Unrecognized name: email"], [])


@pytest.mark.parametrize(
    ("model", "rejected", "not_judged"),
    [
        ({"table": {"name": "acme.core.users"}, "primaryKey": "id"}, [], 0),
        ({"table": {"name": "acme.core.users"}, "primaryKey": "email"}, ["Unrecognized name: email"], 0),
        ({"dbt": {"name": "users", "schema": "core"}}, [], 0),
        ({}, [], 1),
    ],
    ids=["table", "table without its key", "dbt", "another kind"],
)
def test_each_kind_of_hightouch_model(
    tmp_path: Path, model: dict[str, Any], rejected: list[str], not_judged: int
) -> None:
    syncs = [{"id": 1, "slug": "sync", "modelId": 7, "destinationId": 3}]
    state = {"syncs": syncs, "models": [{"id": 7, "slug": "m", "name": "M", **model}], "destinations": []}
    found = outcome(saved(tmp_path, "hightouch", state))
    assert (found[0], len(found[1])) == (rejected, not_judged)


def test_a_state_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    rejected, (reason,) = outcome(saved(tmp_path, "omni", {"documents": [{"nothing": "known"}]}))
    assert rejected == []
    assert "run `dataplatform refresh`" in reason


def test_the_state_of_a_component_that_was_taken_away_is_not_read(tmp_path: Path) -> None:
    state = saved(tmp_path, "explo", dashboard("select id from core.users"))
    assert len(list(consumers(state, {"explo.json"}))) == 1
    assert list(consumers(state, {"hightouch.json"})) == []
