"""Switches on the heartbeat, which incident.io alone listens to."""

import dagster as dg

from orchestration.incidents.heartbeat import heartbeat as build_sensor
from orchestration.settings import settings


@dg.definitions
def heartbeat() -> dg.Definitions:
    values = settings()
    return dg.Definitions(sensors=[build_sensor(values.incident_io_heartbeat_seconds)] if values.incident_io else [])
