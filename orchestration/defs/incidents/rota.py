"""Switches on the sensor that keeps @data-responder in step with incident.io's schedule.

Without incident.io there is no schedule to follow: people change the members of the user group in Slack.
"""

import dagster as dg

from orchestration.incidents.rota import data_responder_rota
from orchestration.settings import settings


@dg.definitions
def rota() -> dg.Definitions:
    return dg.Definitions(sensors=[data_responder_rota] if settings().incident_io else [])
