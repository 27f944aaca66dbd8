"""`dataplatform on-call` against the stand-in: a process of its own, over HTTP, by the command that people type."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestration.on_call.config import FILE
from tests.on_call import OnCall, running
from tests.orchestration.wire import RESET, refused_port, reply, wire

NOTHING = "nothing to do: incident.io is as the file says\n"
CREATED = 20


@pytest.fixture
def on_call(tmp_path: Path) -> Iterator[OnCall]:
    with running(tmp_path / "sandbox", "incident_io", configured=False) as started:
        yield started


@pytest.fixture
def api(on_call: OnCall) -> Iterator[httpx.Client]:
    headers = {"Authorization": "Bearer local-incident_io-key"}
    with httpx.Client(base_url=on_call.config.url("incident_io"), headers=headers, timeout=20) as client:
        yield client


def command(url: str, *arguments: str, key: str = "local-incident_io-key") -> subprocess.CompletedProcess[str]:
    """What somebody types who has nothing but incident.io's address and a key."""
    names = ("PATH", "HOME", "LANG")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "orchestration.cli", "on-call", *arguments],
        env=environment | {"INCIDENT_IO_API_URL": url, "INCIDENT_IO_API_KEY": key, "COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def routes(api: httpx.Client) -> dict[str, str]:
    """Ids by name."""
    return {one["name"]: one["id"] for one in api.get("/v3/alert_routes").json()["alert_routes"]}


def edited(tmp_path: Path, *changes: tuple[str, str]) -> str:
    text = FILE.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "on_call.yaml"
    file.write_text(text)
    return str(file)


def test_the_second_apply_does_nothing(on_call: OnCall) -> None:
    url = on_call.config.url("incident_io")
    planned = command(url, "plan")
    assert (planned.returncode, planned.stderr) == (2, "")
    assert "+ create schedule 'Engineers'" in planned.stdout
    assert '    timezone: "Europe/London"' in planned.stdout
    assert f"{CREATED} to create; `dataplatform on-call apply` does it" in planned.stdout
    assert command(url, "plan").stdout == planned.stdout, "a plan changes nothing"

    first = command(url, "apply")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.count("created ") == CREATED
    assert "created alert source 'Data platform' (01LOCALALERTSOURCE00000000)" in first.stdout
    second = command(url, "apply")
    assert (second.returncode, second.stdout, second.stderr) == (0, NOTHING, "")
    assert (command(url, "plan").returncode, command(url, "plan").stdout) == (0, NOTHING)


def test_a_route_deleted_by_hand_is_restored_and_a_foreign_one_is_untouched(on_call: OnCall, api: httpx.Client) -> None:
    on_call.configure()
    body = api.get(f"/v3/alert_routes/{routes(api)['Data platform: internal']}").json()["alert_route"]
    foreign = {
        name: body[name] for name in ("escalation_config", "grouping_config", "message_config", "incident_config")
    } | {"name": "Checkout", "enabled": False, "is_private": False, "expressions": [], "condition_groups": [], "alert_sources": []}  # fmt: skip
    api.post("/v3/alert_routes", json=foreign).raise_for_status()
    before = api.get(f"/v3/alert_routes/{routes(api)['Checkout']}").json()

    api.delete(f"/v3/alert_routes/{routes(api)['Data platform: internal']}").raise_for_status()
    done = command(on_call.config.url("incident_io"), "apply")
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        "created alert route 'Data platform: internal'",
        "done",
    ]
    assert set(routes(api)) == {
        "Checkout", "Data platform: internal", "Data platform: customer-facing", "Data platform: transient",
        "Data platform: unknown asset",
    }  # fmt: skip
    assert api.get(f"/v3/alert_routes/{routes(api)['Checkout']}").json() == before
    assert on_call.configure() == ()


