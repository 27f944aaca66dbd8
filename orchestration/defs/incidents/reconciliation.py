"""Switches on the comparison of the alerts with incident.io's list, where alerts go to incident.io."""

import dagster as dg

from orchestration.incidents.reconciliation_sensor import alert_reconciliation
from orchestration.settings import settings


@dg.definitions
def reconciliation() -> dg.Definitions:
    return dg.Definitions(sensors=[alert_reconciliation] if settings().incident_io else [])
