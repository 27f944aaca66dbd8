"""incident.io over HTTP: how it asks to wait (https://docs.incident.io/api-reference/introduction).

An API key has 1,200 requests a minute, in a bucket that refills by 20 a second. A 429 carries the header `Retry-After` in seconds and
`rate_limit.retry_after` in its body. Until 2026 the documentation showed the body only, with a date in the form of that header.
"""

from __future__ import annotations

from datetime import UTC, datetime

import httpx

from orchestration.vendors.http import ATTEMPTS, LONGEST_WAIT, TIMEOUT, VendorClient, retry_after


class IncidentIoClient(VendorClient):
    """incident.io's JSON API. `longest_wait` bounds, in seconds, what a 429 may ask for before it is reported."""

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        timeout: httpx.Timeout = TIMEOUT,
        attempts: int = ATTEMPTS,
        longest_wait: float = LONGEST_WAIT,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        super().__init__(
            "incident.io", base_url, headers=headers, timeout=timeout, attempts=attempts, longest_wait=longest_wait
        )

    def _asked_wait(self, answer: httpx.Response) -> float | None:
        return asked_wait(answer)


def asked_wait(answer: httpx.Response) -> float | None:
    """Seconds that an answer asks to wait, from its header or its body; None where it does not say."""
    if (wait := retry_after(answer.headers)) is not None:
        return wait
    try:
        moment: object = answer.json()["rate_limit"]["retry_after"]
    except (KeyError, TypeError, ValueError):
        return None
    return _until(moment) if isinstance(moment, str) else None


def _until(moment: str) -> float | None:
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return retry_after({"retry-after": moment})
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
