"""What an invocation of dbt says while it runs, as Dagster's events with what BigQuery reports about each statement."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import dagster as dg
import requests
from dagster_dbt import DbtCliInvocation
from dagster_dbt.core.dbt_cli_event import DbtCliEventMessage
from dagster_dbt.core.dbt_event_iterator import DbtEventIterator
from google.api_core.exceptions import GoogleAPIError

from orchestration.components.dbt_connection import Evidence, Job, connection_cause
from orchestration.components.dbt_failures import BAD, failed_node
from orchestration.components.steps import remark
from orchestration.core.causes import Cause
from orchestration.lineage.failures import UNIT_KEY, FailedUnit
from orchestration.vendors.bigquery_project import BigQueryProject

# Without a limit dbt moves the file away after 10 MB, while it is being read.
LOG_ARGUMENTS = ("--log-format-file", "json", "--log-level-file", "debug", "--log-file-max-bytes", "0")
LOG_FILE = "dbt.log"
LOG_SECONDS = 2.0
"""How long a node's end may take from dbt's console to its log file; dbt writes both one after the other."""
SKIPPED = "skipped"
BATCH_FAILED = "Exception on worker thread. "
"""How dbt begins the error of a microbatch model's batch: dbt/task/run.py of dbt-core 1.11."""
UNHANDLED = "Unhandled error while running:"
"""dbt-bigquery's debug message about an exception that is no answer of BigQuery to a job (connections.py, line 118)."""
JOB_LINK = re.compile(
    r"https://console\.cloud\.google\.com/bigquery\?project=(?P<project>[^&\s]+)&j=bq:(?P<location>[^:\s]*):(?P<id>[\w-]+)&"
)
"""dbt-bigquery's error message about such an answer (connections.py, `_bq_job_link`)."""
QUOTA_EXCEEDED = "quotaExceeded"
BILLED, SLOT_MS, ROWS_MOVED, ROW_COUNT = "bytes_billed", "slot_ms", "rows_moved", "dagster/row_count"
PROJECT_WARNING = "JinjaLogWarning"
"""dbt's event for what a macro of the project warns of; it names no node, so that its message has to."""
WHOLE_TABLE = "CREATE TABLE"
"""dbt-bigquery's code of a statement whose `rows_affected` are all rows of the table."""


@dataclass(frozen=True)
class Streamed:
    """Turns dbt's events into Dagster's, each with its node's end from the log file; a failed model becomes a remark on its asset.

    BigQuery is asked for the rows of a table that dbt did not write wholly; views are not counted.
    """

    invocation: DbtCliInvocation
    context: dg.AssetExecutionContext
    warehouse: BigQueryProject

    def __iter__(self) -> Iterator[Any]:
        nodes = self.invocation.manifest["nodes"]
        for message in self.invocation.stream_raw_events():
            if not message.is_result_event:
                if message.raw_event["info"]["name"] == PROJECT_WARNING:
                    self.context.log.warning(message.raw_event["info"]["msg"])
                continue
            info = message.raw_event["data"]["node_info"]
            node = nodes.get(info["unique_id"])
            bad = info["node_status"] in BAD
            model = node if node is not None and node["resource_type"] != "test" else None
            result: Mapping[str, Any] = self.log.result(info["unique_id"]) if model or bad else {}
            unit = (
                self._failed({"status": info["node_status"], "unique_id": info["unique_id"], **result}) if bad else None
            )
            if model is None:
                yield from self._test(message, unit)
                continue
            for event in self._events(message):
                yield event.with_metadata({**event.metadata, **self._statement(model, result)})

    @cached_property
    def log(self) -> NodeLog:
        return NodeLog(self.invocation.target_path / LOG_FILE)

    def _failed(self, result: Mapping[str, Any]) -> FailedUnit | None:
        unit = failed_node(
            self.invocation.manifest,
            result,
            self._selected,
            self.log.batch_errors.get(result["unique_id"], ()),
            self.cause_of,
        )
        if unit is not None:
            # Logged, not yielded: it is told at once, and no metadata is looked up for it.
            self.context.log_event(remark(unit))
        return unit

    def cause_of(self, unique_id: str, text: str) -> Cause | None:
        """Return why dbt's connection to BigQuery failed at a node; None where the node's error is about something else."""
        evidence = self.log.evidence.get(unique_id, Evidence())
        cause = connection_cause(text, evidence)
        if cause != "bigquery-quota" or evidence.job is None:
            return cause
        try:
            reason = self.warehouse.failure_reason(evidence.job.id, evidence.job.project, evidence.job.location)
        except (GoogleAPIError, requests.RequestException) as error:
            self.context.log.warning(f"why BigQuery refused the job {evidence.job.id} is not known: {error}")
            return None
        # A job that BigQuery did not take is unknown to it. One that ran may have failed with any words of its own.
        return cause if reason in {None, QUOTA_EXCEEDED} else None

    @cached_property
    def _selected(self) -> set[str]:
        return {key.to_user_string() for key in self.context.selected_asset_keys}

    def _test(self, message: DbtCliEventMessage, unit: FailedUnit | None) -> Iterator[Any]:
        for event in self._events(message):
            # Of a test that is no check of an asset in this run, dagster_dbt makes an observation of everything that it reads:
            # that of a landed table would pass for somebody having looked at it.
            if isinstance(event, dg.AssetObservation):
                continue
            if (
                isinstance(event, dg.AssetCheckResult)
                and not event.passed
                and event.severity == dg.AssetCheckSeverity.ERROR
            ):
                answers = dg.MetadataValue.text(unit.unit if unit else "dbt")
                yield event._replace(metadata={**event.metadata, UNIT_KEY: answers})
            else:
                yield event

    def _events(self, message: DbtCliEventMessage) -> Iterator[Any]:
        # Any: the library leaves the type of its outputs' values open.
        convert = cast("Callable[..., Iterator[Any]]", message.to_default_asset_events)
        dbt = self.invocation
        return convert(dbt.manifest, dbt.dagster_dbt_translator, self.context, dbt.target_path, dbt.project)

    def _statement(self, node: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, int]:
        metadata = of_statement(result.get("adapter_response") or {})
        if ROW_COUNT in metadata or node["config"]["materialized"] == "view":
            return metadata
        try:
            return metadata | {ROW_COUNT: self.warehouse.number_of_rows(node["relation_name"].replace("`", ""))}
        except (GoogleAPIError, requests.RequestException) as error:
            # A count describes what dbt has built; it is not what the run is for.
            self.context.log.warning(f"the rows of {node['relation_name']} are not known: {error}")
            return metadata


