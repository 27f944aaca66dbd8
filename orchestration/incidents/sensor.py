"""The sensor that turns what Dagster's storage says into alerts.

Not `run_failure_sensor`: that one moves on when its body raises, and the event is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import dagster as dg
from dagster import _check as check

from orchestration.incidents import (
    alerter,
    background,
    clocks,
    fallback,
    instigators,
    mutes,
    outbox,
    removed,
    signals,
    state,
    store,
    unreadable,
)
from orchestration.incidents.instigators import Instigator
from orchestration.incidents.locations import READER, WAIT_SECONDS, Workspace
from orchestration.incidents.model import Failure, Recovery
from orchestration.incidents.render import firing, resolved
from orchestration.incidents.triage import triage
from orchestration.lineage.graph import Graph
from orchestration.settings import settings
from orchestration.vendors.incident_io import AlertEvent, AlertSource

INTERVAL_SECONDS = 1
"""The daemon looks every five seconds; an interval of five makes it up to ten."""
BACKGROUND_SECONDS, ONE_BACKGROUND_SECONDS = 8.0, 2.0
"""Of a tick, and of one alert: what a responder wants to know beside the error must not delay the page."""
DELIVERY_SECONDS = 10.0
"""A tick has 60 s; one call of the vendor takes at most 15. Short, since what fails in the meantime is seen by the next tick only."""


TAKEN_OVER = "v0"
"""A cursor of a code location that has had none: the stored state is read, and not set aside."""


@dg.sensor(
    name=alerter.ALERTS,
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Declares every way in which data fails to arrive as an incident, once, and resolves it when it is well again.",
)
def incident_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    own = instigators.of_context(context) or Instigator(alerter.ALERTS)
    claim = alerter.claim(context.instance, own.label, time.time())
    if claim.other is not None:
        text = (
            f"The code location {claim.other} sends the alerts, so {own.label} does not: two would page twice. "
            f"Switch off the sensor {alerter.ALERTS} of one of them."
        )
        context.log.warning(text)
        return dg.SensorResult(skip_reason=text, cursor=context.cursor)
    # Who takes over goes on with the alerts that are open.
    cursor = context.cursor or (TAKEN_OVER if claim.took_over else None)
    stored = store.load(context.instance, cursor)
    repository = check.not_none(context.repository_def)

    def workspace(wait_seconds: float = WAIT_SECONDS) -> Workspace:
        return READER.read(context.instance, repository, own.location, wait_seconds)

    # Code servers are read before something fails, so that its alert need not wait for them.
    workspace(0.0)
    judged = judge(context.instance, stored.state, workspace, stored.problems)
    values = settings()
    source = AlertSource(
        str(values.incident_io_api_url),
        values.incident_io_alert_source_id,
        values.incident_io_alert_source_token.get_secret_value(),
    )
    done = outbox.deliver(
        judged.waiting,
        source.send,
        fallback.configured(values),
        DELIVERY_SECONDS,
        time.time(),
        fallback_seconds=values.incident_io_fallback_minutes * 60,
        pace=judged.pace,
    )
    for event in done.sent:
        context.log.info(f"{event.status}: {event.title} ({event.deduplication_key})")
    for problem in done.problems:
        context.log.error(problem)
    if done.delay:
        context.log.info(f"{len(done.waiting)} alert events wait. {done.delay}")
    cursor, lost = store.save(context.instance, stored, replace(judged, waiting=done.waiting, pace=done.pace))
    for problem in (*stored.problems, *lost):
        context.log.error(f"part of the stored state cannot be read, and was set aside: {problem}")
    return dg.SensorResult(skip_reason=_summary(judged, done), cursor=cursor)


def _summary(judged: state.State, done: outbox.Delivered) -> str:
    told = sum(alert.told for alert in judged.alerts.values())
    parts = [f"{len(done.sent)} alert events delivered, {told} alerts open"]
    if held := len(judged.alerts) - told:
        parts.append(f"{held} held back")
    if judged.pending:
        parts.append(f"{len(judged.pending)} wait for a retry")
    if done.waiting:
        parts.append(
            f"{len(done.waiting)} alert events wait for delivery. {' '.join((done.delay, *done.problems)).strip()}"
        )
    return ", ".join(parts)


def judge(
    instance: dg.DagsterInstance, before: state.State, workspace: Callable[[], Workspace], problems: Sequence[str] = ()
) -> state.State:
    """The state after everything that has happened since, with what has to be told among what waits for delivery.

    `problems` name the parts of the stored state that could not be read, each of which becomes an alert.

    The workspace is asked for only when something is wrong: most ticks find nothing, and a large graph takes a while to walk.
    """
    now = time.time()
    before = clocks.believed(before, now)
    reading = signals.read(instance, before, now, settings().alert_queue_minutes)
    lost = [unreadable.of_unreadable_state(problem, now) for problem in problems]
    found = [*reading.signals, *lost]
    wrong = reading.state.alerts or reading.state.pending or any(signal.failed for signal in found)
    platform, muted = (workspace(), mutes.active(instance, now)) if wrong else (Workspace({}), ())
    known = platform.graph
    found += unreadable.isolated(
        lambda: removed.find_removed(instance, reading.state, platform, now),
        f"removed:{now // unreadable.NOTICE_SECONDS}",
        now,
        "What is no longer defined",
    )

    def why_muted(keys: Sequence[str]) -> str | None:
        mute = mutes.is_muted(keys, muted)
        return f"muted until {mute.until:%Y-%m-%d %H:%M %Z}: {mute.reason}" if mute else None

    after, told = triage(reading.state, found, known, now, why_muted, reading.retries)
    earlier = {alert.deduplication_key: alert for alert in before.alerts.values() if alert.told}
    if after.looking_back:
        # What is read next may be the end of what has just begun.
        alerts = {name: replace(alert, told=alert.deduplication_key in earlier) for name, alert in after.alerts.items()}
        after, told = replace(after, alerts=alerts), [item for item in told if item.deduplication_key in earlier]
    elif before.looking_back:
        told = _without_the_mended(after, told, earlier)
    return _put(instance, after, told, known, now, earlier)


def _without_the_mended(
    after: state.State, told: Sequence[Failure | Recovery], earlier: Mapping[str, state.Alert]
) -> list[Failure | Recovery]:
    """What failed and was mended while nobody looked is history, and wakes nobody; but for what was told `earlier`."""
    live = earlier.keys() | {alert.deduplication_key for alert in after.alerts.values()}
    return [item for item in told if item.deduplication_key in live]


def _put(
    instance: dg.DagsterInstance,
    after: state.State,
    told: Sequence[Failure | Recovery],
    graph: Graph,
    now: float,
    earlier: Mapping[str, state.Alert],
) -> state.State:
    """Return the state with a queued event for each notification. `earlier` are the alerts that were notified before this tick."""
    url, deadline = settings().dagster_url, time.monotonic() + BACKGROUND_SECONDS
    waiting, alerts = after.waiting, dict(after.alerts)
    titles = {alert.deduplication_key: alert.title for alert in alerts.values()}
    for item in told:
        if isinstance(item, Failure):
            seconds = min(ONE_BACKGROUND_SECONDS, deadline - time.monotonic())
            known = background.gather(
                instance, item.asset_keys, item.consumers, graph, seconds, since=item.since, run_id=item.run_id
            )
            past = after.history.get(item.name, ())
            known = replace(
                known,
                failures=len(past),
                transients=sum(one.transient for one in past),
                problems=(*known.problems, *graph.problems),
            )
            event: AlertEvent = firing(replace(item, background=known), url)
            titles[item.deduplication_key] = event.title
            if (
                (alert := alerts.get(item.name))
                and alert.deduplication_key == item.deduplication_key
                and not alert.title
            ):
                alerts[item.name] = replace(alert, title=event.title)
        else:
            event = resolved(replace(item, title=item.title or titles.get(item.deduplication_key, item.name)), url)
        before = earlier.get(item.deduplication_key)
        waiting = outbox.put(
            waiting,
            event,
            now,
            customer_facing=before.customer_facing if before else False,
            update=before is not None,
        )
    return replace(after, waiting=waiting, alerts=alerts)
