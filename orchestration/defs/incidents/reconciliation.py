"""Switches on the comparison of the alerts with incident.io's list."""

from orchestration.incidents.reconciliation_sensor import alert_reconciliation

__all__ = ["alert_reconciliation"]
