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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster import AssetKey, DagsterInstance
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

    from orchestration.incidents.mutes import Mute
    from orchestration.incidents.report import Hours

app = typer.Typer(
    no_args_is_help=True, help="Mute assets, and see what incidents cost.", pretty_exceptions_enable=False
)

UNITS = {"d": 86400, "h": 3600, "m": 60}
MOST_SHOWN = 500
"""Assets on whose pages a mute is shown."""

Selection = Annotated[
    str,
    typer.Argument(
        help="An asset key, patterns such as 'insights/*' with commas between, or Dagster's selection syntax: 'group:ingestion'."
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until", help="When it ends, such as '2026-11-25 09:00', in the time zone of --timezone, or with an offset."
    ),
]
For = Annotated[str | None, typer.Option("--for", help="How long from now, such as 90m, 4h, 2d or 1h30m.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for those who wonder.")]
By = Annotated[str | None, typer.Option("--by", help="Who mutes; without it your user name here.")]
Zone = Annotated[
    str | None, typer.Option("--timezone", help="An IANA name such as Europe/London; without it this machine's.")
]


@app.command()
def mute(
    selection: Selection,
    reason: Reason,
    until: Until = None,
    for_: For = None,
    timezone: Zone = None,
    by: By = None,
) -> None:
    """Hear nothing of an asset until a time. What still fails then is told then."""
    _mute(selection, reason, until, for_, timezone, by)


@app.command()
def maintenance(reason: Reason, until: Until = None, for_: For = None, timezone: Zone = None, by: By = None) -> None:
    """Hear nothing of anything until a time: for planned work. What still fails then is told then."""
    from orchestration.incidents.mutes import EVERYTHING

    _mute(EVERYTHING, reason, until, for_, timezone, by)


@app.command()
def unmute(selection: Selection, by: By = None) -> None:
    """End a mute early, by the selection that `mutes` lists ('*' is maintenance). What fails is told within a minute."""
    from orchestration.incidents import mutes as stored

    instance, now = _instance(), datetime.now(UTC)
    wanted = selection.strip()
    keys = stored.matching(instance.all_asset_keys(), wanted)[:MOST_SHOWN]
    if not stored.remove(instance, wanted, keys, now.timestamp(), by or _user()):
        known = ", ".join(repr(one.selection) for one in _active(instance, now)) or "nothing is muted"
        _fail(f"{wanted!r} is not muted. Muted: {known}.")
    _say(f"{wanted} is no longer muted.")


@app.command()
def mutes(
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    timezone: Zone = None,
) -> None:
    """List what is muted, until when, and why."""
    zone, now = _zone(timezone), datetime.now(UTC)
    found = _active(_instance(), now)
    if as_json:
        print(json.dumps([_shown(one) for one in found], indent=2))
        return
    if not found:
        print("Nothing is muted.")
    for one in found:
        print(
            f"{one.selection}: until {_time(one.until, zone)} ({_span(one.until - now)} left), {one.by}: {one.reason}"
        )


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
        _fail(f"The data_platform marts are not there; run the jobs `export_history` and dbt first. {error}")
    except (GoogleAPICallError, RetryError, GoogleAuthError, OSError) as error:
        _fail(f"BigQuery cannot be read: {error}")
    if as_json:
        print(json.dumps(reports.as_json(found), indent=2))
    else:
        Console().print(reports.as_table(found))


def _mute(
    selection: str, reason: str, until: str | None, for_: str | None, timezone: str | None, by: str | None
) -> None:
    from orchestration.incidents import mutes as stored

    zone, now = _zone(timezone), datetime.now(UTC)
    end = end_of(until, for_, now, zone)
    if not reason.strip():
        _fail("Say why: --reason must not be empty.")
    if end <= now:
        _fail(f"{_time(end, zone)} is in the past: it is {_time(now, zone)}.")
    if end - now > stored.LONGEST:
        _fail(f"A mute may last {stored.LONGEST.days} days at most, and this one ends {_time(end, zone)}.")
    instance = _instance()
    wanted, keys = _matched(instance, selection.strip())
    entry = stored.Mute(wanted, end.astimezone(UTC), reason.strip(), by or _user())
    stored.add(instance, entry, keys[:MOST_SHOWN], now.timestamp())
    what = "Everything" if wanted == stored.EVERYTHING else f"{len(keys)} asset{'' if len(keys) == 1 else 's'}"
    _say(f"{what} muted until {_time(end, zone)}, {_span(end - now)} from now.")
    for key in keys[:10] if wanted != stored.EVERYTHING else ():
        _say(f"  {key.to_user_string()}")
    if len(keys) > MOST_SHOWN:
        _say(f"It shows on the pages of {MOST_SHOWN} of them.")


def end_of(until: str | None, for_: str | None, now: datetime, zone: ZoneInfo | None) -> datetime:
    """When a mute ends, by the one of the two that is given; a time without an offset is one of `zone`, None for this machine's.

    Raises typer.Exit, having said what is wrong.
    """
    if (until is None) == (for_ is None):
        _fail("Give one of --until and --for.")
    if for_ is not None:
        parts = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?", for_.strip().lower())
        amounts = [int(part or 0) for part in parts.groups()] if parts else []
        seconds = sum(amount * factor for amount, factor in zip(amounts, UNITS.values(), strict=False))
        if not 0 < seconds < timedelta(days=3650).total_seconds():
            _fail(f"--for {for_!r} is no span: write 90m, 4h, 2d or 1h30m.")
        return now + timedelta(seconds=seconds)
    try:
        moment = datetime.fromisoformat((until or "").strip())
    except ValueError:
        _fail(f"--until {until!r} is no time: write '2026-11-25 09:00', with an offset if you like, such as +01:00.")
    if moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=zone) if zone else moment.astimezone()


def _matched(instance: DagsterInstance, selection: str) -> tuple[str, list[AssetKey]]:
    """The patterns to keep, and the assets that they cover now. A selection in Dagster's syntax is kept as the keys that it has now."""
    from orchestration.incidents import mutes as stored

    if ":" not in selection and (keys := stored.matching(instance.all_asset_keys(), selection)):
        return selection, keys
    # What has never run is not in storage, and only the definitions know groups and owners: they take some seconds to load.
    known = _defined()
    if ":" not in selection:
        keys = stored.matching(known, selection)
        if not keys and selection != stored.EVERYTHING:
            _fail(f"{selection!r} matches no asset{_like(selection, known)}.")
        return selection, keys
    keys = _selected(selection)
    if not keys:
        _fail(f"{selection!r} selects no asset.")
    return ", ".join(key.to_user_string() for key in keys), keys


def _defined() -> list[AssetKey]:
    return sorted(_graph().get_all_asset_keys(), key=lambda key: key.to_user_string())


def _graph() -> AssetGraph:
    from orchestration.definitions import defs
    from orchestration.settings import SettingsError

    try:
        return defs().get_repository_def().asset_graph
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


def _active(instance: DagsterInstance, now: datetime) -> tuple[Mute, ...]:
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


def _shown(one: Mute) -> dict[str, str]:
    return {"selection": one.selection, "until": one.until.isoformat(), "reason": one.reason, "by": one.by}


def _time(moment: datetime, zone: ZoneInfo | None) -> str:
    local = moment.astimezone(zone)
    return f"{local:%a %Y-%m-%d %H:%M} {local:%Z} ({local:%z})"


def _span(span: timedelta) -> str:
    from orchestration.incidents.content import age

    return age(span)


def _say(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


def _fail(text: str) -> NoReturn:
    Console(stderr=True).print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)
