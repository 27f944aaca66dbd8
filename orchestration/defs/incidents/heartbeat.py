"""Switches on the heartbeat."""

from orchestration.incidents.heartbeat import heartbeat as made
from orchestration.settings import settings

__all__ = ["heartbeat"]

heartbeat = made(settings().incident_io_heartbeat_seconds)
