"""Which channel gets every notification, and which ones carry what that channel does not accept.

incident.io comes first, then Slack, then mail: the first that is configured gets every notification through the outbox, in its order and
with its retries. The others are asked when the first has accepted nothing for `INCIDENT_IO_FALLBACK_MINUTES`.

Without incident.io no one is paged. Slack mentions the user group of the data responder where an alert is urgent, which is what pages at
any hour in deploy/on_call.yaml; a mail has it in its subject. Other alerts are messages without a mention.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import dagster as dg

from orchestration.incidents import fallback
from orchestration.incidents.alert_threads import AlertThread, AlertThreads, UserGroup
from orchestration.incidents.fallback import MailCarrier, SlackCarrier
from orchestration.incidents.outbox import Carrier
from orchestration.settings import PlatformSettings
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io import AlertEvent, AlertSource
from orchestration.vendors.slack import escaped, is_about_the_message

GROUP_SECONDS = 600.0
"""So long the id of the user group is believed. Slack lists groups 20 times a minute, and a storm has more urgent alerts than that."""
NOT_PERMITTED = 403
"""The status of a refusal that the next event would meet, too: the outbox then waits as in an outage."""

Warn = Callable[[str], None]


class FirstChannel(Protocol):
    """The channel that gets every notification."""

    @property
    def name(self) -> str:
        """How messages call it."""
        ...

    def send(self, event: AlertEvent) -> None:
        """Deliver one event, which may be repeated. Raises VendorError unless it was accepted."""
        ...


@dataclass(frozen=True)
class Channels:
    """The channels of alerts: `first` gets all of them, and `others` carry what it does not accept, in their order."""

    first: FirstChannel
    others: Sequence[Carrier]


def configured(values: PlatformSettings, instance: dg.DagsterInstance, warn: Warn) -> Channels:
    """Return the channels that the settings name. `warn` is given what a person should know about a delivery that succeeded."""
    carriers = fallback.configured(values)
    if (access := values.incident_io) is not None:
        source = AlertSource(access.api_url, access.alert_source_id, access.alert_source_token.get_secret_value())
        return Channels(IncidentIoAlerts(source), carriers)
    threads = AlertThreads(instance)
    match carriers:
        case (SlackCarrier() as slack, *others):
            return Channels(SlackMessages(slack, threads, values.slack_responder_group, warn), others)
        case (MailCarrier() as mail, *others):
            return Channels(Mails(mail, threads), others)
        case _:
            return Channels(NoChannel(warn), ())


@dataclass(frozen=True)
class IncidentIoAlerts:
    """incident.io as the first channel."""

    source: AlertSource
    name: str = "incident.io"

    def send(self, event: AlertEvent) -> None:
        """Deliver one event. Raises VendorError."""
        self.source.send(event)


@dataclass(frozen=True)
class SlackMessages:
    """Slack as the first channel: one message for an alert, and its updates and its end in that message's thread."""

    slack: SlackCarrier
    threads: AlertThreads
    group: str
    """The handle of the user group that an urgent alert mentions."""
    warn: Warn
    name: str = "Slack"

    def send(self, event: AlertEvent) -> None:
        """Post one event. One that was posted before is accepted without a message. Raises VendorError."""
        known = self.threads.find(event.deduplication_key, self.name)
        if _is_settled(event, known):
            return
        opens = known is None or known.status == "resolved"
        try:
            mention = self._mention() if opens and _is_urgent(event) else ""
            thread = None if known is None or opens else known.reference
            reference = self._post(event, thread, mention)
        except VendorError as error:
            if error.status == 400 and not is_about_the_message(error):
                raise VendorError(str(error), status=NOT_PERMITTED, started=False) from error
            raise
        first = reference if known is None or opens else known.reference
        self.threads.remember(event.deduplication_key, AlertThread(self.name, first, event.status, _digest(event)))

    def _post(self, event: AlertEvent, thread: str | None, mention: str) -> str:
        try:
            return self.slack.post(event, "", thread=thread, mention=mention)
        except VendorError as error:
            if thread is None or error.status != 400 or is_about_the_message(error):
                raise
            # A person may have deleted the first message. Which error Slack then answers is unverified, so any refusal counts.
            return self.slack.post(event, "", mention=mention)

    def _mention(self) -> str:
        """Return the mention of the group (https://docs.slack.dev/messaging/formatting-message-text#mentioning-groups).

        It is the group's plain name, which calls no one, where there is no such group. Raises VendorError in an outage of Slack's, after
        which another try finds the group.
        """
        known, now = self.threads.find_group(self.group), time.time()
        if known and abs(now - known.read_at) < GROUP_SECONDS:
            return f"<!subteam^{known.id}>"
        try:
            found = self.slack.client.group_id(self.group)
        except VendorError as error:
            if error.permanent:
                self.warn(f"An urgent alert is posted without a mention of @{self.group}: {error}")
                return escaped(f"@{self.group}")
            if known is None:
                raise
            return f"<!subteam^{known.id}>"
        self.threads.remember_group(self.group, UserGroup(found, now))
        return f"<!subteam^{found}>"


@dataclass(frozen=True)
class Mails:
    """Mail as the first channel: a mail for each state of an alert, all of them one conversation."""

    mail: MailCarrier
    threads: AlertThreads
    name: str = "mail"

    def send(self, event: AlertEvent) -> None:
        """Send one event. One that was sent before is accepted without a mail. Raises VendorError."""
        known = self.threads.find(event.deduplication_key, self.name)
        if _is_settled(event, known):
            return
        self.mail.send(event, "", urgent=_is_urgent(event))
        self.threads.remember(event.deduplication_key, AlertThread(self.name, "", event.status, _digest(event)))


@dataclass(frozen=True)
class NoChannel:
    """No channel, by ALERTS_WITHOUT_CHANNEL: alerts are in the log of the sensor's ticks, and nowhere else."""

    warn: Warn
    name: str = "no channel"

    def send(self, event: AlertEvent) -> None:
        """Log one event."""
        self.warn(f"No channel is configured, so no one is notified: {event.status}: {event.title}")


def _is_settled(event: AlertEvent, known: AlertThread | None) -> bool:
    """Return whether a channel has nothing to send for an event, since it has sent it before."""
    if known is None:
        return False
    if event.status == "resolved":
        return known.status == "resolved"
    return known.status == "firing" and known.digest == _digest(event)


def _is_urgent(event: AlertEvent) -> bool:
    """Return whether an alert is one that pages at any hour: its automatic retry, if any, has not succeeded."""
    known = event.metadata
    urgent = known.get("customer_facing") or known.get("urgent")
    return event.status == "firing" and bool(urgent) and not known.get("transient")


def _digest(event: AlertEvent) -> str:
    return hashlib.sha256("\0".join((event.status, event.title, event.description)).encode()).hexdigest()[:16]
