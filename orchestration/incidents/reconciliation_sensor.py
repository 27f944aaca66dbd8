"""The sensor that compares the alerts with incident.io's list every few minutes (`reconciliation.py`).

It does not write the alert sensor's state, which that sensor reads and writes at the same time. It stores its comparison under a key
of its own in Dagster's key-value storage, and the alert sensor carries the requests in it out in its next tick.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import cast

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from orchestration.incidents import mutes, reconciliation, store
from orchestration.incidents.reconciliation import Comparison, Listing, Situation
from orchestration.incidents.state import Alert
from orchestration.incidents.triage import keys_of
from orchestration.settings import settings
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io_alerts import AlertList

KEY = "dataplatform/alert_reconciliation"
INTERVAL_SECONDS = 300
MOST_PAGES = 20
"""Pages of 50 firing alerts. Alerts beyond them are looked up by key while they are open; resolved ones are not compared."""
LOOK_SECONDS = 25.0
"""After this time no further request is made: a tick has 60 seconds, and a request takes up to 16."""
OFF = "INCIDENT_IO_API_KEY is not set: there is no incident.io to compare the alerts with"
COMPARISON = TypeAdapter(Comparison)


@dg.sensor(
    name="alert_reconciliation",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Compares the alerts with incident.io's list, and lets incident_alerts send again what incident.io has lost.",
)
def alert_reconciliation(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    access, now = settings().incident_io, time.time()
    if access is None:
        return dg.SkipReason(OFF)
    before, situation = read_comparison(context.instance), read_situation(context.instance, now)
    if not situation.ended and not (situation.notified.keys() - set(before.known)):
        return dg.SkipReason("no alert has to be compared")
    alert_list = AlertList(access.api_url, access.api_key.get_secret_value(), access.alert_source_id)
    try:
        listing, problems = read_listing(alert_list, situation, before)
    except VendorError as error:
        if error.permanent:
            raise
        # The next tick compares again. An alert about an outage of incident.io would reach no one.
        context.log.warning(str(error))
        return dg.SkipReason(f"not compared: {error}")
    after = reconciliation.compare_alerts(situation, before, listing, now)
    write_comparison(context.instance, after)
    for problem in problems:
        context.log.warning(problem)
    for what, keys in (("sent", after.send_again), ("resolved", after.resolve_again)):
        for key in keys:
            context.log.warning(f"incident.io has lost an event of the alert {key}. It is {what} again.")
    return dg.SkipReason(" ".join((describe_comparison(situation, after), *problems)))


def read_situation(instance: dg.DagsterInstance, now: float) -> Situation:
    """Return what the alert sensor has stored, as of one moment. Parts that cannot be read count as empty: it reports them itself."""
    stored = store.read_parts(instance, ("alerts", "waiting", "resolved"))
    alerts = cast("Mapping[str, Alert]", stored[0] or {})
    active = mutes.active(instance, now)
    muted = [name for name, alert in alerts.items() if _is_muted(alert, active)]
    return Situation(alerts, stored[1] or (), stored[2] or {}, muted)


def _is_muted(alert: Alert, active: Sequence[mutes.Mute]) -> bool:
    keys = keys_of(alert)
    return bool((keys and mutes.is_muted(keys, active)) or mutes.is_muted([alert.name], active))


def read_listing(alert_list: AlertList, situation: Situation, before: Comparison) -> tuple[Listing, list[str]]:
    """Return what incident.io has, and what could not be read of it.

    Raises:
        VendorError: The list cannot be read at all, or the API key is refused.
    """
    deadline, problems = time.monotonic() + LOOK_SECONDS, list[str]()
    firing = alert_list.read_firing_keys(MOST_PAGES, deadline)
    if not firing.complete:
        problems.append(
            f"Only {len(firing.keys)} alerts that fire in incident.io were read; the older ones are not compared."
        )
    if firing.unreadable:
        problems.append(f"{firing.unreadable} entries of incident.io's list of alerts are not as documented.")
    found, absent = list[str](), list[str]()
    wanted = reconciliation.keys_to_look_up(situation, before, firing.keys)
    for key in wanted:
        if time.monotonic() > deadline:
            break
        try:
            (found if alert_list.has_alert(key) else absent).append(key)
        except VendorError as error:
            if error.permanent:
                raise
            problems.append(str(error))
            break
    if left := len(wanted) - len(found) - len(absent):
        problems.append(f"{left} open alerts are looked up by the next comparison.")
    return Listing(firing.keys, firing.complete, found, absent), problems


def describe_comparison(situation: Situation, after: Comparison) -> str:
    """Return one sentence about a comparison."""
    parts = [f"{len(situation.notified)} open and {len(situation.ended)} resolved alerts compared"]
    if suspected := len(after.missing) + len(after.unresolved):
        parts.append(f"{suspected} differ and are compared once more")
    if after.send_again:
        parts.append(f"{len(after.send_again)} are sent again")
    if after.resolve_again:
        parts.append(f"{len(after.resolve_again)} are resolved again")
    return f"{', '.join(parts)}."


def read_comparison(instance: dg.DagsterInstance) -> Comparison:
    """Return the last comparison; an empty one where there is none, or where it cannot be read."""
    stored = instance.daemon_cursor_storage.get_cursor_values({KEY}).get(KEY)
    try:
        return COMPARISON.validate_json(stored) if stored else Comparison()
    except ValidationError:
        return Comparison()


def write_comparison(instance: dg.DagsterInstance, comparison: Comparison) -> None:
    """Store a comparison in place of the last one."""
    instance.daemon_cursor_storage.set_cursor_values({KEY: COMPARISON.dump_json(comparison).decode("utf-8")})
