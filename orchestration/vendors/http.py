"""One HTTP client for every vendor: explicit timeouts, retries where a repeat is safe, and errors that a person can read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx
import stamina

from orchestration.core.redaction import redact

TIMEOUT = httpx.Timeout(30, connect=10)
ATTEMPTS = 5
LONGEST_WAIT = 60.0
"""Seconds. A vendor that asks for a longer wait than this is reported instead of waited for."""

# The vendor has not acted on these requests, so even one with an effect may be sent again.
NOT_STARTED = (429, 503)
SERVER_TROUBLE = (408, 429, 500, 502, 503, 504)


class VendorError(Exception):
    """A vendor did not do what was asked. The message names the vendor and the request, and carries its own words.

    `status` is the HTTP status, or None where no answer came. `retry_after` is in seconds. `started` says that the vendor
    may have acted on the request all the same.
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: float | None = None, started: bool = True
    ) -> None:
        # It is logged, stored and sent by many: none of them has to think of credentials and values.
        super().__init__(redact(message))
        self.status, self.retry_after, self.started = status, retry_after, started

    @property
    def permanent(self) -> bool:
        """Whether the same request gets the same answer until somebody has changed something."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in SERVER_TROUBLE


class VendorClient:
    """A vendor's JSON API below one address."""

    def __init__(
        self,
        vendor: str,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: httpx.BasicAuth | None = None,
        timeout: httpx.Timeout = TIMEOUT,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._vendor, self._attempts = vendor, attempts
        self._http = httpx.Client(
            base_url=base_url.rstrip("/") + "/", headers=dict(headers or {}), auth=auth, timeout=timeout
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: object = None,
        repeatable: bool = True,
    ) -> Any:
        """The decoded JSON of the answer; None for an empty one. Raises VendorError.

        A request that is not `repeatable` is sent again only where the vendor cannot have acted on it: the connection was
        refused, or it answered 429 or 503. Other 4xx answers are never retried.
        """

        def again(error: Exception) -> bool | float | timedelta:
            if not isinstance(error, VendorError):
                return False
            if (error.retry_after or 0) > LONGEST_WAIT:
                return False
            safe = (error.status is None or error.status in SERVER_TROUBLE) if repeatable else not error.started
            return (error.retry_after or True) if safe else False

        for attempt in stamina.retry_context(
            on=again, attempts=self._attempts, timeout=None, wait_initial=0.2, wait_max=10, wait_jitter=0.2
        ):
            with attempt:
                return self._once(method, path.lstrip("/"), params, body)
        raise AssertionError("stamina ends with a result or an error")

    def _once(self, method: str, path: str, params: Mapping[str, Any] | None, body: object) -> Any:
        what = f"{self._vendor}: {method} {self._http.base_url.join(path)}"
        try:
            answer = self._http.request(method, path, params=params, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise VendorError(f"{what} could not connect: {error or type(error).__name__}", started=False) from error
        except httpx.TransportError as error:
            raise VendorError(f"{what} got no answer: {error or type(error).__name__}") from error
        if answer.is_error:
            raise VendorError(
                f"{what} answered {answer.status_code}: {reason(answer)}",
                status=answer.status_code,
                retry_after=retry_after(answer.headers),
                started=answer.status_code not in NOT_STARTED,
            )
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError as error:
            # No status: a broken body is worth another try, as no answer is.
            raise VendorError(
                f"{what} answered {answer.status_code} with no valid JSON: {excerpt(answer.text)}"
            ) from error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from a `Retry-After` header of either form (RFC 9110, 10.2.3); None without a readable one."""
    value = headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        moment = parsedate_to_datetime(value)
    except (OverflowError, ValueError):
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def reason(answer: httpx.Response) -> str:
    """What a vendor says about an error: the message in its JSON, else the start of the text, without markup."""
    try:
        body = answer.json()
    except ValueError:
        return excerpt(answer.text)
    fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    message = fields.get("message") or fields.get("error") or fields.get("reason")
    return message if isinstance(message, str) else excerpt(json.dumps(body))


def excerpt(text: str, length: int = 300) -> str:
    """The first `length` characters of a text that is redacted, with tags and runs of blanks taken out."""
    plain = " ".join(re.sub(r"<[^>]*>", " ", redact(text)).split())
    return plain[:length] + ("…" if len(plain) > length else "") or "an empty body"
