"""Reads what every code location of the workspace defines: assets with their readers, checks, jobs, sensors and schedules.

A failure in another code location is judged by all of them together. Dagster's storage does not hold definitions, so they are read from
the code servers themselves, by the addresses in the workspace file and in Dagster's storage. That works wherever the daemon works, and
needs neither the webserver nor anything in the other code locations. Code servers answer in the background; a tick waits at most
`WAIT_SECONDS`, and uses the last answer where there is no new one. https://docs.dagster.io/deployment/code-locations/workspace-yaml
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import dagster as dg
from dagster._core.definitions.repository_definition import RepositoryDefinition
from dagster._core.remote_origin import CodeLocationOrigin, GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.remote_representation.external_data import RepositoryErrorSnap, RepositorySnap
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import ListRepositoriesResponse
from dagster._serdes import deserialize_value
from dagster_shared.error import SerializableErrorInfo

from orchestration.core.redaction import redact_line
from orchestration.incidents import backfills
from orchestration.incidents.instigators import LOCATION
from orchestration.lineage import runs
from orchestration.lineage.asset_graph import graph_of, graph_of_snapshots
from orchestration.lineage.graph import Graph, unite_graphs

WAIT_SECONDS = 2.0
"""Longest time that one tick waits for code servers."""
CHECK_SECONDS = 10.0
"""Time after which a code server is asked again whether it has been reloaded."""
SERVER_ID_SECONDS, CONTENT_SECONDS = 5, 60
"""Longest time that a code server has to say which process it is, and to describe its definitions; the ticks do not wait for so long."""
RUNS_LOOKED_AT = 50
"""Latest runs, which have the addresses of the code locations that launched them."""
WORKSPACE_FILE = "workspace.yaml"
NOT_A_SERVER = "it is not a gRPC code server with an address, so that it cannot be read from here"
NO_ANSWER_YET = "its code server has not answered yet"

Origins = Mapping[str, Sequence[CodeLocationOrigin]]
"""Code location to the addresses at which it was seen, the most reliable one first."""


class LocationError(Exception):
    """A code location that does not load, with the error of its code."""


@dataclass(frozen=True)
class Location:
    """The definitions of one code location."""

    name: str
    graph: Graph
    checks: frozenset[str] = frozenset()
    """Tokens of its asset checks."""
    jobs: frozenset[str] = frozenset()
    instigators: frozenset[tuple[str, str]] = frozenset()
    """Repository and name of each sensor and schedule."""
    partitions: Mapping[str, dg.PartitionsDefinition] = field(default_factory=dict[str, dg.PartitionsDefinition])
    """By asset, of those that have any."""
    fresh: frozenset[str] = frozenset()
    """Assets with a freshness policy."""
    steps: frozenset[str] = frozenset()
    """Names of the ops and graphs that make or observe assets, which their step keys begin with."""


@dataclass(frozen=True)
class Workspace:
    """All code locations that are known."""

    locations: Mapping[str, Location]
    """The definitions that were read last, by code location."""
    unread: Mapping[str, str] = field(default_factory=dict[str, str])
    """Code locations that cannot be read just now, each with the reason. `locations` may have what was read of one earlier."""
    listed: frozenset[str] | None = None
    """Code locations in the workspace file; None where there is no such file, so that only those seen in storage are known."""

    @property
    def is_complete(self) -> bool:
        """Return whether every code location could be read just now, so that what is in none of them is not defined at all.

        One that is in storage, does not answer, and is not in the workspace file is no longer part of the workspace.
        """
        return all(self.listed is not None and name not in self.listed for name in self.unread)

    @cached_property
    def graph(self) -> Graph:
        """The assets of all code locations, with those that could not be read as problems."""
        unread = [
            f"consumers in the code location `{name}`: {why}"
            for name, why in self.unread.items()
            if name not in self.locations and not (self.listed is not None and name not in self.listed)
        ]
        return unite_graphs((one.graph for one in self.locations.values()), unread)


def of_repository(repository: RepositoryDefinition, name: str = LOCATION) -> Location:
    """Return what the code location in this process defines."""
    assets = repository.asset_graph
    nodes = {key.to_user_string(): assets.get(key) for key in assets.get_all_asset_keys()}
    instigators = [one.name for one in (*repository.sensor_defs, *repository.schedule_defs)]
    return Location(
        name,
        graph_of(assets),
        frozenset(runs.check_token(key.asset_key.to_user_string(), key.name) for key in assets.asset_check_keys),
        frozenset(repository.job_names),
        frozenset((repository.name, one) for one in instigators),
        {key: node.partitions_def for key, node in nodes.items() if node.partitions_def is not None},
        frozenset(key for key, node in nodes.items() if node.freshness_policy is not None),
        frozenset(node.assets_def.node_def.name for node in nodes.values() if node.assets_def.is_executable),
    )


def of_snapshots(name: str, repositories: Sequence[RepositorySnap]) -> Location:
    """Return what a code location defines, as its code server describes its repositories."""
    nodes = [node for one in repositories for node in one.asset_nodes]
    checks = [check for one in repositories for check in one.asset_check_nodes or ()]
    return Location(
        name,
        unite_graphs(graph_of_snapshots(one.asset_nodes) for one in repositories),
        frozenset(runs.check_token(check.asset_key.to_user_string(), check.name) for check in checks),
        frozenset(
            job.name
            for one in repositories
            for job in (one.get_job_refs() if not one.has_job_data() else one.get_job_datas())
        ),
        frozenset((one.name, each.name) for one in repositories for each in (*one.sensors, *one.schedules)),
        {
            node.asset_key.to_user_string(): node.partitions.get_partitions_definition()
            for node in nodes
            if node.partitions is not None
        },
        frozenset(node.asset_key.to_user_string() for node in nodes if node.freshness_policy is not None),
        frozenset(
            name for node in nodes for name in (node.graph_name, node.op_name, node.node_definition_name) if name
        ),
    )


def find_origins(instance: dg.DagsterInstance) -> tuple[Origins, frozenset[str] | None]:
    """Return the addresses of all code locations, and the names of those in the workspace file, None where there is none.

    The file is `workspace.yaml` in the instance's folder or in DAGSTER_HOME. Without one (Dagster's Helm chart keeps it elsewhere), code
    locations are found by their sensors, schedules and latest runs.
    """
    in_file = _of_file(instance)
    found: dict[str, list[CodeLocationOrigin]] = {}
    in_runs = (
        run.remote_job_origin.repository_origin.code_location_origin
        for run in instance.get_runs(limit=RUNS_LOOKED_AT)
        if run.remote_job_origin
    )
    in_states = (state.origin.repository_origin.code_location_origin for state in instance.all_instigator_state())
    for origin in (*(in_file or ()), *in_runs, *in_states):
        known = found.setdefault(origin.location_name, [])
        if origin not in known:
            known.append(origin)
    return found, None if in_file is None else frozenset(origin.location_name for origin in in_file)


def _of_file(instance: dg.DagsterInstance) -> Sequence[CodeLocationOrigin] | None:
    home = os.environ.get("DAGSTER_HOME")
    for folder in (instance.root_directory, home):
        file = Path(folder) / WORKSPACE_FILE if folder else None
        if file and file.is_file():
            return WorkspaceFileTarget([str(file)]).create_origins()
    return None


@dataclass
class _Known:
    """The state of reading one code location. `server` is the address and the process that `content` is of."""

    content: Location | None = None
    server: tuple[str, str] | None = None
    problem: str | None = NO_ANSWER_YET
    reading: threading.Thread | None = None
    began: float = 0.0
    """When `reading` began, by the monotonic clock."""


class Reader:
    """Keeps what code locations define, and reads it again when a code server has been reloaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._listed: frozenset[str] | None = None
        self._names: frozenset[str] = frozenset()
        self._checked: float | None = None
        self._root: str | None = None
        self._own: tuple[object, Location] | None = None
        self._last: Workspace | None = None

    def read(
        self,
        instance: dg.DagsterInstance,
        repository: RepositoryDefinition,
        name: str = LOCATION,
        wait_seconds: float = WAIT_SECONDS,
    ) -> Workspace:
        """Return the workspace as it is known now. Waits for code servers at most `wait_seconds`, and raises no error of theirs.

        `repository` is that of this process, whose code location is called `name`.
        """
        own = self._of_own(repository, name)
        problem: str | None = None
        try:
            self._refresh_locations(instance, name, wait_seconds)
        except Exception as error:
            # Whoever wrote the workspace file or the storage's rows must not stop the alerts.
            problem = f"{type(error).__name__}: {redact_line(str(error))}"
        with self._lock:
            others = {one: known for one, known in self._known.items() if one != name and one in self._names}
            contents = {one: known.content for one, known in others.items() if known.content}
            unread = {one: known.problem for one, known in others.items() if known.problem}
        if problem:
            unread["workspace"] = problem
        found = Workspace({name: own, **contents}, unread, None if problem else self._listed)
        # The same object while nothing changes, so that a large graph is put together once.
        if self._last is None or _has_changed(self._last, found):
            self._last = found
        return self._last

    def _of_own(self, repository: RepositoryDefinition, name: str) -> Location:
        if self._own is None or self._own[0] is not repository or self._own[1].name != name:
            self._own = (repository, of_repository(repository, name))
        return self._own[1]

    def _refresh_locations(self, instance: dg.DagsterInstance, own: str, wait_seconds: float) -> None:
        now, root = time.monotonic(), instance.root_directory
        with self._lock:
            if root != self._root:
                self._root, self._checked, self._known = root, None, {}
            is_due = self._checked is None or now - self._checked >= CHECK_SECONDS
            if is_due:
                self._checked = now
        if is_due:
            self._start_reading(instance, own, now)
        with self._lock:
            reading = [(one.reading, one.began) for one in self._known.values() if one.reading]
        for thread, began in reading:
            # One that hangs is waited for once, and not at every tick.
            thread.join(max(0.0, began + wait_seconds - time.monotonic()))

    def _start_reading(self, instance: dg.DagsterInstance, own: str, now: float) -> None:
        """Begin to read all other code locations, but for those that are still being read."""
        origins, listed = find_origins(instance)
        with self._lock:
            self._listed, self._names = listed, frozenset(origins)
            for name, some in origins.items():
                known = self._known.setdefault(name, _Known())
                if name == own or (known.reading and known.reading.is_alive()):
                    continue
                known.began, known.reading = (
                    now,
                    threading.Thread(
                        target=self._read_location, args=(name, known, some), name=f"reads {name}", daemon=True
                    ),
                )
                known.reading.start()

    def _read_location(self, name: str, known: _Known, origins: Sequence[CodeLocationOrigin]) -> None:
        problems: list[str] = []
        for origin in origins:
            if not isinstance(origin, GrpcServerCodeLocationOrigin):
                problems.append(NOT_A_SERVER)
                continue
            try:
                server, content = _of_server(name, origin, known.server, known.content)
            except Exception as error:
                # Of the network, of the other location's code, or of another version of Dagster.
                problems.append(f"{type(error).__name__}: {redact_line(str(error).strip() or 'it gives no reason')}")
                continue
            with self._lock:
                known.server, known.content, known.problem = server, content, None
            return
        with self._lock:
            known.problem = problems[0] if problems else NOT_A_SERVER


