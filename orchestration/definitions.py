"""The code location: everything below `defs/`."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from orchestration.incidents.fallback import warn_of_missing_channel
from orchestration.settings import settings


@dg.definitions
def defs() -> dg.Definitions:
    values = settings()  # raises here, with the names of what is missing, and not in the middle of a run
    warn_of_missing_channel(values)
    # One process a run: most steps wait for a vendor or for BigQuery, and a process each takes seconds to start.
    return dg.Definitions.merge(
        dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
        dg.Definitions(executor=dg.in_process_executor),
    )
