"""One step that syncs several things: side by side, each reported when it ends, with an account of those that failed."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

import dagster as dg
from dagster._core.storage.tags import MAX_RETRIES_TAG

from orchestration.components.platform_causes import platform_cause
from orchestration.core.redaction import redact
from orchestration.lineage import failures
from orchestration.lineage.failures import NO_SYNC, SYNC_KEY, SYNC_STARTED, FailedUnit
from orchestration.vendors.http import VendorError
from orchestration.vendors.waiting import SyncFailed

PASSING_TAG = "dataplatform/worth_another_try"
"""Of a run in which something failed that may pass when it is tried again: its own id, for a retry inherits the tags."""
Sleep = Callable[[float], None]
Step = dg.AssetExecutionContext | dg.AssetCheckExecutionContext


def side_by_side[K, T](jobs: Mapping[K, Callable[[Sleep], T]], workers: int) -> Iterator[tuple[K, Future[T]]]:
    """Run the jobs in threads, and yield each with its result when it has ended.

    When the step is cancelled, the jobs that wait are not started, and those that run are ended by the `sleep` they were given.
    """
    stopped = threading.Event()

    def sleep(seconds: float) -> None:
        if stopped.wait(seconds):
            raise SyncFailed("The run was cancelled; what the vendor had begun, it may go on with.")

    with ThreadPoolExecutor(workers) as pool:
        started = {pool.submit(job, sleep): key for key, job in jobs.items()}
        try:
            for future in as_completed(started):
                yield started[future], future
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def find_output_keys_once(context: dg.AssetExecutionContext) -> None:
    """Have Dagster find the assets of this step once.

    Dagster looks them up again for each output, by a set of all assets and checks for each output (`get_output_asset_keys` in
    dagster/_core/execution/context/system.py, 1.13.27): with 1,000 tables and four checks each, a step of 33 s took 86 s, and with 2,000
    tables it did not end. They do not change while a step runs.
    """
    step = context.get_step_execution_context()
    found = step.get_output_asset_keys()
    step.get_output_asset_keys = lambda: found


class Failures:
    """The units of a step that failed, collected while others go on. What is permanent is told at once."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._units: list[FailedUnit] = []

    def add(
        self,
        unit: str,
        keys: Iterable[dg.AssetKey],
        error: BaseException,
        vendor_url: str,
        sync_of: dg.AssetKey | None = None,
    ) -> None:
        """Add a unit by its error. `sync_of` is the first asset of a sync, on which the run says which sync it has seen end."""
        expected = isinstance(error, SyncFailed | VendorError)
        # The message of an error that nobody foresaw (KeyError: 'x') says little without its kind and its traceback.
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        keys_of_unit = tuple(key.to_user_string() for key in keys)
        failure = FailedUnit(
            unit,
            keys_of_unit,
            text,
            vendor_url,
            permanent=expected and error.permanent,
            cause=platform_cause(error),
        )
        trace = "" if expected else "\n" + redact("".join(traceback.format_exception(error)), failure.names)
        self._context.log.error(f"{unit} failed: {failure.error}{trace}")
        self._tell(failure)
        if sync_of is not None:
            ended = error.sync if isinstance(error, SyncFailed) else None
            text = f"Its sync failed: {failure.error}" if ended else f"It was not synced: {failure.error}"
            self._context.log_event(_of_sync(sync_of, ended or NO_SYNC, text))

    def _tell(self, unit: FailedUnit) -> None:
        self._units.append(unit)
        # Of a table that is only looked at, an observation without a version of its data would look like new data.
        if unit.permanent and unit.asset_keys and not self._context.assets_def.is_observable:
            self._context.log_event(remark(unit))

    def raise_any(self) -> None:
        """Raise dagster.Failure with a report of every unit, if there is one."""
        if self._units:
            raise failed(self._context, self._units)


def start_sync(context: dg.AssetExecutionContext, key: dg.AssetKey) -> None:
    """Record that this run asks for a sync from now on. The next one of the vendor's that ends may be its own. `key`: its first asset."""
    context.log_event(_of_sync(key, SYNC_STARTED, "This run asks for its sync."))


def _of_sync(key: dg.AssetKey, value: str, text: str) -> dg.AssetObservation:
    return dg.AssetObservation(key, description=text, metadata={SYNC_KEY: dg.MetadataValue.text(value)})


def remark(unit: FailedUnit) -> dg.AssetObservation:
    """What the page of a unit's first asset says of its failure before the step has ended; alerts are made of the same."""
    metadata = {"status": "error", "error": unit.error, **failures.to_metadata([unit])}
    return dg.AssetObservation(
        dg.AssetKey.from_user_string(unit.asset_keys[0]), description=unit.error, metadata=metadata
    )


def failed(context: Step, units: Sequence[FailedUnit]) -> dg.Failure:
    """The failure of a step, to be raised, with a report of its units. Where all that fails in a run is permanent, it is not tried again."""
    not_again(context, permanent=all(unit.permanent for unit in units))
    return dg.Failure(failures.summary(units), failures.to_metadata(units), allow_retries=False)


def not_again(context: Step, *, permanent: bool) -> None:
    """Say of the run whether it is worth another try, when a step of it fails: not where every failure so far is permanent.

    Dagster reads the tag when it stores the run's failure, after the last step.
    """
    run = context.run
    known = context.instance.get_run_by_id(run.run_id)
    passing = known is not None and known.tags.get(PASSING_TAG) == run.run_id
    if permanent and not passing:
        context.instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: "0"})
    elif not permanent:
        # As the run was launched: a step that failed before this one may have taken it away.
        before = {MAX_RETRIES_TAG: run.tags[MAX_RETRIES_TAG]} if MAX_RETRIES_TAG in run.tags else {}
        context.instance.add_run_tags(run.run_id, {PASSING_TAG: run.run_id, **before})
