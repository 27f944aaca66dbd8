"""Map exceptions of the platform's own calls to causes that lie in the platform itself. Pure.

Only the type and the typed fields of an exception count, never its text: a vendor quotes its sources and destinations there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import requests
from google.api_core.exceptions import (
    BadGateway,
    GatewayTimeout,
    GoogleAPICallError,
    RetryError,
    ServiceUnavailable,
    Unauthorized,
)
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from orchestration.core.causes import CREDENTIALS, UNREACHABLE, Cause
from orchestration.vendors.http import VendorError
from orchestration.vendors.waiting import SyncFailed

REFUSED = {401, 403}
QUOTA = {"quotaExceeded", "rateLimitExceeded", "jobRateLimitExceeded"}
"""Reasons of BigQuery's errors (https://cloud.google.com/bigquery/docs/error-messages)."""


def platform_cause(error: BaseException | None) -> Cause | None:
    """Return what is wrong with the platform by an exception that a call of its own raised; None where it is about something else.

    Args:
        error: What a client of `orchestration.vendors` raised, or the SyncFailed that a component made of it. An exception of a
            team's own step must not be given: its Google client, say, may be one of another project.
    """
    if isinstance(error, SyncFailed):
        return error.cause
    if isinstance(error, VendorError):
        return _of_vendor(error)
    return bigquery_cause(error)


def bigquery_cause(error: BaseException | None) -> Cause | None:
    """Return what is wrong with BigQuery by an exception of one of the platform's own BigQuery clients; None for other errors."""
    if isinstance(error, RetryError):
        # It was tried until the time was up: by what the last try met.
        return bigquery_cause(cast("BaseException | None", error.cause))
    if isinstance(error, Unauthorized | DefaultCredentialsError | RefreshError):
        return "bigquery-credentials"
    if isinstance(error, GoogleAPICallError) and _read_reasons(error) & QUOTA:
        return "bigquery-quota"
    # A 500 is about one job (BigQuery's reasons `backendError` and `internalError`).
    if isinstance(error, BadGateway | ServiceUnavailable | GatewayTimeout | TransportError):
        return "bigquery-unreachable"
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return "bigquery-unreachable"
    return None


def _of_vendor(error: VendorError) -> Cause | None:
    vendor = error.vendor or ""
    if error.status in REFUSED:
        return CREDENTIALS.get(vendor)
    if not error.reached or (error.status is not None and error.status >= 500):
        return UNREACHABLE.get(vendor)
    return None


def _read_reasons(error: GoogleAPICallError) -> set[str]:
    details = cast("list[object]", error.errors)
    return {str(cast("Mapping[str, Any]", one).get("reason")) for one in details if isinstance(one, Mapping)}
