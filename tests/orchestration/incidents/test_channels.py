"""Alerts without incident.io: the sensor over a real instance's event log, with Slack's emulator and a mail server on real sockets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.incidents import alert_threads, channels
from orchestration.incidents.alert_threads import MOST_RESOLVED, AlertThread, AlertThreads
from orchestration.incidents.channels import Mails, NoChannel, SlackMessages
from orchestration.incidents.fallback import SlackCarrier, explain_missing_channel
from orchestration.settings import Settings, settings
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io import AlertEvent
from orchestration.vendors.slack import Slack
from sandbox.env_file import environment
from sandbox.vendors.context import VendorContext
from tests.mail_server import Mailbox, mail_server
from tests.on_call import OnCall, running
from tests.orchestration.incidents.test_sensor import Platform
from tests.orchestration.wire import refused_port, reply, wire
from tests.stand_ins import wait_for

MENTION = "<!subteam^S00000001>"
EVENT = AlertEvent(
    "dbt/a:run-1", "firing", "dbt model `a` failed", "**Customers**: not affected.", "https://dagster.example.com/runs/1",
    {"customer_facing": False, "urgent": False, "transient": False},
)  # fmt: skip
URGENT = replace(EVENT, metadata={"customer_facing": True, "urgent": True, "transient": False})


@pytest.fixture(scope="module")
def slack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("channels"), "slack") as process:
        process.lift_limits("slack")
        yield process


@pytest.fixture
def only(slack: OnCall, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make a platform's variables the given ones, beside those that every platform has."""

    def set_only(**values: str) -> None:
        for name in Settings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
        every = {
            name: value
            for name, value in environment(slack.config).items()
            if name.startswith(("GOOGLE_", "DBT_", "DATAPLATFORM_URL"))
        }
        for name, value in (every | values).items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()

    yield set_only
    settings.cache_clear()


def slack_variables(slack: OnCall) -> dict[str, str]:
    known = environment(slack.config)
    return {name: known[name] for name in ("SLACK_API_URL", "SLACK_BOT_TOKEN", "SLACK_ALERTS_CHANNEL")}


def mail_variables(port: int) -> dict[str, str]:
    return {
        "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port), "SMTP_SECURITY": "none",
        "ALERT_MAIL_FROM": "dagster@example.com", "ALERT_MAIL_TO": "ada@example.com",
    }  # fmt: skip


@pytest.fixture
def platform(slack: OnCall, only: Any, tmp_path: Path) -> Iterator[Platform]:
    """A platform whose only channel is Slack."""
    only(**slack_variables(slack))
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield Platform(instance, slack)
    VendorContext.of(slack.config).faults.remove()


class Messages:
    """What Slack has got since this was made."""

    def __init__(self, slack: OnCall) -> None:
        self._slack, self._before = slack, len(slack.inspect("slack", "messages"))

    def read(self) -> list[dict[str, Any]]:
        return self._slack.inspect("slack", "messages")[self._before :]


def test_an_urgent_failure_is_one_message_that_mentions_the_group_and_is_resolved_in_its_thread(
    platform: Platform,
) -> None:
    messages = Messages(platform.on_call)
    platform.run("product")
    platform.tick()
    platform.tick()
    [message] = messages.read()
    assert message["text"].startswith(f"{MENTION} *Fivetran sync of `product` failed: 1 customer dashboard hurt*")
    assert "incident.io" not in message["text"]
    assert (message["channel"], message["thread_ts"]) == ("C00000001", None)
    platform.run()
    platform.tick()
    platform.tick()
    first, last = messages.read()
    assert last["thread_ts"] == first["ts"]
    assert last["text"].startswith("*Resolved*: Fivetran sync of `product` failed")
    assert MENTION not in last["text"]
    assert platform.state.waiting == ()


def test_an_internal_failure_mentions_no_one(platform: Platform) -> None:
    messages = Messages(platform.on_call)
    platform.run("salesforce")
    platform.tick()
    [message] = messages.read()
    assert message["text"].startswith("*Fivetran sync of `salesforce` failed")
    assert "subteam" not in message["text"]


