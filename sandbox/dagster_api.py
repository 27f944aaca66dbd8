"""What the demo and the end-to-end tests ask of a running Dagster, through its public GraphQL API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandbox.config import SandboxConfig
from sandbox.services.platform import LOCATION, graphql

ASSETS = """
{assetNodes{
  assetKey{path} groupName computeKind isMaterializable
  assetMaterializations(limit: 1){
    timestamp runId
    metadataEntries{label __typename ... on IntMetadataEntry{intValue} ... on FloatMetadataEntry{floatValue}}
  }
}}
"""

LAUNCH = """
mutation($params: ExecutionParams!){
  launchPipelineExecution(executionParams: $params){
    __typename
    ... on LaunchRunSuccess{run{runId}}
    ... on PythonError{message}
    ... on RunConfigValidationInvalid{errors{message}}
    ... on InvalidSubsetError{message}
  }
}
"""

RUN = """
query($run: ID!, $cursor: String){
  runOrError(runId: $run){
    __typename
    ... on Run{
      status startTime endTime
      stepStats{stepKey status startTime endTime}
    }
  }
  logsForRun(runId: $run, afterCursor: $cursor, limit: 1000){
    ... on EventConnection{
      cursor
      events{
        __typename
        ... on MaterializationEvent{assetKey{path}}
        ... on ExecutionStepFailureEvent{stepKey error{message cause{message}}}
        ... on RunFailureEvent{message}
      }
    }
  }
}
"""

UNDER_WAY = """
{runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]}){... on Runs{results{runId}}}}
"""

INSTIGATORS = """
{repositoriesOrError{... on RepositoryConnection{nodes{
  schedules{name scheduleState{status}} sensors{name sensorState{status}}
}}}}
"""

FINAL = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass(frozen=True)
class Asset:
    """An asset as the UI shows it, with the numbers of its newest materialization."""

    key: str
    group: str
    materializable: bool
    materialized_at: float | None
    """Seconds since the epoch; None if never."""
    run_id: str | None
    numbers: dict[str, float]


@dataclass(frozen=True)
class StepTime:
    step: str
    seconds: float


def assets(config: SandboxConfig) -> list[Asset]:
    return [_asset(node) for node in graphql(config, ASSETS)["assetNodes"]]


def launch(config: SandboxConfig, keys: list[str] | None = None, job: str = "__ASSET_JOB") -> str:
    """Launch one run of these assets, or of a whole job, and return its id.

    Raises RuntimeError with Dagster's reason if it refuses.
    """
    params = {
        "selector": {
            "repositoryName": "__repository__",
            "repositoryLocationName": LOCATION,
            "pipelineName": job,
            "assetSelection": [{"path": key.split("/")} for key in keys] if keys else None,
            "assetCheckSelection": None,
        },
        "mode": "default",
    }
    answer = graphql(config, LAUNCH, {"params": params})["launchPipelineExecution"]
    if answer["__typename"] != "LaunchRunSuccess":
        reason = answer.get("message") or answer.get("errors") or answer["__typename"]
        raise RuntimeError(f"Dagster did not launch the run: {reason}")
    return answer["run"]["runId"]


def under_way(config: SandboxConfig) -> list[str]:
    """The runs that have not ended, the oldest first."""
    return [run["runId"] for run in graphql(config, UNDER_WAY)["runsOrError"]["results"]][::-1]


def follow(config: SandboxConfig, run_id: str, timeout: float = 600) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The status of a run with the events which came since the last look, until the run has ended.

    Raises TimeoutError after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    cursor = None
    while time.monotonic() < deadline:
        data = graphql(config, RUN, {"run": run_id, "cursor": cursor})
        status, logs = data["runOrError"]["status"], data["logsForRun"]
        cursor = logs["cursor"] or cursor
        yield status, logs["events"]
        if status in FINAL and not logs["events"]:
            return
        time.sleep(0.5)
    raise TimeoutError(f"run {run_id} did not end within {timeout:.0f} s")


def switched_on(config: SandboxConfig) -> dict[str, bool]:
    """Every schedule and sensor, and whether it runs."""
    nodes = graphql(config, INSTIGATORS)["repositoriesOrError"]["nodes"]
    found = [one for node in nodes for one in [*node["schedules"], *node["sensors"]]]
    return {one["name"]: (one.get("scheduleState") or one["sensorState"])["status"] == "RUNNING" for one in found}


def step_times(config: SandboxConfig, run_id: str) -> list[StepTime]:
    steps = graphql(config, RUN, {"run": run_id, "cursor": None})["runOrError"]["stepStats"]
    return [StepTime(s["stepKey"], s["endTime"] - s["startTime"]) for s in steps if s["endTime"] and s["startTime"]]


def _asset(node: dict[str, Any]) -> Asset:
    newest = next(iter(node["assetMaterializations"]), None)
    numbers = {
        entry["label"]: entry.get("intValue", entry.get("floatValue"))
        for entry in (newest or {"metadataEntries": []})["metadataEntries"]
        if entry["__typename"] in {"IntMetadataEntry", "FloatMetadataEntry"}
    }
    return Asset(
        key="/".join(node["assetKey"]["path"]),
        group=node["groupName"],
        materializable=node["isMaterializable"],
        materialized_at=float(newest["timestamp"]) / 1000 if newest else None,
        run_id=newest["runId"] if newest else None,
        numbers={label: value for label, value in numbers.items() if value is not None},
    )
