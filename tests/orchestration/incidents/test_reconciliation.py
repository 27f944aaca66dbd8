"""The comparison with incident.io's list: the decision, and the two sensors over incident.io's emulator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest

from orchestration.incidents import mutes, reconciliation, reconciliation_sensor, store
from orchestration.incidents.model import Recovery
from orchestration.incidents.outbox import Waiting
from orchestration.incidents.reconciliation import (
    CONFIRM_SECONDS,
    MOST_LOOK_UPS,
    MOST_REPEATED,
    MOST_RESOLVED,
    Comparison,
    Listing,
    Situation,
)
from orchestration.incidents.reconciliation_sensor import KEY, alert_reconciliation, read_comparison, write_comparison
from orchestration.incidents.sensor import incident_alerts
from orchestration.incidents.state import Alert, State
from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.graph import AUDIENCE_TAG
from orchestration.settings import settings
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io import AlertEvent, AlertSource
from orchestration.vendors.incident_io_alerts import AlertList
from sandbox.env_file import environment
from sandbox.vendors.context import VendorContext
from tests.on_call import OnCall, running
from tests.orchestration.wire import reply, wire

NOW = 1_800_000_000.0
LATER = NOW + CONFIRM_SECONDS


def alert(key: str, **more: Any) -> Alert:
    units = (FailedUnit(key, (key,), "it failed"),)
    values: dict[str, Any] = {"told": True, "since": NOW - 60, "last_seen": NOW - 60} | more
    return Alert(name=key, kind="asset", deduplication_key=f"{key}:run", units=units, missing={key: NOW}, **values)


def recovery(key: str, at: float = NOW) -> Recovery:
    moment = datetime.fromtimestamp(at, UTC)
    return Recovery(key, "asset", f"{key}:run", f"{key} failed", moment, moment)


def situation(*alerts: Alert, resolved: tuple[Recovery, ...] = (), **more: Any) -> Situation:
    known = {one.name: one for one in alerts}
    return Situation(known, more.pop("waiting", ()), {one.deduplication_key: one for one in resolved}, **more)


def waiting(key: str, status: Any = "firing") -> tuple[Waiting, ...]:
    return (Waiting(AlertEvent(f"{key}:run", status, key, "", "", {}), NOW),)


def compared(
    where: Situation, listing: Listing, *, first: Listing | None = None, after: float = CONFIRM_SECONDS
) -> Comparison:
    """The second of two comparisons."""
    before = reconciliation.compare_alerts(where, Comparison(), first or listing, NOW)
    assert (before.send_again, before.resolve_again) == ((), ()), "one comparison alone asks for nothing"
    return reconciliation.compare_alerts(where, before, listing, NOW + after)


ABSENT = Listing(frozenset(), absent=("a:run",))


def test_an_alert_that_incident_io_does_not_have_in_two_comparisons_is_sent_again() -> None:
    assert compared(situation(alert("a")), ABSENT).send_again == ("a:run",)


@pytest.mark.parametrize(
    ("where", "listing"),
    [
        (situation(alert("a")), Listing({"a:run"})),
        (situation(alert("a")), Listing(frozenset(), found=("a:run",))),
        (situation(alert("a")), Listing(frozenset())),
        (situation(alert("a"), waiting=waiting("a")), ABSENT),
        (situation(alert("a"), muted=("a",)), ABSENT),
        (situation(alert("a", told=False, held="young")), ABSENT),
        (situation(), ABSENT),
    ],
    ids=[
        "fires there",
        "a person has resolved it",
        "not looked up",
        "in the outbox",
        "muted",
        "no one notified",
        "resolved here",
    ],
)
def test_no_alert_is_sent_again_that_is_not_lost(where: Situation, listing: Listing) -> None:
    assert compared(where, listing).send_again == ()


def test_a_difference_has_to_last_and_the_comparisons_must_not_be_far_apart() -> None:
    where = situation(alert("a"))
    assert compared(where, ABSENT, after=CONFIRM_SECONDS - 1).send_again == ()
    assert compared(where, ABSENT, after=86400).send_again == ()
    assert compared(where, ABSENT, after=-86400).send_again == (), "the clock was set back"
    arrived = compared(where, Listing({"a:run"}), first=ABSENT)
    assert (arrived.send_again, arrived.missing) == ((), {})
    in_between = reconciliation.compare_alerts(situation(alert("a"), waiting=waiting("a")), arrived, ABSENT, LATER)
    assert in_between.missing == {}


def test_an_alert_that_was_sent_again_has_time_to_arrive() -> None:
    where = situation(alert("a"))
    asked = compared(where, ABSENT)
    again = reconciliation.compare_alerts(where, asked, ABSENT, LATER + 300)
    assert again.send_again == ()
    assert reconciliation.compare_alerts(where, again, ABSENT, LATER + 600).send_again == ("a:run",)


def test_a_resolved_alert_that_still_fires_there_is_resolved_again() -> None:
    fires = Listing({"a:run", "another platform's"})
    assert compared(situation(resolved=(recovery("a"),)), fires).resolve_again == ("a:run",)


@pytest.mark.parametrize(
    ("where", "listing"),
    [
        (situation(), Listing({"a:run"})),
        (situation(resolved=(recovery("a"),)), Listing(frozenset())),
        (situation(alert("a"), resolved=(recovery("a"),)), Listing({"a:run"})),
        (situation(alert("a", told=False), resolved=(recovery("a"),)), Listing({"a:run"})),
        (situation(resolved=(recovery("a"),), waiting=waiting("a", "resolved")), Listing({"a:run"})),
    ],
    ids=["never sent by us", "resolved there", "open again", "open again and held", "in the outbox"],
)
def test_nothing_is_resolved_that_is_not_ours_or_not_over(where: Situation, listing: Listing) -> None:
    assert compared(where, listing).resolve_again == ()


def test_a_customers_alert_under_its_second_key_is_compared_by_that_key() -> None:
    rekeyed = replace(alert("a", customer_facing=True), deduplication_key="a:run:customer")
    where = situation(rekeyed, resolved=(recovery("a"),))
    after = compared(where, Listing({"a:run"}, absent=("a:run:customer",)))
    assert (after.send_again, after.resolve_again) == (("a:run:customer",), ("a:run",))


def test_an_incomplete_list_proves_nothing_about_what_it_lacks() -> None:
    where = situation(resolved=(recovery("a"), recovery("b")))
    fires = Listing({"a:run", "b:run"})
    cut = compared(where, Listing({"b:run"}, complete=False), first=fires)
    assert (cut.resolve_again, dict(cut.unresolved)) == (("b:run",), {"a:run": NOW})


def test_the_work_of_one_comparison_is_bounded_and_the_rest_follows() -> None:
    many = [alert(f"a{n}", customer_facing=n >= 290) for n in range(300)]
    where, record, sent = situation(*many), Comparison(), list[str]()
    for turn in range(60):
        looked_up = reconciliation.keys_to_look_up(where, record, frozenset())
        assert len(looked_up) <= MOST_LOOK_UPS
        record = reconciliation.compare_alerts(where, record, Listing(frozenset(), absent=looked_up), NOW + turn * 300)
        assert len(record.send_again) + len(record.resolve_again) <= MOST_REPEATED
        sent += record.send_again
        # What was sent again arrives.
        record = replace(record, known=(*record.known, *record.send_again))
        if len(sent) == 300:
            break
    assert len(sent) == len(set(sent)) == 300
    assert {key.partition(":")[0] for key in sent[:10]} == {f"a{n}" for n in range(290, 300)}, "customers first"


def test_an_alert_that_incident_io_has_is_not_looked_up_again() -> None:
    where = situation(alert("a"), alert("b"))
    record = reconciliation.compare_alerts(where, Comparison(), Listing({"b:run"}, found=("a:run",)), NOW)
    assert reconciliation.keys_to_look_up(where, record, frozenset()) == []
    closed = reconciliation.compare_alerts(situation(alert("b")), record, Listing(frozenset()), LATER)
    assert closed.known == ("b:run",), "a closed alert is forgotten"


def test_a_request_is_carried_out_once_and_only_while_it_still_holds() -> None:
    state = State(
        alerts={one.name: one for one in (alert("a"), alert("b"), alert("c"), alert("d", told=False))},
        waiting=waiting("b"),
        resolved={one.deduplication_key: one for one in (recovery("x"), recovery("c"))},
    )
    asked = Comparison(
        NOW, send_again=("a:run", "b:run", "d:run", "gone:run"), resolve_again=("x:run", "c:run", "unknown:run")
    )
    after, recoveries = reconciliation.carry_out(state, asked, NOW + 5)
    assert [name for name, one in after.alerts.items() if one.changed] == ["a"]
    assert [one.name for one in recoveries] == ["x"]
    assert reconciliation.carry_out(after, asked, NOW + 10) == (after, [])
    assert reconciliation.carry_out(state, asked, NOW + 86400) == (state, [])
    assert reconciliation.carry_out(state, asked, NOW - 86400) == (state, [])


def test_resolved_alerts_are_remembered_for_a_day_and_not_without_end() -> None:
    old, new = recovery("old", NOW - 86400), recovery("new")
    known = reconciliation.remember_resolved({}, [old, new], NOW)
    assert list(known) == ["new:run"]
    many = reconciliation.remember_resolved(known, [recovery(f"n{n}") for n in range(MOST_RESOLVED)], NOW)
    assert (len(many), "new:run" in many) == (MOST_RESOLVED, False)
    assert reconciliation.remember_resolved(known, [], NOW) == known


# Over the wire

BROKEN: set[str] = set()


@dg.asset(key=["insights", "internal"])
def internal() -> None:
    if "internal" in BROKEN:
        raise RuntimeError("could not build")


@dg.asset(key=["insights", "shown"])
def shown() -> None:
    if "shown" in BROKEN:
        raise RuntimeError("could not build")


DASHBOARD = dg.AssetSpec(["explo", "shown"], deps=[["insights", "shown"]], tags={AUDIENCE_TAG: "customer"})
DEFS = dg.Definitions(
    [internal, shown, DASHBOARD], sensors=[incident_alerts, alert_reconciliation], executor=dg.in_process_executor
)


class Platform:
    """An instance in which both sensors tick. Time passes between comparisons by setting the stored one back."""

    def __init__(self, instance: dg.DagsterInstance, on_call: OnCall) -> None:
        self.instance, self.on_call = instance, on_call
        self.cursor: str | None = None
        self.tick()

    @property
    def faults(self) -> Any:
        return VendorContext.of(self.on_call.config).faults

    @property
    def state(self) -> State:
        return store.load(self.instance, self.cursor).state

    def run(self, *broken: str) -> None:
        BROKEN.clear()
        BROKEN.update(broken)
        DEFS.resolve_implicit_global_asset_job_def().execute_in_process(instance=self.instance, raise_on_error=False)
        self.tick()

    def tick(self) -> None:
        context = dg.build_sensor_context(self.instance, cursor=self.cursor, definitions=DEFS)
        self.cursor = incident_alerts.evaluate_tick(context).cursor

    def compare(self) -> str:
        """One comparison, and a tick of the alert sensor. Returns what the comparison says."""
        result = alert_reconciliation.evaluate_tick(dg.build_sensor_context(self.instance, definitions=DEFS))
        self.tick()
        return result.skip_message or ""

    def pass_minutes(self) -> None:
        """Let five minutes pass since the last comparison."""
        found = read_comparison(self.instance)
        write_comparison(
            self.instance,
            replace(
                found,
                at=found.at - 300,
                missing={key: at - 300 for key, at in found.missing.items()},
                unresolved={key: at - 300 for key, at in found.unresolved.items()},
            ),
        )

    def compare_twice(self) -> str:
        self.compare()
        self.pass_minutes()
        return self.compare()

    def listed(self, status: str) -> list[str]:
        """Keys of this platform's alerts in incident.io."""
        source = settings().incident_io_alert_source_id
        answer = httpx.get(
            f"{self.on_call.config.url('incident_io')}/v2/alerts",
            params={"alert_source[one_of]": source, "status[one_of]": status, "page_size": 50},
            headers={"Authorization": "Bearer local-incident_io-key"},
            timeout=10,
        )
        ours = {one.deduplication_key for one in self.state.alerts.values()} | self.state.resolved.keys()
        return [one["deduplication_key"] for one in answer.json()["alerts"] if one["deduplication_key"] in ours]

    def pages(self) -> int:
        ours = {one.deduplication_key for one in self.state.alerts.values()} | self.state.resolved.keys()
        return sum(page["deduplication_key"] in ours for page in self.on_call.inspect("incident_io", "pages"))


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with (
        running(tmp_path_factory.mktemp("on-call"), "incident_io") as process,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment(process.config).items():
            patch.setenv(name, value)
        settings.cache_clear()
        process.lift_limits("incident_io")
        yield process
    settings.cache_clear()


@pytest.fixture
def platform(on_call: OnCall, tmp_path: Path) -> Iterator[Platform]:
    on_call.clock("2026-11-24T12:00:00+00:00")
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield Platform(instance, on_call)
    VendorContext.of(on_call.config).faults.remove()


def source() -> AlertSource:
    values = settings()
    return AlertSource(
        str(values.incident_io_api_url),
        values.incident_io_alert_source_id,
        values.incident_io_alert_source_token.get_secret_value(),
    )


@pytest.mark.parametrize("asset", ["internal", "shown"])
def test_a_lost_alert_is_sent_again_and_pages_once(platform: Platform, asset: str) -> None:
    platform.faults.add("incident_io", kind="drops", times=1)
    platform.run(asset)
    [lost] = platform.on_call.inspect("incident_io", "dropped")[-1:]
    assert (lost["status"], platform.state.waiting, platform.listed("firing")) == ("firing", (), [])
    assert "differ" in platform.compare()
    assert platform.listed("firing") == [], "one comparison alone sends nothing"
    platform.pass_minutes()
    assert "1 are sent again" in platform.compare()
    assert platform.listed("firing") == [lost["deduplication_key"]]
    # Every further comparison finds it, and the recovery resolves it.
    platform.compare_twice()
    assert platform.pages() == 1
    platform.run()
    assert (platform.listed("firing"), platform.listed("resolved")) == ([], [lost["deduplication_key"]])


def test_a_lost_resolution_is_sent_again(platform: Platform) -> None:
    platform.run("internal")
    [key] = platform.listed("firing")
    platform.faults.add("incident_io", kind="drops", params={"status": "resolved"}, times=1)
    platform.run()
    assert (platform.state.alerts, platform.state.waiting, platform.listed("firing")) == ({}, (), [key])
    assert "1 are resolved again" in platform.compare_twice()
    assert (platform.listed("firing"), platform.listed("resolved")) == ([], [key])
    events = len(platform.on_call.events(key))
    platform.compare_twice()
    assert len(platform.on_call.events(key)) == events == 2


def test_an_alert_that_a_person_has_resolved_in_incident_io_stays_resolved(platform: Platform) -> None:
    platform.run("internal")
    [key] = platform.listed("firing")
    source().send(AlertEvent(key, "resolved", "resolved by hand", "", "", {}))
    for _ in range(3):
        platform.compare_twice()
    assert (platform.listed("firing"), platform.listed("resolved"), platform.pages()) == ([], [key], 1)


def test_alerts_of_other_platforms_in_the_same_source_are_left_alone(platform: Platform) -> None:
    other = AlertEvent(f"other/{time.time_ns()}", "firing", "another platform's", "", "", {})
    source().send(other)
    platform.run("internal")
    platform.run()
    platform.compare_twice()
    assert [event["status"] for event in platform.on_call.events(other.deduplication_key)] == ["firing"]


def test_an_outage_of_incident_io_delays_the_comparison_and_breaks_nothing(platform: Platform) -> None:
    platform.faults.add("incident_io", kind="drops", times=1)
    platform.run("internal")
    platform.compare()
    before = read_comparison(platform.instance)
    for kind in ("http_500", "html", "truncated", "reset"):
        platform.faults.add("incident_io", "GET /v2/alerts", kind)
        assert platform.compare().startswith("not compared"), kind
        platform.faults.remove("incident_io", kind=kind)
    assert read_comparison(platform.instance) == before
    assert platform.listed("firing") == []
    platform.pass_minutes()
    assert "1 are sent again" in platform.compare()
    assert (len(platform.listed("firing")), platform.pages()) == (1, 1)


def test_a_refused_api_key_fails_the_tick_and_says_what_to_do(platform: Platform) -> None:
    platform.run("internal")
    platform.faults.add("incident_io", "GET /v2/alerts", "http_403")
    with pytest.raises(VendorError, match="INCIDENT_IO_API_KEY to a key that may view alerts"):
        alert_reconciliation.evaluate_tick(dg.build_sensor_context(platform.instance, definitions=DEFS))


def test_nothing_is_asked_while_there_is_nothing_to_compare(platform: Platform) -> None:
    platform.faults.add("incident_io", "GET /v2/alerts", "http_403")
    assert platform.compare() == "no alert has to be compared"


def test_a_muted_alert_is_not_sent_again(platform: Platform) -> None:
    platform.faults.add("incident_io", kind="drops", times=1)
    platform.run("internal")
    platform.compare()
    until = datetime.fromtimestamp(time.time() + 3600, UTC)
    mutes.add(platform.instance, mutes.Mute("insights/internal", until, "known", "test"), (), time.time())
    platform.pass_minutes()
    platform.compare()
    assert platform.listed("firing") == []


@pytest.mark.parametrize("stored", ["", "no JSON", "[]", '{"at": "yesterday"}', '{"send_again": 7}', '{"at": 1e400}'])
def test_an_unreadable_comparison_stops_neither_sensor(platform: Platform, stored: str) -> None:
    platform.run("internal")
    platform.instance.daemon_cursor_storage.set_cursor_values({KEY: stored})
    platform.tick()
    assert "compared" in platform.compare()


def test_a_request_survives_a_tick_that_was_not_saved(platform: Platform) -> None:
    platform.faults.add("incident_io", kind="drops", times=1)
    platform.run("internal")
    platform.compare()
    platform.pass_minutes()
    alert_reconciliation.evaluate_tick(dg.build_sensor_context(platform.instance, definitions=DEFS))
    storage, cursor = platform.instance.daemon_cursor_storage, platform.cursor
    before = storage.get_cursor_values({store.VERSION, *(f"{store.PREFIX}/{name}" for name in store.PARTS)})
    platform.tick()
    storage.set_cursor_values(before)
    platform.cursor = cursor
    platform.tick()
    [key] = platform.listed("firing")
    assert (len(platform.on_call.events(key)), platform.pages()) == (2, 1)


@pytest.mark.long
def test_ten_pages_of_alerts_are_read_and_the_number_of_pages_is_bounded(platform: Platform, monkeypatch: Any) -> None:
    platform.run("internal")
    platform.run()
    sent = source()
    for number in range(510):
        sent.send(AlertEvent(f"many/{number}", "firing", "many", "", "", {}))
    values = settings()
    listed = AlertList(str(values.incident_io_api_url), "local-incident_io-key", values.incident_io_alert_source_id)
    whole = listed.read_firing_keys(20, time.monotonic() + 60)
    assert whole.complete
    assert {f"many/{number}" for number in range(510)} <= whole.keys
    cut = listed.read_firing_keys(10, time.monotonic() + 60)
    assert (len(cut.keys), cut.complete) == (500, False)
    assert not listed.read_firing_keys(20, time.monotonic() - 1).complete
    assert (listed.has_alert("many/1"), listed.has_alert("many/none")) == (True, False)
    monkeypatch.setattr(reconciliation_sensor, "MOST_PAGES", 2)
    assert "Only 100 alerts" in platform.compare()
    for number in range(510):
        sent.send(AlertEvent(f"many/{number}", "resolved", "many", "", "", {}))


ENTRY = {"deduplication_key": "other", "status": "firing", "alert_source_id": "source"}


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({"alerts": []}, False),
        ({"alerts": [ENTRY | {"deduplication_key": "key", "status": "resolved"}], "pagination_meta": {}}, True),
        ({"alerts": [ENTRY]}, VendorError),
        ({"alerts": [ENTRY | {"deduplication_key": "key", "alert_source_id": "else"}]}, VendorError),
        ({"alerts": [7, {"deduplication_key": None}]}, VendorError),
        ({"alerts": None}, VendorError),
        ([], VendorError),
        ("<html>", VendorError),
    ],
)
def test_only_a_clear_answer_says_that_incident_io_has_or_lacks_an_alert(answer: Any, wanted: Any) -> None:
    with wire(reply(200, answer)) as server:
        listed = AlertList(server.url, "key", "source")
        if wanted is VendorError:
            with pytest.raises(VendorError):
                listed.has_alert("key")
        else:
            assert listed.has_alert("key") is wanted
    assert "deduplication_key%5Bis%5D=key" in server.requests[0]
    assert "alert_source%5Bone_of%5D=source" in server.requests[0]


def test_entries_of_the_list_that_are_not_as_documented_are_left_out() -> None:
    fires = ENTRY | {"deduplication_key": "fires"}
    items = [
        7,
        {},
        ENTRY | {"status": "resolved"},
        ENTRY | {"alert_source_id": "else"},
        fires,
        ENTRY | {"status": None},
    ]
    with wire(reply(200, {"alerts": items, "pagination_meta": None})) as server:
        found = AlertList(server.url, "key", "source").read_firing_keys(5, time.monotonic() + 5)
    assert (set(found.keys), found.complete, found.unreadable) == ({"fires"}, True, 3)


def test_an_error_of_a_later_page_leaves_the_list_incomplete() -> None:
    page = {"alerts": [ENTRY], "pagination_meta": {"after": "one"}}
    with wire(reply(200, page), reply(500, {})) as server:
        found = AlertList(server.url, "key", "source").read_firing_keys(5, time.monotonic() + 5)
    assert (set(found.keys), found.complete) == ({"other"}, False)
    assert "after=one" in server.requests[1]
