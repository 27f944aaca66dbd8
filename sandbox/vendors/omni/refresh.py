"""One refresh of the schema model: the columns of every table that documents read, as the warehouse has them now. A thread each."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

from google.api_core.exceptions import NotFound

from sandbox.config import PROJECT
from sandbox.services.bigquery import client_of_environment
from sandbox.vendors.context import VendorContext
from sandbox.vendors.omni import state

QUEUE_SECONDS = 0.3
"""How long a job waits for its turn."""
log = logging.getLogger(__name__)


class RefreshError(RuntimeError):
    """The refresh cannot go on."""


def start(context: VendorContext, job: str) -> None:
    threading.Thread(target=_run, args=(context, job), name=f"omni-{job}", daemon=True).start()


def _run(context: VendorContext, job: str) -> None:
    time.sleep(QUEUE_SECONDS)
    try:
        state.replace_model(context.store, list(_columns(context)))
    except Exception as problem:
        log.warning("refresh %s: %s", job, problem)
        state.end_job(context.store, job, "FAILED", f"{type(problem).__name__}: {problem}"[:1000])
    else:
        state.end_job(context.store, job, "COMPLETED")


def _columns(context: VendorContext) -> Iterator[tuple[str, str]]:
    """The fields of each view; a table that is not in the warehouse is no view any more."""
    for fault in context.faults.active("omni", kind="job_failure"):
        context.faults.consume(fault)
        raise RefreshError("the connection's credentials were refused, as they were told to be")
    client = client_of_environment()
    for view in sorted({view for view, _field in state.fields(state.all_queries(context.store))}):
        schema, _, table = view.partition("__")
        try:
            # A view without a schema in its name is of a file that somebody has uploaded.
            found = client.get_table(f"{PROJECT}.{schema}.{table}").schema if table else ()
        except NotFound:
            continue
        yield view, state.COUNT
        for column in found:
            yield view, column.name
