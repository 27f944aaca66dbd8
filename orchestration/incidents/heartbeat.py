"""Pings incident.io while alerts are read and delivered. Without it, a dead daemon and a day without failures look the same.

The daemon's own sensor loop pings, and only while the alert sensor ticks without an error and its notifications reach people: so
silence means that no one would be notified. That sensor itself notices what else in the daemon stands still: runs hang in the queue,
data is late.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus

from orchestration.incidents import alerter, instigators, store
from orchestration.incidents.alerter import ALERTS
from orchestration.incidents.instigators import Instigator
from orchestration.incidents.outbox import Waiting
from orchestration.incidents.pacing import Pace
from orchestration.settings import settings
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io_presence import Heartbeat

QUIET_SECONDS = 180.0
"""So long it may be without a good tick: one takes up to a minute, and a reload of the code location as long."""
TICKS_READ = 10
"""So many ticks are looked through for a good one. Each that a daemon's death has interrupted is no evidence."""
OFF = "INCIDENT_IO_HEARTBEAT_ID is not set: nobody is told from outside when the daemon is dead"


def trouble(running: bool, last_good: float | None, now: float) -> str | None:
    """Why nobody would hear of a failure now, if so: whether the sensor of alerts is on, and when its last good tick ended.

    Times are in seconds since the epoch.
    """
    if not running:
        return f"the sensor {ALERTS} is switched off"
    if last_good is None:
        return f"the sensor {ALERTS} has had no good tick yet"
    if last_good > now:
        return f"the last good tick of the sensor {ALERTS} is in the future: the clock was ahead then, or is behind now"
    if now - last_good > QUIET_SECONDS:
        return f"the sensor {ALERTS} has had no good tick for {(now - last_good) / 60:.0f} min"
    return None


def alerting(instance: dg.DagsterInstance, now: float, own: Instigator | None = None) -> tuple[bool, float | None]:
    """Return whether the alert sensor is on, and when its last good tick ended, in seconds since the epoch.

    It is the one in the code location of `own`, the heartbeat: another code location's may tick while this one fails. Without `own`
    it is any that there is. A tick of a clock that was ahead hides none that came since.
    """
    known = [state for state in instance.all_instigator_state() if state.instigator_name == ALERTS]
    if own is not None:
        known = [state for state in known if instigators.of_state(state).label == own.label]
    running = [state for state in known if state.status != InstigatorStatus.STOPPED]
    good = [TickStatus.SUCCESS, TickStatus.SKIPPED]
    ended = [
        tick.end_timestamp or tick.timestamp
        for state in running
        for tick in instance.get_ticks(
            state.instigator_origin_id, state.selector_id, before=now, limit=TICKS_READ, statuses=good
        )
        # The alert sensor gives a reason for each skip. Without one its daemon died in the middle of the tick.
        if not instigators.is_unexplained_skip(tick)
    ]
    return bool(running), max(ended, default=None)


def undelivered(waiting: Sequence[Waiting], pace: Pace, limit: float, now: float) -> str | None:
    """Return why people are not notified of open alerts; None while they are.

    A notification counts that is older than `limit` and that no channel has carried. One that was never tried waits for its turn
    as long as incident.io accepts others. Times and `limit` are in seconds, times since the epoch.
    """
    accepted_lately = now - limit < pace.last_accepted <= now
    late = [
        item
        for item in waiting
        if item.event.status == "firing"
        and not item.told("firing")
        and now - item.since > limit
        and (item.attempts or item.reduced or not accepted_lately)
    ]
    if not late:
        return None
    oldest = min(late, key=lambda item: item.since)
    return (
        f"{len(late)} notifications have reached no one, the oldest for {(now - oldest.since) / 60:.0f} min ({oldest.event.title}): "
        "check incident.io's alert source and its token, and configure Slack or mail as a second channel"
    )


def heartbeat(seconds: int) -> dg.SensorDefinition:
    """The sensor, which pings every `seconds`."""

    @dg.sensor(
        name="heartbeat",
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Pings incident.io while alerts are read and delivered: it raises an alert by itself when the pings stop.",
    )
    def beat(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        values = settings()
        if values.incident_io_heartbeat_id is None or values.incident_io_heartbeat_token is None:
            return dg.SkipReason(OFF)
        now = time.time()
        # Read without judging: a part that cannot be read is the alert sensor's to report.
        waiting = store.read_part(context.instance, "waiting") or ()
        pace = store.read_part(context.instance, "pace") or Pace()
        limit = values.incident_io_fallback_minutes * 60
        own = instigators.of_context(context)
        other = alerter.find_other(context.instance, own.label, now) if own else None
        if other is not None:
            # Else this one would go on when that one's alerts fail.
            return dg.SkipReason(f"no ping: the code location {other} sends the alerts, and its heartbeat pings")
        why = trouble(*alerting(context.instance, now, own), now) or undelivered(waiting, pace, limit, now)
        if why:
            context.log.warning(f"No ping: {why}")
            return dg.SkipReason(f"no ping: {why}")
        token = values.incident_io_heartbeat_token.get_secret_value()
        try:
            Heartbeat(str(values.incident_io_api_url), values.incident_io_heartbeat_id, token).ping()
        except VendorError as error:
            if error.permanent:
                raise
            # incident.io notices by itself; an alert about its own outage would come when that is over.
            context.log.warning(str(error))
            return dg.SkipReason(f"no ping: {error}")
        return dg.SkipReason("pinged")

    return beat
