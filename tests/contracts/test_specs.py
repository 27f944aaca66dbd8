"""That the comparison with a spec finds what differs, so that what passes it says something."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.contracts.specs import Disagreement, Spec

PAGE: dict[str, Any] = {"values": [], "pagination": {"after": None, "before": None}}


def test_what_agrees_passes_and_is_returned():
    assert Spec.named("hex").check("GET", "/v1/projects", httpx.Response(200, json=PAGE)) == PAGE
    assert Spec.named("hex").check("DELETE", "/v1/projects/{projectId}/runs/{runId}", httpx.Response(204)) is None


@pytest.mark.parametrize(
    ("name", "method", "template", "status", "body", "found"),
    [
        ("hex", "GET", "/v1/projects", 200, {"values": []}, "'pagination' is a required property"),
        ("hex", "GET", "/v1/projects", 200, PAGE | {"more": 1}, "'more' was unexpected"),
        ("hex", "GET", "/v1/projects", 200, PAGE | {"values": [{"id": "x"}]}, r"values\.0\.id: 'x' does not match"),
        ("hex", "GET", "/v1/projects", 200, PAGE | {"values": None}, "values: None"),
        ("hex", "GET", "/v1/projects", 418, {}, "418 is no answer of this call"),
        ("hex", "GET", "/v1/project", 200, {}, "no GET /v1/project"),
        ("fivetran", "GET", "/v1/connections", 200, {"code": "Success"}, "'data' is a required property"),
        ("omni", "GET", "/api/v1/documents", 200, {"records": []}, "'pageInfo' is a required property"),
    ],
)  # fmt: skip
def test_what_differs_is_named_with_its_place(name, method, template, status, body, found):
    with pytest.raises(Disagreement, match=found):
        Spec.named(name).validate(method, template, status, body)


def test_what_is_sent_is_compared_too():
    spec = Spec.named("hex")
    spec.validate_request("POST", "/v1/projects/{projectId}/runs", {"updatePublishedResults": True})
    with pytest.raises(Disagreement, match="'force' was unexpected"):
        spec.validate_request("POST", "/v1/projects/{projectId}/runs", {"force": True})
