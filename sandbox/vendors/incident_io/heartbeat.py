"""Heartbeats: pings that are expected, and the alert that opens by itself when they stay away.

How late a ping is, is told by this machine's clock: the on-call clock may jump by days, and the one who pings keeps this machine's
time. A heartbeat is watched from its first ping on, and while this server runs: what was not served could not be pinged.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.vendors.context import VendorContext
from sandbox.vendors.incident_io.alerting import Alerting, Event
from sandbox.vendors.incident_io.names import identifier, stamp
from sandbox.vendors.incident_io.settings import SOURCE, Setting, Settings

SCHEMA = """
create table if not exists incident_io_beat (source text primary key, beaten_at text not null, beats integer not null);
"""


class Heartbeats:
    def __init__(self, context: VendorContext, settings: Settings, alerting: Alerting) -> None:
        self._store, self._settings, self._alerting = context.store, settings, alerting
        self._store.script(SCHEMA)
        self._served_since = datetime.now(UTC)

    def ping(self, source: Setting) -> None:
        """A sign of life: its alert, if it has one, is over."""
        self._store.execute(
            "insert into incident_io_beat values (?1, ?2, 1) on conflict (source) do update set beaten_at = ?2, beats = beats + 1",
            (source.id, stamp(datetime.now(UTC))),
        )
        if self._alerting.firing(_key(source)):
            self._alerting.declare(source, Event(_key(source), firing=False, title=_title(source)))

    def advance(self) -> None:
        """Open an alert for each heartbeat that fails."""
        for source, beaten in self._watched():
            if self._state(source, beaten) == "failing" and not self._alerting.firing(_key(source)):
                text = f"The last ping came at {beaten:%Y-%m-%d %H:%M:%S} UTC."
                self._alerting.declare(source, Event(_key(source), firing=True, title=_title(source), description=text))

    def shown(self) -> list[dict[str, Any]]:
        """Every heartbeat with its last ping, as `/_inspect/heartbeat` shows it."""
        rows = {row["source"]: row for row in self._store.execute("select * from incident_io_beat")}
        found: list[dict[str, Any]] = []
        for source in self._sources():
            row, alert = rows.get(source.id), self._alerting.firing(_key(source))
            beaten = datetime.fromisoformat(row["beaten_at"]) if row else None
            found.append({
                "id": source.id, "name": source.name, **source.body["heartbeat_options"],
                "state": self._state(source, beaten) if beaten else "waiting",
                "last_ping_at": row["beaten_at"] if row else None, "pings": row["beats"] if row else 0,
                "alert_id": identifier("ALERT", alert) if alert else None,
            })  # fmt: skip
        return found

    def _sources(self) -> list[Setting]:
        return [one for one in self._settings.all(SOURCE) if one.body["source_type"] == "heartbeat"]

    def _watched(self) -> list[tuple[Setting, datetime]]:
        beats = {row["source"]: row["beaten_at"] for row in self._store.execute("select * from incident_io_beat")}
        if not beats:
            return []
        return [(one, datetime.fromisoformat(beats[one.id])) for one in self._sources() if one.id in beats]

    def _state(self, source: Setting, beaten: datetime) -> str:
        options = source.body["heartbeat_options"]
        silent = datetime.now(UTC) - max(beaten, self._served_since)
        expected = timedelta(seconds=options["interval_seconds"] * options.get("failure_threshold", 1))
        grace = timedelta(seconds=options.get("grace_period_seconds", 0))
        return "healthy" if silent <= expected else "late" if silent <= expected + grace else "failing"


def _key(source: Setting) -> str:
    return f"heartbeat:{source.id}"


def _title(source: Setting) -> str:
    return f"Heartbeat missed: {source.name}"
