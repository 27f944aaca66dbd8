"""Switches on the sensor that keeps @data-responder in step with the schedule."""

from orchestration.incidents.rota import data_responder_rota

__all__ = ["data_responder_rota"]
