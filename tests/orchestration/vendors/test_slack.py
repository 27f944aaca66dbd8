"""The client over Slack's stand-in in a process of its own, and over a socket server that answers as networks do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestration.vendors.http import VendorError
from orchestration.vendors.slack import LONGEST_MESSAGE, Channel, Identity, Slack, escaped, length
from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from tests.on_call import OnCall, running
from tests.orchestration.wire import RESET, Slow, refused_port, reply, wire

POSTED = reply(200, {"ok": True, "ts": "1.0"}, Content_Type="application/json")


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("slack"), "slack") as started:
        started.lift_limits("slack")
        yield started


@pytest.fixture
def slack(on_call: OnCall) -> Iterator[Slack]:
    yield Slack(f"{on_call.config.url('slack')}/api", "local-slack-token")
    VendorContext.of(on_call.config).faults.remove()


def refused(error: str, **more: Any) -> bytes:
    return reply(200, {"ok": False, "error": error, **more}, Content_Type="application/json")


def section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def test_a_message_is_posted_once_with_its_blocks(on_call: OnCall, slack: Slack) -> None:
    ts = slack.post_message("C1", "hello", [section("*hello*"), {"type": "divider"}])
    message = on_call.inspect("slack", "messages")[-1]
    assert (message["ts"], message["channel"], message["text"]) == (ts, "C1", "hello")
    assert message["blocks"] == [section("*hello*"), {"type": "divider"}]


def test_what_is_too_long_is_cut_to_what_slack_takes(on_call: OnCall, slack: Slack) -> None:
    header = {"type": "header", "text": {"type": "plain_text", "text": "h" * 200}}
    slack.post_message("C1", "x" * 50_000, [header, section("y" * 4000), *([{"type": "divider"}] * 60)])
    message = on_call.inspect("slack", "messages")[-1]
    assert len(message["text"]) == LONGEST_MESSAGE
    assert [len(block["text"]["text"]) for block in message["blocks"][:2]] == [150, 3000]
    assert message["blocks"][1]["text"]["text"].endswith("y…")
    assert len(message["blocks"]) == 50
    assert message["blocks"][-1]["elements"][0]["text"] == "and 13 more"


@pytest.mark.parametrize(("characters", "count"), [(3000, 50), (1, 60), (80, 60), (200, 45), (2900, 3)])
def test_blocks_that_are_too_long_together_are_left_out_whole_and_counted(
    on_call: OnCall, slack: Slack, characters: int, count: int
) -> None:
    given = [section(f"{number:02}".ljust(characters, "x")) for number in range(count)]
    slack.post_message("C1", "hello", given)
    blocks = on_call.inspect("slack", "messages")[-1]["blocks"]
    assert sum(map(length, blocks)) <= LONGEST_MESSAGE
    kept = [block for block in blocks if block["type"] == "section"]
    assert kept == given[: len(kept)]
    ends = [block["elements"][0]["text"] for block in blocks if block["type"] == "context"]
    assert ends == ([f"and {count - len(kept)} more"] if len(kept) < count else [])


def test_a_burst_of_messages_waits_for_slacks_limit_and_loses_none(on_call: OnCall, slack: Slack) -> None:
    rate_limits.reset(VendorContext.of(on_call.config).store, "slack")
    try:
        for number in range(3):
            slack.post_message("C2", f"burst {number}")
    finally:
        on_call.lift_limits("slack")
    assert [message["text"] for message in on_call.inspect("slack", "messages")[-3:]] == [
        "burst 0",
        "burst 1",
        "burst 2",
    ]


def test_a_group_is_found_read_and_replaced(slack: Slack) -> None:
    group = slack.group_id("data-responder")
    priya, jonas = (slack.user_by_email(f"{name}@example.com") for name in ("priya", "jonas"))
    assert priya
    assert jonas
    slack.set_members(group, [priya])
    slack.set_members(group, [jonas])
    assert slack.members(group) == (jonas,)
    assert slack.name_of(priya) == "Priya Nair"
    assert slack.user_by_email("nobody@example.com") is None
    with pytest.raises(ValueError, match="cannot be empty"):
        slack.set_members(group, [])
    assert slack.members(group) == (jonas,)


def test_a_group_that_is_missing_or_disabled_is_said(slack: Slack) -> None:
    with pytest.raises(VendorError, match=r"no user group @night-watch\. See SLACK_RESPONDER_GROUP") as missing:
        slack.group_id("night-watch")
    assert missing.value.permanent
    groups = {"ok": True, "usergroups": [{"id": "S1", "handle": "night-watch", "date_delete": 1}]}
    with wire(reply(200, groups)) as server, pytest.raises(VendorError, match="@night-watch is disabled"):
        Slack(server.url, "t").group_id("night-watch")


def test_a_short_rate_limit_is_waited_for(on_call: OnCall, slack: Slack) -> None:
    before = len(on_call.inspect("slack", "messages"))
    faults = VendorContext.of(on_call.config).faults
    faults.add("slack", kind="http_429", params={"retry_after": 1}, times=1)
    began = time.monotonic()
    slack.post_message("C1", "hello")
    assert 1 <= time.monotonic() - began < 5
    assert len(on_call.inspect("slack", "messages")) == before + 1


@pytest.mark.parametrize("wait", ["3600", "Wed, 21 Oct 2199 07:28:00 GMT", "soon"])
def test_a_long_or_odd_rate_limit_is_reported_at_once(wait: str) -> None:
    began = time.monotonic()
    with (
        wire(reply(429, {"ok": False, "error": "ratelimited"}, Retry_After=wait)) as server,
        pytest.raises(VendorError, match=r"chat\.postMessage answered 429: ratelimited") as caught,
    ):
        Slack(server.url, "t").post_message("C1", "hello")
    assert time.monotonic() - began < 3
    assert len(server.requests) == 1
    assert (caught.value.status, caught.value.started, caught.value.permanent) == (429, False, False)
    assert (caught.value.retry_after == 3600) is (wait == "3600")


def test_a_token_says_whose_it_is_and_what_it_may_do(slack: Slack) -> None:
    known = slack.identity()
    assert (known.team, known.user) == ("Local", "dataplatform")
    assert known.scopes is not None
    assert {"chat:write", "channels:read"} <= known.scopes
    told = reply(200, {"ok": True, "team": "T", "user": "u"}, Content_Type="application/json")
    with wire(told) as server:
        assert Slack(server.url, "t").identity() == Identity("T", "u", None)


def test_a_channel_is_looked_at(slack: Slack) -> None:
    assert slack.channel("C00000001") == Channel("data-alerts", member=True, archived=False)
    with pytest.raises(VendorError, match=r"conversations\.info refused: channel_not_found\. See SLACK_ALERTS_CHANNEL"):
        slack.channel("C00000009")
    with wire(refused("missing_scope")) as server, pytest.raises(VendorError, match="needs the scope channels:read"):
        Slack(server.url, "t").channel("C00000001")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("invalid_auth", r"refused: invalid_auth\. See SLACK_BOT_TOKEN: api\.slack\.com/apps"),
        ("not_in_channel", r"refused: not_in_channel\. See SLACK_ALERTS_CHANNEL and SLACK_DIGEST_CHANNEL"),
        ("missing_scope", r"refused: missing_scope\. The app needs the scope chat:write"),
        ("something_new", r"refused: something_new$"),
        (
            "permission_denied",
            r"refused: permission_denied\. An app's token changes user groups only where everyone may: Slack, ",
        ),
    ],
)
def test_what_slack_refuses_is_said_with_what_to_do(error: str, words: str) -> None:
    with wire(refused(error)) as server, pytest.raises(VendorError, match=words) as caught:
        Slack(server.url, "t").post_message("C1", "hello")
    assert (caught.value.permanent, caught.value.started, len(server.requests)) == (True, False, 1)


def test_the_scope_that_slack_names_and_its_details_are_told() -> None:
    scope = refused("missing_scope", needed="users:read.email", provided="chat:write")
    with wire(scope) as server, pytest.raises(VendorError, match=r"needs the scope users:read\.email"):
        Slack(server.url, "t").user_by_email("ada@example.com")
    details = {"response_metadata": {"messages": ["[ERROR] no more than 50 items allowed"]}}
    with (
        wire(refused("invalid_blocks", **details)) as server,
        pytest.raises(VendorError, match="no more than 50 items"),
    ):
        Slack(server.url, "t").post_message("C1", "hello")


def test_a_token_that_is_none_is_said_and_does_not_show(on_call: OnCall) -> None:
    with pytest.raises(VendorError, match="SLACK_BOT_TOKEN") as caught:
        Slack(f"{on_call.config.url('slack')}/api", "xoxb-wrong").post_message("C1", "hello")
    assert "xoxb" not in str(caught.value)


def test_slacks_own_trouble_is_worth_another_try() -> None:
    with wire(refused("internal_error")) as server, pytest.raises(VendorError, match="internal_error") as caught:
        Slack(server.url, "t").post_message("C1", "hello")
    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("answer", "words", "status"),
    [
        (reply(500, {"message": "no"}), "answered 500", 500),
        (reply(502, "<html><h1>502 Bad Gateway</h1></html>"), "answered 502: .*502 Bad Gateway", 502),
        (reply(200, "<html>Welcome to the wifi</html>"), "none of Slack's: .*Welcome", None),
        (reply(200, '{"ok": tru'), "none of Slack's", None),
        (reply(200, "[]"), "none of Slack's", None),
        (reply(200, '"text"'), "none of Slack's", None),
        (reply(200, {"ok": True}), "answered without `ts`", None),
        (reply(200, {"ok": True, "ts": "1"})[:-5], "got no answer|none of Slack's", None),
        (b"nonsense\r\n\r\n", "none of Slack's|got no answer", None),
        (RESET, "got no answer", None),
    ],
)
def test_what_a_network_does_is_one_error_and_no_second_message(answer: Any, words: str, status: int | None) -> None:
    with wire(answer) as server, pytest.raises(VendorError, match=words) as caught:
        Slack(server.url, "t").post_message("C1", "hello")
    assert (caught.value.status, caught.value.permanent, len(server.requests)) == (status, False, 1)
    assert caught.value.started


def test_nobody_listens_or_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VendorError, match="could not connect") as caught:
        Slack(f"http://127.0.0.1:{refused_port()}/", "t").post_message("C1", "hello")
    assert not caught.value.started
    monkeypatch.setattr("orchestration.vendors.slack.TIMEOUT_SECONDS", 1)
    with wire(Slow(3)) as server, pytest.raises(VendorError, match=r"got no answer: .*timed out") as slow:
        Slack(server.url, "t").post_message("C1", "hello")
    assert slow.value.started


def test_links_are_not_unfolded() -> None:
    with wire(POSTED) as server:
        Slack(server.url, "t").post_message("C1", "hello")
    sent = json.loads(server.bodies[0])
    assert (sent["unfurl_links"], sent["unfurl_media"], "blocks" in sent) == (False, False, False)


def test_a_text_is_shown_as_it_is() -> None:
    assert escaped("<!channel> & co") == "&lt;!channel&gt; &amp; co"
