"""What Google's clients raise, in words, with what to do about it."""

from __future__ import annotations

from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound, RetryError, Unauthorized
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError, TransportError

from orchestration.doctor.model import Outcome, failed
from orchestration.vendors.http import excerpt

# A connection that breaks is one of requests', all of which are OSErrors.
ERRORS = (GoogleAPICallError, GoogleAuthError, RetryError, OSError)
CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS: a service account's key file; or this machine's own identity"


def explained(error: Exception, permission: str, address: str) -> Outcome:
    """`permission` is what a refusal lacks, with where it is given; `address` the variable of where the service is."""
    said = excerpt(str(error)) or type(error).__name__
    match error:
        case Unauthorized() | RefreshError():
            return failed(f"the credentials are refused: {said}", f"Make a new key, or log in anew. {CREDENTIALS}")
        case DefaultCredentialsError():
            return failed(f"there are no credentials: {said}", f"Set {CREDENTIALS}")
        case Forbidden():
            return failed(f"not permitted: {said}", f"Give this account {permission}")
        case NotFound():
            return failed(f"not found: {said}", "See GOOGLE_CLOUD_PROJECT, and BIGQUERY_RAW_PROJECT where it is set")
        case TransportError() | OSError() | RetryError():
            return failed(f"could not connect: {said}", f"See whether this machine may connect there, and {address}")
        case _:
            return failed(said, "See https://status.cloud.google.com, and try again")
