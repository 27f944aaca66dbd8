"""incident.io: the API key, what it may read, that its settings are those of deploy/on_call.yaml, and the ids and tokens of the environment.

No alert is opened and no heartbeat pinged: a ping would hide that the daemon is dead. A token is compared with the one that the
API shows of the source (`secret_token` of `AlertSourceV2`, https://api-docs.incident.io).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from pydantic import SecretStr

from orchestration.doctor.model import Check, Once, Outcome, failed, ok, warning
from orchestration.doctor.vendor_checks import NAMED, Access
from orchestration.on_call.apply import Planned, look
from orchestration.on_call.config import FILE, OnCallConfigError, load
from orchestration.on_call.plan import Change, Refused
from orchestration.settings import Settings
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io import IncidentIo
from orchestration.vendors.incident_io_alerts import AlertList
from orchestration.vendors.incident_io_presence import Schedules
from orchestration.vendors.incident_io_settings import Json, Kind, OnCallSettings

ACCESS = Access("incident_io_api_url", ("incident_io_api_key",), "view what docs/on-call.md lists")
KEY, FILE_CHECK = "incident.io: API key", "on-call: deploy/on_call.yaml"
PLAN = "`dataplatform on-call plan` shows it in full, and `dataplatform on-call apply` makes it so"
PARTS: dict[str, tuple[tuple[Kind, ...], tuple[str, ...]]] = {
    "attributes": (("alert_attribute",), ()),
    "schedules": (("schedule",), ()),
    "schedule syncs": (("schedule_sync_target", "schedule_sync_rule"), ("schedules",)),
    "alert sources": (("alert_source",), ("attributes",)),
    "escalation paths": (("escalation_path",), ("schedules",)),
    "alert routes": (("alert_route",), ("alert sources", "escalation paths")),
}
"""The kinds of settings that one line is about, and the lines of those that they refer to."""
SOURCES = "on-call: alert sources"
RECONCILIATION = "incident.io: reconciliation"
SOURCE, HEARTBEAT = "incident.io: alert source", "incident.io: heartbeat"


def checks(values: Settings) -> Iterator[Check]:
    def api() -> OnCallSettings:
        return OnCallSettings(str(values.incident_io_api_url), _key(values))

    planned = Once(lambda: look(load(FILE), FILE, api()))
    sources = Once(lambda: api().all("alert_source"))
    yield Check(
        KEY,
        _read(lambda: f"accepted; {len(api().severities())} severities"),
        needs=ACCESS.needs,
        wants=("incident_io_api_key",),
    )
    yield Check("incident.io: history", _read(lambda: _history(values)), after=(KEY,))
    yield Check(
        RECONCILIATION,
        _read(lambda: _firing(values)),
        needs=("incident_io_alert_source_id",),
        after=(KEY, SOURCE),
    )
    yield Check(FILE_CHECK, lambda: _planned(planned), after=(KEY,))
    for part, (kinds, referred) in PARTS.items():
        yield Check(
            f"on-call: {part}",
            lambda kinds=kinds: as_the_file_says([one for one in planned().pending if one.kind in kinds]),
            after=(FILE_CHECK, *(f"on-call: {one}" for one in referred)),
        )
    yield from _source(SOURCE, "http", values, "incident_io_alert_source", sources)
    yield from _source(HEARTBEAT, "heartbeat", values, "incident_io_heartbeat", sources)
    yield Check(
        "incident.io: schedule",
        _read(lambda: _schedule(values)),
        needs=("incident_io_schedule",),
        after=(KEY, "on-call: schedules"),
    )


def _source(name: str, kind: str, values: Settings, field: str, sources: Callable[[], list[Json]]) -> Iterator[Check]:
    id_, token = f"{field}_id", f"{field}_token"
    yield Check(
        name,
        lambda: listed(sources(), kind, getattr(values, id_), id_.upper()),
        wants=(id_,),
        after=(KEY, SOURCES),
    )
    yield Check(
        f"{name} token",
        lambda: opened(sources(), getattr(values, id_), getattr(values, token), token.upper()),
        wants=(token,),
        after=(name,),
    )


def listed(sources: Sequence[Json], kind: str, wanted: str, variable: str) -> Outcome:
    """Whether there is an alert source of this id and kind."""
    found = next((one for one in sources if one["id"] == wanted), None)
    if found is not None and found.get("source_type") == kind:
        return ok(f"is {found.get('name')!r}")
    ids = ", ".join(f"{one['id']} ({one.get('name')})" for one in sources if one.get("source_type") == kind)
    what = f"is of the kind {found.get('source_type')}, not {kind}" if found else "is none of incident.io's"
    return failed(f"the id of {variable} {what}", f"Set {variable}; there is {ids or f'no source of the kind {kind}'}")


def opened(sources: Sequence[Json], wanted: str, token: SecretStr, variable: str) -> Outcome:
    """Whether a source's token is the one that is set."""
    shown = next((one.get("secret_token") for one in sources if one["id"] == wanted), None)
    if not shown:
        return warning(
            "incident.io does not show it, so it was not compared",
            f"See that {variable} is that of incident.io, Alerts, Sources",
        )
    if not hmac.compare_digest(str(shown).encode(), token.get_secret_value().encode()):
        return failed("is not the source's", f"Set {variable}: incident.io, Alerts, Sources, the source, its token")
    return ok("is the source's")


