from __future__ import annotations

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
