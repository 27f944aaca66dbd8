"""The whole of each event against the committed one: `pytest --snapshot-update` writes them anew, and a reviewer reads the difference."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from orchestration.core.channel_text import markdown_to_mrkdwn
from orchestration.incidents.fallback import words
from orchestration.incidents.model import Failure, Recovery
from orchestration.incidents.render import firing, resolved
from orchestration.vendors.incident_io import AlertEvent
from tests.orchestration.incidents.failures import (
    CHECK,
    DBT,
    FIRING,
    FIVETRAN,
    HOSTILE,
    RESOLVED,
    TICK,
    TRANSIENT,
    URL,
    WAREHOUSE,
)


class Page(SingleFileSnapshotExtension):
    """One file an event, as a person would see it, with the metadata below."""

    _write_mode = WriteMode.TEXT
    file_extension = "md"

    def serialize(self, data: Any, **_options: Any) -> str:
        rest = {"status": data.status, "deduplication_key": data.deduplication_key, "source_url": data.source_url}
        metadata = json.dumps(rest | {"metadata": data.metadata}, indent=2)
        return f"# {data.title}\n\n{data.description}\n\n---\n\n{metadata}\n"


@pytest.fixture
def page(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(Page)


@pytest.mark.parametrize("name", FIRING)
def test_what_a_failure_says(name: str, page: SnapshotAssertion) -> None:
    assert firing(FIRING[name], URL) == page


@pytest.mark.parametrize("name", RESOLVED)
def test_what_a_recovery_says(name: str, page: SnapshotAssertion) -> None:
    assert resolved(RESOLVED[name], URL) == page


@pytest.mark.parametrize("failure", [*FIRING.values(), HOSTILE], ids=lambda failure: failure.name)
def test_an_alert_is_bounded_and_is_what_routing_reads(failure: Failure) -> None:
    event = firing(failure, URL)
    assert len(event.title) <= 200
    assert len(event.description) <= 8000
    assert len(json.dumps(asdict(event))) < 64_000
    routed = {name: type(event.metadata[name]) for name in
              ("customer_facing", "urgent", "transient", "flapping", "owner", "team", "unit", "kind")}  # fmt: skip
    assert routed == {"customer_facing": bool, "urgent": bool, "transient": bool, "flapping": bool,
                      "owner": str, "team": str, "unit": str, "kind": str}  # fmt: skip
    assert all(routed)


def test_the_first_200_characters_say_what_broke_and_who_is_hurt() -> None:
    for failure in (FIVETRAN, WAREHOUSE):
        event = firing(failure, URL)
        seen = f"{event.title}\n{event.description}"[:200]
        assert "3 customer dashboards hurt" in seen
        assert "`explo/on_call_load`" in seen


def test_lines_are_short_but_for_links() -> None:
    for failure in FIRING.values():
        for line in firing(failure, URL).description.splitlines():
            assert len(re.sub(r"\]\([^)]*\)", "]", line)) <= 400, line


def test_an_error_cannot_leave_its_block_nor_tell_a_secret() -> None:
    event = firing(HOSTILE, URL)
    assert event.description.count("```") == 2
    told = json.dumps(asdict(event))
    assert "hunter2" not in told
    assert "\\u001b" not in told


LEAK = "postgres://fivetran:hunter2@db.example.com/p Key (email)=(sarah@acme.com) already exists."
SAYING_IT = {
    "one error": replace(DBT, units=(replace(DBT.units[0], error=LEAK),)),
    "an error of many lines": replace(DBT, units=(replace(DBT.units[0], error="Traceback\n" * 9 + LEAK),)),
    "an error of one long line": replace(DBT, units=(replace(DBT.units[0], error="word " * 120 + LEAK + " word" * 500),)),
    "the same error of many": replace(WAREHOUSE, units=tuple(replace(unit, error=LEAK) for unit in WAREHOUSE.units)),
    "errors of several": replace(WAREHOUSE, units=tuple(replace(unit, error=f"{LEAK} {unit.unit}, {'x' * n}")
                                 for n, unit in enumerate(WAREHOUSE.units[:9]))),
    "a tick": replace(TICK, units=(replace(TICK.units[0], error=LEAK),)),
    "a check": replace(CHECK, units=(replace(CHECK.units[0], error=LEAK),)),
    "what changed": replace(DBT, background=replace(DBT.background, changes=(f"commit 1a2b3c4 {LEAK}",))),
    "what is not known": replace(DBT, background=replace(DBT.background, problems=(LEAK,))),
    "a retry that succeeded": replace(TRANSIENT, units=(replace(DBT.units[0], error=LEAK),)),
}  # fmt: skip


@pytest.mark.parametrize("name", SAYING_IT)
def test_no_credential_and_no_value_of_a_row_leaves_in_any_field_by_any_carrier(name: str) -> None:
    event = firing(SAYING_IT[name], URL)
    told = "\n".join(
        [json.dumps(asdict(event), ensure_ascii=False), markdown_to_mrkdwn(words(event, "")), words(event, "")]
    )
    assert "hunter2" not in told
    assert "sarah" not in told


def test_a_recovery_without_a_title_names_what_is_well() -> None:
    event = resolved(replace(RESOLVED["recovery"], title=""), URL)
    assert event.title == "fivetran/product is well again"


def test_it_reaches_the_same_alert() -> None:
    opened: AlertEvent = firing(FIVETRAN, URL)
    closed = resolved(
        Recovery(FIVETRAN.name, "asset", FIVETRAN.deduplication_key, opened.title, FIVETRAN.since, datetime.now(UTC)),
        URL,
    )
    assert (opened.deduplication_key, opened.status) == (closed.deduplication_key, "firing")
    assert (closed.status, closed.metadata["unit"]) == ("resolved", opened.metadata["unit"])


def test_an_unknown_asset_is_urgent_and_says_why() -> None:
    unknown = replace(DBT, consumers=(), unknown=("insights/time_spent_on_incidents_v2",))
    event = firing(unknown, URL)
    assert (event.metadata["customer_facing"], event.metadata["urgent"]) == (False, True)
    assert "**Customers**: not known." in event.description
    assert (
        "unknown asset `insights/time_spent_on_incidents_v2`: no graph of its code location could be read, "
        "so it is treated as urgent"
    ) in event.description
    assert "treated as urgent" not in firing(replace(unknown, transient=True), URL).description
