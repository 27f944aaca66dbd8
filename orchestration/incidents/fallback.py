"""Slack and mail as channels of alerts: of those that incident.io does not take, or of all of them (`channels.py`)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from orchestration.core.channel_text import escape_markdown, markdown_to_mrkdwn, markdown_to_plain
from orchestration.core.redaction import redact_line
from orchestration.incidents.outbox import Carrier
from orchestration.incidents.sizes import shortened
from orchestration.settings import PlatformSettings, settings
from orchestration.vendors.incident_io import AlertEvent
from orchestration.vendors.mail import MailServer
from orchestration.vendors.slack import LONGEST_MESSAGE, Slack, client

LENGTHS = (3000, 1500, 500)
"""Characters of the alert's own text, the first that fits: Slack's markup makes a text longer, by up to five times.

Slack advises 4,000 in all (https://docs.slack.dev/reference/methods/chat.postMessage).
"""

NO_SECOND_CHANNEL = "Alerts have no second channel: when incident.io accepts none, no one is notified of a failure"
SECOND_CHANNEL_REMEDY = "Set SLACK_BOT_TOKEN and SLACK_ALERTS_CHANNEL, or SMTP_HOST, ALERT_MAIL_FROM and ALERT_MAIL_TO (docs/reference/settings.md)"
MAIL_REMEDY = "Set SMTP_HOST, ALERT_MAIL_FROM and ALERT_MAIL_TO (docs/reference/settings.md)"
SLACK_REMEDY = "Set SLACK_BOT_TOKEN and SLACK_ALERTS_CHANNEL (docs/reference/settings.md)"
NO_CHANNEL = (
    "Alerts reach no one: ALERTS_WITHOUT_CHANNEL is on, and neither incident.io nor Slack nor mail is configured"
)
CHANNEL_REMEDY = (
    "Set the variables of incident.io, Slack or mail, and take ALERTS_WITHOUT_CHANNEL away (docs/reference/settings.md)"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MissingChannel:
    """What is wrong with the channels of alerts, and what to do about it."""

    why: str
    remedy: str


@dataclass(frozen=True)
class SlackCarrier:
    client: Slack
    channel: str
    name: str = "slack"

    def carry(self, event: AlertEvent, why: str) -> None:
        """Post one message. Raises VendorError."""
        self.post(event, why)

    def post(self, event: AlertEvent, why: str, *, thread: str | None = None, mention: str = "") -> str:
        """Post one message, in a thread where `thread` is the `ts` of its first message. Returns its own `ts`. Raises VendorError.

        `mention` is mrkdwn that comes first.
        """
        texts = [f"{mention} {markdown_to_mrkdwn(words(event, why, length))}".strip() for length in LENGTHS]
        text = next((text for text in texts if len(text) <= LONGEST_MESSAGE), texts[-1])
        return self.client.post_message(self.channel, text, thread=thread)


@dataclass(frozen=True)
class MailCarrier:
    server: MailServer
    sender: str
    receivers: tuple[str, ...]
    name: str = "mail"

    def carry(self, event: AlertEvent, why: str) -> None:
        """Send one mail to everybody; the mails of one alert are one conversation. Raises VendorError."""
        self.send(event, why)

    def send(self, event: AlertEvent, why: str, *, urgent: bool = False) -> None:
        """Send one mail as `carry` does; the subject of an `urgent` one says so. Raises VendorError."""
        state = ("URGENT, FAILED" if urgent else "FAILED") if event.status == "firing" else "Resolved"
        text = markdown_to_plain(words(event, why))
        self.server.send(
            self.sender, self.receivers, f"[{state}] {event.title}", text, thread=_thread(event.deduplication_key)
        )


def configured(values: PlatformSettings | None = None) -> tuple[Carrier, ...]:
    """The carriers that the settings allow, in the order in which they are tried."""
    values = values or settings()
    carriers: list[Carrier] = []
    if values.posts_alerts and (slack := client(values)) and values.slack_alerts_channel:
        carriers.append(SlackCarrier(slack, values.slack_alerts_channel))
    if values.mails_alerts and values.smtp_host and values.alert_mail_from:
        password = values.smtp_password.get_secret_value() if values.smtp_password else None
        server = MailServer(values.smtp_host, values.smtp_port, values.smtp_security, values.smtp_user, password)
        carriers.append(MailCarrier(server, values.alert_mail_from, values.alert_mail_receivers))
    return tuple(carriers)


def explain_missing_channel(values: PlatformSettings) -> MissingChannel | None:
    """Return what is wrong where alerts have no second channel; None where the settings have one."""
    number = len(configured(values)) + (values.incident_io is not None)
    if number >= 2:
        return None
    if number == 0:
        return MissingChannel(NO_CHANNEL, CHANNEL_REMEDY)
    if values.incident_io is not None:
        return MissingChannel(NO_SECOND_CHANNEL, SECOND_CHANNEL_REMEDY)
    first, remedy = ("Slack", MAIL_REMEDY) if values.posts_alerts else ("the mail server", SLACK_REMEDY)
    return MissingChannel(
        f"Alerts have no second channel: when {first} accepts none, no one is notified of a failure", remedy
    )


def warn_of_missing_channel(values: PlatformSettings) -> None:
    """Log one warning where alerts have no second channel."""
    if missing := explain_missing_channel(values):
        log.warning("%s. %s.", missing.why, missing.remedy)


def words(event: AlertEvent, why: str, length: int = LENGTHS[0]) -> str:
    """One event in markdown: why it comes this way, what failed, who is hurt and the error (the event's own text), and the link.

    The event's own text is cut to `length` characters. `why` is empty where this is the first channel.
    """
    after = "It is told there as soon as it can be: how it goes on is there, too." if event.status == "firing" else ""
    title = escape_markdown(event.title)
    title = f"**{title}**" if event.status == "firing" else f"**Resolved**: {title}"
    parts = [
        title,
        f"{escape_markdown(redact_line(why))} {after}".strip() if why else "",
        _cut(event.description, length),
        event.source_url,
    ]
    return "\n\n".join(part for part in parts if part)


def _cut(text: str, length: int) -> str:
    """The first characters of a text, with a block of code that was cut closed."""
    short = shortened(text, length)
    return short + "\n```" if short.count("```") % 2 else short


def _thread(key: str) -> str:
    return "".join(char if char.isalnum() or char in "-_." else "-" for char in key)
