"""That no alert is lost or repeated on its way out, with the platform of the story."""

from __future__ import annotations

import time

import pytest

from tests.e2e.conftest import Platform, wait_for

pytestmark = [pytest.mark.timeout(1200), pytest.mark.long]


def test_neither_incident_io_down_nor_a_killed_daemon_loses_an_alert_or_repeats_it(platform: Platform) -> None:
    known = len(platform.pages())
    platform.sandbox("break", "incident_io", "--fault", "refused")
    platform.sandbox("break", "fivetran", "product")
    assert platform.ingest() == "FAILURE"
    time.sleep(7)  # long enough for a tick to read the failure and to fail at its delivery
    platform.supervisor().stop("daemon", kill=True)
    platform.sandbox("mend", "incident_io")
    time.sleep(2)
    assert len(platform.pages()) == known
    platform.sandbox("up")
    wait_for(lambda: len(platform.pages()) > known, 60, "the alert arrives")
    time.sleep(11)  # two more ticks
    assert len(platform.pages()) == known + 1
    platform.sandbox("mend")
    assert platform.ingest() == "SUCCESS"
    wait_for(lambda: platform.alert_events()[-1]["status"] == "resolved", 15, "the alert is resolved")
    assert len(platform.pages()) == known + 1
