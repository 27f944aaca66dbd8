"""Switches on the morning's message of all warnings."""

from orchestration.incidents.digest import daily, warnings_digest
from orchestration.settings import settings

__all__ = ["daily_warnings_digest", "warnings_digest"]

daily_warnings_digest = daily(settings())
