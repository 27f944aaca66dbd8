"""The alert source's token is revoked for an hour, and there is no second channel: incident.io's heartbeat says that no one is notified.

An hour here is 12 minutes of this machine's time. The sandbox's clock can be moved but not made faster, and incident.io's emulator measures
pings by the machine's. So the limits are a fifth of what they are in production: INCIDENT_IO_FALLBACK_MINUTES is 1 in place of 5, and the heartbeat is
missed after 60 s in place of 60 + 240 (deploy/on_call.yaml).
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterRunStatus

from orchestration.incidents import store
from orchestration.incidents.outbox import Waiting
from tests.chaos import names
from tests.chaos.platform import Platform, running, wait_for
from tests.chaos.test_signals import impatient, pages_of_heartbeat

pytestmark = pytest.mark.long

FASTER = 5.0
FALLBACK_MINUTES = 5 / FASTER
HOUR_SECONDS, TEN_MINUTES_SECONDS = 3600 / FASTER, 600 / FASTER
LOOKED_SECONDS = 15.0
"""By which this test may notice late what incident.io has noticed: a busy machine."""
BEATS = 120.0
DELIVERED_SECONDS = 240.0
"""Within which everything is delivered once the token is valid again: a refused token is tried every minute."""
FIRST, RECOVERED, LATER = "shop/alone002", "back/alone003", "shop/alone004"


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    # Without the channel, Slack carries no alerts; mail is not configured in the sandbox.
    with running(
        tmp_path / "platform", INCIDENT_IO_FALLBACK_MINUTES=str(FALLBACK_MINUTES), SLACK_ALERTS_CHANNEL=None
    ) as started:
        yield started


@pytest.mark.timeout(2400)
def test_a_revoked_token_opens_the_heartbeats_alert_and_everything_is_delivered_later(
    platform: Platform, tmp_path: Path
) -> None:
    wait_for(lambda: platform.heartbeat()["state"] == "healthy", BEATS, "the daemon pings")
    platform.apply(impatient(tmp_path / "on_call.yaml"))
    platform.faults.add("incident_io", "/v2/alert_events", "http_401")
    revoked = time.time()
    fail(platform, FIRST)
    undelivered = wait_for(lambda: waiting(platform), BEATS, "a notification waits")[0].since

    wait_for(lambda: platform.heartbeat()["alert_id"], TEN_MINUTES_SECONDS + BEATS, "the heartbeat's alert opens")
    opened_after = time.time() - undelivered
    print(f"the heartbeat's alert is open {opened_after:.0f} s after the first notification that was not delivered")
    assert opened_after < TEN_MINUTES_SECONDS + LOOKED_SECONDS
    [page] = pages_of_heartbeat(platform)
    assert (page["state"], page["schedule"], page["channel"]) == ("sent", "Engineers", "phone")
    assert platform.alerts() == []
    # incident.io writes the text of this alert itself; the sensor that withholds the pings says why.
    reason = platform.ticks("heartbeat", revoked)[0].skip_reason or ""
    assert reason.startswith("no ping: 1 notifications have reached no one, the oldest for ")
    assert "check incident.io's alert source and its token" in reason

    alert = platform.heartbeat()["alert_id"]
    fail(platform, RECOVERED)
    succeed(platform, RECOVERED)
    fail(platform, LATER)
    while time.time() < revoked + HOUR_SECONDS:
        assert platform.heartbeat()["alert_id"] == alert
        assert platform.alerts() == []
        time.sleep(10)

    platform.faults.remove("incident_io")
    wait_for(lambda: len(platform.alerts()) == 3 and not waiting(platform), DELIVERED_SECONDS, "all is delivered")
    wait_for(lambda: platform.heartbeat()["alert_id"] is None, BEATS, "the heartbeat's alert is resolved")
    assert platform.heartbeat()["state"] == "healthy"
    assert statuses(platform) == {FIRST: ["firing"], RECOVERED: ["firing", "resolved"], LATER: ["firing"]}
    succeed(platform, FIRST)
    succeed(platform, LATER)
    wait_for(lambda: not any(one.open for one in platform.alerts()), BEATS, "all alerts are resolved")
    assert statuses(platform) == {key: ["firing", "resolved"] for key in (FIRST, RECOVERED, LATER)}
    assert pages_of_heartbeat(platform) == [page]


def fail(platform: Platform, key: str) -> None:
    platform.orders.give(key)
    assert platform.run([key]).status == DagsterRunStatus.FAILURE


def succeed(platform: Platform, key: str) -> None:
    platform.orders.withdraw(key)
    assert platform.run([key]).status == DagsterRunStatus.SUCCESS


def waiting(platform: Platform) -> tuple[Waiting, ...]:
    return store.read_part(platform.instance, "waiting") or ()


def statuses(platform: Platform) -> dict[str, list[str]]:
    """Return the events that incident.io has received of each asset's alert."""
    found = {key: platform.alerts_of(names.step(key)) for key in (FIRST, RECOVERED, LATER)}
    return {key: [event["status"] for one in alerts for event in one.events] for key, alerts in found.items()}
