"""The control app and its page, and the commands that use it: real processes throughout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from sandbox.config import VENDORS
from sandbox.vendors.context import VendorContext
from sandbox.vendors.faults import KINDS
from sandbox.vendors.fivetran import state as fivetran
from sandbox.vendors.hightouch import state as hightouch
from tests.on_call import OnCall, running
from tests.stand_ins import wait_for

SOURCE = "01LOCALALERTSOURCE00000000"


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("control"), "control", "incident_io", "slack") as started:
        yield started


@pytest.fixture
def control(on_call: OnCall) -> Iterator[httpx.Client]:
    """The control app, with every fault mended and the clock reset afterwards."""
    with httpx.Client(base_url=on_call.config.url("control"), timeout=20) as client:
        yield client
        client.delete("/_control/faults").raise_for_status()
        client.delete("/_control/clock").raise_for_status()


@pytest.fixture
def room(control: httpx.Client) -> Any:
    """Reads the control room: the text of each of its parts, by id."""
    return lambda: _Parts.of(control.get("/").raise_for_status().text)


class _Parts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._part = ""

    @classmethod
    def of(cls, page: str) -> _Parts:
        parts = cls()
        parts.feed(page)
        return parts

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._part = dict(attrs).get("id") or self._part

    def handle_data(self, data: str) -> None:
        self.texts[self._part] = f"{self.texts.get(self._part, '')} {data}".strip()

    def __getitem__(self, part: str) -> str:
        return " ".join(self.texts.get(part, "").split())


def sandbox(on_call: OnCall, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox.cli", *arguments],
        env=os.environ | on_call.environment | {"COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def alert(on_call: OnCall, key: str, title: str, status: str = "firing", *, customer_facing: bool = False) -> None:
    httpx.post(
        f"{on_call.config.url('incident_io')}/v2/alert_events/http/{SOURCE}",
        headers={"Authorization": "Bearer local-alert-source-token"},
        json={
            "title": title,
            "status": status,
            "deduplication_key": key,
            "metadata": {"customer_facing": customer_facing},
        },
        timeout=20,
    ).raise_for_status()


def test_faults_are_added_listed_and_removed(control) -> None:
    assert control.get("/_control/health").json() == {"status": "ok"}
    made = control.post("/_control/faults", json={"vendor": "slack", "kind": "http_429", "times": 2}).json()
    assert (made["vendor"], made["kind"], made["params"], made["times"]) == ("slack", "http_429", {"retry_after": 2}, 2)
    control.post("/_control/faults", json={"vendor": "fivetran", "target": "product"}).raise_for_status()
    assert [f["kind"] for f in control.get("/_control/faults").json()] == ["http_429", "broken_credentials"]
    gone = control.delete("/_control/faults", params={"vendor": "fivetran", "target": "product"}).json()
    assert gone == {"removed": 1}
    assert control.get("/_control/faults").json() == [made]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"vendor": "looker"}, "no vendor 'looker'"),
        ({"vendor": "slack", "kind": "fire"}, "slack has no fault 'fire'"),
        ({"vendor": "fivetran", "kind": "sync_failure"}, "needs a target"),
        ({"vendor": "hightouch", "target": "typo"}, "hightouch has no 'typo'"),
        ({"vendor": "slack", "params": {"colour": "red"}}, "takes no colour"),
        ({"vendor": "slack", "times": 0}, "times: "),
        ({}, "vendor: "),
    ],
)
def test_an_unknown_fault_is_refused_with_the_choices(control, fault, message) -> None:
    answer = control.post("/_control/faults", json=fault)
    assert answer.status_code == 422
    assert message in answer.json()["detail"]
    assert control.get("/_control/faults").json() == []


def test_the_clock_is_moved_and_reset(control, room) -> None:
    assert "moved" not in room()[""]
    set_to = control.post("/_control/clock", json={"at": "2030-01-05T03:00:00+00:00"}).json()["now"]
    assert datetime.fromisoformat(set_to).isoformat().startswith("2030-01-05T03:00")
    assert "Sat 05 Jan 03:00" in room()[""]
    assert "moved" in room()[""]
    assert control.post("/_control/clock", json={"at": "2030-01-05T03:00:00"}).status_code == 422
    now = datetime.fromisoformat(control.delete("/_control/clock").json()["now"])
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=10)


def test_the_page_is_whole_without_scripts_or_other_addresses(control, room) -> None:
    parts = room()
    assert ("meta", {"http-equiv": "refresh", "content": "5"}) in parts.tags
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in parts.tags
    assert not [tag for tag, _ in parts.tags if tag in {"script", "img", "link", "iframe"}]
    assert not [attrs for _, attrs in parts.tags if "src" in attrs or "href" in attrs]
    assert all(parts[vendor] for vendor in VENDORS)


def test_the_page_says_what_is_broken(control, room) -> None:
    assert room()["slack"].endswith("ok")
    control.post("/_control/faults", json={"vendor": "slack", "kind": "http_429", "times": 3})
    control.post("/_control/faults", json={"vendor": "hightouch", "target": "salesforce_account_health"})
    parts = room()
    assert "broken" in parts["slack"]
    assert "http_429" in parts["slack"]
    assert "3 more" in parts["slack"]
    assert "sync_failure of salesforce_account_health" in parts["hightouch"]
    assert "since" in parts["hightouch"]
    assert parts["salesforce"].endswith("ok")


def test_the_page_shows_incidents_pages_and_messages(on_call, control, room) -> None:
    control.post("/_control/clock", json={"at": "2026-11-21T03:00:00+00:00"})
    alert(on_call, "customers", "explo/on_call_load failed", customer_facing=True)
    alert(on_call, "waits", "sales/account_health failed")
    alert(on_call, "cancelled", "tests failed")
    alert(on_call, "cancelled", "tests failed", "resolved")
    parts = room()
    assert "INC-1 open explo/on_call_load failed customer-facing, since Sat 21 Nov 03:00" in parts["incidents"]
    assert "INC-2 open sales/account_health failed internal" in parts["incidents"]
    assert "INC-3 closed tests failed internal" in parts["incidents"]
    assert "waiting until Mon 23 Nov 09:00:00 INC-2 sales/account_health failed data-responder" in parts["pages"]
    assert "cancelled INC-3" in parts["pages"]
    [engineer] = [p["user"] for p in on_call.pages("customers")]
    assert f"sent to {engineer} INC-1 explo/on_call_load failed customer-facing, Sat 21 Nov 03:00" in parts["pages"]

    # The page alone moves what is due: nobody has asked incident.io since.
    control.post("/_control/clock", json={"at": "2026-11-23T09:00:00+00:00"})
    assert "waiting" not in room()["pages"]
    [responder] = [p["user"] for p in on_call.pages("waits")]
    assert f"sent to {responder} INC-2" in room()["pages"]

    on_call.lift_limits("slack")
    for n in range(6):
        httpx.post(
            f"{on_call.config.url('slack')}/api/chat.postMessage",
            headers={"Authorization": "Bearer local-slack-token"},
            json={"channel": "#data", "text": f"message {n}"},
        ).raise_for_status()
    texts = room()["slack-messages"]
    assert "message 5" in texts
    assert "message 1" in texts
    assert "message 0" not in texts


def test_the_page_escapes_what_others_wrote(on_call, control, room) -> None:
    hostile = "<script>alert('x')</script><b>&amp;"
    alert(on_call, "hostile", hostile, customer_facing=True)
    httpx.post(
        f"{on_call.config.url('slack')}/api/chat.postMessage",
        headers={"Authorization": "Bearer local-slack-token"},
        json={"channel": "#<i>", "text": hostile},
    )
    control.post("/_control/faults", json={"vendor": "slack", "target": "<u>", "kind": "http_500"})
    parts = room()
    assert not [tag for tag, _ in parts.tags if tag in {"script", "b", "i", "u"}]
    for part in ("incidents", "pages", "slack-messages"):
        assert hostile in parts[part]


def test_the_page_shows_the_last_syncs_and_runs(on_call, control, room) -> None:
    store = VendorContext.of(on_call.config).store
    fivetran.prepare(store)
    hightouch.prepare(store)
    for reason in (None, "Reconnect the <source>."):
        [row] = store.execute(
            "insert into fivetran_sync (connection, status, started_at) values ('product_conn', 'running', ?) returning id",
            (fivetran.moment(),),
        )
        fivetran.finish(store, row["id"], "product_conn", rows='{"incidents": 1200, "alerts": 34}', reason=reason)
    hightouch.queue(store, 1, full_resync=False)
    parts = room()
    assert "product succeeded" in parts["fivetran"]
    assert "1,234 rows" in parts["fivetran"]
    assert "product failed" in parts["fivetran"]
    assert "Reconnect the <source>." in parts["fivetran"]
    assert "salesforce_account_health queued" in parts["hightouch"]


def test_break_and_mend_strike_and_heal_a_vendor(on_call, control) -> None:
    url = f"{on_call.config.url('slack')}/api/auth.test"
    done = sandbox(on_call, "break", "slack", "--fault", "http_429", "--times", "1", "--param", "retry_after=7")
    assert (done.returncode, done.stderr) == (0, "")
    assert "retry_after=7" in done.stdout
    assert "sandbox mend slack" in done.stdout
    answer = httpx.post(url)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert httpx.post(url).status_code == 200

    sandbox(on_call, "break", "incident_io")
    alerts = f"{on_call.config.url('incident_io')}/v2/alerts"
    wait_for(lambda: _refused(alerts), 10, "incident.io refuses connections")
    sandbox(
        on_call, "break", "hightouch", "salesforce_account_health", "--fault", "rejected_rows", "--param", "count=9"
    )
    assert [f["params"] for f in control.get("/_control/faults").json()] == [{}, {"count": 9}]
    one = sandbox(on_call, "mend", "hightouch", "salesforce_account_health")
    assert (one.returncode, one.stdout) == (0, "1 fault mended\n")
    everything = sandbox(on_call, "mend")
    assert everything.returncode == 0
    assert control.get("/_control/faults").json() == []
    assert sandbox(on_call, "mend").stdout == "nothing was broken\n"
    wait_for(lambda: not _refused(alerts), 10, "incident.io listens again")


def _refused(url: str) -> bool:
    try:
        httpx.get(url)
    except httpx.TransportError:
        return True
    return False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("break", "looker"), "no vendor 'looker'; there are fivetran, hightouch"),
        (("break", "[red]"), "no vendor '[red]'"),
        (("break", "slack", "--fault", "fire"), "slack has no fault 'fire'; it has http_500"),
        (("break", "hightouch", "typo"), "hightouch has no 'typo'; it has salesforce_account_health"),
        (("break", "slack", "--fault", "hang", "--param", "seconds=soon"), "--param seconds is a number, such as 60"),
        (("break", "slack", "--param", "seconds"), "--param 'seconds' is not key=value"),
        (("break", "slack", "--fault", "hang", "--param", "minutes=1"), "hang takes no minutes; it takes seconds"),
        (("mend", "looker"), "no vendor 'looker'"),
        (("mend", "hightouch", "typo"), "hightouch has no 'typo'"),
    ],
)
def test_the_commands_refuse_unknown_names(on_call, control, arguments, message) -> None:
    done = sandbox(on_call, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert control.get("/_control/faults").json() == []


def test_break_help_lists_every_fault(on_call) -> None:
    text = sandbox(on_call, "break", "--help").stdout
    for name, kind in KINDS.items():
        assert f"{name}: {kind.description}" in text
        assert all(f"--param {key}={value}" in text for key, value in kind.params.items())


def test_rate_limits_are_shown_changed_and_restored(control: httpx.Client) -> None:
    def alert_events() -> dict[str, Any]:
        [found] = [one for one in control.get("/_control/limits").json() if one["name"] == "alert_events"]
        return found

    control.delete("/_control/limits").raise_for_status()  # whatever an earlier test changed
    before = alert_events()
    assert (before["vendor"], before["requests"], before["documented"]) == ("incident_io", 120, None)
    change = {"vendor": "incident_io", "name": "alert_events", "requests": 3}
    control.put("/_control/limits", json=change).raise_for_status()
    assert (alert_events()["requests"], alert_events()["documented"]["requests"]) == (3, 120)
    assert control.delete("/_control/limits").json() == {"reset": 1}
    assert alert_events() == before
    refused = control.put("/_control/limits", json=change | {"name": "pages"})
    assert refused.status_code == 422
    assert "incident_io has no rate limit 'pages'; there are incident_io alert_events" in refused.json()["detail"]
