"""`dataplatform incidents`: what people on call type."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, NoReturn
from zoneinfo import ZoneInfo

import typer
from rich.console import Console

from orchestration.core.channel_text import escape_terminal
from orchestration.core.redaction import redact_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dagster import AssetKey, DagsterInstance, RepositoryDefinition
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

    from orchestration.incidents.mutes import Mute
    from orchestration.incidents.report import Hours

app = typer.Typer(
    no_args_is_help=True, help="Mute assets, and see what incidents cost.", pretty_exceptions_enable=False
)

UNITS = {"d": 86400, "h": 3600, "m": 60}
MOST_SHOWN = 500
"""Assets on whose pages a mute is shown."""
TICK = "tick/"
"""What the name of a failed schedule's or sensor's alert begins with."""
NAMED = (TICK, "job/", "run/", "step/", "cause/")
QUEUE = "queue"
"""What the names of alerts begin with that may have no assets, and the name of one: such an alert is muted by its name."""

Selection = Annotated[
    str,
    typer.Argument(
        help="An asset key, patterns such as 'insights/*' with commas between, or Dagster's selection syntax: 'group:ingestion'. "
        "Of an alert that has no assets its name, such as 'tick/hourly_export_history' or 'queue'."
    ),
]
From = Annotated[
    str | None,
    typer.Option("--from", help="When it begins, written as --until is, for work that is planned; without it now."),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until", help="When it ends, such as '2026-11-25 09:00', in the time zone of --timezone, or with an offset."
    ),
]
For = Annotated[
    str | None, typer.Option("--for", help="How long from now, or from --from, such as 90m, 4h, 2d or 1h30m.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for those who wonder.")]
By = Annotated[str | None, typer.Option("--by", help="Who mutes; without it your user name here.")]
Zone = Annotated[
    str | None, typer.Option("--timezone", help="An IANA name such as Europe/London; without it this machine's.")
]


@app.command()
def mute(
    selection: Selection,
    reason: Reason,
    from_: From = None,
    until: Until = None,
    for_: For = None,
    timezone: Zone = None,
    by: By = None,
) -> None:
    """Hear nothing of an asset until a time. What still fails then is told then."""
    _mute(selection, reason, from_, until, for_, timezone, by)


@app.command()
def maintenance(
    reason: Reason,
    from_: From = None,
    until: Until = None,
    for_: For = None,
    timezone: Zone = None,
    by: By = None,
) -> None:
    """Hear nothing of anything until a time: for planned work. What still fails then is told then."""
    from orchestration.incidents.mutes import EVERYTHING

    _mute(EVERYTHING, reason, from_, until, for_, timezone, by)


@app.command()
def unmute(selection: Selection, by: By = None) -> None:
    """End a mute early, by the selection that `mutes` lists ('*' is maintenance). What fails is told within a minute.

    Where it has not begun, it is called off; where one is under way and others are planned, only that one ends.
    """
    from orchestration.incidents import mutes as stored

    instance, now = _instance(), datetime.now(UTC)
    wanted = selection.strip()
    keys = stored.matching(instance.all_asset_keys(), wanted)[:MOST_SHOWN]
    if not stored.remove(instance, wanted, keys, now.timestamp(), by or _user()):
        known = ", ".join(dict.fromkeys(repr(one.selection) for one in _kept(instance, now))) or "nothing is muted"
        _fail(f"{wanted!r} is not muted. Muted: {known}.")
    _say(f"{wanted} is no longer muted.")
    for one in _kept(instance, now):
        if one.selection == wanted:
            _say(f"Still planned: {_when(one, now, None)}.")


@app.command()
def mutes(
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    timezone: Zone = None,
) -> None:
    """List what is muted and what will be, until when, and why."""
    zone, now = _zone(timezone), datetime.now(UTC)
    found = _kept(_instance(), now)
    if as_json:
        print(json.dumps([_shown(one) for one in found], indent=2))
        return
    if not found:
        print("Nothing is muted.")
    for one in found:
        print(escape_terminal(f"{one.selection}: {_when(one, now, zone)}; {one.by}: {one.reason}"))


@app.command()
def report(
    weeks: Annotated[int, typer.Option(min=1, max=53, help="How many, up to now.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    timezone: Annotated[
        str | None, typer.Option("--timezone", help="Where people work; without it as deploy/on_call.yaml says.")
    ] = None,
    hours: Annotated[
        str | None,
        typer.Option("--hours", help="When they work, such as 09:00-17:00; without it as deploy/on_call.yaml says."),
    ] = None,
) -> None:
    """What incidents there were: by cause, how fast they were taken on and mended, who was woken, and what is flaky."""
    from google.api_core.exceptions import GoogleAPICallError, NotFound, RetryError
    from google.auth.exceptions import GoogleAuthError

    from orchestration.incidents import report as reports
    from orchestration.settings import SettingsError
    from orchestration.vendors.bigquery_marts import PlatformMarts

    working, until = _hours(hours, timezone), datetime.now(UTC)
    try:
        found = reports.read(PlatformMarts.configured(), until - timedelta(weeks=weeks), until, working)
    except SettingsError as error:
        _fail(str(error))
    except NotFound as error:
        _fail(
            f"The data_platform marts are not there; run the jobs `export_history` and dbt first. {redact_line(str(error))}"
        )
    except (GoogleAPICallError, RetryError, GoogleAuthError, OSError) as error:
        _fail(f"BigQuery cannot be read: {redact_line(str(error))}")
    if as_json:
        print(json.dumps(reports.as_json(found), indent=2))
    else:
        Console().print(reports.as_table(found))


def _mute(
    selection: str,
    reason: str,
    from_: str | None,
    until: str | None,
    for_: str | None,
    timezone: str | None,
    by: str | None,
) -> None:
    from orchestration.incidents import mutes as stored

    zone, now = _zone(timezone), datetime.now(UTC)
    since = moment_of("--from", from_, zone) if from_ is not None else None
    start = since or now
    end = end_of(until, for_, start, zone)
    _check_span(reason, start, end, now, zone)
    instance = _instance()
    wanted, keys, names = _matched(instance, selection.strip())
    entry = stored.Mute(wanted, end, reason.strip(), by or _user(), since)
    stored.add(instance, entry, keys[:MOST_SHOWN], now.timestamp())
    what = "Everything" if wanted == stored.EVERYTHING else _what(len(keys), names)
    _say(f"{what} muted {_when(entry, now, zone)}.")
    for key in keys[:10] if wanted != stored.EVERYTHING else ():
        _say(f"  {key.to_user_string()}")
    if names:
        _say("An alert is muted by its name only where it has no assets: of others, mute the assets.")
    if len(keys) > MOST_SHOWN:
        _say(f"It shows on the pages of {MOST_SHOWN} of them.")


def _check_span(reason: str, start: datetime, end: datetime, now: datetime, zone: ZoneInfo | None) -> None:
    from orchestration.incidents.mutes import LONGEST

    if not reason.strip():
        _fail("Say why: --reason must not be empty.")
    if end <= now:
        _fail(f"{_time(end, zone)} is in the past: it is {_time(now, zone)}.")
    if end <= start:
        _fail(f"It would end {_time(end, zone)}, before it begins {_time(start, zone)}.")
    if end - start > LONGEST:
        _fail(f"A mute may last {LONGEST.days} days at most, and this one ends {_time(end, zone)}.")


def end_of(until: str | None, for_: str | None, start: datetime, zone: ZoneInfo | None) -> datetime:
    """When a mute ends, in UTC, by the one of the two that is given; a span counts from `start`, which is in UTC too.

    Raises typer.Exit, having said what is wrong.
    """
    if (until is None) == (for_ is None):
        _fail("Give one of --until and --for.")
    if for_ is None:
        return moment_of("--until", until or "", zone)
    parts = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?", for_.strip().lower())
    amounts = [int(part or 0) for part in parts.groups()] if parts else []
    seconds = sum(amount * factor for amount, factor in zip(amounts, UNITS.values(), strict=False))
    if not 0 < seconds < timedelta(days=3650).total_seconds():
        _fail(f"--for {for_!r} is no span: write 90m, 4h, 2d or 1h30m.")
    try:
        return start + timedelta(seconds=seconds)
    except OverflowError:
        _fail(f"--for {for_!r} from {start:%Y-%m-%d} on ends after the last of all years.")


def moment_of(option: str, text: str, zone: ZoneInfo | None) -> datetime:
    """A time that was typed, in UTC; one without an offset is of `zone`, None for this machine's.

    Raises typer.Exit, having said what is wrong.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None and zone:
            moment = moment.replace(tzinfo=zone)
        # In UTC, so that a span over a change of the clocks is as long as it says.
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        _fail(f"{option} {text!r} is no time: write '2026-11-25 09:00', with an offset if you like, such as +01:00.")


