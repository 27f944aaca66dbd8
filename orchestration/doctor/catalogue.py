"""Every check, in the order in which the lines come."""

from __future__ import annotations

from collections.abc import Sequence

from orchestration.doctor import (
    bigquery_checks,
    clock_checks,
    dagster_checks,
    incident_io_checks,
    landing_checks,
    message_checks,
    settings_checks,
    state_checks,
    storage_checks,
    vendor_checks,
)
from orchestration.doctor.model import Check
from orchestration.doctor.usage import Usage
from orchestration.settings import Problem, Settings


def all_checks(values: Settings, problems: Sequence[Problem], usage: Usage | None = None) -> list[Check]:
    """`values` are the settings as far as they can be read. Only local files are read here: which datasets there should be.

    Vendors that `usage` does not have are looked at only where they are configured; without it, all of them are.
    """
    states = state_checks.read(values.dataplatform_state_dir, usage.states if usage else None)
    return [
        *settings_checks.checks(values, problems, usage),
        *clock_checks.checks(values, usage),
        *state_checks.checks(values, states, usage),
        *landing_checks.checks(values, states),
        *bigquery_checks.checks(values, states.datasets, states.sources),
        *storage_checks.checks(values),
        *vendor_checks.checks(values, usage),
        *incident_io_checks.checks(values),
        *message_checks.checks(values),
        *dagster_checks.checks(values),
    ]