def with_columns(events: Iterable[Any], invocation: DbtCliInvocation) -> Iterator[Any]:
    """The events in their order, with each table's columns and their lineage, looked up while dbt goes on.

    It is `fetch_column_metadata` for one event at a time. That of a whole stream asks without a pause whether dbt has said something
    (dagster 1.13's `imap`), which takes a core from dbt for as long as it works.
    """
    found: SimpleQueue[Future[list[Any]] | None] = SimpleQueue()

    def look_up(event: Any) -> list[Any]:
        # Any: the library leaves the type of its outputs' values open.
        return list(cast("Iterator[Any]", DbtEventIterator(iter([event]), invocation).fetch_column_metadata()))

    def read() -> None:
        try:
            for event in events:
                found.put(workers.submit(look_up, event))
        finally:
            found.put(None)

    with (
        ThreadPoolExecutor(invocation.postprocessing_threadpool_num_threads) as workers,
        ThreadPoolExecutor(1) as reader,
    ):
        reading = reader.submit(read)
        while (future := found.get()) is not None:
            yield from future.result()
        reading.result()


MARKS = (
    b'"NodeFinished"', b'"GenericExceptionOnRun"', b'"MainEncounteredError"', UNHANDLED.encode(), b"console.cloud.google.com/bigquery"
)  # fmt: skip
"""Texts that mark the lines of dbt's log that are parsed; all other lines are skipped."""


class NodeLog:
    """The ends of nodes in dbt's log file: the console's level leaves them out, and the results file comes only at the end."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self._results: dict[str, Mapping[str, Any]] = {}
        self.batch_errors: defaultdict[str, list[str]] = defaultdict(list)
        """Id of a microbatch model to the errors of its batches so far: a run result says only how many failed."""
        self.evidence: dict[str, Evidence] = {}
        """Id of a node to what the log says of how BigQuery was met."""
        self.main_error: str | None = None
        """Return the cause for which dbt ended before it ran a node."""

    def result(self, unique_id: str) -> Mapping[str, Any]:
        """What dbt says of a node that has just ended: `status`, `message`, `adapter_response`; nothing if it says nothing in time."""
        deadline = time.monotonic() + LOG_SECONDS
        while unique_id not in self._results:
            if not self._more() and time.monotonic() > deadline:
                return {}
            time.sleep(0.005)
        return self._results.pop(unique_id)

    def _more(self) -> bool:
        if not self._path.exists():
            return False
        with self._path.open("rb") as file:
            file.seek(self._read)
            found = file.read()
        whole = found[: found.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            if not any(mark in line for mark in MARKS):
                continue
            event = json.loads(line)
            self._read_evidence(event)
            if event["info"]["name"] == "NodeFinished":
                self._results[event["data"]["node_info"]["unique_id"]] = event["data"]["run_result"]
            elif event["info"]["name"] == "GenericExceptionOnRun":
                error = str(event["data"]["exc"]).removeprefix(BATCH_FAILED)
                self.batch_errors[event["data"]["unique_id"]].append(error)
        return bool(whole)

    def read_to_end(self) -> None:
        """Read what dbt has logged since, after its end."""
        while self._more():
            pass

    def _read_evidence(self, event: Mapping[str, Any]) -> None:
        name, data = event["info"]["name"], event["data"]
        if name == "MainEncounteredError":
            self.main_error = str(data["exc"])
        node = data.get("node_info", {}).get("unique_id", "")
        text = str(data.get("base_msg", ""))
        if name == "AdapterEventDebug" and text.startswith(UNHANDLED):
            self.evidence[node] = Evidence(unhandled=True)
        elif name == "AdapterEventError" and (found := JOB_LINK.match(text)):
            location = found["location"] if found["location"] != "None" else None
            self.evidence[node] = Evidence(job=Job(found["id"], found["project"], location))


def of_statement(response: Mapping[str, Any]) -> dict[str, int]:
    """Metadata that the UI plots, from dbt's `adapter_response` of BigQuery.

    Out: bytes billed, slot time in milliseconds, rows written, and all rows of the table where the statement wrote it wholly.
    """
    found = {
        BILLED: response.get("bytes_billed"),
        SLOT_MS: response.get("slot_ms"),
        ROWS_MOVED: response.get("rows_affected"),
        ROW_COUNT: response.get("rows_affected") if response.get("code") == WHOLE_TABLE else None,
    }
    return {name: int(value) for name, value in found.items() if value is not None}


def skipped(key: str, stopped_by: str, error: str) -> dg.AssetObservation:
    """What the page of an asset says that was not built. Keys as people write them; `error` is the ancestor's."""
    return dg.AssetObservation(
        dg.AssetKey.from_user_string(key),
        description=f"Not built: `{stopped_by}` failed.",
        metadata={"status": SKIPPED, "stopped_by": stopped_by, "error": error},
    )
