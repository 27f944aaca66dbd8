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
    channels,
    clocks,
    instigators,
    mutes,
    outbox,
    reconciliation,
    removed,
    signals,
    state,
    store,
    unreadable,
)
from orchestration.incidents.deadline import Deadline
from orchestration.incidents.instigators import Instigator
from orchestration.incidents.locations import READER, WAIT_SECONDS, Workspace
from orchestration.incidents.model import Background, Failure, Recovery
from orchestration.incidents.reconciliation_sensor import read_comparison
from orchestration.incidents.render import firing, resolved
from orchestration.incidents.sizes import shortened
from orchestration.incidents.triage import triage
from orchestration.lineage.graph import Graph
from orchestration.settings import settings
from orchestration.vendors.incident_io import AlertEvent

INTERVAL_SECONDS = 1
"""The daemon looks every five seconds; an interval of five makes it up to ten."""
TICK_SECONDS = 25.0
"""No stage of a tick begins more work after so long. Dagster ends a tick at 60 s, and what is under way may take longer: a call of
incident.io up to 15 s, a message of each other channel up to 12 (`vendors/slack.py`, `vendors/mail.py`)."""
READING_SECONDS = 10.0
BACKGROUND_SECONDS, ONE_BACKGROUND_SECONDS = 3.0, 1.0
"""Of a tick, and of one alert: what a responder wants to know beside the error must not delay the page."""
DELIVERY_SECONDS, LEAST_DELIVERY_SECONDS = 10.0, 2.0
"""Short, since what fails in the meantime is seen by the next tick only; and at least enough for one call, however long reading took."""
MOST_LINES = 20
"""Most lines of each kind in a tick's log, and most problems in its summary."""
LONGEST_SUMMARY = 1_000
"""Characters: Dagster keeps the summary in the row of each tick."""
TAKEN_OVER = "v0"
"""A cursor of a code location that has had none: the stored state is read, and not set aside."""


@dg.sensor(
    name=alerter.ALERTS,
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Declares every way in which data fails to arrive as an incident, once, and resolves it when it is well again.",
)
def incident_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    deadline = Deadline.within(TICK_SECONDS)
    own = instigators.of_context(context) or Instigator(alerter.ALERTS)
    claim = alerter.claim_lease(context.instance, own.label, time.time())
    if claim.other is not None:
        text = (
            f"The code location {claim.other} sends the alerts, so {own.label} does not: two would page twice. "
            f"Switch off the sensor {alerter.ALERTS} of one of them."
        )
        context.log.warning(text)
        return dg.SensorResult(skip_reason=text, cursor=context.cursor)
    tick = store.begin_tick(context.instance)
    # Who takes over goes on with the alerts that are open.
    stored = store.load(context.instance, context.cursor or (TAKEN_OVER if claim.took_over else None))
    repository = check.not_none(context.repository_def)

    def workspace(wait_seconds: float = WAIT_SECONDS) -> Workspace:
        return READER.read(context.instance, repository, own.location, min(wait_seconds, deadline.remaining()))

    # Code servers are read before something fails, so that its alert need not wait for them.
    workspace(0.0)
    judged = judge(context.instance, stored.state, workspace, stored.problems, deadline)
    try:
        cursor, summary = _store_and_deliver(context, tick, stored, judged, deadline)
    except store.SupersededError as error:
        # The daemon that asked for this tick has died, so that the cursor goes nowhere.
        return dg.SensorResult(skip_reason=str(error), cursor=context.cursor)
    return dg.SensorResult(skip_reason=summary, cursor=cursor)


def _store_and_deliver(
    context: dg.SensorEvaluationContext, tick: str, stored: store.Loaded, judged: state.State, deadline: Deadline
) -> tuple[str, str]:
    """Store what was judged and send what waits. Returns the cursor and the summary of the tick.

    Raises SupersededError as soon as another tick has begun.
    """

    def check_is_newest() -> None:
        store.check_is_newest(context.instance, tick)

    lost = list(stored.problems)
    check_is_newest()
    if judged.waiting != stored.state.waiting:
        # Before anything is sent: a tick that dies while it sends must not judge the same again, perhaps with another result.
        stored, more = store.save_and_continue(context.instance, stored, judged)
        lost += more
    values = settings()
    known = channels.configured(values, context.instance, context.log.warning)
    done = outbox.deliver(
        judged.waiting,
        known.first.send,
        known.others,
        max(LEAST_DELIVERY_SECONDS, deadline.share(DELIVERY_SECONDS).remaining()),
        time.time(),
        fallback_seconds=values.incident_io_fallback_minutes * 60,
        pace=judged.pace,
        before_each=check_is_newest,
        channel=known.first.name,
    )
    check_is_newest()
    cursor, more = store.save(context.instance, stored, replace(judged, waiting=done.waiting, pace=done.pace))
    _write_log(context, done, [*lost, *more])
    return cursor, _summary(judged, done)


def _write_log(context: dg.SensorEvaluationContext, done: outbox.Delivered, lost: Sequence[str]) -> None:
    """Write a tick's log, of a limited length: Dagster keeps the log of each tick in a file of its own."""
    for event in done.sent[:MOST_LINES]:
        context.log.info(f"{event.status}: {event.title} ({event.deduplication_key})")
    if len(done.sent) > MOST_LINES:
        context.log.info(f"{len(done.sent) - MOST_LINES} more alert events were delivered.")
    for problem in done.problems[:MOST_LINES]:
        context.log.error(problem)
    for problem in lost[:MOST_LINES]:
        context.log.error(f"part of the stored state cannot be read, and was set aside: {problem}")


