"""One HTTP client for every vendor: explicit timeouts, retries where a repeat is safe, and errors that a person can read."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx
import stamina

from orchestration.core.redaction import redact
from orchestration.vendors.pace import Pace

TIMEOUT = httpx.Timeout(30, connect=10)
ATTEMPTS = 5
LONGEST_WAIT = 60.0
"""Seconds. A vendor that asks for a longer wait than this is reported instead of waited for."""
PATIENCE_SECONDS = 300.0
"""How long one request waits in total for a rate limit to pass, for a vendor whose limit has a known window."""
TOO_MANY = 429
log = logging.getLogger(__name__)

# The vendor has not acted on these requests, so even one with an effect may be sent again.
NOT_STARTED = (429, 503)
SERVER_TROUBLE = (408, 429, 500, 502, 503, 504)


class VendorError(Exception):
    """A vendor did not do what was asked. The message names the vendor and the request, and carries its own words.

    `vendor` is the client's name of the vendor. `status` is the HTTP status, or None where no answer came or the answer was not
    as documented. `retry_after` is in seconds. `started` says that the vendor may have acted on the request all the same.
    `reached` is false where no answer came.

    The message is shown as it is: names of settings and objects in it stay. What others have written is redacted where it
    enters the message, by `reason`, `excerpt` or `describe_error`.
    """

    def __init__(
        self,
        message: str,
        *,
        vendor: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        started: bool = True,
        reached: bool = True,
    ) -> None:
        super().__init__(message)
        self.vendor, self.status, self.retry_after = vendor, status, retry_after
        self.started, self.reached = started, reached

    @property
    def permanent(self) -> bool:
        """Whether the same request gets the same answer until somebody has changed something."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in SERVER_TROUBLE


class VendorClient:
    """A vendor's JSON API below one address.

    Args:
        pace: How fast requests are sent; None for as fast as they come.
        window_seconds: How long the vendor's rate limit lasts. A 429 is then waited for: as long as its `Retry-After` says, or for
            one window where it has none. None makes a 429 one of the `attempts`.
        patience_seconds: How long one request waits for rate limits in total before its 429 is raised.
    """

    def __init__(
        self,
        vendor: str,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: httpx.BasicAuth | None = None,
        timeout: httpx.Timeout = TIMEOUT,
        attempts: int = ATTEMPTS,
        longest_wait: float = LONGEST_WAIT,
        pace: Pace | None = None,
        window_seconds: float | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._vendor, self._attempts, self._longest_wait = vendor, attempts, longest_wait
        self._pace, self._window, self._patience, self._sleep = pace, window_seconds, patience_seconds, sleep
        self._http = httpx.Client(
            base_url=base_url.rstrip("/") + "/", headers=dict(headers or {}), auth=auth, timeout=timeout
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        repeatable: bool = True,
        patience_seconds: float | None = None,
    ) -> Any:
        """The decoded JSON of the answer; None for an empty one. Raises VendorError.

        A request that is not `repeatable` is sent again only where the vendor cannot have acted on it: the connection was
        refused, or it answered 429 or 503. Other 4xx answers are never retried.
        """
        patience = self._patience if patience_seconds is None else patience_seconds
        while True:
            try:
                return self._retried(method, path, params, headers, body, repeatable)
            except VendorError as error:
                if self._window is None or error.status != TOO_MANY:
                    raise
                pause = max(1.0, self._window if error.retry_after is None else error.retry_after)
                if pause > patience:
                    raise
                patience -= pause
                log.warning("%s Sending it again in %.0f s", error, pause)
            self._sleep(pause)

    def _retried(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        body: object,
        repeatable: bool,
    ) -> Any:
        def again(error: Exception) -> bool | float | timedelta:
            if not isinstance(error, VendorError):
                return False
            if self._window is not None and error.status == TOO_MANY:
                return False
            if (error.retry_after or 0) > self._longest_wait:
                return False
            safe = (error.status is None or error.status in SERVER_TROUBLE) if repeatable else not error.started
            return (error.retry_after or True) if safe else False

        for attempt in stamina.retry_context(
            on=again, attempts=self._attempts, timeout=None, wait_initial=0.2, wait_max=10, wait_jitter=0.2
        ):
            with attempt:
                return self._once(method, path.lstrip("/"), params, headers, body)
        raise AssertionError("stamina ends with a result or an error")

    def _once(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        body: object,
    ) -> Any:
        what = f"{self._vendor}: {method} {self._http.base_url.join(path)}"
        if self._pace is not None:
            self._pace.wait()
        try:
            answer = self._http.request(method, path, params=params, headers=headers, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise VendorError(
                f"{what} could not connect: {describe_error(error)}", vendor=self._vendor, started=False, reached=False
            ) from error
        except httpx.TransportError as error:
            raise VendorError(
                f"{what} got no answer: {describe_error(error)}", vendor=self._vendor, reached=False
            ) from error
        if answer.is_error:
            raise VendorError(
                f"{what} answered {answer.status_code}: {reason(answer)}",
                vendor=self._vendor,
                status=answer.status_code,
                retry_after=self._asked_wait(answer),
                started=answer.status_code not in NOT_STARTED,
            )
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError as error:
            # No status: a broken body is worth another try, as no answer is.
            raise VendorError(
                f"{what} answered {answer.status_code} with no valid JSON: {excerpt(answer.text)}", vendor=self._vendor
            ) from error

    def _asked_wait(self, answer: httpx.Response) -> float | None:
        """Seconds that an answer asks to wait. A vendor that says it elsewhere has its own."""
        return retry_after(answer.headers)


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
    message = fields.get("message") or fields.get("error") or fields.get("reason") or fields.get("detail")
    return redact(message) if isinstance(message, str) else excerpt(json.dumps(body))


def describe_error(error: object) -> str:
    """Return the redacted text of an error that is not this project's, or its kind where it has no text."""
    return redact(str(error)) or type(error).__name__


def excerpt(text: str, length: int = 300) -> str:
    """The first `length` characters of a text that is redacted, with tags and runs of blanks taken out."""
    plain = " ".join(re.sub(r"<[^>]*>", " ", redact(text)).split())
    return plain[:length] + ("…" if len(plain) > length else "") or "an empty body"
