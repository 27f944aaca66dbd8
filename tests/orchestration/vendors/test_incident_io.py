from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io import AlertEvent, AlertSource
from tests.orchestration.wire import RESET, refused_port, reply, wire

EVENT = AlertEvent("key", "firing", "title", "text", "https://dagster.example.com", {"customer_facing": True})
ACCEPTED = {"deduplication_key": "key", "message": "Event accepted for processing", "status": "success"}


def send(url: str) -> None:
    AlertSource(url, "01SOURCE", "token").send(EVENT)


@pytest.mark.parametrize(
    "body", [ACCEPTED, {}, [], "", "<html>"], ids=["documented", "object", "list", "empty", "html"]
)
def test_a_202_is_accepted_whatever_it_says(body: object) -> None:
    with wire(reply(202, body)) as server:
        send(server.url)
        assert server.requests == ["POST /v2/alert_events/http/01SOURCE HTTP/1.1"]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (413, "Payload too large", "413: Payload too large"),
        (403, "<html><h1>Blocked</h1></html>", "403: Blocked"),
        (404, "null", "404: null"),
        (422, {"errors": None}, "422: {"),
        (429, {"errors": None}, "429: {"),
        (502, "<html>Bad Gateway</html>", "502: Bad Gateway"),
        (200, ACCEPTED, "200: {"),
    ],
)
def test_every_other_answer_is_an_error_with_its_status_and_words(status: int, body: object, words: str) -> None:
    with wire(reply(status, body, Retry_After="7")) as server:
        with pytest.raises(VendorError) as caught:
            send(server.url)
        assert words in str(caught.value)
        assert str(caught.value).startswith("incident.io: firing alert key was not delivered")
        assert (caught.value.status, caught.value.retry_after) == (status, 7)


def test_no_answer_is_an_error_without_a_status() -> None:
    with wire(RESET) as server, pytest.raises(VendorError) as caught:
        send(server.url)
    assert caught.value.status is None
    with pytest.raises(VendorError, match="was not delivered"):
        send(f"http://127.0.0.1:{refused_port()}")


@pytest.mark.parametrize("odd", [float("nan"), "half a \ud83d", {1, 2}], ids=["no number", "no character", "no json"])
def test_what_cannot_be_written_is_an_error_and_not_taken_for_delivered(odd: object) -> None:
    with wire(reply(202, ACCEPTED)) as server:
        with pytest.raises(VendorError, match="cannot be written as JSON"):
            AlertSource(server.url, "01SOURCE", "token").send(replace(EVENT, metadata={"odd": odd}))
        assert server.requests == []


def test_an_event_without_text_or_link_leaves_them_out() -> None:
    with wire(reply(202, ACCEPTED)) as server:
        AlertSource(server.url, "01SOURCE", "token").send(replace(EVENT, description="", source_url=""))
        [body] = server.bodies
    assert set(json.loads(body)) == {"deduplication_key", "status", "title", "metadata"}


def test_the_time_to_wait_is_read_from_the_body_too() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True).replace("GMT", "UTC")
    for body, seconds in (
        ({"rate_limit": {"retry_after": soon}}, 40),
        ({"rate_limit": None}, None),
        ([], None),
        ("<p>", None),
    ):
        with wire(reply(429, body)) as server, pytest.raises(VendorError) as caught:
            send(server.url)
        assert caught.value.retry_after == (pytest.approx(seconds, abs=3) if seconds else None)
