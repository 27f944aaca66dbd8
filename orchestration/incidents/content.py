"""What a responder is told of a failure, as data. Pure: `render` makes words of it, and tests read it without a channel."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from textwrap import wrap
from urllib.parse import quote, urlencode

from orchestration.core.channel_text import link_url
from orchestration.core.redaction import redact_line, redact_lines
from orchestration.incidents import causes, instigators
from orchestration.incidents.model import UNREADABLE_UNIT, Failure, Kind, Staleness
from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.graph import Consumer

ERROR_LINES, ERROR_COLUMNS = 5, 140
"""Of an error: what fits a phone's screen. The rest is in the log that is linked."""
MOST_RERUN, LONGEST_URL = 12, 1500
"""Assets that a link and a command name, and characters of a link. Of more, the run is the better place to start from."""
MOST_SPANS = 3
"""Of partitions: what is named in words, and what a command runs. Of more, somebody has to choose."""
NOBODY = "nobody"
DEFAULT_TEAM = "data"

NOUNS = {
    "fivetran": "Fivetran sync of",
    "dbt": "dbt model",
    "hightouch": "Hightouch sync",
    "landed": "Look at what landed in",
    "export": "Export of",
    "ci": "CI job",
    "step": "Step",
    "job": "Job",
}
"""What a unit is, by what its name begins with."""
QUEUE = "queue"
"""The name of the one alert for all runs that hang in the queue."""
IMPLICIT_JOB = "__ASSET_JOB"
"""Dagster's own name for the job of assets that somebody selected: it says nothing to people."""


@dataclass(frozen=True)
class Link:
    text: str
    url: str


@dataclass(frozen=True)
class Rerun:
    """What runs exactly that again which failed, with what it held up."""

    text: str
    url: str
    command: str | None = None
    """To be typed where the platform runs; None where there is nothing that a command could name."""


@dataclass(frozen=True)
class Content:
    title: str
    """What broke, and who is hurt."""
    kind: Kind
    unit: str
    error: tuple[str, ...]
    """Five lines at most, with no credentials and no values of rows."""
    since: datetime
    last_seen: datetime
    count: int
    readers: tuple[Staleness, ...]
    """The blast radius, customers first."""
    assets: tuple[str, ...]
    partitions: tuple[str, ...]
    """Those that failed, in words: days one after the other are one item."""
    held_up: tuple[str, ...]
    left: tuple[str, ...]
    owner: str
    team: str
    last_success: datetime | None
    changes: tuple[str, ...]
    failures: int
    transients: int
    flapping: bool
    transient: bool
    links: tuple[Link, ...]
    rerun: Rerun
    problems: tuple[str, ...] = ()
    """What could not be found out."""
    unknown: tuple[str, ...] = ()
    """Assets that no readable code location defines. What they affect is not known, so the alert is urgent."""

    @property
    def customers(self) -> tuple[Staleness, ...]:
        return tuple(reader for reader in self.readers if reader.consumer.audience == "customer")

    @property
    def url(self) -> str:
        """The first place to look at."""
        return self.links[0].url if self.links else self.rerun.url


def of(failure: Failure, dagster_url: str) -> Content:
    """All that a failure's alert says. `dagster_url` is where people open the UI, with no slash at the end."""
    background = failure.background
    return Content(
        title=title_of(failure),
        kind=failure.kind,
        unit=failure.name,
        error=error_of(failure.units),
        since=failure.since,
        last_seen=failure.last_seen,
        count=failure.count,
        readers=_readers(failure.consumers, background.stale),
        assets=failure.asset_keys,
        partitions=in_words(failure.partitions),
        held_up=failure.held_up,
        left=what_is_left(failure.left),
        owner=", ".join(failure.owners) or NOBODY,
        team=team_of(failure.owners),
        last_success=background.last_success,
        changes=tuple(map(redact_line, background.changes)),
        failures=background.failures,
        transients=background.transients,
        flapping=failure.flapping,
        transient=failure.transient,
        links=tuple(_links(failure, dagster_url)),
        rerun=rerun_of(failure, dagster_url),
        problems=tuple(map(redact_line, background.problems)),
        unknown=failure.unknown,
    )


def title_of(failure: Failure) -> str:
    """What broke and, where customers are hurt, how many of their dashboards."""
    if failure.transient:
        times = "once" if failure.count == 1 else f"{failure.count} times"
        return f"{_what(failure)} failed {times}; the retry succeeded"
    hurt = _count(len(_customers(failure.consumers)), "customer dashboard") + " hurt" if failure.customer_facing else ""
    title = _broke(failure)
    if not hurt:
        return title
    return f"{title}, {hurt}" if ": " in title else f"{title}: {hurt}"


