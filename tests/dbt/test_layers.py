"""The layers of the dbt project, and that the check of them sees what it is there for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.dbt.layers import Project

Node = dict[str, Any]

STAGED = "source.dataplatform.segment_web_app.pages"
STAGING = "model.dataplatform.stg_segment_web_app__pages"
INTERMEDIATE = "model.dataplatform.int_activity"
MART = "model.dataplatform.daily_active_users"
ELSEWHERE = "model.dataplatform.account_health"
STAGING_FILE = "models/staging/segment_web_app/stg_segment_web_app__pages.sql"
INTERMEDIATE_FILE = "models/intermediate/int_activity.sql"
MART_FILE = "models/marts/product/daily_active_users.sql"
MARTS_YAML = "models/marts/product/_product__models.yml"


def reads(node: str, parent: str) -> Callable[[Node], None]:
    return lambda manifest: manifest["nodes"][node]["depends_on"]["nodes"].append(parent)


def stops_reading(manifest: Node) -> None:
    manifest["nodes"][STAGING]["depends_on"]["nodes"] = []


def loses_a_description(manifest: Node) -> None:
    manifest["nodes"][MART]["columns"]["users"]["description"] = ""


def loses_its_key(manifest: Node) -> None:
    for name, node in list(manifest["nodes"].items()):
        if node.get("attached_node") == MART:
            del manifest["nodes"][name]


def may_be_null(manifest: Node) -> None:
    manifest["nodes"][MART]["columns"]["platform"]["constraints"] = []


def has_no_contract(manifest: Node) -> None:
    manifest["nodes"][MART]["config"]["contract"]["enforced"] = False


def is_of_no_model(manifest: Node) -> None:
    manifest["nodes"]["test.dataplatform.every_incident_is_counted"]["config"]["meta"] = {}


def test_the_layers_are_kept(manifest: Node) -> None:
    assert [str(finding) for finding in Project(manifest).findings()] == []


@pytest.mark.parametrize(
    ("break_it", "file", "fault"),
    [
        (is_of_no_model, "tests/every_incident_is_counted.sql", "`every_incident_is_counted` reads several nodes"),
        (reads(STAGING, INTERMEDIATE), STAGING_FILE, "reads int_activity: staging reads only sources"),
        (
            reads(INTERMEDIATE, STAGED),
            INTERMEDIATE_FILE,
            "reads the source segment_web_app.pages: read its staging model",
        ),
        (reads(INTERMEDIATE, MART), INTERMEDIATE_FILE, "reads the mart daily_active_users: read what that one reads"),
        (reads(MART, ELSEWHERE), MART_FILE, "reads account_health, which is sales's own: read what that one reads"),
        (
            stops_reading,
            "models/staging/segment_web_app/_segment_web_app__sources.yml",
            "no model reads pages: give it",
        ),
        (
            reads("model.dataplatform.stg_segment_web_app__tracks", STAGED),
            "models/staging/segment_web_app/_segment_web_app__sources.yml",
            "stg_segment_web_app__pages and stg_segment_web_app__tracks both read pages: keep one",
        ),
        (loses_a_description, MARTS_YAML, "daily_active_users.users has no description: describe it"),
        (loses_its_key, MARTS_YAML, "nothing tests the primary key of daily_active_users: add one of event_key"),
        (may_be_null, MARTS_YAML, "the primary key of daily_active_users may be null: add the constraint not_null"),
        (has_no_contract, MART_FILE, "daily_active_users has no contract: take `contract` out"),
    ],
)
def test_a_broken_layer_is_told_with_its_file_and_the_remedy(
    manifest: Node, break_it: Callable[[Node], None], file: str, fault: str
) -> None:
    broken = copy.deepcopy(manifest)
    before = set(Project(broken).findings())
    break_it(broken)
    found = [str(finding) for finding in Project(broken).findings() if finding not in before]
    assert len(found) == 1
    assert found[0].startswith(f"{file}: {fault}")
