"""The code location: everything below `defs/`."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from orchestration.defs_tree import load_tree, read_needs
from orchestration.incidents.fallback import warn_of_missing_channel
from orchestration.settings import check_settings


@dg.definitions
def defs() -> dg.Definitions:
    # Raises here, with the names of all that is missing, and not in the middle of a run.
    values = check_settings(read_needs(load_tree()))
    warn_of_missing_channel(values)
    # One process a run: most steps wait for a vendor or for BigQuery, and a process each takes seconds to start.
    return dg.Definitions.merge(
        dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
        dg.Definitions(executor=dg.in_process_executor),
    )
