"""The carriers over real sockets, with an incident.io that refuses connections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestration.core.channel_text import markdown_to_mrkdwn
from orchestration.incidents.fallback import LENGTHS, MailCarrier, SlackCarrier, configured, words
from orchestration.incidents.outbox import Carrier, Waiting, deliver, put
from orchestration.settings import Settings
from orchestration.vendors.incident_io import AlertEvent, AlertSource
from orchestration.vendors.mail import MailServer
from orchestration.vendors.slack import LONGEST_MESSAGE, Slack
from sandbox.config import SandboxConfig
from sandbox.env_file import environment
from sandbox.vendors.context import VendorContext
from tests.mail_server import Mailbox, mail_server
from tests.on_call import OnCall, running
from tests.orchestration.wire import refused_port, reply, wire

NOW = 1_800_000_000.0
URL = "https://dagster.example.com/runs/1"
FIRING = AlertEvent(
    "dbt/insights/time:run-1", "firing", "dbt model `time` failed: 2 customer dashboards hurt",
    "**Customers see old data** in `explo/time`.\n\n```\nUnrecognized name: x < y & z\n```\n\n[The run](https://dagster.example.com/runs/1)",
    URL, {"customer_facing": True, "transient": False},
)  # fmt: skip
RESOLVED = replace(FIRING, status="resolved", description="Well again after 12 min.")


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("fallback"), "slack") as started:
        yield started


def later(waiting: tuple[Waiting, ...], minutes: float, *carriers: Carrier, url: str = "") -> tuple[Waiting, ...]:
    source = AlertSource(url or f"http://127.0.0.1:{refused_port()}", "01SOURCE", "token")
    return deliver(waiting, source.send, carriers, 20, NOW + minutes * 60).waiting


def mail(port: int) -> MailCarrier:
    return MailCarrier(MailServer("127.0.0.1", port, "none"), "dagster@example.com", ("ada@example.com",))


def test_slack_tells_first_and_mail_only_where_slack_does_not_and_incident_io_gets_it_after(on_call: OnCall) -> None:
    slack, faults = (
        Slack(f"{on_call.config.url('slack')}/api/", "local-slack-token"),
        VendorContext.of(on_call.config).faults,
    )
    with mail_server(Mailbox()) as box, wire(reply(202, {})) as server:
        carriers = (SlackCarrier(slack, "C00000001"), mail(box.port))
        waiting = later(put((), FIRING, NOW), 6, *carriers)
        [message] = on_call.inspect("slack", "messages")
        assert (message["channel"], len(box.mails)) == ("C00000001", 0)
        assert message["text"].startswith(f"*{FIRING.title}*")
        faults.add("slack", kind="http_500")
        waiting = later(put(waiting, RESOLVED, NOW + 420), 7, *carriers)
        faults.remove()
        assert (len(on_call.inspect("slack", "messages")), len(box.mails)) == (1, 1)
        waiting = later(waiting, 20, *carriers, url=server.url)
        assert later(waiting, 21, *carriers, url=server.url) == ()
        assert (len(on_call.inspect("slack", "messages")), len(box.mails), len(server.requests)) == (1, 1, 2)


def test_what_a_mail_says() -> None:
    with mail_server(Mailbox()) as box:
        waiting = later(put((), FIRING, NOW), 6, mail(box.port))
        later(put(waiting, RESOLVED, NOW + 420), 7, mail(box.port))
    firing, resolved = box.mails
    assert firing["Subject"] == "[FAILED] dbt model `time` failed: 2 customer dashboards hurt"
    assert resolved["Subject"] == "[Resolved] dbt model `time` failed: 2 customer dashboards hurt"
    assert firing["References"] == resolved["References"] == "<dbt-insights-time-run-1@example.com>"
    text = firing.get_content().replace("\r\n", "\n")
    assert "incident.io cannot be reached since 2027-01-15 08:00 UTC." in text
    assert FIRING.description in text
    assert text.endswith(f"{URL}\n")
    assert "Well again after 12 min." in resolved.get_content()


def test_what_slack_shows() -> None:
    text = markdown_to_mrkdwn(words(FIRING, "incident.io cannot be reached since 2027-01-15 08:00 UTC."))
    assert text.startswith(
        "*dbt model `time` failed: 2 customer dashboards hurt*\n\nincident.io cannot be reached since"
    )
    assert "*Customers see old data* in `explo/time`." in text
    assert "Unrecognized name: x &lt; y &amp; z" in text
    assert f"<{URL}|The run>" in text


def test_a_long_error_is_cut_and_its_block_closed() -> None:
    text = words(replace(FIRING, description="```\n" + "x " * 5000 + "\n```"), "Why.")
    assert len(text) < LENGTHS[0] + 300
    assert text.count("```") == 2
    assert text.endswith(f"…\n```\n\n{URL}")


@pytest.mark.parametrize("text", ["<", "&<>" * 5000, "x" * 50_000, "```\n" + "a < b & c\n" * 2000 + "```"])
def test_a_message_in_slack_is_below_its_limit_and_whole(on_call: OnCall, text: str) -> None:
    before = len(on_call.inspect("slack", "messages"))
    slack = Slack(f"{on_call.config.url('slack')}/api/", "local-slack-token")
    SlackCarrier(slack, "C00000001").carry(replace(FIRING, description=text), "Why.")
    [message] = on_call.inspect("slack", "messages")[before:]
    assert len(message["text"]) <= LONGEST_MESSAGE
    assert message["text"].endswith(URL)


def test_slack_that_answers_429_is_asked_again_and_mail_only_when_that_goes_on(on_call: OnCall) -> None:
    limited = reply(429, {"ok": False, "error": "ratelimited"}, Retry_After="30", Content_Type="application/json")
    away = f"http://127.0.0.1:{refused_port()}"
    with wire(limited) as busy, mail_server(Mailbox()) as box:
        carriers = (SlackCarrier(Slack(busy.url, "token"), "C1"), mail(box.port))
        waiting = later(put((), FIRING, NOW), 6, *carriers, url=away)
        assert (len(busy.requests), len(box.mails), waiting[0].carried) == (1, 0, ())
        waiting = later(waiting, 11, *carriers, url=away)
        assert (len(busy.requests), len(box.mails), waiting[0].carried) == (2, 1, ("firing:mail",))


def test_a_mail_server_that_is_away_is_a_problem_and_the_alert_still_waits() -> None:
    carrier = mail(refused_port())
    source = AlertSource(f"http://127.0.0.1:{refused_port()}", "01SOURCE", "token")
    done = deliver(put((), FIRING, NOW), source.send, (carrier,), 20, NOW + 400)
    assert [item.carried for item in done.waiting] == [()]
    assert [problem.split(":")[0] for problem in done.problems] == ["incident.io", "SMTP server 127.0.0.1"]


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The sandbox's settings, which are not in the environment as well: those would be read beside them."""
    found = environment(SandboxConfig(tmp_path, dict.fromkeys(SandboxConfig.load().ports, 1)))
    for name in found:
        monkeypatch.delenv(name, raising=False)
    return {name.lower(): value for name, value in found.items()}


def test_the_settings_say_who_carries(known: dict[str, str]) -> None:
    with_mail = known | {
        "smtp_host": "mail.example.com", "smtp_port": "465", "smtp_security": "ssl", "smtp_user": "ada", "smtp_password": "pw",
        "alert_mail_from": "dagster@example.com", "alert_mail_to": "ada@example.com,bob@example.com",
    }  # fmt: skip
    assert [carrier.name for carrier in configured(Settings.model_validate(known))] == ["slack"]
    no_slack = {name: value for name, value in known.items() if not name.startswith("slack_")} | {"rota_sync": "false"}
    assert configured(Settings.model_validate(no_slack)) == ()
    assert [one.name for one in configured(Settings.model_validate(with_mail))] == ["slack", "mail"]
    *_, carrier = configured(Settings.model_validate(with_mail))
    server = MailServer("mail.example.com", 465, "ssl", "ada", "pw")
    assert carrier == MailCarrier(server, "dagster@example.com", ("ada@example.com", "bob@example.com"))