def test_the_customers_alert_goes_out_first(platform: Platform) -> None:
    messages = Messages(platform.on_call)
    platform.run("product", "salesforce")
    platform.tick()
    assert ["product" in message["text"] for message in messages.read()] == [True, False]


@pytest.mark.parametrize("dies", [1, 3])
def test_a_tick_that_dies_before_it_saves_posts_no_message_twice(platform: Platform, dies: int) -> None:
    messages = Messages(platform.on_call)
    platform.run("product")
    for _ in range(dies):
        platform.tick(saved=False)
    platform.tick()
    assert len(messages.read()) == 1
    platform.run()
    for _ in range(dies):
        platform.tick(saved=False)
    platform.tick()
    platform.tick()
    assert len(messages.read()) == 2


@pytest.mark.parametrize("kind", ["http_500", "http_429", "html", "reset"])
def test_what_slack_does_not_take_is_posted_once_when_it_is_back(platform: Platform, kind: str) -> None:
    messages, faults = Messages(platform.on_call), VendorContext.of(platform.on_call.config).faults
    faults.add("slack", kind=kind)
    platform.run("product")
    platform.tick()
    platform.run()
    platform.tick()
    assert (messages.read(), len(platform.state.waiting)) == ([], 2)
    faults.remove()
    platform.tick_until_delivered()
    first, last = messages.read()
    assert first["text"].startswith(MENTION)
    assert last["thread_ts"] == first["ts"]


def test_the_same_failure_again_is_another_message(platform: Platform) -> None:
    messages = Messages(platform.on_call)
    for _ in range(2):
        platform.run("salesforce")
        platform.tick()
        platform.run()
        platform.tick()
    first, _, second, last = messages.read()
    assert second["thread_ts"] is None
    assert (first["ts"] != second["ts"], last["thread_ts"]) == (True, second["ts"])


def test_mail_carries_what_slack_refuses_and_slack_gets_it_when_the_token_is_right_again(
    slack: OnCall, platform: Platform, only: Any
) -> None:
    messages = Messages(slack)
    with mail_server(Mailbox()) as box:
        given = slack_variables(slack) | mail_variables(box.port) | {"INCIDENT_IO_FALLBACK_MINUTES": "0.02"}
        only(**given | {"SLACK_BOT_TOKEN": "revoked"})
        platform.run("product")

        def mailed() -> bool:
            platform.tick()
            return bool(box.mails)

        wait_for(mailed, 20, "the mail comes")
        platform.tick()
        [mail] = box.mails
        assert mail["Subject"] == "[FAILED] Fivetran sync of `product` failed: 1 customer dashboard hurt"
        assert "Slack cannot be reached since" in mail.get_content()
        # The refusal is the token's and not the event's: nothing of it is cut, or dropped after a week.
        assert [item.reduced for item in platform.state.waiting] == [0]
        only(**given)
        platform.tick_until_delivered()
        assert (len(messages.read()), len(box.mails)) == (1, 1)


def test_mail_alone_says_what_is_urgent_in_its_subject(platform: Platform, only: Any) -> None:
    with mail_server(Mailbox()) as box:
        only(**mail_variables(box.port))
        platform.run("product", "salesforce")
        platform.tick()
        platform.tick(saved=False)
        platform.run()
        platform.tick(saved=False)
        platform.tick()
        platform.tick()
        # A long subject is folded, and read back with a blank before it.
        subjects = sorted(str(mail["Subject"]).strip() for mail in box.mails)
        conversations = {str(mail["References"]) for mail in box.mails}
    assert [subject.partition(":")[0] for subject in subjects] == [
        "[FAILED] Fivetran sync of `salesforce` failed",
        "[Resolved] Fivetran sync of `product` failed",
        "[Resolved] Fivetran sync of `salesforce` failed",
        "[URGENT, FAILED] Fivetran sync of `product` failed",
    ]
    assert len(conversations) == 2


