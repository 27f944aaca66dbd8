from __future__ import annotations

import pytest

from googlesql import Analyzer, Parameter
from orchestration.dbt_loop.check_sql import Consumer, Declared, Judge, Node, Verdict, in_order, tally

PROJECT = "acme"
USERS = Node(
    "source.users",
    "source",
    "product.users",
    "sources.yml",
    table="acme.raw.users",
    columns=(Declared("id", "string"), Declared("age", "integer"), Declared("seen_at", "timestamp")),
)


def model(name: str, sql: str, *reads: str, **more: object) -> Node:
    return Node(f"model.{name}", "model", name, f"{name}.sql", sql, f"acme.core.{name}", reads, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return Analyzer()


def judged(analyzer: Analyzer, *nodes: Node, consumers: tuple[Consumer, ...] = ()) -> Verdict:
    judge = Judge(analyzer, PROJECT)
    judge.judge_nodes(nodes)
    for consumer in consumers:
        judge.judge_consumer(consumer)
    return judge.verdict


def messages(verdict: Verdict) -> list[tuple[str, str]]:
    return [(one.node, one.message) for one in verdict.rejected]


def test_a_model_is_analyzed_with_what_the_models_upstream_return(analyzer: Analyzer) -> None:
    last = model("last", "select half from `acme`.`core`.`middle`", "model.middle")
    middle = model("middle", "select age / 2 as half from acme.raw.users", "source.users")
    verdict = judged(analyzer, last, middle, USERS)
    assert (verdict.rejected, verdict.not_judged, verdict.analyzed) == ([], [], 2)


@pytest.mark.parametrize(
    ("sql", "message", "place"),
    [
        ("select\n  strftime(seen_at) as day\nfrom acme.raw.users", "Function not found: strftime", (2, 3)),
        ("select\n  nam\nfrom acme.raw.users", "Unrecognized name: nam", (2, 3)),
        ("select id\nfrom acme.raw.users as rows", "Unexpected keyword ROWS", (2, 24)),
        ("select id, id\nfrom acme.raw.users", "duplicate name id", None),
        ("select id + 1 as n\nfrom acme.raw.users", "No matching signature for operator +", (1, 8)),
    ],
)
def test_a_rejection_has_the_position_in_the_compiled_sql(
    analyzer: Analyzer, sql: str, message: str, place: tuple[int, int] | None
) -> None:
    (rejection,) = judged(analyzer, USERS, model("broken", sql, "source.users")).rejected
    assert message in rejection.message
    assert place is None or (rejection.line, rejection.column) == place


def test_a_table_is_clustered_by_a_column_that_it_has(analyzer: Analyzer) -> None:
    broken = model("broken", "select id from acme.raw.users", "source.users", cluster_by=("organisation_id",))
    ((_, message),) = messages(judged(analyzer, USERS, broken))
    assert "organisation_id" in message


def test_what_reads_a_rejected_model_is_not_judged_and_its_contract_stands_for_it(analyzer: Analyzer) -> None:
    contract = (Declared("id", "string"),)
    verdict = judged(
        analyzer,
        USERS,
        model("broken", "select nam as id from acme.raw.users", "source.users"),
        model("promised", "select nam as id from acme.raw.users", "source.users", contract=True, columns=contract),
        model("after", "select id from acme.core.broken", "model.broken"),
        model("kept", "select id from acme.core.promised", "model.promised"),
    )
    assert [one.node for one in verdict.rejected] == ["model.broken", "model.promised"]
    assert [(one.node, one.reason) for one in verdict.not_judged] == [
        ("model.after", "`broken` upstream was rejected or not judged")
    ]


def test_a_contract_is_compared_with_what_the_sql_returns(analyzer: Analyzer) -> None:
    columns = (Declared("id", "INT64"), Declared("gone", "string"), Declared("age", "int64"))
    sql = "select id, age, seen_at from acme.raw.users"
    assert messages(
        judged(analyzer, USERS, model("promised", sql, "source.users", contract=True, columns=columns))
    ) == [
        ("model.promised", "column `id` is declared as INT64, and the model's SQL returns STRING"),
        ("model.promised", "column `gone` is declared here, and the model's SQL does not return it"),
        (
            "model.promised",
            "column `seen_at` (TIMESTAMP) is returned by the model's SQL, and the contract does not declare it",
        ),
    ]


def test_without_a_contract_only_declared_types_are_compared(analyzer: Analyzer) -> None:
    columns = (Declared("id", None), Declared("described", None), Declared("age", "string"))
    sql = "select id, age, seen_at from acme.raw.users"
    assert messages(judged(analyzer, USERS, model("plain", sql, "source.users", columns=columns))) == [
        ("model.plain", "column `age` is declared as STRING, and the model's SQL returns INT64")
    ]


def test_a_source_without_types_is_a_reason_and_a_type_that_is_none_a_fault(analyzer: Analyzer) -> None:
    bare = Node("source.bare", "source", "raw.bare", "s.yml", table="acme.raw.bare", columns=(Declared("id", None),))
    wrong = Node(
        "source.wrong", "source", "raw.wrong", "s.yml", table="acme.raw.wrong", columns=(Declared("n", "FLOAT"),)
    )
    verdict = judged(
        analyzer,
        bare,
        wrong,
        model("one", "select id from acme.raw.bare", "source.bare"),
        model("two", "select n from acme.raw.wrong", "source.wrong"),
    )
    assert [(one.node, one.about) for one in verdict.rejected] == [("source.wrong", "n")]
    assert [one.reason for one in verdict.not_judged] == [
        "the source `raw.bare` declares no `data_type` for its columns",
        "`raw.wrong` declares a type that BigQuery does not have",
    ]


def test_an_incremental_model_is_analyzed_as_a_later_run_has_it_too(analyzer: Analyzer) -> None:
    sql = "select id, seen_at from acme.raw.users"
    later = f"{sql}\nwhere seen_at > (select max(att) from acme.core.events)"
    verdict = judged(analyzer, USERS, model("events", sql, "source.users", incremental_sql=later))
    (rejection,) = verdict.rejected
    assert (rejection.line, rejection.column, rejection.incremental) == (2, 29, True)
    assert "att" in rejection.message


def test_a_test_is_analyzed_as_dbt_wraps_it(analyzer: Analyzer) -> None:
    test = Node(
        "test.t", "test", "t", "t.sql", "select id\nfrom acme.raw.users", reads=("source.users",), fail_calc="sum(n)"
    )
    ((_, message),) = messages(judged(analyzer, USERS, test))
    assert "Unrecognized name: n" in message


@pytest.mark.parametrize("project", ["", "acme.", "another-project."])
def test_a_consumer_is_judged_whatever_project_it_names(analyzer: Analyzer, project: str) -> None:
    people = model("people", "select id from acme.raw.users", "source.users")
    consumers = (
        Consumer(
            "c/1",
            "Fine",
            "c.json",
            f"select id from `{project}core.people` where id = @tenant",
            (Parameter("tenant", "STRING"),),
        ),
        Consumer("c/2", "Removed column", "c.json", f"select\n email from `{project}core.people`"),
        Consumer("c/3", "Removed model", "c.json", f"select id from `{project}core.persons`"),
        Consumer("c/4", "Elsewhere", "c.json", f"select id from `{project}sheets.budget`"),
        Consumer("c/5", "No SQL", "c.json", "", problem="it has no SQL"),
    )
    verdict = judged(analyzer, USERS, people, consumers=consumers)
    assert [(one.node, one.line) for one in verdict.rejected] == [("c/2", 2), ("c/3", None)]
    assert [one.node for one in verdict.not_judged] == ["c/4", "c/5"]


def test_only_what_is_selected_is_reported(analyzer: Analyzer) -> None:
    judge = Judge(analyzer, PROJECT)
    broken = model("broken", "select nam as id from acme.raw.users", "source.users")
    judge.judge_nodes(
        [USERS, broken, model("fine", "select id from acme.raw.users", "source.users")], frozenset({"model.fine"})
    )
    assert (judge.verdict.analyzed, judge.verdict.rejected) == (1, [])


def test_nodes_come_after_those_that_they_read() -> None:
    nodes = [model("c", "", "model.b", "model.a"), model("b", "", "model.a"), model("a", "")]
    assert [node.name for node in in_order(nodes)] == ["a", "b", "c"]


def test_reasons_are_counted() -> None:
    assert tally(["b", "a", "b"]) == {"b": 2, "a": 1}
