"""What the demo and the end-to-end tests ask of a running Dagster, through its public GraphQL API."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sandbox.config import SandboxConfig
from sandbox.services.platform import LOCATION, graphql

EVENT = """{
    timestamp runId
    metadataEntries{label __typename ... on IntMetadataEntry{intValue} ... on FloatMetadataEntry{floatValue}}
  }"""
ASSETS = f"""
{{assetNodes{{
  assetKey{{path}} groupName kinds opNames isMaterializable isObservable
  partitionKeys partitionStats{{numMaterialized}}
  assetMaterializations(limit: 1){EVENT}
  assetObservations(limit: 1){EVENT}
}}}}
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
      status
    }
  }
  logsForRun(runId: $run, afterCursor: $cursor, limit: 1000){
    ... on EventConnection{
      cursor
      events{
        __typename
        ... on MaterializationEvent{assetKey{path} partition}
        ... on ObservationEvent{assetKey{path}}
        ... on ExecutionStepFailureEvent{stepKey error{message cause{message}}}
        ... on RunFailureEvent{message}
      }
    }
  }
}
"""

STEPS = """
query($run: ID!){runOrError(runId: $run){... on Run{stepStats{stepKey startTime endTime}}}}
"""

BACKFILL = """
mutation($params: LaunchBackfillParams!){
  launchPartitionBackfill(backfillParams: $params){
    __typename ... on LaunchBackfillSuccess{backfillId} ... on PythonError{message}
  }
}
"""

BACKFILLED = """
query($id: String!){partitionBackfillOrError(backfillId: $id){... on PartitionBackfill{status runs{runId}}}}
"""

CHECKS = """
query($key: AssetKeyInput!){
  assetNodeOrError(assetKey: $key){... on AssetNode{
    assetChecksOrError{... on AssetChecks{checks{
      name
      executionForLatestMaterialization{runId evaluation{success severity timestamp description metadataEntries{label ... on JsonMetadataEntry{jsonString} ... on TextMetadataEntry{text}}}}
    }}}
  }}
}
"""

UNDER_WAY = """
{runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]}){... on Runs{results{runId}}}}
"""

INSTIGATORS = """
{repositoriesOrError{... on RepositoryConnection{nodes{
  schedules{name scheduleState{id status}} sensors{name sensorState{id status}}
}}}}
"""

STOP_SCHEDULE = """
mutation($id: String!){stopRunningSchedule(id: $id){__typename ... on PythonError{message}}}
"""

STOP_SENSOR = """
mutation($id: String!){stopSensor(id: $id){__typename ... on PythonError{message}}}
"""

START_SENSOR = """
mutation($selector: SensorSelector!){startSensor(sensorSelector: $selector){__typename ... on PythonError{message}}}
"""

BY_HAND = """
{runsOrError{... on Runs{results{runId tags{key}}}}}
"""
NOT_BY_HAND = {"dagster/schedule_name", "dagster/sensor_name", "dagster/from_automation_condition", "dagster/backfill"}

RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
FINAL = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass(frozen=True)
class Asset:
    """An asset as the UI shows it, with the numbers of its newest materialization, or observation where it is only observed."""

    key: str
    group: str
    kinds: frozenset[str]
    steps: tuple[str, ...]
    materializable: bool
    observable: bool
    days: tuple[str, ...]
    """The partitions, oldest first; none where it has no partitions."""
    days_made: int
    made_at: float | None
    """When it was last materialized (or observed), in seconds since the epoch; None if never."""
    run_id: str | None
    numbers: dict[str, float]

    @property
    def missing(self) -> bool:
        """Whether it, or one of its days, has never been made or looked at."""
        return self.made_at is None or self.days_made < len(self.days)


@dataclass(frozen=True)
class StepTime:
    step: str
    seconds: float


def assets(config: SandboxConfig) -> list[Asset]:
    return [_asset(node) for node in graphql(config, ASSETS)["assetNodes"]]


def launch(
    config: SandboxConfig,
    keys: list[str] | None = None,
    job: str = "__ASSET_JOB",
    days: tuple[str, str] | None = None,
    run_config: dict[str, Any] | None = None,
) -> str:
    """Launch one run of these assets, or of a whole job, and return its id.

    `days` (the first and the last, ISO) are what partitioned assets among them are made for. Raises RuntimeError with Dagster's reason if it refuses.
    """
    tags = dict(zip(RANGE_TAGS, days, strict=True)) if days else {}
    params = {
        "selector": {
            "repositoryName": "__repository__",
            "repositoryLocationName": LOCATION,
            "pipelineName": job,
            "assetSelection": [{"path": key.split("/")} for key in keys] if keys else None,
            "assetCheckSelection": None,
        },
        "mode": "default",
        "runConfigData": run_config or {},
        "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
    }
    answer = graphql(config, LAUNCH, {"params": params})["launchPipelineExecution"]
    if answer["__typename"] != "LaunchRunSuccess":
        reason = answer.get("message") or answer.get("errors") or answer["__typename"]
        raise RuntimeError(f"Dagster did not launch the run: {reason}")
    return answer["run"]["runId"]


def backfill(config: SandboxConfig, keys: list[str], days: list[str], timeout: float = 600) -> list[str]:
    """Rebuild these days of these assets, as the UI's launchpad does, and return the runs that it took.

    Raises RuntimeError where it is refused or fails, and TimeoutError.
    """
    params = {"assetSelection": [{"path": key.split("/")} for key in keys], "partitionNames": days}
    answer = graphql(config, BACKFILL, {"params": params})["launchPartitionBackfill"]
    if answer["__typename"] != "LaunchBackfillSuccess":
        raise RuntimeError(f"Dagster did not launch the backfill: {answer.get('message') or answer['__typename']}")
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        state = graphql(config, BACKFILLED, {"id": answer["backfillId"]})["partitionBackfillOrError"]
        if state["status"] == "COMPLETED_SUCCESS":
            return [run["runId"] for run in state["runs"]]
        if state["status"] not in {"REQUESTED", "COMPLETED"}:
            raise RuntimeError(f"the backfill {answer['backfillId']} ended as {state['status']}")
        time.sleep(1.0)
    raise TimeoutError(f"the backfill {answer['backfillId']} did not end within {timeout:.0f} s")


def checks(config: SandboxConfig, key: str) -> dict[str, dict[str, Any] | None]:
    """The newest evaluation of each check of an asset, by the check's name; None where it has none."""
    node = graphql(config, CHECKS, {"key": {"path": key.split("/")}})["assetNodeOrError"]
    return {
        check["name"]: (check["executionForLatestMaterialization"] or {}).get("evaluation")
        for check in node["assetChecksOrError"]["checks"]
    }