def test_without_any_channel_alerts_are_in_the_log_alone(platform: Platform, only: Any) -> None:
    messages = Messages(platform.on_call)
    only(ALERTS_WITHOUT_CHANNEL="true")
    platform.run("product")
    platform.tick()
    assert (messages.read(), platform.state.waiting) == ([], ())


def messages_to(url: str, instance: dg.DagsterInstance, warned: list[str] | None = None) -> SlackMessages:
    said = warned if warned is not None else list[str]()
    return SlackMessages(
        SlackCarrier(Slack(f"{url}/api/", "t"), "C1"), AlertThreads(instance), "data-responder", said.append
    )


POSTED = reply(200, {"ok": True, "ts": "1.1", "channel": "C1", "message": {}})
GROUPS = reply(200, {"ok": True, "usergroups": [{"id": "S1", "handle": "data-responder"}]})


def refused(code: str) -> bytes:
    return reply(200, {"ok": False, "error": code})


def test_a_group_that_is_not_there_does_not_keep_an_alert_back(tmp_path: Path) -> None:
    warned = list[str]()
    with (
        dg.instance_for_test(temp_dir=str(tmp_path)) as instance,
        wire(reply(200, {"ok": True, "usergroups": []}), POSTED) as server,
    ):
        messages_to(server.url, instance, warned).send(URGENT)
        assert b"@data-responder" in server.bodies[-1]
    assert "there is no user group @data-responder" in warned[0]


def test_a_group_is_asked_for_once_and_its_last_id_is_used_while_slack_does_not_list_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = reply(500, {})
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        with wire(broken, GROUPS, POSTED, POSTED) as server:
            with pytest.raises(VendorError):
                messages_to(server.url, instance).send(URGENT)
            for key in ("a", "b"):
                messages_to(server.url, instance).send(replace(URGENT, deduplication_key=key))
            assert [request.split()[1] for request in server.requests].count("/api/chat.postMessage") == 2
        monkeypatch.setattr(channels, "GROUP_SECONDS", 0.0)
        with wire(broken, POSTED) as server:
            messages_to(server.url, instance).send(replace(URGENT, deduplication_key="c"))
            assert b"<!subteam^S1>" in server.bodies[-1]


@pytest.mark.parametrize("code", ["thread_not_found", "cannot_reply_to_message", "message_not_found", "no_such_error"])
def test_a_thread_that_slack_refuses_is_a_message_of_its_own(tmp_path: Path, code: str) -> None:
    with (
        dg.instance_for_test(temp_dir=str(tmp_path)) as instance,
        wire(POSTED, refused(code), POSTED) as server,
    ):
        slack = messages_to(server.url, instance)
        slack.send(EVENT)
        slack.send(replace(EVENT, status="resolved"))
        assert [b"thread_ts" in body for body in server.bodies] == [False, True, False]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid_auth", 403),
        ("channel_not_found", 403),
        ("missing_scope", 403),
        ("msg_too_long", 400),
        ("no_text", 400),
    ],
)
def test_a_refusal_of_the_message_is_told_from_one_that_every_message_meets(
    tmp_path: Path, code: str, status: int
) -> None:
    with (
        dg.instance_for_test(temp_dir=str(tmp_path)) as instance,
        wire(refused(code)) as server,
        pytest.raises(VendorError) as caught,
    ):
        messages_to(server.url, instance).send(EVENT)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("events", "posted"),
    [
        # An automatic retry that succeeded: an incident like any other, without a mention.
        ([("firing", "a", True), ("resolved", "a", True)], 2),
        ([("firing", "a", False), ("firing", "a", False)], 1),
        ([("firing", "a", False), ("firing", "b", False)], 2),
        ([("firing", "a", False), ("resolved", "c", True)], 2),
        ([("firing", "a", False), ("resolved", "c", False), ("resolved", "c", False)], 2),
        # Opened in incident.io, before that was taken out of the settings.
        ([("resolved", "c", False)], 1),
        ([("firing", "a", False), ("resolved", "c", False), ("firing", "a", False)], 3),
    ],
)
def test_which_events_become_messages(tmp_path: Path, events: list[tuple[Any, str, bool]], posted: int) -> None:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance, wire(POSTED) as server:
        for status, text, transient in events:
            # Another object each time, as in another tick.
            messages_to(server.url, instance).send(
                replace(EVENT, status=status, description=text, metadata={"transient": transient})
            )
        assert len(server.requests) == posted


