"""One run of one sync: query the model, compare with what was accepted before, upsert what differs, log it."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from itertools import batched
from typing import Any

from google.cloud import bigquery

from sandbox.services.bigquery import client_of_environment
from sandbox.vendors.context import VendorContext
from sandbox.vendors.hightouch import audit, catalogue, destination, state
from sandbox.vendors.hightouch.state import Counts, Known

RESUME_SECONDS = 2.0
"""How long after an interruption a run is resumed."""
REJECTED_BY_FAULT = "FIELD_CUSTOM_VALIDATION_EXCEPTION: the destination rejected this row"
log = logging.getLogger(__name__)


class Interrupted(RuntimeError):
    """The run is interrupted: another one resumes it (https://hightouch.com/docs/syncs/overview, "Incomplete")."""


class SyncError(RuntimeError):
    """The run cannot go on; the message is what Hightouch shows."""


@dataclass(frozen=True)
class Operation:
    """A row that the destination should have now."""

    row_id: str
    kind: str
    """`added` or `changed`."""
    fields: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    operations: list[Operation]
    gone: list[str]
    """Keys that the model no longer has."""
    counts: Counts


def start_next(context: VendorContext, sync: int) -> None:
    """Start the sync's oldest queued run in a thread of its own, unless one runs already."""
    claimed = state.claim(context.store, sync)
    if claimed is not None:
        run = _Run(context, sync, claimed["id"], bool(claimed["full_resync"]), claimed["started_at"])
        threading.Thread(target=run.run, name=f"hightouch-{claimed['id']}", daemon=True).start()


def resume_left_behind(context: VendorContext) -> None:
    """Resume in new runs those that a killed process has left behind."""
    for row in state.interrupt_left_behind(context.store):
        state.queue(context.store, row["sync"], bool(row["full_resync"]))
        _start_later(context, row["sync"])


def _start_later(context: VendorContext, sync: int) -> None:
    """Start the next run of a sync after a while: after a restart, what it writes to may not be up yet."""
    timer = threading.Timer(RESUME_SECONDS, start_next, (context, sync))
    timer.daemon = True
    timer.start()


def plan(rows: dict[str, dict[str, Any]], known: dict[str, Known]) -> Plan:
    """Compare the model's rows, by key, with the known ones. A row that was rejected last time is tried again."""
    operations = []
    for row_id, fields in rows.items():
        past = known.get(row_id, Known(None, None))
        if past.fields is None:
            operations.append(Operation(row_id, "added", fields))
        elif past.fields != fields or past.rejected:
            operations.append(Operation(row_id, "changed", fields))
    gone = sorted(known.keys() - rows.keys())
    removed = sum(known[row_id].fields is not None for row_id in gone)
    return Plan(operations, gone, _count(operations) + Counts(removed=removed))


class _Run:
    def __init__(self, context: VendorContext, sync: int, number: int, full_resync: bool, started_at: str) -> None:
        self._context, self._store = context, context.store
        self._sync = catalogue.syncs(self._store)[sync]
        models = catalogue.models(self._store)
        self._model = models[self._sync.model]
        self._sql = partial(self._model.query, models)
        self._number, self._full_resync, self._started_at = number, full_resync, started_at
        self._planned = self._successful = self._failed = Counts()
        self._changelog: list[dict[str, Any]] = []

    def run(self) -> None:
        try:
            self._move()
            status, error = ("warning" if self._failed.sent else "success"), None
        except Interrupted as problem:
            status, error = "interrupted", str(problem)
        except Exception as problem:
            log.exception("run %s of %s failed", self._number, self._sync.slug)
            status, error = "failed", str(problem) if isinstance(problem, SyncError) else _named(problem)
        self._report(status, error)
        if status == "interrupted":
            state.queue(self._store, self._sync.id, self._full_resync)
            _start_later(self._context, self._sync.id)
        else:
            start_next(self._context, self._sync.id)

    def _move(self) -> None:
        for kind, error in (("interrupted", Interrupted), ("sync_failure", SyncError)):
            for fault in self._faults(kind):
                self._context.faults.consume(fault)
                raise error(fault.params["reason"])
        rows = self._query()
        if self._full_resync:
            self._store.execute("delete from hightouch_row where sync = ?", (self._sync.id,))
        todo = plan(rows, state.rows(self._store, self._sync.id))
        self._planned = todo.counts
        self._note(status="processing", query_size=len(rows), done=0, planned=self._planned)
        self._send(todo.operations)
        with self._store.transaction():
            state.forget(self._store, self._sync.id, todo.gone)
        # An upsert leaves the records of removed rows alone: to Hightouch they are dealt with, and done.
        self._successful += Counts(removed=todo.counts.removed)
        self._note(status="reporting", successful=self._successful)

    def _query(self) -> dict[str, dict[str, Any]]:
        """The model's rows by key, each as the fields that the destination should have."""
        result = client_of_environment().query(self._sql()).result(timeout=120)
        names = {column.name for column in result.schema}
        if missing := {*self._sync.mappings, self._model.primary_key} - names:
            raise SyncError(f"The model has no column {', '.join(sorted(missing))}, which the sync maps.")
        found = [(row[self._model.primary_key], self._fields(row)) for row in result]
        for key, times in Counter(key for key, _fields in found).items():
            if key is None or times > 1:
                raise SyncError(f"The primary key {self._model.primary_key} is {key!r} in {times} rows of the model.")
        return {str(key): fields for key, fields in found}

    def _fields(self, row: bigquery.Row) -> dict[str, Any]:
        if self._sync.destination == "slack":
            return {"text": self._sync.message.format_map(dict(row.items()))}
        return {name: _value(row[column]) for column, name in self._sync.mappings.items()}

    def _send(self, operations: list[Operation]) -> None:
        operations = self._refuse(operations)
        with destination.of(self._context.config, self._sync) as place:
            for batch in batched(operations, place.batch, strict=False):
                results = place.write([operation.fields for operation in batch])
                self._settle(list(zip(batch, results, strict=True)))

    def _refuse(self, operations: list[Operation]) -> list[Operation]:
        """Strike the first rows with the `rejected_rows` faults, and return the others."""
        for fault in self._faults("rejected_rows"):
            if not operations:
                break
            self._context.faults.consume(fault)
            count = int(fault.params["count"])
            self._settle([(operation, REJECTED_BY_FAULT) for operation in operations[:count]])
            operations = operations[count:]
        return operations

    def _settle(self, results: list[tuple[Operation, str | None]]) -> None:
        """Keep what the destination said about rows: None for accepted, else the reason."""
        with self._store.transaction():
            for operation, reason in results:
                if reason is None:
                    state.accept(self._store, self._sync.id, operation.row_id, operation.fields)
                else:
                    state.reject(self._store, self._sync.id, operation.row_id, reason)
        self._successful += _count([operation for operation, reason in results if reason is None])
        self._failed += _count([operation for operation, reason in results if reason is not None])
        self._changelog += _changes(results)
        done = self._successful.sent + self._failed.sent
        self._note(done=done, successful=self._successful, failed=self._failed)

    def _report(self, status: str, error: str | None) -> None:
        """Write the sync logs, where there is something to say, then end the run."""
        finished_at = state.moment()
        if self._changelog:
            run = {
                "sync_id": str(self._sync.id), "sync_run_id": str(self._number), "status": status, "error": error,
                "started_at": self._started_at, "finished_at": finished_at,
                "planned": self._planned.sent, "successful": self._successful.sent, "failed": self._failed.sent,
            }  # fmt: skip
            ids = {"sync_id": run["sync_id"], "sync_run_id": run["sync_run_id"]}
            try:
                audit.write(run, [ids | change for change in self._changelog])
            except Exception as problem:
                log.exception("the sync logs of run %s were not written", self._number)
                status, error = "failed", f"The sync logs could not be written: {_named(problem)}"
        self._note(status=status, error=error, finished_at=finished_at)

    def _note(self, **values: Any) -> None:
        state.note(self._store, self._number, **values)

    def _faults(self, kind: str) -> list[Any]:
        return self._context.faults.active("hightouch", self._sync.slug, kind)


def _count(operations: list[Operation]) -> Counts:
    added = sum(operation.kind == "added" for operation in operations)
    return Counts(added, len(operations) - added)


def _changes(results: list[tuple[Operation, str | None]]) -> Iterator[dict[str, Any]]:
    for operation, reason in results:
        yield {
            audit.ROW: operation.row_id, "op_type": operation.kind, "status": "failed" if reason else "succeeded",
            "failure_reason": reason, "fields": operation.fields,
        }  # fmt: skip


def _named(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"[:1000]


def _value(value: Any) -> Any:
    """A warehouse's value as JSON has it."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return value
