from __future__ import annotations

import json
from typing import Any

import pytest
from google.api_core.exceptions import Forbidden
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from orchestration.vendors.bigquery_dry_run import DryRun, DryRunRejectedError, dry_run
from tests.orchestration.wire import Wire, reply, wire

DONE = {
    "jobReference": {"projectId": "acme", "location": "EU"},
    "status": {"state": "DONE"},
    "configuration": {"dryRun": True, "jobType": "QUERY"},
    "statistics": {
        "totalBytesProcessed": "512",
        "query": {
            "totalBytesProcessed": "512",
            "referencedTables": [{"projectId": "acme", "datasetId": "core", "tableId": "users"}],
        },
    },
}


def client(playing: Wire) -> bigquery.Client:
    return bigquery.Client(
        project="acme", location="EU", credentials=AnonymousCredentials(), client_options={"api_endpoint": playing.url}
    )


def refusal(status: int, reason: str, message: str) -> Any:
    error = {"message": message, "domain": "global", "reason": reason}
    return reply(status, {"error": {"code": status, "message": message, "errors": [error]}})


def test_a_statement_is_dry_run_without_the_cache_in_the_clients_location() -> None:
    with wire(reply(200, DONE)) as playing:
        assert dry_run(client(playing), "select id from core.users") == DryRun(512, ("acme.core.users",))
    sent = json.loads(playing.bodies[0])
    assert sent["configuration"]["dryRun"] is True
    assert sent["configuration"]["query"]["useQueryCache"] is False
    assert sent["jobReference"]["location"] == "EU"


def test_a_rejection_has_the_reason_the_message_and_the_position() -> None:
    message = "Unrecognized name: nam; Did you mean name? at [3:8]"
    with wire(refusal(400, "invalidQuery", message)) as playing, pytest.raises(DryRunRejectedError) as caught:
        dry_run(client(playing), "select nam")
    error = caught.value
    assert (error.reason, error.message) == ("invalidQuery", "Unrecognized name: nam; Did you mean name?")
    assert (error.line, error.column) == (3, 8)
    assert str(error) == message


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (404, "notFound", "Not found: Dataset acme:core was not found in location EU"),
        (403, "accessDenied", "Access Denied: Table acme:core.users: User does not have permission to query table."),
    ],
)
def test_a_table_that_is_missing_or_closed_rejects_the_statement(status: int, reason: str, message: str) -> None:
    with wire(refusal(status, reason, message)) as playing, pytest.raises(DryRunRejectedError) as caught:
        dry_run(client(playing), "select 1")
    assert (caught.value.reason, str(caught.value)) == (reason, message)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            "accessDenied",
            "Access Denied: Project acme: User does not have bigquery.jobs.create permission in project acme.",
        ),
        ("quotaExceeded", "Quota exceeded: Your project exceeded quota for concurrent queries."),
    ],
)
def test_what_concerns_the_caller_rejects_no_statement(reason: str, message: str) -> None:
    with wire(refusal(403, reason, message)) as playing, pytest.raises(Forbidden, match=message[:20]):
        dry_run(client(playing), "select 1")
