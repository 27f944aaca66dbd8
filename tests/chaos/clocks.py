"""Runs whose machine's clock is behind: the process of a run with the tag `names.BEHIND_TAG` has the time of so many seconds ago.

libfaketime would need another process to be started. Dagster starts the process of a run by `multiprocessing`, out of the code server's, so that
the functions that tell the time are replaced in that process, before it writes its first event.
"""

from __future__ import annotations

import multiprocessing
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster import _time
from dagster._grpc.types import ExecuteExternalJobArgs
from dagster._serdes import deserialize_value

from tests.chaos import names
from tests.chaos.orders import Orders


def follow_tag_of_run(orders: Orders) -> None:
    """Set this process's clock back, where it is a run's and the run is tagged so."""
    if multiprocessing.parent_process() is None or not orders.has(names.CLOCK_BEHIND):
        return
    process: Any = multiprocessing.current_process()
    # The first argument of `dagster._grpc.impl.start_run_in_subprocess`, which this process was started for.
    arguments = deserialize_value(process._args[0], ExecuteExternalJobArgs)
    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(arguments.run_id)
    if run is not None and (seconds := run.tags.get(names.BEHIND_TAG)):
        set_back(float(seconds))


def set_back(seconds: float) -> None:
    """Let this process have the time of `seconds` ago, in its logs (`time.time_ns`) and in what Dagster stores."""
    now, now_in_nanoseconds, nanoseconds = time.time, time.time_ns, int(seconds * 1e9)
    time.time = lambda: now() - seconds
    time.time_ns = lambda: now_in_nanoseconds() - nanoseconds
    _time._mockable_get_current_datetime = lambda: datetime.now(UTC) - timedelta(seconds=seconds)
