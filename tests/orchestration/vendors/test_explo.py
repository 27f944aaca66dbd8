from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestration.vendors.explo import PAGE, Customer, Dashboard, Explo
from orchestration.vendors.http import VendorError
from tests.orchestration.wire import RESET, Wire, refused_port, reply, wire

NOBODY = {"total_count": 0, "results": {"customers": []}}
MADE = {"success": 1, "new_customer": True, "customer": {}}


def page(total: int, *numbers: int) -> bytes:
    customers = [{"provided_id": f"org_{number}", "name": f"Name {number}", "token": "t"} for number in numbers]
    return reply(200, {"total_count": total, "results": {"customers": customers}})


def paths(server: Wire) -> list[str]:
    return [line.split()[1] for line in server.requests]


@pytest.mark.parametrize(
    "trouble",
    [
        reply(500, {}),
        reply(502, "<h1>Bad Gateway</h1>"),
        reply(429, {}, Retry_After="0"),
        reply(200, '{"half": '),
        RESET,
    ],
    ids=["500", "html", "429", "truncated", "reset"],
)
def test_reading_and_writing_outlive_one_fault(trouble: object) -> None:
    with wire(trouble, reply(200, NOBODY)) as server:
        assert Explo(server.url, "t").customers() == []
        assert len(server.requests) == 2
    # Creating gets what is there, so that it may be sent again when nobody knows whether it has happened.
    with wire(trouble, reply(200, MADE)) as server:
        assert Explo(server.url, "t").create_customer("org_1", "Acme")
        assert [json.loads(body) for body in server.bodies] == [{"provided_id": "org_1", "name": "Acme"}] * 2


def test_an_explo_that_is_not_there_says_so() -> None:
    with pytest.raises(VendorError, match=r"Explo: GET .*/api/dashboard/ could not connect"):
        Explo(f"http://127.0.0.1:{refused_port()}", "t").dashboards()


def test_every_path_ends_with_a_slash() -> None:
    answers = [reply(200, NOBODY), reply(200, MADE), reply(200, MADE), reply(200, {"dashboards": []}), reply(404, {})]
    with wire(*answers) as server:
        api = Explo(server.url, "t")
        api.customers()
        api.create_customer("a", "A")
        api.update_customer("a", "B")
        api.dashboards()
        api.datasets("xyz")
        assert [urlsplit(path).path for path in paths(server)] == [
            "/v2/api/customers/", "/api/create_customer/", "/api/update_customer/", "/api/dashboard/", "/api/dashboard/xyz/",
        ]  # fmt: skip


def test_pages_are_read_until_all_are_seen() -> None:
    with wire(page(3, 1, 2), page(3, 3)) as server:
        assert [customer.provided_id for customer in Explo(server.url, "t").customers()] == ["org_1", "org_2", "org_3"]
        assert [parse_qs(urlsplit(path).query) for path in paths(server)] == [
            {"pageSize": [str(PAGE)], "page": [number]} for number in ("1", "2")
        ]


def test_a_customer_that_is_made_or_deleted_while_pages_are_read_is_no_trouble() -> None:
    with wire(page(4, 1, 2), page(5, 2, 3), page(2)) as server:
        assert Explo(server.url, "t").customers() == [
            Customer(provided_id=f"org_{number}", name=f"Name {number}") for number in (1, 2, 3)
        ]
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "answer",
    [[], {"total_count": 1}, {"total_count": 1, "results": {"customers": {}}}, {"total_count": None, "results": {"customers": []}},
     {"total_count": 1, "results": {"customers": [{"name": "no id"}]}}, {"success": 0, "message": "No."}],
)  # fmt: skip
def test_what_is_not_as_documented_is_an_error(answer: Any) -> None:
    with wire(reply(200, answer)) as server, pytest.raises(VendorError, match="Explo"):
        Explo(server.url, "t").customers()


def test_a_no_with_status_200_is_a_no() -> None:
    with wire(reply(200, {"success": 0, "message": "Quota reached."})) as server:
        with pytest.raises(VendorError, match=r"update_customer/ did not succeed: Quota reached\."):
            Explo(server.url, "t").update_customer("org_1", "Acme")
        assert len(server.requests) == 1


def test_dashboards_have_their_address() -> None:
    shown = {"team_id": 1, "name": "Load", "embed_id": "vcjTgL2wdX", "attributes": [], "is_drilldown": False}
    with wire(reply(200, {"success": 1, "dashboards": [shown]})) as server:
        assert Explo(server.url, "t").dashboards() == [Dashboard(embed_id="vcjTgL2wdX", name="Load")]
    assert Dashboard(embed_id="vcjTgL2wdX", name="Load").url == "https://app.explo.co/embed_id/vcjTgL2wdX"


@pytest.mark.parametrize("answer", [reply(404, {}), reply(405, {}), reply(200, {"name": "Load"})])
def test_an_explo_that_gives_no_datasets_is_told_from_one_that_does_not_answer(answer: bytes) -> None:
    with wire(answer) as server:
        assert Explo(server.url, "t").datasets("x") is None
    for trouble in (reply(401, {"message": "Invalid token."}), reply(429, {}, Retry_After="3600")):
        began = time.monotonic()
        with wire(trouble) as server, pytest.raises(VendorError):
            Explo(server.url, "t").datasets("x")
        assert time.monotonic() - began < 5