def team_of(owners: Sequence[str]) -> str:
    """The team that is asked: the first that is named as one, else who the first address belongs to."""
    named = next((owner.removeprefix("team:") for owner in owners if owner.startswith("team:")), None)
    if named:
        return named
    return owners[0].partition("@")[0] if owners else DEFAULT_TEAM


def error_of(units: Sequence[FailedUnit]) -> tuple[str, ...]:
    """The error in five lines at most. Of several units, a line for each kind of words, with how many share them."""
    if len(units) == 1:
        return _shortened(_lines(units[0]))
    alike: dict[str, list[FailedUnit]] = {}
    for unit in units:
        alike.setdefault(causes.by_words(unit), []).append(unit)
    if len(alike) == 1:
        return _shortened(_lines(units[0]))
    lines = [_of_many(members) for members in sorted(alike.values(), key=len, reverse=True)]
    return _shortened(lines)


def rerun_of(failure: Failure, dagster_url: str) -> Rerun:
    """Where what failed is run again: its assets with what they held up; of a partial recovery, only what is left of them."""
    run_page = f"{dagster_url}/runs/{failure.run_id}" if failure.run_id else None
    if _is_tick(failure.name):
        return Rerun(f"Open the {_ticking(failure)}", tick_url(dagster_url, failure))
    if failure.name == QUEUE:
        return Rerun("Open the queue", queue_url(dagster_url))
    if all(_is_tick(unit.unit) for unit in failure.units):
        return Rerun("Open the sensors and schedules", f"{dagster_url}/automation")
    keys = rerun_keys(failure)
    lineage = lineage_url(dagster_url, keys[: MOST_RERUN + 1])
    if not keys or len(keys) > MOST_RERUN or len(lineage) > LONGEST_URL:
        page = run_page or f"{dagster_url}/asset-groups"
        return Rerun("Open the run, then Re-execute, From failure" if run_page else "Open the assets", page)
    what = "the asset" if len(keys) == 1 else f"these {len(keys)} assets"
    partitions = rerun_partitions(failure)
    days = f" for {', '.join(in_words(partitions))}" if partitions else ""
    return Rerun(f"Materialize {what}{days}", lineage, _command(keys, partitions))


def _command(keys: Sequence[str], partitions: Sequence[str]) -> str | None:
    """What is typed to make these assets again: once for each span of their partitions."""
    command = f"dagster asset materialize -m orchestration.definitions --select {shlex.quote(selection(keys))}"
    found = spans(partitions)
    if len(found) > MOST_SPANS:
        return None
    options = [
        f" --partition {shlex.quote(first)}"
        if first == last
        else f" --partition-range {shlex.quote(f'{first}...{last}')}"
        for first, last in found
    ]
    return " && ".join(command + option for option in options or [""])


def rerun_partitions(failure: Failure) -> tuple[str, ...]:
    """Those that have to be made again, in their order; none where the assets have none."""
    left = {partition for token in failure.left if (partition := _split(token)[1])}
    return tuple(sorted(left)) or failure.partitions


def rerun_keys(failure: Failure) -> tuple[str, ...]:
    own = failure.asset_keys
    if failure.left:
        left = {_asset_of(token) for token in failure.left}
        own = tuple(key for key in own if key in left)
    return (*own, *failure.held_up)


def selection(keys: Iterable[str]) -> str:
    """Assets in Dagster's selection syntax (https://docs.dagster.io/guides/build/assets/asset-selection-syntax)."""
    return " or ".join(f'key:"{key}"' for key in keys)


def lineage_url(dagster_url: str, keys: Sequence[str]) -> str:
    """The lineage of these assets with all of them selected, so that Materialize is one click. As the UI builds it (1.13)."""
    query = quote(f"({selection(keys)})", safe="")
    return f"{dagster_url}/asset-groups~{query}/{quote(','.join(keys), safe='')}"


def asset_url(dagster_url: str, key: str, **parameters: str) -> str:
    path = "/".join(quote(part, safe="") for part in key.split("/"))
    return f"{dagster_url}/assets/{path}" + (f"?{urlencode(parameters)}" if parameters else "")


def queue_url(dagster_url: str) -> str:
    return f"{dagster_url}/runs?{urlencode({'q[0]': 'status:QUEUED'})}"


