"""One run of one project: count the rows of each table that it queries. A thread each."""

from __future__ import annotations

import logging
import threading
import time

from sandbox.config import PROJECT
from sandbox.services.bigquery import client_of_environment
from sandbox.vendors.context import VendorContext
from sandbox.vendors.faults import Fault
from sandbox.vendors.hex import state

KERNEL_SECONDS = 0.3
"""How long Hex looks for a machine."""
LOOK_SECONDS = 0.1
log = logging.getLogger(__name__)


class CellError(RuntimeError):
    """A cell failed, so that the run is ERRORED."""


def start(context: VendorContext, project_id: str, run_id: str) -> None:
    run = _Run(context, project_id, run_id)
    threading.Thread(target=run.run, name=f"hex-{run_id}", daemon=True).start()


class _Run:
    def __init__(self, context: VendorContext, project_id: str, run_id: str) -> None:
        self._context, self._store = context, context.store
        self._project_id, self._run_id = project_id, run_id

    def run(self) -> None:
        time.sleep(KERNEL_SECONDS)
        if not state.begin(self._store, self._run_id):
            return
        try:
            self._query()
        except Exception as problem:
            log.warning("run %s of %s: %s", self._run_id, self._project_id, problem)
            state.end(self._store, self._run_id, "ERRORED", f"{type(problem).__name__}: {problem}"[:1000])
        else:
            if state.end(self._store, self._run_id, "COMPLETED"):
                self._publish()

    def _query(self) -> None:
        for fault in self._faults("slow_run"):
            self._context.faults.consume(fault)
            self._be_slow(float(fault.params["seconds"]))
        if self._ended():
            return
        for fault in self._faults("run_failure"):
            self._context.faults.consume(fault)
            raise CellError("a cell failed, as it was told to")
        client = client_of_environment()
        tables = self._store.execute(
            "select distinct reads from hex_table where project = ? and reads is not null", (self._project_id,)
        )
        for table in tables:
            if self._ended():
                return
            client.query(f"select count(*) from `{PROJECT}.{table['reads']}`").result(timeout=120)

    def _be_slow(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._ended():
            time.sleep(LOOK_SECONDS)

    def _ended(self) -> bool:
        """Whether somebody has killed it."""
        found = state.run(self._store, self._project_id, self._run_id)
        return found is None or found["ended_at"] is not None

    def _publish(self) -> None:
        self._store.execute(
            "update hex_project set results_at = ?1 where id = ?2"
            " and exists (select 1 from hex_run where id = ?3 and updates_results)",
            (state.moment(), self._project_id, self._run_id),
        )

    def _faults(self, kind: str) -> list[Fault]:
        """The faults whose target is the project, by its slug or its id."""
        row = state.project(self._store, self._project_id)
        names = {row["slug"], row["id"]} if row else set()
        return [fault for fault in self._context.faults.active("hex", kind=kind) if fault.target in names]