def _matched(instance: DagsterInstance, selection: str) -> tuple[str, list[AssetKey], list[str]]:
    """The patterns to keep, the assets that they cover now, and those patterns that are alerts' names.

    A selection in Dagster's syntax is kept as the keys that it has now.
    """
    from orchestration.incidents import mutes as stored

    if ":" in selection:
        keys = _selected(selection)
        if not keys:
            _fail(f"{selection!r} selects no asset.")
        return ", ".join(key.to_user_string() for key in keys), keys, []
    keys, names, unknown = _parts(instance.all_asset_keys(), selection)
    if unknown and selection != stored.EVERYTHING:
        # What has never run is not in storage, but it is in the definitions, which take some seconds to load.
        known = _defined()
        keys, names, unknown = _parts({*instance.all_asset_keys(), *known}, selection)
        if unknown:
            _fail(f"{unknown[0]!r} matches no asset and is no alert's name{_like(unknown[0], known)}.")
    _tick(instance, names)
    return selection, keys, names


def _tick(instance: DagsterInstance, names: Iterable[str]) -> None:
    """Fail where a name is of a schedule or sensor that there is not: a mute of it would look like one, and mute nothing."""
    from orchestration.incidents import instigators
    from orchestration.incidents.mutes import matching

    ticks = [name for name in names if name.startswith(TICK)]
    known = _ticks(instigators.of_state(one).full_name for one in instance.all_instigator_state()) if ticks else []
    if not all(matching(known, tick) for tick in ticks):
        # One that was never switched on or off is in the definitions alone.
        defined = _repository()
        known += _ticks(each.name for each in (*defined.schedule_defs, *defined.sensor_defs))
    for tick in ticks:
        if not matching(known, tick):
            _fail(f"{tick!r} is no schedule and no sensor{_like(tick, known)}.")