def tick_url(dagster_url: str, failure: Failure) -> str:
    one = instigators.of_unit(failure.name)
    return f"{dagster_url}/locations/{one.url_path}/{_ticking(failure)}s/{quote(one.name, safe='')}"


def what_is_left(tokens: Iterable[str]) -> tuple[str, ...]:
    """What has to be well again, in people's words, with the partitions of one asset together."""
    found: dict[str, list[str]] = {}
    for token in tokens:
        whole, partition = _split(token)
        found.setdefault(whole, []).extend([partition] if partition else [])
    return tuple(
        f"{readable(whole)} ({', '.join(in_words(partitions))})" if partitions else readable(whole)
        for whole, partitions in found.items()
    )


def in_words(partitions: Iterable[str]) -> tuple[str, ...]:
    """Partitions as people say them: `2026-11-02 to 2026-11-08`."""
    found = [first if first == last else f"{first} to {last}" for first, last in spans(partitions)]
    more = [f"and {len(found) - MOST_SPANS} more"] if len(found) > MOST_SPANS else []
    return (*found[:MOST_SPANS], *more)


def spans(partitions: Iterable[str]) -> list[tuple[str, str]]:
    """The first and the last of days one after the other; what is no day stands for itself."""
    found: list[tuple[str, str]] = []
    for partition in sorted(set(partitions)):
        day, before = _day(partition), _day(found[-1][1]) if found else None
        if day and before and day - before == timedelta(days=1):
            found[-1] = (found[-1][0], partition)
        else:
            found.append((partition, partition))
    return found


def _day(partition: str) -> date | None:
    try:
        return date.fromisoformat(partition)
    except ValueError:
        return None


def readable(token: str) -> str:
    """What has to be well again, in people's words: an asset or a partition of it, or a check, a job, a sensor."""
    whole, partition = _split(token)
    if partition:
        return f"{whole} ({partition})"
    kind, colon, name = token.partition(":")
    if not colon:
        return token
    if kind == "check":
        asset, _, check = name.rpartition(":")
        return f"check {check} of {asset}"
    if kind == "tick":
        return f"sensor {_instigator(instigators.of_token(token), '')}"
    return f"{'freshness of' if kind == 'fresh' else kind} {name}"


def _split(token: str) -> tuple[str, str | None]:
    """An asset and its partition (`product/sessions@2026-11-02`); what is anything else as it is, with None."""
    whole, at, partition = token.partition("@")
    return (whole, partition) if at and ":" not in whole else (token, None)


def _asset_of(token: str) -> str:
    token = _split(token)[0]
    kind, colon, name = token.partition(":")
    return (name.rpartition(":")[0] if kind == "check" else name) if colon else token


def _broke(failure: Failure) -> str:
    what = _what(failure)
    if failure.flapping:
        return f"{what} is flapping"
    if failure.name.startswith("cause/"):
        number = len(failure.asset_keys)
        known = causes.TITLES.get(failure.name.removeprefix("cause/"))
        made = f"{_count(number, 'asset')} not made" if number else _count(len(failure.units), "failure")
        return f"{known}: {made}" if known else f"{what} failed with the same error"
    if failure.name.startswith("freshness/"):
        return f"{what} is late"
    if failure.name == QUEUE:
        number = len(failure.asset_keys)
        return "Runs hang in the queue" + (f": {_count(number, 'asset')} wait" if number else "")
    if failure.name.startswith(f"{UNREADABLE_UNIT}/"):
        return f"{what} cannot be read"
    return f"{what} fails" if _is_tick(failure.name) else f"{what} failed"


def _what(failure: Failure) -> str:
    """What failed, as the beginning of a sentence."""
    kind, _, name = failure.name.partition("/")
    keys = failure.asset_keys
    if kind == "cause":
        what = causes.TITLES.get(name) or _count(len(keys) or len(failure.units), "asset" if keys else "failure")
    elif kind == "freshness":
        what = f"`{name}`"
    elif kind == QUEUE:
        what = "The queue"
    elif kind == UNREADABLE_UNIT:
        what = f"A record of `{keys[0]}`" if len(keys) == 1 else "A record of Dagster's storage"
    elif kind == "tick":
        what = f"{_ticking(failure).capitalize()} {_instigator(instigators.of_unit(failure.name), '`')}"
    elif kind == "check":
        what = _check(name, keys)
    elif kind in {"run", "backfill"}:
        what = _run(failure, kind.capitalize())
    else:
        what = f"{NOUNS.get(kind, kind)} `{name}`" if name else f"`{kind}`"
    return what


