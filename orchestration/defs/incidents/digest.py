"""Switches on the morning's message of all warnings."""

import dagster as dg

from orchestration.incidents.digest import daily, warnings_digest
from orchestration.settings import settings


@dg.definitions
def digest() -> dg.Definitions:
    return dg.Definitions(jobs=[warnings_digest], schedules=[daily(settings())])