def partitions_made(config: SandboxConfig, run_id: str) -> dict[str, list[str]]:
    """The partitions that a run has materialized, in order, by asset."""
    made: dict[str, list[str]] = {}
    for _status, events in follow(config, run_id):
        for event in events:
            if event["__typename"] == "MaterializationEvent" and event["partition"]:
                made.setdefault("/".join(event["assetKey"]["path"]), []).append(event["partition"])
    return {key: sorted(days) for key, days in made.items()}


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
        time.sleep(1.0)
    raise TimeoutError(f"run {run_id} did not end within {timeout:.0f} s")


def switched_on(config: SandboxConfig) -> dict[str, bool]:
    """Every schedule and sensor, and whether it runs."""
    nodes = graphql(config, INSTIGATORS)["repositoriesOrError"]["nodes"]
    found = [one for node in nodes for one in [*node["schedules"], *node["sensors"]]]
    return {one["name"]: (one.get("scheduleState") or one["sensorState"])["status"] == "RUNNING" for one in found}


def stop_schedules(config: SandboxConfig) -> None:
    """Switch every schedule off, so that nothing runs but what is asked for, and what follows it.

    Raises RuntimeError where Dagster refuses.
    """
    for node in graphql(config, INSTIGATORS)["repositoriesOrError"]["nodes"]:
        for schedule in node["schedules"]:
            answer = graphql(config, STOP_SCHEDULE, {"id": schedule["scheduleState"]["id"]})["stopRunningSchedule"]
            if answer["__typename"] != "ScheduleStateResult":
                raise RuntimeError(f"{schedule['name']}: {answer}")


@contextmanager
def switched_off(config: SandboxConfig, sensor: str) -> Generator[None]:
    """A sensor that does nothing until the end of the block. Raises RuntimeError where Dagster refuses."""
    nodes = graphql(config, INSTIGATORS)["repositoriesOrError"]["nodes"]
    [id_] = [one["sensorState"]["id"] for node in nodes for one in node["sensors"] if one["name"] == sensor]
    stopped = graphql(config, STOP_SENSOR, {"id": id_})["stopSensor"]
    if stopped["__typename"] != "StopSensorMutationResult":
        raise RuntimeError(f"{sensor}: {stopped}")
    try:
        yield
    finally:
        selector = {"repositoryName": "__repository__", "repositoryLocationName": LOCATION, "sensorName": sensor}
        started = graphql(config, START_SENSOR, {"selector": selector})["startSensor"]
        if started["__typename"] != "Sensor":
            raise RuntimeError(f"{sensor}: {started}")


def launched_by_hand(config: SandboxConfig) -> set[str]:
    """The runs that neither a schedule nor a sensor nor a backfill has launched."""
    runs = graphql(config, BY_HAND)["runsOrError"]["results"]
    return {run["runId"] for run in runs if not NOT_BY_HAND & {tag["key"] for tag in run["tags"]}}


def step_times(config: SandboxConfig, run_id: str) -> list[StepTime]:
    steps = graphql(config, STEPS, {"run": run_id})["runOrError"]["stepStats"]
    return [StepTime(s["stepKey"], s["endTime"] - s["startTime"]) for s in steps if s["endTime"] and s["startTime"]]


def _asset(node: dict[str, Any]) -> Asset:
    events = node["assetObservations"] if node["isObservable"] else node["assetMaterializations"]
    newest = next(iter(events), None)
    numbers = {
        entry["label"]: entry.get("intValue", entry.get("floatValue"))
        for entry in (newest or {"metadataEntries": []})["metadataEntries"]
        if entry["__typename"] in {"IntMetadataEntry", "FloatMetadataEntry"}
    }
    return Asset(
        key="/".join(node["assetKey"]["path"]),
        group=node["groupName"],
        kinds=frozenset(node["kinds"]),
        steps=tuple(node["opNames"]),
        materializable=node["isMaterializable"],
        observable=node["isObservable"],
        days=tuple(node["partitionKeys"]),
        days_made=(node["partitionStats"] or {}).get("numMaterialized", 0),
        made_at=float(newest["timestamp"]) / 1000 if newest else None,
        run_id=newest["runId"] if newest else None,
        numbers={label: value for label, value in numbers.items() if value is not None},
    )