def _run(failure: Failure, noun: str) -> str:
    keys, job = failure.asset_keys, (failure.job or "").removeprefix("job:")
    if not keys and job and job != IMPLICIT_JOB:
        return f"{noun} of job `{job}`"
    return f"{noun} of `{keys[0]}`" if len(keys) == 1 else f"{noun} of {len(keys)} assets"


def _is_tick(name: str) -> bool:
    """Of a sensor or a schedule. Not by the kind: the cause that ticks share with other failures has that of what failed first."""
    return name.startswith("tick/")


def _instigator(one: instigators.Instigator, quote_mark: str) -> str:
    """Return the name of a sensor or schedule, with its code location where that is another one."""
    name = f"{quote_mark}{one.name}{quote_mark}"
    return name if one.is_local else f"{name} in the code location {quote_mark}{one.label}{quote_mark}"


def _ticking(failure: Failure) -> str:
    """Its name is that of a sensor or of a schedule alike; the error says which."""
    return "schedule" if failure.units[0].error.startswith("The schedule") else "sensor"


def _check(name: str, keys: Sequence[str]) -> str:
    """`name` is a table, whose checks fail together, or a table with the name of one check after it, or a run that left its checks."""
    if name.startswith("run/"):
        return f"Checks of `{keys[0]}`" if len(keys) == 1 else f"Checks of {len(keys)} assets"
    asset = keys[0] if keys else ""
    check = name.removeprefix(f"{asset}/") if asset and name.startswith(f"{asset}/") else ""
    return f"Check `{check}` of `{asset}`" if check else f"Check of `{name}`"


def _links(failure: Failure, dagster_url: str) -> Iterable[Link]:
    unit = failure.units[0]
    kind, _, name = failure.name.partition("/")
    if failure.run_id:
        run = f"{dagster_url}/runs/{failure.run_id}"
        yield Link("run", run)
        step = {"selection": name, "logs": f"step:{name}"} if kind == "step" else {"logs": "type:STEP_FAILURE"}
        yield Link("log", f"{run}?{urlencode(step)}")
    if _is_tick(failure.name):
        yield Link(_ticking(failure), tick_url(dagster_url, failure))
    if failure.name == QUEUE:
        yield Link("queue", queue_url(dagster_url))
    if (keys := failure.asset_keys) and failure.name != QUEUE:
        check = name.removeprefix(f"{keys[0]}/") if kind == "check" and name.startswith(f"{keys[0]}/") else ""
        view = {"view": "checks", "checkDetail": check} if check else {}
        yield Link("asset" if len(keys) == 1 else f"asset {keys[0]}", asset_url(dagster_url, keys[0], **view))
    if url := link_url(unit.vendor_url):
        yield Link("vendor", url)


def _readers(consumers: Sequence[Consumer], stale: Sequence[Staleness]) -> tuple[Staleness, ...]:
    known = {reader.consumer: reader for reader in stale}
    return tuple(known.get(consumer) or Staleness(consumer, None, None) for consumer in consumers)


def _customers(consumers: Sequence[Consumer]) -> list[Consumer]:
    return [consumer for consumer in consumers if consumer.audience == "customer"]


def _of_many(units: Sequence[FailedUnit]) -> str:
    first, number = units[0], len(units)
    who = first.unit if number == 1 else f"{number} such as {first.unit}"
    return f"{who}: {redact_line(first.error, first.names)}"


def _lines(unit: FailedUnit) -> list[str]:
    return redact_lines(unit.error, unit.names)


def _shortened(lines: Sequence[str]) -> tuple[str, ...]:
    """Of a few lines the long ones are broken; of many the last is kept, which in a traceback is the reason."""
    if len(lines) > ERROR_LINES:
        lines = [*lines[: ERROR_LINES - 2], f"… {len(lines) - ERROR_LINES + 1} more lines …", lines[-1]]
    shown: list[str] = []
    for number, line in enumerate(lines, 1):
        room = ERROR_LINES - len(shown) - (len(lines) - number)
        parts = wrap(line, ERROR_COLUMNS, break_on_hyphens=False)
        shown += parts if len(parts) <= room else [*parts[: room - 1], f"{parts[room - 1]} …"]
    return tuple(map(_cut, shown)) or ("It gives no reason.",)


def _cut(line: str) -> str:
    return line if len(line) <= ERROR_COLUMNS else line[: ERROR_COLUMNS - 1].rstrip(" …") + "…"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