def as_the_file_says(pending: Sequence[Change]) -> Outcome:
    """What a plan has for one kind of settings: what is missing fails, and what is otherwise than in the file is warned of."""
    if not pending:
        return ok("as the file says")
    more = f" and {len(pending) - NAMED} more" if len(pending) > NAMED else ""
    words = "; ".join(f"to {one.action}: {one.kind.replace('_', ' ')} {one.shown!r}" for one in pending[:NAMED]) + more
    return failed(words, PLAN) if any(one.action == "create" for one in pending) else warning(words, PLAN)


def _planned(planned: Callable[[], Planned]) -> Outcome:
    try:
        return ok(f"valid; {len(planned().wanted)} settings")
    except VendorError as error:
        return ACCESS.explained(error)
    except OnCallConfigError as error:
        return failed(
            str(error),
            "Correct deploy/on_call.yaml (docs/on-call.md), or incident.io; then `dataplatform on-call plan`",
        )
    except Refused as error:
        return failed(str(error), "`dataplatform on-call plan` says the same, and each line what to do")


def _history(values: Settings) -> str:
    """The reads of the hourly export, of the last moment only."""
    client = IncidentIo(str(values.incident_io_api_url), _key(values))
    now = datetime.now(UTC)
    client.incidents(now)
    client.escalations(now)
    if values.incident_io_alert_source_id:
        client.alerts(values.incident_io_alert_source_id, now)
    return "alerts, incidents and escalations can be read"


def _firing(values: Settings) -> str:
    """Read one page of what the sensor `alert_reconciliation` reads."""
    source = values.incident_io_alert_source_id or ""
    firing = AlertList(str(values.incident_io_api_url), _key(values), source).read_firing_keys(1, 0)
    return f"the source's alerts can be listed; {len(firing.keys)}{'' if firing.complete else ' or more'} of them fire"


def _schedule(values: Settings) -> str:
    client = Schedules(str(values.incident_io_api_url), _key(values))
    people = len(client.find(values.incident_io_schedule).on_shift)
    return f"exists; {people} on shift now"


def _key(values: Settings) -> str:
    """The API key. Every check here is left out without one."""
    return values.incident_io_api_key.get_secret_value() if values.incident_io_api_key else ""


def _read(read: Callable[[], str]) -> Callable[[], Outcome]:
    def look() -> Outcome:
        try:
            return ok(read())
        except VendorError as error:
            return ACCESS.explained(error)

    return look
