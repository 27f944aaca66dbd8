"""Very much at once: one cause is one incident and one page, however many assets fail by it; many causes are many, and soon."""

from collections.abc import Iterator

import pytest
from dagster import DagsterRunStatus

from tests.chaos.names import APART, TABLES, TOGETHER
from tests.chaos.platform import Platform, running, wait_for

pytestmark = pytest.mark.long

CAUSES = 50


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("storm"), "tests.chaos.storm_location") as started:
        yield started


def test_one_cause_is_one_incident_and_one_page(platform: Platform) -> None:
    platform.orders.give(TOGETHER)
    assert platform.run(TABLES).status == DagsterRunStatus.FAILURE
    wait_for(platform.alerts, 60, "it is told")
    platform.orders.withdraw(TOGETHER)
    assert platform.run(TABLES).status == DagsterRunStatus.SUCCESS
    wait_for(lambda: not any(alert.open for alert in platform.alerts()), 60, "it is resolved")
    [alert] = platform.alerts()
    assert f"{len(TABLES)} assets" in alert.events[0]["title"]
    assert len(alert.pages) == 1
    assert alert.paged_at_once
    assert len(platform.incidents()) == 1


def test_many_causes_are_as_many_incidents(platform: Platform) -> None:
    before, keys = len(platform.incidents()), TABLES[:CAUSES]
    platform.orders.give(APART)
    assert platform.run(keys).status == DagsterRunStatus.FAILURE
    wait_for(lambda: len(platform.incidents()) >= before + CAUSES, 60, f"there are {CAUSES} incidents")
    platform.orders.withdraw(APART)
    assert platform.run(keys).status == DagsterRunStatus.SUCCESS
    # With what was sent before, the last of them may be over the pace of a minute.
    wait_for(lambda: not any(alert.open for alert in platform.alerts()), 150, "they are resolved")
    alerts = platform.alerts()[-CAUSES:]
    assert {alert.unit for alert in alerts} == {f"unit/{key}" for key in keys}
    assert all(alert.paged_at_once and len(alert.pages) == 1 for alert in alerts)
    assert len(platform.incidents()) == before + CAUSES