def test_an_urgent_failure_whose_automatic_retry_has_succeeded_mentions_no_one(tmp_path: Path) -> None:
    event = replace(EVENT, metadata={"customer_facing": True, "urgent": True, "transient": True})
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance, wire(POSTED) as server:
        messages_to(server.url, instance).send(event)
        # A mention needs the id of the group, which is asked for first.
        assert [request.split()[1] for request in server.requests] == ["/api/chat.postMessage"]


def test_threads_that_cannot_be_read_lose_no_message_and_resolved_ones_do_not_grow_for_ever(tmp_path: Path) -> None:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        storage = instance.daemon_cursor_storage
        storage.set_cursor_values({alert_threads.KEY: '{"threads": [1]}'})
        threads = AlertThreads(instance)
        assert threads.find("a", "Slack") is None
        threads.remember("open", AlertThread("Slack", "1.0", "firing", "x"))
        for number in range(MOST_RESOLVED + 5):
            threads.remember(str(number), AlertThread("Slack", "1.1", "resolved", "x"))
        read = AlertThreads(instance)
        assert read.find("open", "Slack") == AlertThread("Slack", "1.0", "firing", "x")
        assert read.find("open", "mail") is None
        assert (read.find("4", "Slack"), read.find("5", "Slack") is None) == (None, False)


INCIDENT_IO = {
    "INCIDENT_IO_API_KEY": "k", "INCIDENT_IO_ALERT_SOURCE_ID": "i", "INCIDENT_IO_ALERT_SOURCE_TOKEN": "t",
}  # fmt: skip
SLACK = {"SLACK_BOT_TOKEN": "t", "SLACK_ALERTS_CHANNEL": "C1"}
MAIL = mail_variables(25)


@pytest.mark.parametrize(
    ("given", "first", "others", "missing"),
    [
        (INCIDENT_IO | SLACK | MAIL, "incident.io", ["slack", "mail"], None),
        (INCIDENT_IO | MAIL, "incident.io", ["mail"], None),
        (INCIDENT_IO, "incident.io", [], "when incident.io accepts none"),
        (SLACK | MAIL, "Slack", ["mail"], None),
        (SLACK, "Slack", [], "when Slack accepts none"),
        (MAIL, "mail", [], "when the mail server accepts none"),
        ({"ALERTS_WITHOUT_CHANNEL": "true"}, "no channel", [], "Alerts reach no one"),
    ],
)
def test_the_first_channel_that_is_configured_gets_every_alert(
    only: Any, tmp_path: Path, given: dict[str, str], first: str, others: list[str], missing: str | None
) -> None:
    only(**given)
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        found = channels.configured(settings(), instance, logging.getLogger(__name__).warning)
    assert (found.first.name, [one.name for one in found.others]) == (first, others)
    why = explain_missing_channel(settings())
    assert (why is None) == (missing is None)
    if why and missing:
        assert missing in why.why
        # The remedy is a channel that is not the first.
        assert first == "incident.io" or not any(name in why.remedy for name in given if name in (SLACK | MAIL))


def test_no_channel_accepts_everything() -> None:
    said = list[str]()
    NoChannel(said.append).send(EVENT)
    assert said == ["No channel is configured, so no one is notified: firing: dbt model `a` failed"]


def test_a_mail_server_that_is_away_raises(tmp_path: Path, only: Any) -> None:
    only(**mail_variables(refused_port()))
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        first = channels.configured(settings(), instance, lambda _text: None).first
        assert isinstance(first, Mails)
        with pytest.raises(VendorError):
            first.send(EVENT)
        assert AlertThreads(instance).find(EVENT.deduplication_key, "mail") is None
