"""The code location of `bench.alert_storm`: 2,000 assets of one step, which fail by one cause, by 50 or by 1,000."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from bench.storm_names import ONE_CAUSE, OWN_CAUSES, TABLES, THOUSAND_CAUSES
from orchestration.incidents.sensor import incident_alerts
from orchestration.lineage.failures import FailedUnit, to_metadata
from orchestration.lineage.graph import AUDIENCE_TAG
from tests.chaos.orders import Orders, words
from tests.chaos.storm_location import plain_failure_sensor

READ_BY_CUSTOMERS = TABLES[9::10]
"""Every tenth, so that customers' alerts are not the first by accident."""
ALIKE = 6
"""Units of one cause under `THOUSAND_CAUSES`: 200 causes have six units each, and 800 units have one of their own."""
ORDERS = Orders.of_environment()


def error_of(number: int) -> str:
    if ORDERS.has(ONE_CAUSE):
        return "the disk of the database is full"
    if ORDERS.has(OWN_CAUSES):
        return words(TABLES[number])
    return words(f"shared{number % 200}" if number < 200 * ALIKE else TABLES[number])


@dg.multi_asset(name="tables", can_subset=True, specs=[dg.AssetSpec(key.split("/")) for key in TABLES])
def tables(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
    selected = {key.to_user_string() for key in context.selected_asset_keys}
    if any(ORDERS.has(order) for order in (ONE_CAUSE, OWN_CAUSES, THOUSAND_CAUSES)):
        failed = [
            FailedUnit(f"unit/{key}", (key,), error_of(number)) for number, key in enumerate(TABLES) if key in selected
        ]
        raise dg.Failure(f"{len(failed)} failed", to_metadata(failed), allow_retries=False)
    for key in sorted(selected):
        yield dg.MaterializeResult(asset_key=key.split("/"))


board = dg.AssetSpec(
    ["explo", "board"], deps=[key.split("/") for key in READ_BY_CUSTOMERS], tags={AUDIENCE_TAG: "customer"}
)
defs = dg.Definitions(
    assets=[tables, board], sensors=[incident_alerts, plain_failure_sensor], executor=dg.in_process_executor
)
