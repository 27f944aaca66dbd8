"""What the configuration's errors say: the file, the key and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration.on_call.config import FILE, OnCallConfigError, load


def test_the_committed_file_is_valid() -> None:
    config = load(FILE)
    assert set(config.schedules) == {"Engineers", "Data responder"}
    assert config.flags == ("customer_facing", "urgent", "transient", "flapping")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("time_zone: Europe/London", "time_zone: Europe/Lodnon", "schedules.Engineers.time_zone: 'Europe/Lodnon' is no time zone"),
        ('to: "17:00"', 'to: "08:00"', "schedules.Data responder.working_hours: ends at 08:00, before it starts at 09:00"),
        ('from: "09:00"', "from: 9", "schedules.Data responder.working_hours.from: "),
        ('from: "09:00"', 'from: "9 am"', "'9 am' is no time of day; write it in quotes, such as \"09:00\""),
        ("first: 2024-01-01 09:00", "first: 2024-01-01 09:00:00Z", "handover.first: has a time zone of its own; leave it out"),
        ("days: [monday", "days: [Monday", "working_hours.days.0: "),
        ("ada@example.com", "ada", "schedules.Engineers.members.0: "),
        ("schedule: Engineers,", "schedule: Engineer,", "escalation_paths.customer-facing.schedule: there is no schedule 'Engineer'; it has Engineers, Data responder"),
        ("escalate_to: data-responder", "escalate_to: nobdy", "escalate_to: there is no escalation path 'nobdy'; it has nobody, customer-facing, data-responder"),
        ("{transient: true}", "{transeint: true}", "there is no flag among the attributes 'transeint'"),
        ("{transient: true}", "{owner: true}", "there is no flag among the attributes 'owner'"),
        ("{transient: true}", "{}", "both take an alert with {customer_facing: true, transient: false, urgent: true}; narrow one's `when`"),
        ("{transient: false, customer_facing: false, urgent: false}", "{transient: true, customer_facing: false, urgent: false}", "routes: none takes an alert with {customer_facing: false, transient: false, urgent: false}; add one"),
        ("  Cause: unit", "  Cause: units", "incident_fields.Cause: there is no attribute 'units'"),
        ("owner: text", "owner: words", "attributes.owner: "),
        ("every_seconds: 60", "every_seconds: 5", "heartbeat.every_seconds: "),
        ("kind: heartbeat}", "transient: maybe}", "heartbeat.attributes.transient: is 'maybe'; a flag is true or false"),
        (", wait_for_working_hours: true", "", "nobody is on 'Data responder' outside of its working_hours; set wait_for_working_hours: true"),
        ("acknowledge_minutes: 15}", "acknowledge_minutes: 15, wait_for_working_hours: true}", "the schedule 'Engineers' has no working_hours; add them, or leave this out"),
        ("urgency: high, ", "", "escalation_paths.customer-facing.urgency is missing; add it"),
        ("urgency: high", "urgency: high, colour: red", "escalation_paths.customer-facing.colour is not known; remove it, or correct its name"),
        ("  Data responder:\n", "  Engineers:\n", "is no valid YAML: 'Engineers' is given twice"),
        ("heartbeat:", "heartbeats:", "heartbeat is missing"),
        ("alert_source: Data platform", "alert_source: [", "is no valid YAML"),
    ],
)  # fmt: skip
def test_an_error_names_the_file_the_key_and_the_remedy(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "on_call.yaml"
    text = FILE.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(OnCallConfigError) as raised:
        load(file)
    assert message in str(raised.value)
    assert all(line.startswith(f"{file}: ") for line in str(raised.value).splitlines())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OnCallConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml")


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "on_call.yaml"
    file.write_text("alert_source: ''\nroutes: {}\n")
    with pytest.raises(OnCallConfigError) as raised:
        load(file)
    keys = ("alert_source", "attributes", "schedules", "escalation_paths", "routes", "heartbeat")
    assert [line.split(": ")[1].split()[0] for line in str(raised.value).splitlines()] == list(keys)