def _ticks(names: Iterable[str]) -> list[AssetKey]:
    """What alerts of schedules and sensors are called, in the form that patterns are compared with."""
    from dagster import AssetKey

    return [AssetKey(["tick", *name.split("/")]) for name in names]


def _parts(known: Iterable[AssetKey], selection: str) -> tuple[list[AssetKey], list[str], list[str]]:
    """The assets that a selection covers, those of its patterns that cover none but are alerts' names, and those that are neither."""
    from orchestration.incidents.mutes import matching, patterns_of

    known = list(known)
    empty = [pattern for pattern in patterns_of(selection) or [selection] if not matching(known, pattern)]
    names = [pattern for pattern in empty if pattern == QUEUE or pattern.startswith(NAMED)]
    return matching(known, selection), names, [pattern for pattern in empty if pattern not in names]


def _what(assets: int, names: Sequence[str]) -> str:
    parts = [f"{assets} asset{'' if assets == 1 else 's'}"] if assets else []
    parts += [f"alerts named {', '.join(names)}"] if names else []
    text = " and ".join(parts)
    return text[0].upper() + text[1:]


def _defined() -> list[AssetKey]:
    return sorted(_graph().get_all_asset_keys(), key=lambda key: key.to_user_string())


def _graph() -> AssetGraph:
    return _repository().asset_graph


def _repository() -> RepositoryDefinition:
    from orchestration.definitions import defs
    from orchestration.settings import SettingsError

    try:
        return defs().get_repository_def()
    except SettingsError as error:
        _fail(str(error))


def _selected(selection: str) -> list[AssetKey]:
    import dagster as dg

    try:
        found = dg.AssetSelection.from_string(selection).resolve(_graph())
    except Exception as error:  # Dagster's parser raises what its generated grammar raises.
        _fail(f"{selection!r} is no selection: {error}")
    return sorted(found, key=lambda key: key.to_user_string())


