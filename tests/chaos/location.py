"""The code location of the chaos: cheap assets that do what files order, and the real sensors of alerts and of the heartbeat.

Customers read what begins with `shop/`, colleagues what begins with `back/`.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from orchestration.incidents.heartbeat import heartbeat
from orchestration.incidents.reconciliation_sensor import alert_reconciliation
from orchestration.incidents.sensor import incident_alerts
from orchestration.lineage.failures import FailedUnit, to_metadata
from orchestration.lineage.graph import AUDIENCE_TAG
from tests.chaos import names
from tests.chaos.assets import ORDERS, alone, faulty_sensor, obey

RETRIED = {"dagster/max_retries": "1", "dagster/retry_strategy": "FROM_ASSET_FAILURE"}


@dg.multi_asset(
    name="many",
    can_subset=True,
    specs=[dg.AssetSpec(key.split("/"), owners=["team:chaos"]) for key in names.MADE_TOGETHER],
)
def many(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
    """Reports what failed, as this repository's components do."""
    selected = sorted(key.to_user_string() for key in context.selected_asset_keys)
    failed: dict[str, FailedUnit] = {}
    for key in selected:
        if (order := ORDERS.obey(key, context.run.run_id)) is None:
            yield dg.MaterializeResult(asset_key=dg.AssetKey.from_user_string(key))
            continue
        unit = names.unit(key)
        keys = (*(failed[unit].asset_keys if unit in failed else ()), key)
        failed[unit] = FailedUnit(unit, keys, order.error, permanent=order.permanent)
        if order.permanent:
            context.log_event(dg.AssetObservation(key.split("/"), metadata=to_metadata([failed[unit]])))
            # The rest of the step goes on for as long as a test wants.
            ORDERS.obey(names.WAITING, context.run.run_id)
    if failed:
        raise dg.Failure(f"{len(failed)} failed", to_metadata(failed.values()), allow_retries=False)


def checked(key: str) -> dg.AssetsDefinition:
    """An asset with a check that blocks nothing, so that the run in which it fails succeeds."""

    @dg.asset(
        key=key.split("/"),
        check_specs=[
            dg.AssetCheckSpec(names.CHECK, asset=key.split("/")),
            dg.AssetCheckSpec(names.WARNING, asset=key.split("/")),
        ],
    )
    def made(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        obey(context, key)
        yield dg.MaterializeResult(
            check_results=[
                result(names.CHECK, dg.AssetCheckSeverity.ERROR),
                result(names.WARNING, dg.AssetCheckSeverity.WARN),
            ]
        )

    def result(check: str, severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
        order = ORDERS.read(names.order_of_check(key, check))
        return dg.AssetCheckResult(
            passed=order is None, check_name=check, severity=severity, description=order.error if order else None
        )

    return made


def chain(key: str) -> list[dg.AssetsDefinition]:
    root, middle, end = names.links(key)
    return [alone(root), alone(middle, root), alone(end, middle)]


@dg.multi_asset(
    name="forgetful",
    specs=[dg.AssetSpec(key.split("/")) for key in names.FORGOTTEN],
)
def forgetful(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
    """Makes what comes first, and then fails with no report: what was planned and is not there has failed."""
    for key in names.FORGOTTEN:
        obey(context, key)
        yield dg.MaterializeResult(asset_key=key.split("/"))


def notice(key: str) -> dg.AssetsDefinition:
    """Return an asset whose step may fail in a part that makes no asset, as a hook of dbt does."""

    @dg.multi_asset(name=key.rpartition("/")[2], specs=[dg.AssetSpec(key.split("/"))])
    def made(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        yield dg.MaterializeResult(asset_key=key.split("/"))
        if (order := ORDERS.obey(key, context.run.run_id)) is not None:
            failed = [FailedUnit(names.notice(key), (), order.error)]
            raise dg.Failure("a hook failed", to_metadata(failed), allow_retries=False)

    return made


def hook(name: str) -> dg.OpDefinition:
    """Return an op, which makes no asset."""

    @dg.op(name=name)
    def run_hook(context: dg.OpExecutionContext) -> None:
        if (order := ORDERS.obey(name, context.run.run_id)) is not None:
            raise RuntimeError(order.error)

    return run_hook


OPS = [hook(name) for name in (*names.HOOKS, names.UNRELATED_HOOK)]


@dg.job(name=names.HOOK_JOB)
def hooks() -> None:
    for op in OPS:
        op()


@dg.schedule(
    name=names.SCHEDULE,
    cron_schedule="* * * * *",
    target=[names.ALONE[0]],
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def faulty_schedule() -> dg.SkipReason:
    if order := ORDERS.read(names.SCHEDULE):
        raise RuntimeError(order.error)
    return dg.SkipReason("nothing to do")


FRESH = [
    alone(key, freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(seconds=names.FRESH_SECONDS)))
    for key in names.FRESH
]
MADE = [
    many,
    forgetful,
    *FRESH,
    *map(alone, (*names.ALONE, *names.BEHIND, *names.ODD, names.UNRELATED, *names.SHARED)),
    *map(notice, names.NOTICES),
    *map(checked, names.CHECKED),
    *(asset for key in names.CHAINS for asset in chain(key)),
    *(alone(key, pool="lane") for key in names.IN_LANE),
]
CONSUMERS = [
    dg.AssetSpec(
        [vendor, "board"],
        deps=[key for one in MADE for key in one.keys if key.path[0] == stage],
        tags={AUDIENCE_TAG: audience},
    )
    for vendor, stage, audience in (("explo", "shop", "customer"), ("hex", "back", "internal"))
]
CROSSING_CONSUMER = dg.AssetSpec(
    ["explo", "crossing_board"], deps=[key.split("/") for key in names.CROSSING], tags={AUDIENCE_TAG: "customer"}
)
JOBS = [hooks, dg.define_asset_job("retried", dg.AssetSelection.assets(*MADE), tags=RETRIED)]
if not ORDERS.has(names.GONE):
    # With the order it is not there: not when the code server has loaded, but when the run starts in a process of its own.
    JOBS.append(dg.define_asset_job(names.GONE, dg.AssetSelection.assets(names.ALONE[-1].split("/"))))

defs = dg.Definitions(
    assets=[*MADE, *CONSUMERS, CROSSING_CONSUMER],
    jobs=JOBS,
    sensors=[
        incident_alerts,
        alert_reconciliation,
        heartbeat(names.BEAT_SECONDS),
        faulty_sensor(names.SENSOR, names.SENSOR),
    ],
    schedules=[faulty_schedule],
    executor=dg.in_process_executor,
)
