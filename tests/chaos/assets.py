"""Cheap assets of the chaos, for its code locations: they do what files order."""

from typing import Any

import dagster as dg

from tests.chaos import clocks, hostile, names
from tests.chaos.orders import Orders

ORDERS = Orders.of_environment()
# Before the run writes its first event.
clocks.follow_tag_of_run(ORDERS)


def obey(context: dg.AssetExecutionContext, key: str) -> None:
    """Do what was ordered for an asset.

    Raises:
        RuntimeError: The asset was ordered to fail.
        dagster.Failure: The asset was ordered to fail with a report that cannot be read.
    """
    order = ORDERS.obey(key, context.run.run_id)
    if order is None:
        return
    if order.do == "observe":
        context.log_event(dg.AssetObservation(key.split("/"), metadata=hostile.metadata(order.number)))
        return
    if order.do == "misreport":
        raise dg.Failure(order.error, hostile.metadata(order.number))
    raise RuntimeError(order.error)


def alone(key: str, *above: str, **options: Any) -> dg.AssetsDefinition:
    """Return an asset that this repository's components did not write."""

    @dg.asset(key=key.split("/"), deps=[dg.AssetKey(parent.split("/")) for parent in above], **options)
    def made(context: dg.AssetExecutionContext) -> None:
        obey(context, key)

    return made


def faulty_sensor(name: str, order_key: str, seconds: int = 5) -> dg.SensorDefinition:
    """Return a sensor that fails while that is ordered."""

    @dg.sensor(name=name, minimum_interval_seconds=seconds, default_status=dg.DefaultSensorStatus.RUNNING)
    def evaluate() -> dg.SkipReason:
        if order := ORDERS.read(order_key):
            raise RuntimeError(order.error)
        return dg.SkipReason("nothing to do")

    return evaluate


def is_defined(name: str) -> bool:
    """Return whether an asset or sensor is part of its code location, which may have been ordered otherwise."""
    return not ORDERS.has(names.removal(name))
