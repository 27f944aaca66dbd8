"""Cloud Storage: the bucket that the vendors' state is kept in."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, cast

from google.api_core.exceptions import NotFound
from google.cloud import storage

from orchestration.doctor.bigquery_checks import CALL_SECONDS, CREDENTIALS_CHECK, GOOGLE
from orchestration.doctor.google_errors import ERRORS, explained
from orchestration.doctor.model import Check, Outcome, failed, ok
from orchestration.settings import Settings

PERMISSIONS = ("storage.objects.get", "storage.objects.list", "storage.objects.create", "storage.objects.delete")
"""To write an object anew is to delete the one before it (https://cloud.google.com/storage/docs/access-control/iam-permissions)."""
FOLDER = "doctor/"
ADDRESS = "STORAGE_EMULATOR_HOST"
ROLE = "the role Storage Object User in the bucket of DATAPLATFORM_STATE_BUCKET"


def checks(values: Settings) -> Iterator[Check]:
    yield Check(
        "storage: bucket", lambda: _bucket(values), needs=(*GOOGLE, "storage_emulator_host"),
        wants=("dataplatform_state_bucket",), after=(CREDENTIALS_CHECK,),
    )  # fmt: skip


def _bucket(values: Settings) -> Outcome:
    client = storage.Client(project=values.google_cloud_project)
    bucket: Any = client.bucket(values.dataplatform_state_bucket)
    try:
        try:
            given = cast("list[str]", bucket.test_iam_permissions(PERMISSIONS, timeout=CALL_SECONDS, retry=None))
        except NotFound:
            # There is no such bucket, or the service knows no permissions: a small object tells which.
            return _written(bucket)
    except NotFound:
        return failed(
            f"there is no bucket {values.dataplatform_state_bucket}",
            "See DATAPLATFORM_STATE_BUCKET, or make it in the project of GOOGLE_CLOUD_PROJECT",
        )
    except ERRORS as error:
        return explained(error, ROLE, ADDRESS)
    return permitted(given)


def permitted(given: list[str]) -> Outcome:
    if lacking := [one for one in PERMISSIONS if one not in given]:
        return failed(f"{', '.join(lacking)} not permitted", f"Give this account {ROLE}")
    return ok("objects may be read, listed, written and deleted")


def _written(bucket: Any) -> Outcome:
    blob = bucket.blob(f"{FOLDER}{uuid.uuid4().hex}")
    blob.upload_from_string(b"well", timeout=CALL_SECONDS, retry=None)
    try:
        blob.download_as_bytes(timeout=CALL_SECONDS, retry=None)
    finally:
        blob.delete(timeout=CALL_SECONDS, retry=None)
    return ok("an object was written, read and deleted")
