"""Switches on the alerts."""

from orchestration.incidents.sensor import incident_alerts

__all__ = ["incident_alerts"]
