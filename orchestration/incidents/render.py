"""The words of an alert, in the markdown that incident.io shows: what a person reads on a phone at 3 a.m."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from orchestration.core.channel_text import escape_markdown, markdown_code, markdown_code_block, remove_links
from orchestration.core.redaction import redact_line
from orchestration.incidents import content
from orchestration.incidents.content import Content
from orchestration.incidents.model import Failure, Recovery, Staleness
from orchestration.incidents.sizes import shortened
from orchestration.lineage.ages import age
from orchestration.vendors.incident_io import AlertEvent

MOST_NAMES = 20
FIRST_NAMES = 3
"""In the first line, which is all that a notification shows."""
MOST_ITEMS = 50
"""Of each list in the metadata: an alert that is too large is refused, and then nobody is told."""
NAME_LENGTH, LINE_LENGTH, TITLE_LENGTH, ERROR_LENGTH = 120, 240, 200, 1500


def firing(failure: Failure, dagster_url: str) -> AlertEvent:
    """The event that opens a failure's alert, or tells how it stands. `dagster_url` has no slash at the end."""
    told = content.of(failure, dagster_url)
    return AlertEvent(
        deduplication_key=failure.deduplication_key,
        status="firing",
        title=shortened(remove_links(told.title), TITLE_LENGTH),
        description=description(told),
        source_url=told.url,
        metadata=_metadata(failure, told, dagster_url),
    )


def resolved(recovery: Recovery, dagster_url: str) -> AlertEvent:
    """The event that ends an alert."""
    run_url = f"{dagster_url}/runs/{recovery.run_id}" if recovery.run_id else dagster_url
    link = f" The last of it was mended in [this run]({run_url})." if recovery.run_id else ""
    after = age(recovery.at - recovery.since)
    reason = escape_markdown(shortened(remove_links(redact_line(recovery.reason)), LINE_LENGTH))
    if reason:
        text = f"Closed after {after}, not recovered: {reason}."
    elif recovery.transient:
        text = f"An automatic retry succeeded after {after}: nobody has to do anything."
    else:
        text = f"Well again after {after}.{link}"
    ended = f"{recovery.name} {'is no longer watched' if reason else 'is well again'}"
    return AlertEvent(
        deduplication_key=recovery.deduplication_key,
        status="resolved",
        title=shortened(remove_links(recovery.title or ended), TITLE_LENGTH),
        description=text,
        source_url=run_url,
        metadata={
            "unit": recovery.name,
            "kind": recovery.kind,
            "transient": recovery.transient,
            "recovered_at": recovery.at.isoformat(),
            "run_id": recovery.run_id,
            "run_url": run_url,
            **({"reason": reason} if reason else {}),
        },
    )


def description(told: Content) -> str:
    """Who is hurt comes first, for that is what a notification shows; then the error, what to do, and what is known beside."""
    parts = (
        [_hurt(told), _unknown(told), _state(told), _left(told)],
        [markdown_code_block(told.error)],
        [_rerun(told), " · ".join(f"[{_name(link.text)}]({link.url})" for link in told.links)],
        _readers(told),
        list(_facts(told)),
    )
    return "\n\n".join("\n".join(line for line in part if line) for part in parts if any(part))


def _hurt(told: Content) -> str:
    customers, internal = told.customers, len(told.readers) - len(told.customers)
    others = f"{_count(internal, 'internal reader')}" if internal else ""
    if told.transient:
        return "Nobody has to do anything: it was tried again by itself, and is well."
    if customers:
        names = _names([reader.consumer.key for reader in customers], FIRST_NAMES)
        see = "may see wrong data" if told.kind == "check" else "see old data"
        return f"**Customers {see}** in {names}" + (f"; {others} too." if others else ".")
    affected = "not known" if told.unknown else "not affected"
    return f"**Customers**: {affected}. {f'Hurt: {others}' if others else 'Nobody is known to read it'}."


def _unknown(told: Content) -> str:
    if not told.unknown or told.transient:
        return ""
    assets = "unknown asset" if len(told.unknown) == 1 else "unknown assets"
    names = _names(told.unknown, FIRST_NAMES)
    return f"**Urgent**: {assets} {names}: no graph of its code location could be read, so it is treated as urgent."


