"""What an alert awaits can be removed from the platform: the alert then ends with that reason, and claims no recovery."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orchestration.incidents.model import Failure, Recovery, Signal
from orchestration.incidents.render import resolved
from orchestration.vendors.incident_io import AlertSource
from sandbox.env_file import environment
from tests.on_call import running
from tests.orchestration.incidents.failures import RECOVERY, URL
from tests.orchestration.incidents.test_triage import PRODUCT, SALES, Story

GONE = "no longer part of the platform: the asset is in no code location"


def removed(story: Story, *tokens: str, why: str = GONE) -> Signal:
    return Signal("", story.now, removed=dict.fromkeys(tokens, why))


def flapping() -> Story:
    """An alert that has opened for the third time within six hours."""
    story = Story()
    for name in ("a", "b", "c"):
        story.run(name, SALES, then=60)
        if name != "c":
            story.run(f"good-{name}", made=SALES.asset_keys, then=60)
    [alert] = story.state.alerts.values()
    assert alert.flapping
    return story


def last_recovery(story: Story) -> Recovery:
    recovery = story.told[-1]
    assert isinstance(recovery, Recovery)
    return recovery


def test_an_alert_whose_last_awaited_asset_is_removed_is_resolved_with_that_reason() -> None:
    story = Story().run("a", SALES)
    story.hear(removed(story, *SALES.asset_keys))
    recovery = last_recovery(story)
    assert (recovery.deduplication_key, recovery.reason, recovery.run_id) == ("fivetran/salesforce:a", GONE, None)
    assert story.state.alerts == {}


def test_an_asset_that_is_removed_while_others_are_missing_is_awaited_no_longer() -> None:
    story = Story().run("a", PRODUCT)
    story.hear(removed(story, "raw/users"))
    assert story.state.alerts["fivetran/product"].missing.keys() == {"raw/incidents"}
    story.run("b", made=("raw/incidents",))
    assert (last_recovery(story).reason, last_recovery(story).run_id) == ("", "b")


def test_several_reasons_are_each_given_once() -> None:
    story = Story().run("a", PRODUCT)
    signal = removed(story, "raw/users")
    story.hear(replace(signal, removed={"raw/users": "the first", "raw/incidents": "the second"}))
    assert last_recovery(story).reason == "the first; the second"


def test_what_fails_again_after_it_was_removed_in_the_same_tick_stays_open() -> None:
    story = Story().run("a", SALES)
    again = Signal("run:b", story.now + 1, (SALES,), run_id="b", root_run_id="b", job="job:ingest", ended=True)
    story.hear(removed(story, *SALES.asset_keys), again)
    [alert] = story.state.alerts.values()
    assert (alert.removed, list(alert.missing)) == ("", list(SALES.asset_keys))


def test_a_failure_that_waits_for_its_retry_ends_silently_when_it_is_removed() -> None:
    story = Story().run("a", SALES, retried=True, then=60)
    story.hear(removed(story, *SALES.asset_keys))
    assert (story.state.pending, story.told, story.state.history) == ({}, [], {})
    story.wait()
    assert story.told == []


def test_of_the_failures_that_wait_only_the_removed_one_ends() -> None:
    story = Story().run("a", SALES, PRODUCT, retried=True, then=60)
    story.hear(removed(story, *SALES.asset_keys, "raw/users"))
    [known] = story.state.pending.values()
    assert dict(known.missing) == {"fivetran/product": ("raw/incidents",)}
    story.wait()
    [failure] = story.told
    assert isinstance(failure, Failure)
    assert failure.name == "fivetran/product"


def test_an_alert_that_flaps_ends_at_once_when_it_is_removed() -> None:
    story = flapping()
    story.hear(removed(story, *SALES.asset_keys))
    assert (last_recovery(story).reason, story.state.alerts) == (GONE, {})


def test_an_alert_that_flaps_and_has_recovered_ends_at_once_when_it_is_removed() -> None:
    story = flapping().run("good-c", made=SALES.asset_keys, then=60)
    assert len(story.state.alerts) == 1
    story.hear(removed(story, *SALES.asset_keys))
    assert (last_recovery(story).reason, story.state.alerts) == (GONE, {})


def test_an_alert_that_no_one_was_notified_of_ends_silently_when_it_is_removed() -> None:
    story = Story()
    story.muted = set(SALES.asset_keys)
    story.run("a", SALES)
    story.muted = set()
    story.hear(removed(story, *SALES.asset_keys))
    assert (story.told, story.state.alerts) == ([], {})


def test_the_reason_is_in_the_text_redacted_and_incident_io_accepts_it(tmp_path: Path) -> None:
    why = f"{GONE}, says <https://evil.example|it>, password=hunter2"
    event = resolved(replace(RECOVERY, reason=why, run_id=None), URL)
    assert "not recovered: no longer part of the platform" in event.description
    assert "hunter2" not in event.description + event.metadata["reason"]
    assert "https://evil.example" not in event.description
    with running(tmp_path, "incident_io") as on_call:
        source = on_call.config.url("incident_io")
        values = environment(on_call.config)
        alerts = AlertSource(source, values["INCIDENT_IO_ALERT_SOURCE_ID"], values["INCIDENT_IO_ALERT_SOURCE_TOKEN"])
        alerts.send(replace(event, status="firing"))
        alerts.send(event)
        assert [one["status"] for one in on_call.events(event.deduplication_key)] == ["firing", "resolved"]
