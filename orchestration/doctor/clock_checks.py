"""This machine's clock against a vendor's: schedules and on-call hours are read off it, and Google refuses tokens of a clock that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from orchestration.doctor.model import Check, Outcome, failed, ok, skipped, warning
from orchestration.doctor.usage import Usage, find_unused
from orchestration.settings import FivetranSettings, HexSettings, OmniSettings, Settings

ASKED = (("fivetran_api_url", FivetranSettings), ("hex_api_url", HexSettings), ("omni_api_url", OmniSettings))
"""Asked in this order after incident.io, and before Slack. Whoever answers first is believed."""
TIMEOUT = httpx.Timeout(2)
SECOND = timedelta(seconds=1)
WARN, FAIL = timedelta(seconds=30), timedelta(minutes=5)
REMEDY = "Set it by NTP (`timedatectl set-ntp true`, or the host's)"


def checks(values: Settings, usage: Usage | None = None) -> Iterator[Check]:
    """Vendors that are not used are not asked; `usage` as in `catalogue.all_checks`."""
    found = [values.incident_io_api_url] if values.incident_io_api_key else []
    found += [getattr(values, name) for name, vendor in ASKED if find_unused(values, usage, vendor) is None]
    found += [values.slack_api_url] if values.slack_bot_token else []
    # Those that are malformed are None: any one that is there will do.
    urls = [str(url) for url in found if url]
    yield Check("clock", lambda: _clock(urls))


def _clock(urls: Sequence[str]) -> Outcome:
    for url in urls:
        before = datetime.now(UTC)
        try:
            # Without credentials: every answer has a date, a refusal too.
            answer = httpx.get(url, timeout=TIMEOUT)
            theirs = parsedate_to_datetime(answer.headers.get("date", ""))
        except (httpx.HTTPError, ValueError):
            continue
        return off(before, datetime.now(UTC), theirs.replace(tzinfo=theirs.tzinfo or UTC), httpx.URL(url).host)
    return skipped("no vendor answered with a time")


def off(before: datetime, after: datetime, theirs: datetime, host: str) -> Outcome:
    """`theirs` was written between `before` and `after`, to the second below (RFC 9110, 6.6.1)."""
    # By how much it is off at least, whenever in between that was.
    behind, ahead = theirs - after, before - (theirs + SECOND)
    by = max(behind, ahead, timedelta())
    word = "behind" if behind > ahead else "ahead of"
    found = f"{by.total_seconds():.0f} s {word} {host}"
    if by > FAIL:
        return failed(found, REMEDY)
    return warning(found, REMEDY) if by > WARN else ok(f"agrees with {host}")
