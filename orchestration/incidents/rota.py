"""@data-responder in Slack is whoever is on shift in incident.io's schedule, where incident.io does not see to that itself.

The group is left as it is when in doubt: an alert that mentions the last responder reaches somebody, one that mentions nobody does not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import dagster as dg

from orchestration.settings import settings
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io_presence import Person, Schedules
from orchestration.vendors.slack import Slack, client

INTERVAL_SECONDS = 60
OFF = "ROTA_SYNC is off: incident.io's own sync of the schedule keeps the user group, or nobody does"


@dataclass(frozen=True)
class Change:
    """The group should have these people, by their ids in Slack."""

    users: tuple[str, ...]
    joins: tuple[str, ...]
    leaves: tuple[str, ...]


@dataclass(frozen=True)
class LeaveAlone:
    why: str


def decide(wanted: Sequence[str], actual: Collection[str]) -> Change | LeaveAlone:
    """What to do with a group of the people `actual`, when `wanted` are on shift; both are ids in Slack."""
    users = tuple(dict.fromkeys(wanted))
    if not users:
        return LeaveAlone("nobody is on shift")
    if set(users) == set(actual):
        return LeaveAlone("it has who is on shift")
    joins = tuple(user for user in users if user not in actual)
    return Change(users, joins, tuple(sorted(set(actual) - set(users))))


@dg.sensor(
    name="data_responder_rota",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Keeps the user group of the data responder in Slack in step with incident.io's schedule (ROTA_SYNC).",
)
def data_responder_rota(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    values = settings()
    slack = client(values)
    access = values.incident_io
    if not values.rota_sync or slack is None or access is None:
        return dg.SkipReason(OFF)
    schedules = Schedules(access.api_url, access.api_key.get_secret_value())
    said, changed = sync(schedules, slack, values.incident_io_schedule, values.slack_responder_group)
    if changed:
        context.log.info(said)
    return dg.SkipReason(said)


def sync(schedules: Schedules, slack: Slack, schedule: str, handle: str) -> tuple[str, bool]:
    """Let the group have who is on shift; returns what was done or why nothing was, and whether the group has changed.

    Raises VendorError before anything has changed, with what is left as it was.
    """
    try:
        on_shift = schedules.find(schedule).on_shift
        if not on_shift:
            # Mostly: every night. Slack need not be asked.
            return f"@{handle} is left alone: nobody is on shift", False
        people = {_slack_id(person, slack): person.name for person in on_shift}
        group = slack.group_id(handle)
        decision = decide(tuple(people), slack.members(group))
        if isinstance(decision, LeaveAlone):
            return f"@{handle} is left alone: {decision.why} ({', '.join(people.values())})", False
        slack.set_members(group, decision.users)
    except VendorError as error:
        words = f"@{handle} was left as it is. {error}"
        raise VendorError(words, status=error.status, retry_after=error.retry_after, started=error.started) from error
    joins = ", ".join(people[user] for user in decision.joins) or "nobody"
    leaves = ", ".join(_name(user, slack.name_of) for user in decision.leaves) or "nobody"
    return f"@{handle} is now {', '.join(people.values())}: {joins} joined, {leaves} left", True


def _slack_id(person: Person, slack: Slack) -> str:
    """Who somebody is in Slack: as incident.io knows it, else by e-mail."""
    if person.slack_user_id:
        return person.slack_user_id
    found = slack.user_by_email(person.email) if person.email else None
    if found is None:
        who = f"{person.name} ({person.email or 'without an e-mail address'})"
        raise VendorError(
            f"Slack: {who} is on shift and not known there. Link the two accounts in incident.io, Settings, Users",
            status=404,
            started=False,
        )
    return found


def _name(user: str, name_of: Callable[[str], str]) -> str:
    """Somebody's name, or else the id: the group has changed, whatever Slack says now."""
    try:
        return name_of(user)
    except VendorError:
        return user
