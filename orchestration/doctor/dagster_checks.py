"""Dagster as people reach it: its UI, its daemons and its code location, by its GraphQL API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx

from orchestration.doctor.model import Check, Once, Outcome, failed, ok, warning
from orchestration.lineage.ages import age
from orchestration.settings import Settings
from orchestration.vendors.http import VendorClient, VendorError, excerpt

UI = "dagster: UI"
ALERTS = "incident_alerts"
TIMEOUT = httpx.Timeout(30, connect=5)
SILENT = timedelta(minutes=5)
"""A daemon beats every 30 s; Dagster itself calls one healthy for half an hour after its death."""
QUERY = """{
  version
  instance{daemonHealth{allDaemonStatuses{daemonType required lastHeartbeatTime lastHeartbeatErrors{message}}}}
  workspaceOrError{
    __typename
    ... on PythonError{message}
    ... on Workspace{locationEntries{name loadStatus locationOrLoadError{__typename ... on PythonError{message}
      ... on RepositoryLocation{repositories{sensors{name sensorState{status}}}}}}}
  }
}"""


def checks(values: Settings) -> Iterator[Check]:
    def ask() -> Mapping[str, Any]:
        client = VendorClient("Dagster", values.dagster_url, timeout=TIMEOUT)
        answer: object = client.request("POST", "graphql", body={"query": QUERY})
        data = cast("Mapping[str, Any]", answer).get("data") if isinstance(answer, dict) else None
        if not data:
            raise VendorError(f"Dagster: {values.dagster_url}/graphql answered {excerpt(str(cast(object, answer)))}")
        return data

    asked = Once(ask)

    def ui() -> Outcome:
        try:
            return ok(f"answers; Dagster {asked()['version']}")
        except VendorError as error:
            return failed(
                str(error), "See DATAPLATFORM_URL, that the webserver runs, and that no login is in front of it here"
            )

    def daemons() -> Outcome:
        return beating(asked()["instance"]["daemonHealth"]["allDaemonStatuses"], datetime.now(UTC))

    yield Check(UI, ui, needs=("dataplatform_url",))
    yield Check("dagster: daemons", daemons, after=(UI,))
    yield Check("dagster: code location", lambda: loaded(asked()["workspaceOrError"]), after=(UI,))
    yield Check("dagster: alert sensor", lambda: alerting(asked()["workspaceOrError"]), after=(UI,))


def beating(statuses: Sequence[Mapping[str, Any]], now: datetime) -> Outcome:
    """The daemons that the instance needs, by when each beat last (seconds since the epoch), and with which errors."""
    required = [one for one in statuses if one["required"]]
    silent, erring = list[str](), list[str]()
    for one in required:
        last = one["lastHeartbeatTime"]
        ago = now - datetime.fromtimestamp(last, UTC) if last else None
        if ago is None or ago > SILENT:
            silent.append(f"{one['daemonType']} {f'last beat {age(ago)} ago' if ago else 'has never beaten'}")
        elif errors := one["lastHeartbeatErrors"]:
            erring.append(f"{one['daemonType']}: {excerpt(errors[0]['message'], 120)}")
    if silent:
        return failed(
            "; ".join(silent),
            "Start the daemon (`dagster-daemon run`), or see its log: without it nothing runs by itself",
        )
    if erring:
        return warning("; ".join(erring), "See the daemon's log, and Deployment, Daemons in the UI")
    return ok(f"{len(required)} beat")


def alerting(workspace: Mapping[str, Any]) -> Outcome:
    """Return whether exactly one code location has the alert sensor switched on."""
    entries: Sequence[Mapping[str, Any]] = workspace.get("locationEntries") or ()
    found = [str(entry["name"]) for entry in entries if _alerts_are_on(entry["locationOrLoadError"] or {})]
    if not found:
        return failed(
            f"{ALERTS} is switched on in no code location",
            "Switch it on in the UI (Automation): without it there are no alerts",
        )
    if len(found) > 1:
        return warning(
            f"{ALERTS} is switched on in {', '.join(found)}; one of them sends the alerts, the others wait until it stops",
            f"Switch {ALERTS} and heartbeat off in all but one of them",
        )
    return ok(f"{ALERTS} is switched on in {found[0]}")


def _alerts_are_on(location: Mapping[str, Any]) -> bool:
    repositories: Sequence[Mapping[str, Any]] = location.get("repositories") or ()
    sensors = [cast("Mapping[str, Any]", sensor) for repository in repositories for sensor in repository["sensors"]]
    return any(one["name"] == ALERTS and one["sensorState"]["status"] == "RUNNING" for one in sensors)


def loaded(workspace: Mapping[str, Any]) -> Outcome:
    """What became of the code locations at their last load."""
    remedy = "Reload it in the UI (Deployment, Code locations), which shows the whole error"
    if workspace["__typename"] != "Workspace":
        return failed(excerpt(str(workspace.get("message") or workspace["__typename"])), remedy)
    entries: Sequence[Mapping[str, Any]] = workspace["locationEntries"]
    for entry in entries:
        found: Mapping[str, Any] = entry["locationOrLoadError"] or {}
        if found.get("__typename") == "PythonError":
            return failed(f"{entry['name']} does not load: {excerpt(found['message'])}", remedy)
    if not entries:
        return failed("there is none", "See the workspace file that the webserver was started with")
    if loading := [entry["name"] for entry in entries if entry["loadStatus"] != "LOADED"]:
        return warning(f"{', '.join(loading)} is still loading", "Look again in a minute")
    return ok(f"{', '.join(entry['name'] for entry in entries)} is loaded")
