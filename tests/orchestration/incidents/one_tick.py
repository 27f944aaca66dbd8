"""Evaluate the alert sensor once in a process of its own, as a code server does: `python -m tests.orchestration.incidents.one_tick CURSOR`.

The instance is that of DAGSTER_HOME, the settings are those of the environment. Prints the skip message of the tick.
"""

import sys

import dagster as dg

from orchestration.incidents.sensor import incident_alerts
from tests.orchestration.incidents.test_sensor import DEFS

if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        context = dg.build_sensor_context(instance, cursor=sys.argv[1], definitions=DEFS)
        print(incident_alerts.evaluate_tick(context).skip_message)
