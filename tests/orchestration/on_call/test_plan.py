"""The plan as a pure function: what is created, changed, taken over, deleted, left alone and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestration.on_call.config import FILE, load
from orchestration.on_call.plan import Change, Existing, Refused, describe, plan, record, resolve
from orchestration.on_call.wanted import Directory, Wanted, wanted
from orchestration.vendors.incident_io_settings import Kind

WANTED = wanted(load(FILE), Directory({"Minor": "SEV1", "Major": "SEV2"}, {"Cause": "FIELD1"}))
IDS = {(one.kind, one.name): f"ID{n}" for n, one in enumerate(WANTED)}


def there() -> list[Existing]:
    """Everything wanted, as incident.io would have it: with ids, and the record on each schedule."""
    found: list[Existing] = []
    for one in WANTED:
        body: dict[str, Any] = resolve(one.body, IDS)
        if one.kind == "schedule":
            body["annotations"] = record(one.name, IDS)
        found.append(Existing(one.kind, IDS[one.kind, one.name], one.body.get("name", ""), body))
    return found


def without(existing: list[Existing], kind: Kind, name: str) -> list[Existing]:
    return [one for one in existing if one.id != IDS[kind, name]]


def pending(changes: tuple[Change, ...]) -> list[tuple[str, str, str]]:
    return [(change.action, change.kind, change.shown) for change in changes if change.action != "nothing"]


def changed(existing: list[Existing], kind: Kind, name: str, /, **fields: Any) -> list[Existing]:
    target = IDS[kind, name]
    return [replace(one, body=one.body | fields) if one.id == target else one for one in existing]


def test_an_empty_organisation_gets_everything_each_after_what_it_refers_to() -> None:
    changes = plan(WANTED, [])
    assert {change.action for change in changes} == {"create"}
    assert [change.wanted for change in changes] == list(WANTED)
    before: set[tuple[Kind, str]] = set()
    for one in WANTED:
        assert f"<id of the {one.kind}" not in json.dumps(resolve(one.body, dict.fromkeys(before, "ID"))), one.name
        before.add((one.kind, one.name))


def test_what_is_as_wanted_is_left_alone() -> None:
    assert pending(plan(WANTED, there())) == []


def test_a_deleted_route_is_made_again_and_nothing_else() -> None:
    missing = without(there(), "alert_route", "Data platform: internal")
    assert pending(plan(WANTED, missing)) == [("create", "alert_route", "Data platform: internal")]


def test_a_change_made_by_hand_is_a_readable_difference() -> None:
    edited = changed(there(), "schedule", "Engineers", timezone="UTC")
    [change] = [change for change in plan(WANTED, edited) if change.action != "nothing"]
    assert describe(change) == '~ update schedule \'Engineers\'\n    timezone: "UTC" -> "Europe/London"'


def test_a_renamed_object_is_still_ours_and_gets_its_name_back() -> None:
    edited = changed(there(), "alert_route", "Data platform: internal", name="Mine")
    edited = [replace(one, name=one.body.get("name", "")) for one in edited]
    [change] = [change for change in plan(WANTED, edited) if change.action != "nothing"]
    assert (change.action, change.diff) == ("update", ('name: "Mine" -> "Data platform: internal"',))


def test_how_incident_io_writes_what_it_was_given_is_no_difference() -> None:
    def shown(value: Any) -> Any:
        """With labels, ids, defaults, other orders, the other name of an operation, and fractions of seconds."""
        if isinstance(value, list):
            return [shown(one) for one in value]
        if not isinstance(value, dict):
            document = isinstance(value, str) and value.startswith("{")
            return json.dumps(json.loads(value), indent=1, sort_keys=True) if document else value
        content = {name: shown(one) for name, one in value.items()}
        if "operation" in content:
            content["operation"] = {"value": "contains_one_of", "label": "contains one of"}
            content["subject"] = {"reference": content["subject"], "label": "Alert → x"}
        if "handover_start_at" in content:
            content["handover_start_at"] = content["handover_start_at"].replace("Z", ".000000+00:00")
        for name in ("attributes", "expressions"):
            if name in content:
                content[name] = list(reversed(content[name]))
        return {"label": "a label", "rank": 1} | content

    assert pending(plan(WANTED, [replace(one, body=shown(one.body)) for one in there() if one.kind != "schedule"]
                              + [one for one in there() if one.kind == "schedule"])) == []  # fmt: skip


def test_a_foreign_route_is_untouched() -> None:
    foreign = Existing("alert_route", "FOREIGN", "Checkout", {"id": "FOREIGN", "name": "Checkout", "enabled": True})
    assert pending(plan(WANTED, [*there(), foreign])) == []
    assert "FOREIGN" not in {change.existing.id for change in plan(WANTED, [*there(), foreign]) if change.existing}


@pytest.mark.parametrize(
    ("kind", "lasting", "name"),
    [
        ("alert_route", "Data platform: internal", "Data platform: internal"),
        ("schedule", "Engineers", "Engineers"),
        ("alert_source", "http", "Data platform"),
        ("escalation_path", "customer-facing", "customer-facing"),
    ],
)
def test_a_foreign_object_of_the_same_name_is_refused_until_it_is_taken_over(
    kind: Kind, lasting: str, name: str
) -> None:
    foreign = Existing(kind, "FOREIGN", name, {"id": "FOREIGN", "name": name})
    existing = [*without(there(), kind, lasting), foreign]
    with pytest.raises(Refused) as raised:
        plan(WANTED, existing)
    assert f"{name!r} in incident.io (id FOREIGN) that was not made here" in str(raised.value)
    assert f'--adopt "{kind}/{name}"' in str(raised.value)
    changes = plan(WANTED, existing, adopt=[f"{kind}/{name}"])
    assert [change.existing.id for change in changes if change.action == "adopt" and change.existing] == ["FOREIGN"]


def test_a_foreign_target_with_the_same_slack_group_is_refused() -> None:
    foreign = Existing("schedule_sync_target", "FOREIGN", "", {"id": "FOREIGN", "slack_user_group_id": "S00000001"})
    with pytest.raises(Refused, match="schedule sync target"):
        plan(WANTED, [*without(there(), "schedule_sync_target", "Data responder in S00000001"), foreign])


def test_an_attribute_that_others_made_is_used_and_one_of_another_type_is_refused() -> None:
    assert [c.action for c in plan(WANTED, there()) if c.kind == "alert_attribute"] == ["nothing"] * 8
    with pytest.raises(Refused, match=r"attribute 'team' .* is of type CatalogEntry, and a String is needed"):
        plan(WANTED, changed(there(), "alert_attribute", "team", type="CatalogEntry"))


def test_what_was_made_here_and_is_no_longer_wanted_goes_last_and_only_that() -> None:
    gone = ("Data platform: internal", "data-responder")
    kept = [one for one in WANTED if one.name not in gone]
    assert pending(plan(kept, there())) == [
        ("delete", "alert_route", "Data platform: internal"),
        ("delete", "escalation_path", "data-responder"),
    ]


def test_without_its_record_everything_is_foreign() -> None:
    bare = [replace(one, body={k: v for k, v in one.body.items() if k != "annotations"}) for one in there()]
    with pytest.raises(Refused) as raised:
        plan(WANTED, bare)
    assert len(str(raised.value).splitlines()) == len([one for one in WANTED if _guarded(one)])


def _guarded(one: Wanted) -> bool:
    # Attributes are shared, and a rule belongs to its schedule.
    return one.kind not in {"alert_attribute", "schedule_sync_rule"}
