from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from orchestration.vendors.http import VendorClient, VendorError, excerpt, retry_after
from orchestration.vendors.pace import MARGIN_SECONDS, Pace
from tests.orchestration.wire import RESET, Slow, refused_port, reply, wire

OK = reply(200, {"fine": True})
PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"


def client(url: str) -> VendorClient:
    return VendorClient("Acme", url, timeout=httpx.Timeout(0.5), attempts=3)


@pytest.mark.parametrize(
    "trouble",
    [reply(500, {}), reply(502, PAGE), reply(429, {}, Retry_After="0"), reply(200, '{"half": '), RESET, Slow(2)],
    ids=["500", "html", "429", "truncated", "reset", "slow"],
)
def test_a_request_that_may_be_repeated_outlives_one_fault(trouble: object) -> None:
    with wire(trouble, OK) as server:
        assert client(server.url).request("GET", "things") == {"fine": True}
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("trouble", "sent"),
    [(reply(500, {}), 1), (RESET, 1), (Slow(2), 1), (reply(429, {}, Retry_After="0"), 2), (reply(503, {}), 2)],
    ids=["500", "reset", "slow", "429", "503"],
)
def test_a_request_with_an_effect_is_sent_again_only_where_nothing_can_have_happened(
    trouble: object, sent: int
) -> None:
    with wire(trouble, OK) as server:
        api = client(server.url)
        if sent == 2:
            assert api.request("POST", "things", body={}, repeatable=False) == {"fine": True}
        else:
            with pytest.raises(VendorError) as caught:
                api.request("POST", "things", body={}, repeatable=False)
            assert caught.value.started
        assert len(server.requests) == sent


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_other_answers_of_the_400s_are_not_repeated_and_carry_the_vendors_words(status: int) -> None:
    with wire(reply(status, {"message": "No such thing"})) as server:
        with pytest.raises(VendorError, match=f"Acme: GET .*/things answered {status}: No such thing") as caught:
            client(server.url).request("GET", "things")
        assert (caught.value.status, len(server.requests)) == (status, 1)


def test_retry_after_is_waited_for() -> None:
    with wire(reply(429, {}, Retry_After="1"), OK) as server:
        began = time.monotonic()
        client(server.url).request("GET", "things")
        assert time.monotonic() - began >= 1


def test_a_wait_of_an_hour_is_reported_instead_of_waited_for() -> None:
    with wire(reply(429, {}, Retry_After="3600")) as server:
        with pytest.raises(VendorError) as caught:
            client(server.url).request("GET", "things")
        assert (caught.value.retry_after, len(server.requests)) == (3600, 1)


def patient(url: str, slept: list[float]) -> VendorClient:
    """A client of a vendor that allows so many requests a minute."""
    return VendorClient("Acme", url, attempts=3, window_seconds=60, sleep=slept.append)


def test_a_rate_limit_is_waited_for_as_long_as_it_lasts() -> None:
    slept: list[float] = []
    with wire(reply(429, {}), reply(429, {}, Retry_After="7"), reply(429, {}, Retry_After="0"), OK) as server:
        assert patient(server.url, slept).request("POST", "things", repeatable=False) == {"fine": True}
        assert (slept, len(server.requests)) == ([60, 7, 1], 4)


def test_a_rate_limit_that_does_not_pass_is_raised_after_five_minutes() -> None:
    slept: list[float] = []
    with wire(reply(429, {"message": "slow down"})) as server:
        with pytest.raises(VendorError, match="answered 429: slow down") as caught:
            patient(server.url, slept).request("GET", "things")
        assert (sum(slept), caught.value.status) == (300, 429)
        with pytest.raises(VendorError):
            patient(server.url, slept).request("GET", "things", patience_seconds=0)
        assert sum(slept) == 300


def test_requests_are_paced() -> None:
    now, slept = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    with wire(OK) as server:
        client = VendorClient("Acme", server.url, pace=Pace(2, 10, lambda: now[0], sleep))
        for _ in range(5):
            client.request("GET", "things")
    assert slept == [10 + MARGIN_SECONDS] * 2


def test_a_refused_connection_says_so() -> None:
    with pytest.raises(VendorError, match=r"Acme: GET .* could not connect") as caught:
        client(f"http://127.0.0.1:{refused_port()}").request("GET", "things")
    assert not caught.value.started


def test_the_last_error_is_the_one_that_is_raised() -> None:
    with wire(reply(502, PAGE)) as server:
        with pytest.raises(VendorError, match=r"answered 502: 502 Bad Gateway$"):
            client(server.url).request("GET", "things")
        assert len(server.requests) == 3


def test_retry_after_as_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert retry_after({"retry-after": format_datetime(soon, usegmt=True)}) == pytest.approx(30, abs=2)
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "²"}) is None
    assert retry_after({"retry-after": "9" * 400}) == pytest.approx(10**12)
    assert retry_after({}) is None


def test_excerpts_have_no_markup_and_an_end() -> None:
    assert excerpt("<p>a  b</p>\n<p>c</p>") == "a b c"
    assert excerpt("x" * 400) == "x" * 300 + "…"
    assert excerpt("") == "an empty body"
