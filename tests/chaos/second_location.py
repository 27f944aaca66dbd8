"""A second code location in the same workspace, of another team: with a sensor of a name that the first one has, too.

An order lets it not load at all; others remove assets and sensors, as a deployment does.
"""

import dagster as dg

from orchestration.lineage.graph import AUDIENCE_TAG
from tests.chaos import names
from tests.chaos.assets import ORDERS, alone, faulty_sensor, is_defined

if ORDERS.has(names.BROKEN_LOCATION):
    raise RuntimeError("the second code location does not load: that was ordered")

ASSETS = [alone(key) for key in (*names.SECOND, *names.CROSSING, *filter(is_defined, names.REMOVABLE))]
CONSUMERS = [
    dg.AssetSpec(
        [vendor, "second_board"],
        deps=[key for one in ASSETS for key in one.keys if key.path[0] == stage and one.key.path[-1][:8] != "crossing"],
        tags={AUDIENCE_TAG: audience},
    )
    for vendor, stage, audience in (("explo", "shop", "customer"), ("hex", "back", "internal"))
]
SHARED_CONSUMER = dg.AssetSpec(
    ["explo", "shared_board"], deps=[key.split("/") for key in names.SHARED], tags={AUDIENCE_TAG: "customer"}
)

defs = dg.Definitions(
    assets=[*ASSETS, *CONSUMERS, SHARED_CONSUMER],
    sensors=[
        faulty_sensor(names.SENSOR, names.SECOND_SENSOR),
        *(faulty_sensor(name, name, 10) for name in names.REMOVABLE_SENSORS if is_defined(name)),
    ],
    executor=dg.in_process_executor,
)
