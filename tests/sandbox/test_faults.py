"""Every fault on the wire, struck through a real socket."""

from __future__ import annotations

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from sandbox.config import HOST
from sandbox.vendors.faults import KINDS, UnknownFault
from sandbox.vendors.server import LOOK_SECONDS
from tests.stand_ins import Vendors, wait_for

PATH = "/v1/connections"


def ask(vendors: Vendors, timeout: float = 10) -> httpx.Response:
    """One request on a connection of its own."""
    auth = ("local-fivetran-key", "local-fivetran-secret")
    return httpx.get(f"{vendors.config.url('fivetran')}{PATH}", auth=auth, timeout=timeout)


def test_an_error_of_the_server(vendors):
    vendors.faults.add("fivetran", kind="http_500")
    answer = ask(vendors)
    assert (answer.status_code, answer.json()["message"]) == (500, "Internal server error")


def test_a_rate_limit_says_when_to_come_back(vendors):
    vendors.faults.add("fivetran", kind="http_429", params={"retry_after": 7})
    answer = ask(vendors)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")


def test_a_proxys_page(vendors):
    vendors.faults.add("fivetran", kind="html")
    answer = ask(vendors)
    assert answer.status_code == 502
    assert answer.headers["content-type"].startswith("text/html")
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_json_that_breaks_off(vendors):
    whole = ask(vendors).content
    vendors.faults.add("fivetran", kind="truncated")
    answer = ask(vendors)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert whole.startswith(answer.content)
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_request_that_is_not_answered(vendors):
    vendors.faults.add("fivetran", kind="hang", times=1)
    began = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        ask(vendors, timeout=0.5)
    assert time.monotonic() - began >= 0.5
    assert ask(vendors).status_code == 200


def test_a_hanging_request_is_dropped_in_the_end_and_was_not_obeyed(vendors):
    vendors.faults.add("fivetran", kind="hang", params={"seconds": 0.5}, times=1)
    began = time.monotonic()
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        vendors.fivetran.patch(f"{PATH}/product_conn", json={"sync_frequency": 5})
    assert 0.4 < time.monotonic() - began < 5
    assert vendors.connection("product_conn")["sync_frequency"] == 360


def test_a_hanging_request_holds_up_no_other(vendors):
    vendors.faults.add("fivetran", kind="hang", params={"seconds": 20}, times=1)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(ask, vendors, 3)
        wait_for(lambda: not vendors.faults.active("fivetran"), 3, "the fault strikes")
        assert ask(vendors, timeout=2).status_code == 200
        assert isinstance(hanging.exception(timeout=5), httpx.ReadTimeout)


def test_a_slow_vendor_answers_late_and_other_faults_strike_all_the_same(vendors):
    vendors.faults.add("fivetran", kind="slow", params={"seconds": 0.3})
    began = time.monotonic()
    assert ask(vendors).status_code == 200
    assert time.monotonic() - began >= 0.3
    vendors.faults.add("fivetran", kind="http_500", times=1)
    began = time.monotonic()
    assert ask(vendors).status_code == 500
    assert time.monotonic() - began >= 0.3


