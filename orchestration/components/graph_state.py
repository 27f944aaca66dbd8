"""The graph itself as an asset: what vendors run and who reads what, as of the last refresh."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, override

import dagster as dg
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin

from orchestration.components.graph_findings import findings
from orchestration.components.refresh import Line, components, refresh_all
from orchestration.components.saved_state import VendorState
from orchestration.lineage.consumers import KINDS, Finding

KEY = dg.AssetKey(["lineage", "state"])
READ, JOINED = "read", "joined"
LOADED = "loaded"
"""The metadata with the checksum of what the code server has loaded."""
RELOAD_SECONDS = 180


@dataclass
class GraphState(dg.Component, dg.Resolvable):
    """Refreshes the saved state of every vendor by a schedule, and loads the code location anew where the graph has changed."""

    owners: list[str] = field(default_factory=list[str])
    cron: str = "30 * * * *"
    fail_hours: float = 24
    """How old a state may become that cannot be read anew, before that is an error and no longer a warning."""

    @override
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        @dg.asset(
            key=KEY,
            group_name="lineage",
            owners=self.owners,
            kinds={"dagster"},
            description="What Fivetran, Hightouch, Omni, Explo and Hex run and read, which this graph is made of.",
            check_specs=[
                dg.AssetCheckSpec(READ, asset=KEY, description="Every vendor's state was read at the last refresh."),
                dg.AssetCheckSpec(JOINED, asset=KEY, description="What `dataplatform lineage check` finds."),
            ],
        )
        def state(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
            parts = components()
            vendors = [part for part in parts if isinstance(part, VendorState)]
            lines = refresh_all(vendors, lambda line: context.log.info(line.text), progress=context.log.info)
            loaded = now_loaded(lines, last_loaded(context.instance), checksum(vendors), lambda: _reload(context))
            yield dg.MaterializeResult(
                metadata=_metadata(lines) | ({LOADED: loaded} if loaded else {}),
                check_results=[
                    _read(lines, datetime.now(UTC), self.fail_hours),
                    _joined(findings(parts, context.repository_def.asset_graph)),
                ],
            )

        job = dg.define_asset_job("refresh_state", selection=[state], description="Reads every vendor anew.")
        schedule = dg.ScheduleDefinition(
            name="hourly_refresh_state",
            job=job,
            cron_schedule=self.cron,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Reads what every vendor runs, and loads the code location anew where something changed.",
        )
        return dg.Definitions(assets=[state], jobs=[job], schedules=[schedule])


def checksum(vendors: Collection[VendorState]) -> str:
    """Of the graph that the saved states make; another one where a code location has to be loaded anew to show it. Raises StateMissing."""
    described = {part.state_name: part.described() for part in vendors if part.stamped() is not None}
    return hashlib.sha256(repr(sorted(described.items())).encode()).hexdigest()


def last_loaded(instance: dg.DagsterInstance) -> str | None:
    """The checksum of the graph that a refresh has last had loaded, whoever has refreshed the states since."""
    event = instance.get_latest_materialization_event(KEY)
    made = event.asset_materialization if event else None
    value = made.metadata.get(LOADED) if made else None
    return value.value if isinstance(value, dg.TextMetadataValue) else None


def now_loaded(lines: Sequence[Line], before: str | None, now: str, reload: Callable[[], bool]) -> str | None:
    """Have a graph loaded that was not yet, and return the checksum of the one that is.

    A code server in another container has, of a state that the bucket did not take, the one before: it is asked again by the next refresh.
    """
    if now != before and reload() and not any(line.only_here for line in lines):
        return now
    return before


def _metadata(lines: Sequence[Line]) -> dict[str, Any]:
    new = [key for line in lines if line.refreshed for key in line.refreshed.new]
    gone = [key for line in lines if line.refreshed for key in line.refreshed.gone]
    return {
        "new": dg.MetadataValue.md("\n".join(f"- `{key}`" for key in new) or "none"),
        "gone": dg.MetadataValue.md("\n".join(f"- `{key}`" for key in gone) or "none"),
        **{line.name: line.text for line in lines},
    }


def _read(lines: Sequence[Line], now: datetime, fail_hours: float) -> dg.AssetCheckResult:
    failed = [line for line in lines if line.failed]
    old = [line for line in failed if line.read_at is None or now - line.read_at > timedelta(hours=fail_hours)]
    return dg.AssetCheckResult(
        check_name=READ,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if old else dg.AssetCheckSeverity.WARN,
        description="\n".join(line.text for line in failed) or "All were read.",
    )


def _joined(found: Sequence[Finding]) -> dg.AssetCheckResult:
    wrong = [finding for finding in found if finding.wrong]
    return dg.AssetCheckResult(
        check_name=JOINED,
        passed=not wrong,
        severity=dg.AssetCheckSeverity.WARN,
        description="\n".join(f"{finding.key}: {finding.why}" for finding in wrong[:20])
        or "Exposures and vendors agree.",
        metadata={kind: sum(finding.kind == kind for finding in found) for kind in KINDS},
    )


def _reload(context: dg.AssetExecutionContext) -> bool:
    """Have the code server that this run was launched from load its definitions anew, and return whether it has; one that has not goes on
    with those it has, and is asked again by the next refresh."""
    origin = context.run.remote_job_origin
    location = origin.repository_origin.code_location_origin if origin else None
    if not isinstance(location, GrpcServerCodeLocationOrigin):
        context.log.warning("The graph has changed: reload the code location to see it.")
        return False
    try:
        location.create_client().reload_code(timeout=RELOAD_SECONDS)
    except Exception as error:  # whatever gRPC raises: the state is read and saved
        context.log.warning(f"The graph has changed, but the code location was not reloaded: {error}")
        return False
    return True