@pytest.mark.long
def test_a_foreign_route_of_the_same_name_is_refused_and_can_be_taken_over(on_call: OnCall, api: httpx.Client) -> None:
    on_call.configure()
    name = "Data platform: internal"
    body = api.get(f"/v3/alert_routes/{routes(api)[name]}").json()["alert_route"]
    api.delete(f"/v3/alert_routes/{routes(api)[name]}").raise_for_status()
    by_hand = {key: body[key] for key in ("escalation_config", "grouping_config", "message_config", "incident_config")}
    by_hand |= {"name": name, "enabled": False, "is_private": False, "expressions": [], "condition_groups": []}
    made = api.post("/v3/alert_routes", json=by_hand | {"alert_sources": []}).raise_for_status().json()["alert_route"]

    url = on_call.config.url("incident_io")
    for what in ("plan", "apply"):
        refused = command(url, what)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"'{name}' in incident.io (id {made['id']}) that was not made here" in refused.stderr
    assert api.get(f"/v3/alert_routes/{made['id']}").json()["alert_route"] == made

    taken = command(url, "apply", "--adopt", f"alert_route/{name}")
    assert f"took over alert route '{name}' ({made['id']})" in taken.stdout
    assert api.get(f"/v3/alert_routes/{made['id']}").json()["alert_route"]["enabled"] is True
    assert command(url, "apply").stdout == NOTHING


@pytest.mark.long
def test_what_was_changed_by_hand_is_shown_and_put_right(on_call: OnCall, api: httpx.Client) -> None:
    on_call.configure()
    schedule = next(one for one in api.get("/v2/schedules").json()["schedules"] if one["name"] == "Engineers")
    api.put(f"/v2/schedules/{schedule['id']}", json={"schedule": {"timezone": "UTC"}}).raise_for_status()
    url = on_call.config.url("incident_io")
    planned = command(url, "plan")
    assert planned.returncode == 2
    assert '~ update schedule \'Engineers\'\n    timezone: "UTC" -> "Europe/London"\n' in planned.stdout
    assert "updated schedule 'Engineers'" in command(url, "apply").stdout
    assert command(url, "apply").stdout == NOTHING
    now = api.get(f"/v2/schedules/{schedule['id']}").json()["schedule"]
    assert now["config"] == schedule["config"], "the rotation is still the same one"


def test_the_file_is_followed_and_what_it_no_longer_has_is_deleted(
    on_call: OnCall, api: httpx.Client, tmp_path: Path
) -> None:
    on_call.configure()
    file = edited(
        tmp_path,
        ('"Data platform: transient":', '"Data platform: passing":'),
        (", sam@example.com", ""),
        ("slack_user_group: S00000001", "slack_user_group: S00000002"),
        ("alert_source: Data platform", "alert_source: Data"),
    )
    url = on_call.config.url("incident_io")
    token = _source(api)["secret_token"]
    done = command(url, "apply", "--file", file)
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        "updated schedule 'Engineers'",
        "created schedule sync target 'Data responder in S00000002'",
        "created schedule sync rule 'Data responder in S00000002'",
        "updated alert source 'Data'",
        "created alert route 'Data platform: passing'",
        "deleted alert route 'Data platform: transient'",
        "deleted schedule sync rule 'Data responder in S00000001'",
        "deleted schedule sync target 'Data responder in S00000001'",
        "done",
    ]
    assert (_source(api)["name"], _source(api)["secret_token"]) == ("Data", token)
    assert command(url, "apply", "--file", file).stdout == NOTHING


def _source(api: httpx.Client) -> dict[str, Any]:
    return api.get("/v2/alert_sources/01LOCALALERTSOURCE00000000").json()["alert_source"]


