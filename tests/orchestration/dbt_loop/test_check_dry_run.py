from __future__ import annotations

import json

import pytest
from google.api_core.exceptions import Forbidden
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from googlesql import Parameter
from orchestration.dbt_loop import check_dry_run
from orchestration.dbt_loop.check_sql import Rejection, Statement
from tests.orchestration.wire import Wire, reply, wire

DONE = {
    "jobReference": {"projectId": "acme", "location": "EU"},
    "status": {"state": "DONE"},
    "configuration": {"dryRun": True, "jobType": "QUERY"},
    "statistics": {"query": {"totalBytesProcessed": "0", "referencedTables": []}},
}


def client(playing: Wire) -> bigquery.Client:
    return bigquery.Client(
        project="acme", location="EU", credentials=AnonymousCredentials(), client_options={"api_endpoint": playing.url}
    )


def refusal(status: int, reason: str, message: str) -> bytes:
    error = {"message": message, "domain": "global", "reason": reason}
    return reply(status, {"error": {"code": status, "message": message, "errors": [error]}})


def test_what_bigquery_rejects_is_a_rejection_in_the_compiled_sql() -> None:
    answer = refusal(400, "invalidQuery", "Unrecognized name: nam at [4:8]")
    done: list[int] = []
    with wire(answer) as playing:
        verdict = check_dry_run.judge([Statement("model.users", "select 1", 1)], client(playing), done.append)
    assert verdict.rejected == [Rejection("model.users", "Unrecognized name: nam", 3, 8)]
    assert (verdict.analyzed, done) == (1, [1])


def test_parameters_go_with_the_statement() -> None:
    statement = Statement("explo/load", "select @tenant", parameters=(Parameter("tenant", "STRING"),))
    with wire(reply(200, DONE)) as playing:
        verdict = check_dry_run.judge([statement], client(playing), lambda _done: None)
    assert (verdict.rejected, verdict.analyzed) == ([], 1)
    (parameter,) = json.loads(playing.bodies[0])["configuration"]["query"]["queryParameters"]
    assert (parameter["name"], parameter["parameterType"]["type"]) == ("tenant", "STRING")


def test_without_the_right_to_run_jobs_nothing_is_said_of_statements() -> None:
    denied = refusal(
        403, "accessDenied", "Access Denied: Project acme: User does not have bigquery.jobs.create permission."
    )
    with wire(denied) as playing, pytest.raises(Forbidden, match="bigquery"):
        check_dry_run.judge(
            [Statement(f"model.{n}", "select 1") for n in range(30)], client(playing), lambda _done: None
        )
    assert len(playing.requests) < 30
