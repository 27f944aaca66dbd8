"""What Slack, or the mail server, was last sent of each alert, where that is the first channel of alerts.

Stored under a key of its own in Dagster's key-value storage as soon as something is sent: a tick that dies before the alert sensor's
state is saved sends the same event again, and that must not become a second message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import dagster as dg
from pydantic import TypeAdapter, ValidationError

KEY = "dataplatform/alert_threads"
MOST_RESOLVED = 500
"""So many resolved alerts are kept, the latest: one tick resolves fewer, and only an event of the last tick can come twice."""


MOST_FIRING = 5000
"""So many open alerts are kept. An alert whose state was reset by a person is never resolved under its key."""


@dataclass(frozen=True)
class AlertThread:
    """The last event of an alert that a channel has accepted.

    `reference` is what the channel calls the alert's first message: in Slack its `ts`. `digest` tells one event from another.
    """

    channel: str
    reference: str
    status: Literal["firing", "resolved"]
    digest: str


@dataclass(frozen=True)
class UserGroup:
    """A user group of Slack's by its id. `read_at` is in seconds since the epoch."""

    id: str
    read_at: float


@dataclass(frozen=True)
class Stored:
    threads: Mapping[str, AlertThread] = field(default_factory=dict[str, AlertThread])
    """By deduplication key, the latest change last."""
    groups: Mapping[str, UserGroup] = field(default_factory=dict[str, UserGroup])
    """Slack's user groups by handle, as they were last read."""


STORED = TypeAdapter(Stored)


class AlertThreads:
    """The threads of one instance, read when they are first asked for."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._storage = instance.daemon_cursor_storage
        self._stored: Stored | None = None

    def find(self, key: str, channel: str) -> AlertThread | None:
        """Return what `channel` was last sent of an alert; None where that is nothing."""
        found = self._read().threads.get(key)
        return found if found and found.channel == channel else None

    def remember(self, key: str, thread: AlertThread) -> None:
        """Store what a channel has accepted."""
        stored = self._read()
        threads = {name: one for name, one in stored.threads.items() if name != key} | {key: thread}
        for status, most in (("resolved", MOST_RESOLVED), ("firing", MOST_FIRING)):
            names = [name for name, one in threads.items() if one.status == status]
            for name in names[:-most]:
                del threads[name]
        self._write(Stored(threads, stored.groups))

    def find_group(self, handle: str) -> UserGroup | None:
        """Return a user group as it was last read."""
        return self._read().groups.get(handle)

    def remember_group(self, handle: str, group: UserGroup) -> None:
        """Store a user group that was read, in place of any other."""
        self._write(Stored(self._read().threads, {handle: group}))

    def _read(self) -> Stored:
        if self._stored is None:
            text = self._storage.get_cursor_values({KEY}).get(KEY)
            try:
                self._stored = STORED.validate_json(text) if text else Stored()
            except ValidationError:
                # Of another version: messages then begin new threads, and none is lost.
                self._stored = Stored()
        return self._stored

    def _write(self, stored: Stored) -> None:
        self._stored = stored
        self._storage.set_cursor_values({KEY: STORED.dump_json(stored).decode("utf-8")})