def _state(told: Content) -> str:
    times = "" if told.count == 1 else f", {told.count} times, last {_time(told.last_seen)}"
    owner = "**nobody owns it**" if told.owner == content.NOBODY else f"owner {_name(told.owner)}"
    return f"Since {_time(told.since)}{times} · {owner} · team {_name(told.team)}"


def _left(told: Content) -> str:
    return f"**Still broken**: {_names(told.left, MOST_NAMES)}; the rest is well again." if told.left else ""


def _rerun(told: Content) -> str:
    return "" if told.transient else f"**Run it again**: [{told.rerun.text}]({told.rerun.url})"


def _readers(told: Content) -> list[str]:
    if not told.readers or told.transient:
        return []
    shown = [_reader(reader) for reader in told.readers[:MOST_NAMES]]
    more = [f"- and {len(told.readers) - MOST_NAMES} more"] if len(told.readers) > MOST_NAMES else []
    return ["**Who reads it**", *shown, *more]


def _reader(reader: Staleness) -> str:
    since = f"data of {_time(reader.since)}" if reader.since else "age not known"
    late = f", **{age(reader.late)} late**" if reader.late else ""
    return f"- {_code(reader.consumer.key)} ({reader.consumer.audience}): {since}{late}"


def _facts(told: Content) -> Iterator[str]:
    if told.assets:
        yield f"- **Broken**: {_names(told.assets, MOST_NAMES)}"
    if told.partitions:
        yield f"- **Partitions**: {', '.join(map(_name, told.partitions))}"
    if told.held_up:
        yield f"- **Held up**: {_names(told.held_up, MOST_NAMES)}"
    if told.flapping:
        yield "- **Flapping**: it fails and recovers again and again, and stays open until it has been well for an hour"
    if told.assets and not told.transient:
        yield f"- **Last success**: {_time(told.last_success) if told.last_success else 'none is known'}"
    if told.changes:
        yield "- **Changed since**:"
        yield from (f"  - {escape_markdown(shortened(change, LINE_LENGTH))}" for change in told.changes)
    if told.failures:
        yield f"- **In 30 days**: failed {_count(told.failures, 'time')}, {told.transients} of them transient"
    if told.rerun.command and not told.transient:
        yield f"- **To run it again from a shell**: {markdown_code(told.rerun.command)}"
    yield from (f"- Not known: {escape_markdown(shortened(problem, LINE_LENGTH))}" for problem in told.problems)


def _metadata(failure: Failure, told: Content, dagster_url: str) -> dict[str, object]:
    unit = failure.units[0]
    error = remove_links(redact_line(unit.error, unit.names))
    return {
        # What incident.io routes on.
        "customer_facing": failure.customer_facing,
        "urgent": failure.urgent,
        "transient": told.transient,
        "flapping": told.flapping,
        "kind": told.kind,
        "owner": shortened(told.owner, LINE_LENGTH),
        "team": shortened(told.team, NAME_LENGTH),
        "unit": failure.name,
        "assets": _some(told.assets),
        "held_up": _some(told.held_up),
        "left": _some(told.left),
        "consumers": [
            {"key": shortened(reader.consumer.key, LINE_LENGTH), "audience": reader.consumer.audience}
            for reader in told.readers[:MOST_ITEMS]
        ],
        "failed_at": told.since.isoformat(),
        "last_seen": told.last_seen.isoformat(),
        "count": told.count,
        "run_id": failure.run_id,
        "run_url": f"{dagster_url}/runs/{failure.run_id}" if failure.run_id else None,
        "vendor_url": unit.vendor_url,
        "rerun_url": told.rerun.url,
        "error": shortened(error, ERROR_LENGTH),
    }


def _some(keys: Iterable[str]) -> list[str]:
    return [shortened(key, LINE_LENGTH) for key in keys][:MOST_ITEMS]


def _names(keys: Sequence[str], most: int) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(_code(key) for key in keys[:most]) + more


def _name(text: str) -> str:
    return escape_markdown(shortened(text, NAME_LENGTH))


def _code(name: str) -> str:
    return markdown_code(shortened(name, NAME_LENGTH))


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%a %d %b %H:%M} UTC"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
