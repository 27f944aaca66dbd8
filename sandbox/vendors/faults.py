"""What is broken on purpose: a catalogue of faults, and the ones that are switched on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.config import VENDORS
from sandbox.vendors.store import Store

SCHEMA = """
create table if not exists fault (
    id integer primary key, vendor text not null, target text, kind text not null, params text not null,
    times integer, created_at text not null
);
"""


@dataclass(frozen=True)
class Kind:
    """A kind of fault: whom it can strike, what it does, and the parameters that it takes with their defaults."""

    vendors: tuple[str, ...]
    description: str
    params: dict[str, Any]
    on_the_wire: bool = False
    needs_target: bool = False


KINDS: dict[str, Kind] = {
    "http_500": Kind(VENDORS, "answers 500 with a JSON error", {}, on_the_wire=True),
    "http_401": Kind(VENDORS, "answers 401: the key is refused", {}, on_the_wire=True),
    "http_403": Kind(VENDORS, "answers 403: the key may not do that", {}, on_the_wire=True),
    "http_429": Kind(VENDORS, "answers 429 with Retry-After", {"retry_after": 2}, on_the_wire=True),
    "html": Kind(VENDORS, "answers 502 with an HTML page, as a proxy does", {}, on_the_wire=True),
    "truncated": Kind(VENDORS, "answers, but the JSON breaks off half-way", {}, on_the_wire=True),
    "hang": Kind(VENDORS, "takes the request and does not answer", {"seconds": 60}, on_the_wire=True),
    "reset": Kind(VENDORS, "closes the connection without an answer", {}, on_the_wire=True),
    "slow": Kind(VENDORS, "answers late", {"seconds": 0.1}, on_the_wire=True),
    "refused": Kind(VENDORS, "does not listen: connection refused", {}, on_the_wire=True),
    "broken_credentials": Kind(
        ("fivetran",),
        "the source refuses the credentials: the sync fails, and someone has to reconnect the source",
        {"reason": "Invalid credentials: password authentication failed for user 'fivetran'. Reconnect the source."},
        needs_target=True,
    ),
    "broken": Kind(
        ("fivetran",),
        "the connection is marked as broken without a task: a sync that succeeds clears the mark; with starts=0, none starts",
        {"starts": 1},
        needs_target=True,
    ),
    "sync_failure": Kind(
        ("fivetran", "hightouch"),
        "the sync fails; Fivetran's API does not say why, Hightouch's does",
        {"reason": "The source did not answer within 60 seconds."},
        needs_target=True,
    ),
    "reschedule": Kind(
        ("fivetran",),
        "a sync that is triggered is put off: the source accepts no more API calls",
        {"seconds": 20},
        needs_target=True,
    ),
    "group_without_destination": Kind(("fivetran",), "the account has a group without a destination", {}),
    "slow_sync": Kind(("fivetran",), "the sync takes longer", {"seconds": 20}, needs_target=True),
    "paused": Kind(("fivetran",), "somebody paused the connection", {}, needs_target=True),
    "broken_column": Kind(
        ("fivetran",), "a column lands as rubbish", {"table": "incidents", "column": "severity"}, needs_target=True
    ),
    "run_failure": Kind(("hex",), "a cell of the project fails, so that its run does", {}, needs_target=True),
    "slow_run": Kind(("hex",), "the project's run takes longer", {"seconds": 20}, needs_target=True),
    "tenant_filter_removed": Kind(
        ("explo",), "the dashboard's first dataset has lost its tenant filter", {}, needs_target=True
    ),
    "branch_required": Kind(
        ("omni",), "branch-based schema refresh is on: a refresh without a branch is refused with 400", {}
    ),
    "not_connection_admin": Kind(
        ("omni",), "the key's owner is no connection admin: a refresh is refused with 403", {}
    ),
    "drops": Kind(
        ("incident_io",),
        "answers 202 and drops the alert event (status: any, firing, resolved)",
        {"status": "any"},
    ),
    "job_failure": Kind(("omni",), "the refresh of the schema model fails", {}),
    "interrupted": Kind(
        ("hightouch",),
        "a run of the sync is interrupted, and a new one resumes it",
        {"reason": "The run was interrupted."},
        needs_target=True,
    ),
    "rejected_rows": Kind(("hightouch",), "the destination rejects the first rows", {"count": 3}, needs_target=True),
}

DEFAULT_KIND = dict.fromkeys(VENDORS, "http_500") | {
    "fivetran": "broken_credentials",
    "hightouch": "sync_failure",
    "hex": "run_failure",
    "explo": "tenant_filter_removed",
    "omni": "job_failure",
    "incident_io": "refused",
}


class UnknownFault(ValueError):
    """No such vendor, kind or parameter; the message lists the choices."""


@dataclass(frozen=True)
class Fault:
    id: int
    vendor: str
    target: str | None
    kind: str
    params: dict[str, Any]
    times: int | None
    """How often it still strikes; None until it is mended."""
    created_at: str


class Faults:
    def __init__(self, store: Store) -> None:
        self._store = store
        store.script(SCHEMA)

    def add(
        self, vendor: str, target: str | None = None, kind: str | None = None, params: dict[str, Any] | None = None,
        times: int | None = None,
    ) -> Fault:  # fmt: skip
        """Switch a fault on, in place of the same one before. Raises UnknownFault."""
        if vendor not in VENDORS:
            raise UnknownFault(f"no vendor {vendor!r}; there are {', '.join(VENDORS)}")
        kind = kind or (DEFAULT_KIND[vendor] if target or not KINDS[DEFAULT_KIND[vendor]].needs_target else "http_500")
        known = KINDS.get(kind)
        if known is None or vendor not in known.vendors:
            choices = ", ".join(name for name, value in KINDS.items() if vendor in value.vendors)
            raise UnknownFault(f"{vendor} has no fault {kind!r}; it has {choices}")
        if known.needs_target and not target:
            raise UnknownFault(f"{kind} needs a target, the name of the {vendor} sync: `sandbox break {vendor} NAME`")
        if unknown := (params or {}).keys() - known.params.keys():
            raise UnknownFault(
                f"{kind} takes no {', '.join(sorted(unknown))}; it takes {', '.join(known.params) or 'none'}"
            )
        with self._store.transaction():
            self.remove(vendor, target, kind)
            [row] = self._store.execute(
                "insert into fault (vendor, target, kind, params, times, created_at) values (?, ?, ?, ?, ?, ?) returning *",
                (vendor, target, kind, json.dumps(known.params | (params or {})), times, datetime.now(UTC).isoformat()),
            )
        return _fault(row)

    def remove(self, vendor: str | None = None, target: str | None = None, kind: str | None = None) -> int:
        """Switch off what matches, and return how many that were. None matches all."""
        return len(
            self._store.execute(
                "delete from fault where (?1 is null or vendor = ?1) and (?2 is null or target = ?2)"
                " and (?3 is null or kind = ?3) returning id",
                (vendor, target, kind),
            )
        )

    def active(self, vendor: str | None = None, target: str | None = None, kind: str | None = None) -> list[Fault]:
        rows = self._store.execute(
            "select * from fault where (?1 is null or vendor = ?1) and (?2 is null or target = ?2)"
            " and (?3 is null or kind = ?3) and coalesce(times, 1) > 0 order by id",
            (vendor, target, kind),
        )
        return [_fault(row) for row in rows]

    def consume(self, fault: Fault) -> None:
        """Count down a fault that strikes a number of times."""
        if fault.times is not None:
            self._store.execute("update fault set times = times - 1 where id = ?", (fault.id,))


def _fault(row: Any) -> Fault:
    return Fault(
        row["id"], row["vendor"], row["target"], row["kind"], json.loads(row["params"]), row["times"], row["created_at"]
    )