def test_a_reset_connection_gets_no_byte(vendors):
    vendors.faults.add("fivetran", kind="reset", times=2)
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        ask(vendors)
    with socket.create_connection((HOST, vendors.config.port("fivetran")), timeout=5) as plain:
        plain.sendall(f"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            plain.recv(1)
    assert ask(vendors).status_code == 200


def test_a_reset_strikes_a_connection_that_was_kept_alive(vendors):
    kept = http.client.HTTPConnection(HOST, vendors.config.port("fivetran"), timeout=5)
    kept.request("GET", PATH)
    assert kept.getresponse().read()
    vendors.faults.add("fivetran", kind="reset", times=1)

    def post() -> None:
        kept.request("POST", PATH, body="x" * 1000)
        kept.getresponse()

    with pytest.raises(ConnectionError):  # before the body is sent, or after
        post()
    kept.close()


def test_refused_closes_the_port_until_it_is_mended(vendors):
    """Also while a request hangs there, and for clients that kept a connection; other vendors go on."""
    kept = vendors.fivetran
    assert kept.get(PATH).status_code == 200
    vendors.faults.add("fivetran", kind="refused")
    wait_for(lambda: not vendors.listens("fivetran"), 5, "the port closes")
    for _ in range(3):
        with pytest.raises(httpx.ConnectError):
            ask(vendors)
    with pytest.raises(httpx.TransportError):
        kept.get(PATH)
    assert vendors.hightouch.get("/api/v1/syncs").status_code == 200
    vendors.faults.remove("fivetran")
    wait_for(lambda: vendors.listens("fivetran"), 5, "the port opens")
    assert kept.get(PATH).status_code == 200


def test_a_port_that_is_taken_while_it_was_closed_is_asked_for_until_it_is_free(vendors):
    vendors.faults.add("fivetran", kind="refused")
    wait_for(lambda: not vendors.listens("fivetran"), 5, "the port closes")
    with socket.create_server((HOST, vendors.config.port("fivetran"))):
        vendors.faults.remove("fivetran")
        time.sleep(3 * LOOK_SECONDS)
        assert vendors.hightouch.get("/api/v1/syncs").status_code == 200
    wait_for(lambda: vendors.listens("fivetran"), 5, "the port opens")


@pytest.mark.parametrize("kind", ["http_500", "http_401", "http_403", "http_429", "html", "truncated"])
def test_times_count_down_to_none(vendors, kind):
    vendors.faults.add("fivetran", kind=kind, times=2)
    struck = []
    for _ in range(4):
        answer = ask(vendors)
        struck.append(answer.status_code != 200 or not answer.content.endswith(b"}"))
    assert struck == [True, True, False, False]
    assert vendors.faults.active("fivetran") == []


def test_requests_at_once_use_up_no_more_than_the_times(vendors):
    vendors.faults.add("fivetran", kind="http_500", times=3)
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: ask(vendors).status_code, range(16)))
    assert sorted(codes) == [200] * 13 + [500] * 3


def test_a_target_is_a_part_of_the_path(vendors):
    vendors.faults.add("fivetran", "product_conn", "http_500")
    assert vendors.fivetran.get(f"{PATH}/product_conn").status_code == 500
    assert vendors.fivetran.get(f"{PATH}/salesforce_conn").status_code == 200


def test_a_vendors_fault_leaves_the_others_alone(vendors):
    vendors.faults.add("fivetran", kind="html")
    assert ask(vendors).status_code == 502
    assert vendors.hightouch.get("/api/v1/syncs").status_code == 200


def test_what_the_sandbox_inspects_is_spared(vendors):
    vendors.faults.add("fivetran", kind="http_500")
    assert httpx.get(f"{vendors.config.url('fivetran')}/_inspect/none").status_code == 404


def test_faults_outlive_the_process(vendors):
    vendors.faults.add("fivetran", kind="http_500")
    vendors.stop()
    vendors.start()
    assert ask(vendors).status_code == 500
    vendors.faults.remove()
    assert ask(vendors).status_code == 200


def test_stopped_while_a_request_hangs_the_server_ends_soon(vendors):
    vendors.faults.add("fivetran", kind="hang", times=1)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(ask, vendors, 30)
        wait_for(lambda: not vendors.faults.active("fivetran"), 5, "the fault strikes")
        began = time.monotonic()
        assert vendors.stop() == 0
        assert time.monotonic() - began < 5
        assert isinstance(hanging.exception(timeout=5), httpx.TransportError)
    vendors.start()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody",), "no vendor 'nobody'"),
        (("slack", None, "slow_sync"), "has no fault 'slow_sync'"),
        (("fivetran", None, "sync_failure"), "needs a target"),
        (("fivetran", None, "hang", {"hours": 1}), "takes no hours"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_name(vendors, arguments, message):
    with pytest.raises(UnknownFault, match=message):
        vendors.faults.add(*arguments)
    assert vendors.faults.active() == []


def test_every_kind_on_the_wire_is_tried_above():
    tried = {"slow", "http_500", "http_401", "http_403", "http_429", "html", "truncated", "hang", "reset", "refused"}
    assert {name for name, kind in KINDS.items() if kind.on_the_wire} == tried