def _like(selection: str, known: Sequence[AssetKey]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(selection, [key.to_user_string() for key in known], 3)
    return f"; perhaps {' or '.join(close)}" if close else ""


def _instance() -> DagsterInstance:
    """The instance whose daemon reads the mutes. Never a temporary one, which nobody would read."""
    from dotenv import load_dotenv

    from orchestration.settings import REPOSITORY

    load_dotenv(REPOSITORY / ".env")
    if not os.environ.get("DAGSTER_HOME"):
        _fail("DAGSTER_HOME is not set: it has to name the folder with the dagster.yaml that the daemon uses.")
    from dagster import DagsterInstance
    from dagster_shared.error import DagsterError

    try:
        return DagsterInstance.get()
    except (DagsterError, OSError) as error:
        _fail(f"The Dagster instance in {os.environ['DAGSTER_HOME']} cannot be opened: {error}")


def _kept(instance: DagsterInstance, now: datetime) -> tuple[Mute, ...]:
    """What is muted, and what will be."""
    from orchestration.incidents import mutes as stored

    try:
        return stored.read(instance, now.timestamp())
    except ValueError as error:
        _fail(str(error))


def _hours(text: str | None, timezone: str | None) -> Hours:
    """The working hours that are given, for the rest those of the rota."""
    from dataclasses import replace

    from orchestration.incidents.report import Hours

    _zone(timezone)
    start = end = time.min
    if text is not None:
        try:
            start, end = (time.fromisoformat(part.strip()) for part in text.split("-"))
        except ValueError:
            _fail(f"--hours {text!r} are no hours: write 09:00-17:00.")
        if start >= end:
            _fail(f"--hours {text!r} end before they begin.")
        if timezone is not None:
            return Hours(timezone, start, end)
    known = _hours_of_the_rota()
    chosen = replace(known, start=start, end=end) if text is not None else known
    return replace(chosen, timezone=timezone) if timezone is not None else chosen


def _hours_of_the_rota() -> Hours:
    """Those of the first schedule that has any: of who answers what customers do not see."""
    from orchestration.incidents.report import Hours
    from orchestration.on_call.config import FILE, OnCallConfigError, load

    try:
        schedules = load(FILE).schedules.values()
    except OnCallConfigError as error:
        _fail(f"{error}\nOr give --timezone and --hours.")
    with_hours = ((one.time_zone, one.working_hours) for one in schedules if one.working_hours)
    if (found := next(with_hours, None)) is None:
        _fail(f"No schedule of {FILE} has working hours: give --timezone and --hours.")
    zone, working = found
    return Hours(zone, time.fromisoformat(working.opens), time.fromisoformat(working.closes), working.days)


def _zone(name: str | None) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (KeyError, ValueError, OSError):
        _fail(f"{name!r} is no time zone: write an IANA name, such as Europe/London.")


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "somebody"


def _shown(one: Mute) -> dict[str, str | None]:
    since = one.since.isoformat() if one.since else None
    return {
        "selection": one.selection,
        "since": since,
        "until": one.until.isoformat(),
        "reason": one.reason,
        "by": one.by,
    }


def _when(one: Mute, now: datetime, zone: ZoneInfo | None) -> str:
    if one.since is not None and one.is_planned(now.timestamp()):
        return f"from {_time(one.since, zone)} until {_time(one.until, zone)}, begins in {_span(one.since - now)}"
    return f"until {_time(one.until, zone)}, {_span(one.until - now)} left"


def _time(moment: datetime, zone: ZoneInfo | None) -> str:
    local = moment.astimezone(zone)
    return f"{local:%a %Y-%m-%d %H:%M} {local:%Z} ({local:%z})"


def _span(span: timedelta) -> str:
    from orchestration.lineage.ages import age

    return age(span)


def _say(text: str) -> None:
    Console(stderr=True).print(escape_terminal(text), markup=False, highlight=False, soft_wrap=True)


def _fail(text: str) -> NoReturn:
    Console(stderr=True).print(escape_terminal(text), style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)