def _summary(judged: state.State, done: outbox.Delivered) -> str:
    told = sum(alert.told for alert in judged.alerts.values())
    parts = [f"{len(done.sent)} alert events delivered, {told} alerts open"]
    if held := len(judged.alerts) - told:
        parts.append(f"{held} held back")
    if judged.pending:
        parts.append(f"{len(judged.pending)} wait for a retry")
    if done.waiting:
        why = " ".join((done.delay, *done.problems[:MOST_LINES])).strip()
        parts.append(f"{len(done.waiting)} alert events wait for delivery. {why}")
    return shortened(", ".join(parts), LONGEST_SUMMARY)


def judge(
    instance: dg.DagsterInstance,
    before: state.State,
    workspace: Callable[[], Workspace],
    problems: Sequence[str] = (),
    deadline: Deadline | None = None,
) -> state.State:
    """Return the state after everything that has happened since, with the new notifications among those that wait for delivery.

    `problems` name the parts of the stored state that could not be read, each of which becomes an alert. What there is no time for
    before the `deadline` is left for the next tick.

    The workspace is asked for only when something is wrong: most ticks find nothing, and a large graph takes a while to walk.
    """
    now, deadline = time.time(), deadline or Deadline.within(TICK_SECONDS)
    before, repeated = reconciliation.carry_out(clocks.believed(before, now), read_comparison(instance), now)
    limit = deadline.share(READING_SECONDS)
    reading = signals.read(instance, before, now, settings().alert_queue_minutes, limit)
    lost = [unreadable.of_unreadable_state(problem, now) for problem in problems]
    found = [*reading.signals, *lost]
    wrong = reading.state.alerts or reading.state.pending or any(signal.failed for signal in found)
    platform, muted = (workspace(), mutes.active(instance, now)) if wrong else (Workspace({}), ())
    known = platform.graph
    found += unreadable.read_isolated(
        lambda: removed.find_removed(instance, reading.state, platform, now),
        f"removed:{now // unreadable.NOTICE_SECONDS}",
        now,
        "What is no longer defined",
    )

    def why_muted(keys: Sequence[str]) -> str | None:
        mute = mutes.is_muted(keys, muted)
        return f"muted until {mute.until:%Y-%m-%d %H:%M %Z}: {mute.reason}" if mute else None

    after, notifications = triage(reading.state, found, known, now, why_muted, reading.retries)
    earlier = {alert.deduplication_key: alert for alert in before.alerts.values() if alert.told}
    if after.looking_back:
        # What is read next may be the end of what has just begun.
        alerts = {name: replace(alert, told=alert.deduplication_key in earlier) for name, alert in after.alerts.items()}
        after, notifications = (
            replace(after, alerts=alerts),
            [item for item in notifications if item.deduplication_key in earlier],
        )
    elif before.looking_back:
        notifications = _without_recovered(after, notifications, earlier)
    notifications = [*notifications, *repeated]
    after = replace(after, resolved=reconciliation.remember_resolved(after.resolved, notifications, now))
    gathered = _gather_backgrounds(instance, notifications, known, earlier, deadline.share(BACKGROUND_SECONDS))
    return _queue_notifications(after, notifications, gathered, now, earlier)


def _without_recovered(
    after: state.State, notifications: Sequence[Failure | Recovery], earlier: Mapping[str, state.Alert]
) -> list[Failure | Recovery]:
    """Return the notifications without those of alerts that opened and ended before the first look; `earlier` ones are kept."""
    live = earlier.keys() | {alert.deduplication_key for alert in after.alerts.values()}
    return [item for item in notifications if item.deduplication_key in live]


def _gather_backgrounds(
    instance: dg.DagsterInstance,
    notifications: Sequence[Failure | Recovery],
    graph: Graph,
    earlier: Mapping[str, state.Alert],
    deadline: Deadline,
) -> dict[int, Background]:
    """Return the background of each failure by its place in `notifications`: first of those that go out first, as long as there is time."""

    def rank(place: int) -> tuple[bool, bool, bool, int]:
        item = notifications[place]
        is_internal = not (isinstance(item, Failure) and item.urgent)
        return item.transient, is_internal, item.deduplication_key in earlier, place

    found: dict[int, Background] = {}
    for place in sorted(range(len(notifications)), key=rank):
        item = notifications[place]
        if isinstance(item, Failure):
            seconds = min(ONE_BACKGROUND_SECONDS, deadline.remaining())
            known = background.gather(
                instance, item.asset_keys, item.consumers, graph, seconds, since=item.since, run_id=item.run_id
            )
            found[place] = replace(known, problems=(*known.problems, *graph.problems))
    return found


def _queue_notifications(
    after: state.State,
    notifications: Sequence[Failure | Recovery],
    gathered: Mapping[int, Background],
    now: float,
    earlier: Mapping[str, state.Alert],
) -> state.State:
    """Return the state with a queued event for each notification. `earlier` are the alerts that were notified before this tick."""
    url, alerts = settings().dagster_url, dict(after.alerts)
    titles = {alert.deduplication_key: alert.title for alert in alerts.values()}
    queue = outbox.Queue(after.waiting)
    for place, item in enumerate(notifications):
        if isinstance(item, Failure):
            past = after.history.get(item.name, ())
            known = replace(gathered[place], failures=len(past), transients=sum(one.transient for one in past))
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
        queue.put(
            event,
            now,
            customer_facing=before.customer_facing if before else False,
            update=before is not None,
        )
    return replace(after, waiting=queue.waiting, alerts=alerts)