def test_an_apply_that_broke_off_is_finished_by_the_next(on_call: OnCall, api: httpx.Client, tmp_path: Path) -> None:
    file = edited(tmp_path, ("severity: Major", "severity: Minor"))
    url = on_call.config.url("incident_io")
    with _fault(on_call, "alert_routes", "http_500"):
        broken = command(url, "apply", "--file", file)
    assert broken.returncode == 1
    assert "created escalation path" not in broken.stdout, "the plan itself reads the routes"
    with _fault(on_call, "managed_resources", "http_500"):
        broken = command(url, "apply", "--file", file)
    assert broken.returncode == 1
    assert "created schedule 'Engineers'" in broken.stdout
    # The alert source was made, and nobody could note whose it is: it is not guessed.
    refused = command(url, "apply", "--file", file)
    assert (
        "alert source 'Data platform' in incident.io (id 01LOCALALERTSOURCE00000000) that was not made here"
        in refused.stderr
    )
    done = command(url, "apply", "--file", file, "--adopt", "alert_source/Data platform")
    assert (done.returncode, done.stderr) == (0, "")
    assert "created schedule 'Engineers'" not in done.stdout
    assert command(url, "apply", "--file", file).stdout == NOTHING


def _fault(on_call: OnCall, target: str, kind: str) -> Any:
    import contextlib

    from sandbox.vendors.context import VendorContext

    faults = VendorContext.of(on_call.config).faults

    @contextlib.contextmanager
    def broken() -> Iterator[None]:
        faults.add("incident_io", target, kind)
        yield
        faults.remove()

    return broken()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sam@example.com", "tom@example.com"), "schedules.Engineers.members: incident.io has no user 'tom@example.com'; correct it, or invite"),
        (("severity: Major", "severity: Grave"), "routes.Data platform: customer-facing.severity: incident.io has no severity 'Grave'; it has Minor, Major, Critical"),
        (("Cause: unit", "Reason: unit"), "incident_fields.Reason: incident.io has no such field; it has Cause"),
    ],
)  # fmt: skip
def test_people_and_names_that_incident_io_lacks_are_told_before_anything_is_made(
    on_call: OnCall, api: httpx.Client, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    done = command(on_call.config.url("incident_io"), "apply", "--file", edited(tmp_path, change))
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert api.get("/v2/alert_attributes").json() == {"alert_attributes": []}


def test_a_wrong_key_is_told_with_the_remedy(on_call: OnCall) -> None:
    done = command(on_call.config.url("incident_io"), "plan", key="wrong")
    assert (done.returncode, done.stdout) == (1, "")
    assert "answered 401: " in done.stderr
    assert "INCIDENT_IO_API_KEY is not valid there: make one in incident.io, Settings, API keys" in done.stderr


LIMITED = {"type": "too_many_requests", "errors": [{"code": "too_many_requests", "message": "slow down"}]}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (reply(403, {"message": "no"}), "the key may not do this"),
        (reply(429, LIMITED, Retry_After="120"), "answered 429: "),
        (reply(429, LIMITED, Retry_After="120"), "slow down"),
        (reply(500, {"message": "Something went wrong"}), "answered 500: Something went wrong"),
        (reply(502, "<html><body><h1>502 Bad Gateway</h1></body></html>"), "answered 502: 502 Bad Gateway"),
        (reply(200, "<html><body>Log in</body></html>"), "answered 200 with no valid JSON: Log in"),
        (reply(200, {"severities": "none"}), "answered without `severities`"),
        (RESET, "got no answer"),
    ],
    ids=["forbidden", "limited", "words", "broken", "proxy", "page", "odd", "reset"],
)
def test_an_odd_vendor_is_told_in_one_line(answer: Any, message: str) -> None:
    with wire(answer) as vendor:
        done = command(vendor.url, "plan")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("incident.io: GET ")
    assert message in done.stderr


def test_an_address_where_nobody_listens_is_told() -> None:
    done = command(f"http://127.0.0.1:{refused_port()}", "plan")
    assert (done.returncode, done.stdout) == (1, "")
    assert "could not connect" in done.stderr


def test_without_a_key_the_variable_is_named() -> None:
    done = command("http://127.0.0.1:1", "plan", key="")
    assert done.returncode == 1
    assert "INCIDENT_IO_API_KEY is malformed" in done.stderr or "INCIDENT_IO_API_KEY is not set" in done.stderr
