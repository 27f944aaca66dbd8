"""Metadata under the platform's own key that is no failure report: any code in a Dagster instance may write metadata. Pure."""

from __future__ import annotations

import json
from typing import Any

from orchestration.lineage.failures import METADATA_KEY

UNIT: dict[str, Any] = {"unit": "unit/x", "asset_keys": ["back/x"], "error": "it failed"}
REPORTS: tuple[Any, ...] = (
    ["a", "b"],
    7,
    0.5,
    True,
    "not JSON",
    '{"unit": 7}',
    {"unit": "unit/x"},
    [None],
    [7],
    [UNIT | {"unit": 7}],
    [UNIT | {"unit": ""}],
    [UNIT | {"asset_keys": "back/x"}],
    [UNIT | {"asset_keys": [7]}],
    [UNIT | {"error": None}],
    [UNIT | {"vendor_url": 7}],
    [UNIT | {"permanent": "no"}],
    [UNIT, UNIT | {"awaits": [None]}],
    json.loads("[" * 200 + "]" * 200),
)
"""Values in place of a list of failed units. None of them can be read as one."""
TAGS = {"dagster/max_retries": "many", "dagster/retry_number": "x"}
"""Tags of a run that Dagster reads as numbers."""


def metadata(number: int) -> dict[str, Any]:
    """Return metadata with one of the reports; each number stands for one."""
    return {METADATA_KEY: REPORTS[number % len(REPORTS)]}
