"""The rota: the decision by itself, and the sensor over the stand-ins of incident.io and Slack."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from orchestration.incidents.rota import Change, LeaveAlone, data_responder_rota, decide
from orchestration.settings import settings
from orchestration.vendors.http import VendorError
from sandbox.env_file import environment
from sandbox.vendors.context import VendorContext
from sandbox.vendors.incident_io.rota import DATA_RESPONDERS
from tests.on_call import OnCall, running
from tests.orchestration.wire import reply, wire

PRIYA, JONAS, MAEVE = (person.slack_user_id for person in DATA_RESPONDERS)
# Weeks begin on Monday at nine, and the people take turns.
NOVEMBER_24 = "2026-11-24T10:00:00+00:00"
A_WEEK_LATER, TWO_WEEKS_LATER = "2026-12-01T10:00:00+00:00", "2026-12-08T10:00:00+00:00"
NIGHT = "2026-11-25T03:00:00+00:00"


@pytest.mark.parametrize(
    ("wanted", "actual", "decision"),
    [
        ([], [PRIYA], LeaveAlone("nobody is on shift")),
        ([], [], LeaveAlone("nobody is on shift")),
        ([PRIYA], [PRIYA], LeaveAlone("it has who is on shift")),
        ([PRIYA, JONAS], [JONAS, PRIYA], LeaveAlone("it has who is on shift")),
        ([PRIYA], [], Change((PRIYA,), (PRIYA,), ())),
        ([JONAS], [PRIYA], Change((JONAS,), (JONAS,), (PRIYA,))),
        ([JONAS, JONAS], [PRIYA, MAEVE], Change((JONAS,), (JONAS,), (PRIYA, MAEVE))),
        ([JONAS, PRIYA], [PRIYA], Change((JONAS, PRIYA), (JONAS,), ())),
    ],
)
def test_the_group_becomes_who_is_on_shift_and_never_nobody(wanted, actual, decision) -> None:
    assert decide(wanted, actual) == decision


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("rota"), "incident_io", "slack") as started:
        started.lift_limits("slack")
        yield started


@pytest.fixture
def tick(on_call: OnCall, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """One tick of the sensor with these settings more; returns what it says."""

    def ticked(**more: str) -> str:
        for name, value in (environment(on_call.config) | more).items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        with dg.instance_for_test() as instance:
            result = data_responder_rota(dg.build_sensor_context(instance))
        assert isinstance(result, dg.SkipReason)
        return result.skip_message or ""

    yield ticked
    settings.cache_clear()
    VendorContext.of(on_call.config).faults.remove()


def group(on_call: OnCall) -> list[str]:
    [found] = [one for one in on_call.inspect("slack", "groups") if one["handle"] == "data-responder"]
    return found["users"]


def test_whoever_is_on_shift_takes_over_and_it_is_said_who(on_call: OnCall, tick: Callable[..., str]) -> None:
    on_call.clock(NOVEMBER_24)
    first = tick()
    before = group(on_call)
    assert len(before) == 1
    on_call.clock(A_WEEK_LATER)
    said = tick()
    [after] = group(on_call)
    names = {person.slack_user_id: person.name for person in DATA_RESPONDERS}
    assert after != before[0]
    assert said == f"@data-responder is now {names[after]}: {names[after]} joined, {names[before[0]]} left"
    assert names[before[0]] in first
    assert tick() == f"@data-responder is left alone: it has who is on shift ({names[after]})"
    on_call.clock(TWO_WEEKS_LATER)
    tick()
    assert {before[0], after, *group(on_call)} == {PRIYA, JONAS, MAEVE}


def test_at_night_nobody_is_on_shift_and_the_last_one_stays(on_call: OnCall, tick: Callable[..., str]) -> None:
    on_call.clock(NOVEMBER_24)
    tick()
    before = group(on_call)
    on_call.clock(NIGHT)
    assert tick() == "@data-responder is left alone: nobody is on shift"
    assert group(on_call) == before


def test_it_does_nothing_where_incident_io_does_it(on_call: OnCall, tick: Callable[..., str]) -> None:
    on_call.clock(NOVEMBER_24)
    tick()
    before = group(on_call)
    on_call.clock(A_WEEK_LATER)
    assert "ROTA_SYNC is off" in tick(ROTA_SYNC="false")
    assert group(on_call) == before


@pytest.mark.parametrize(
    ("vendor", "kind"),
    [("incident_io", "http_500"), ("incident_io", "html"), ("incident_io", "truncated"), ("incident_io", "reset"),
     ("slack", "http_500"), ("slack", "html"), ("slack", "truncated"), ("slack", "reset")],
)  # fmt: skip
def test_on_any_error_the_group_stays_and_the_tick_fails(
    on_call: OnCall, tick: Callable[..., str], vendor: str, kind: str
) -> None:
    on_call.clock(NOVEMBER_24)
    tick()
    before = group(on_call)
    on_call.clock(A_WEEK_LATER)
    VendorContext.of(on_call.config).faults.add(vendor, kind=kind)
    with pytest.raises(VendorError, match="@data-responder was left as it is"):
        tick()
    assert group(on_call) == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"INCIDENT_IO_SCHEDULE": "Nobody's"}, 'there is no schedule "Nobody\'s". See INCIDENT_IO_SCHEDULE'),
        ({"SLACK_RESPONDER_GROUP": "night-watch"}, "there is no user group @night-watch. See SLACK_RESPONDER_GROUP"),
        ({"SLACK_BOT_TOKEN": "xoxb-wrong"}, "invalid_auth. See SLACK_BOT_TOKEN"),
        ({"INCIDENT_IO_API_KEY": "wrong"}, "See INCIDENT_IO_API_KEY"),
    ],
)
def test_what_is_set_wrongly_is_named(on_call: OnCall, tick: Callable[..., str], more, words: str) -> None:
    on_call.clock(A_WEEK_LATER)
    with pytest.raises(VendorError) as caught:
        tick(**more)
    assert words in str(caught.value)


def test_a_schedule_is_found_by_its_id_too(on_call: OnCall, tick: Callable[..., str]) -> None:
    on_call.clock(NOVEMBER_24)
    tick()
    assert "it has who is on shift" in tick(INCIDENT_IO_SCHEDULE="01LOCALSCHEDULE00000000002")


def shift(**user: str) -> dict[str, object]:
    moment = "2026-11-24T09:00:00Z"
    return {"start_at": moment, "end_at": moment, "user": {"id": user["name"], "role": "responder", **user}}


def schedule(*shifts: dict[str, object]) -> tuple[bytes, bytes]:
    """The two answers about a schedule: the list, and the schedule itself."""
    content = {"id": "S", "name": "Data responder", "current_shifts": list(shifts)}
    return reply(200, {"schedules": [content]}), reply(200, {"schedule": content})


def test_people_are_matched_by_their_slack_id_else_by_mail(on_call: OnCall, tick: Callable[..., str]) -> None:
    people = (
        shift(name="P", slack_user_id=PRIYA),
        shift(name="J", email="jonas@example.com"),
        {"start_at": "", "end_at": ""},
    )
    with wire(*schedule(*people)) as server:
        assert "@data-responder is now P, J" in tick(INCIDENT_IO_API_URL=server.url)
    assert group(on_call) == [PRIYA, JONAS]


@pytest.mark.parametrize("person", [shift(name="X", email="x@example.com"), shift(name="X")])
def test_somebody_who_is_not_in_slack_is_an_error_and_nobody_is_moved(
    on_call: OnCall, tick: Callable[..., str], person: dict[str, object]
) -> None:
    before = group(on_call)
    words = r"X \(.*\) is on shift and not known there\. Link the two accounts"
    answers = schedule(shift(name="M", slack_user_id=MAEVE), person)
    with wire(*answers) as server, pytest.raises(VendorError, match=words):
        tick(INCIDENT_IO_API_URL=server.url)
    assert group(on_call) == before