def _has_changed(one: Workspace, other: Workspace) -> bool:
    if (one.unread, one.listed, one.locations.keys()) != (other.unread, other.listed, other.locations.keys()):
        return True
    return any(content is not other.locations[name] for name, content in one.locations.items())


def _of_server(
    name: str,
    origin: GrpcServerCodeLocationOrigin,
    server: tuple[str, str] | None,
    content: Location | None,
) -> tuple[tuple[str, str], Location]:
    """Return the process that answers, and what it defines: `content` where that is of the process `server` and this one still runs."""
    client = origin.create_client()
    found = (origin.get_id(), client.get_server_id(timeout=SERVER_ID_SECONDS))
    names = _read_repository_names(client)
    if content is not None and found == server:
        return found, content
    snapshots: list[RepositorySnap] = []
    for repository in names:
        answer = deserialize_value(
            client.external_repository(
                RemoteRepositoryOrigin(origin, repository), defer_snapshots=True, timeout=CONTENT_SECONDS
            ),
            (RepositorySnap, RepositoryErrorSnap),
        )
        if isinstance(answer, RepositoryErrorSnap):
            raise LocationError(backfills.words(answer.error))
        snapshots.append(answer)
    return found, of_snapshots(name, snapshots)


def _read_repository_names(client: DagsterGrpcClient) -> Iterable[str]:
    """Return the names of a code server's repositories. A server whose code did not load answers with the error."""
    answer = deserialize_value(client.list_repositories(), (ListRepositoriesResponse, SerializableErrorInfo))
    if isinstance(answer, SerializableErrorInfo):
        raise LocationError(backfills.words(answer))
    return [symbol.repository_name for symbol in answer.repository_symbols]


READER = Reader()
"""The reader of this process, which keeps what code servers have answered between ticks."""
