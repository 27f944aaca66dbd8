"""The code location of the storm: 500 assets that customers read, made by one step, which fail together or each for a reason of its own."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from orchestration.incidents.sensor import incident_alerts
from orchestration.lineage.failures import FailedUnit, to_metadata
from orchestration.lineage.graph import AUDIENCE_TAG
from tests.chaos.names import APART, TABLES, TOGETHER
from tests.chaos.orders import Orders, words

DOWN = "503 POST https://bigquery.googleapis.com/bigquery/v2/projects/acme/jobs: {key}: could not connect"
ORDERS = Orders.of_environment()


@dg.multi_asset(name="tables", can_subset=True, specs=[dg.AssetSpec(key.split("/")) for key in TABLES])
def tables(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
    keys = sorted(key.to_user_string() for key in context.selected_asset_keys)
    together, apart = ORDERS.has(TOGETHER), ORDERS.has(APART)
    if together or apart:
        errors = {key: DOWN.format(key=key) if together else words(key) for key in keys}
        failed = [FailedUnit(f"unit/{key}", (key,), error) for key, error in errors.items()]
        raise dg.Failure(f"{len(failed)} failed", to_metadata(failed), allow_retries=False)
    for key in keys:
        yield dg.MaterializeResult(asset_key=key.split("/"))


@dg.run_failure_sensor(
    name="plain_failure_sensor", default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=1
)
def plain_failure_sensor(context: dg.RunFailureSensorContext) -> None:
    """What everybody has, to compare with: it says that a run has failed."""
    context.log.info(f"{context.dagster_run.run_id} failed: {context.failure_event.message}")


board = dg.AssetSpec(["explo", "board"], deps=[key.split("/") for key in TABLES], tags={AUDIENCE_TAG: "customer"})
defs = dg.Definitions(
    assets=[tables, board], sensors=[incident_alerts, plain_failure_sensor], executor=dg.in_process_executor
)
