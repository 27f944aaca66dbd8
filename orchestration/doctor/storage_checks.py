"""Cloud Storage: the bucket of the vendors' state, and production's dbt manifest in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, cast

from google.api_core.exceptions import NotFound
from google.cloud import storage

from orchestration.doctor.bigquery_checks import CALL_SECONDS, CREDENTIALS_CHECK, GOOGLE
from orchestration.doctor.google_errors import ERRORS, explained
from orchestration.doctor.model import Check, Outcome, failed, ok
from orchestration.lineage.ages import age
from orchestration.settings import Settings
from orchestration.vendors.dbt_manifests import DbtManifests, Published

PERMISSIONS = ("storage.objects.get", "storage.objects.list", "storage.objects.create", "storage.objects.delete")
"""To write an object anew is to delete the one before it (https://cloud.google.com/storage/docs/access-control/iam-permissions)."""
FOLDER = "doctor/"
ADDRESS = "STORAGE_EMULATOR_HOST"
ROLE = "the role Storage Object User in the bucket of DATAPLATFORM_STATE_BUCKET"


BUCKET_CHECK = "storage: bucket"


def checks(values: Settings) -> Iterator[Check]:
    needs, wants = (*GOOGLE, "storage_emulator_host"), ("dataplatform_state_bucket",)
    yield Check(BUCKET_CHECK, lambda: _bucket(values), needs, wants, (CREDENTIALS_CHECK,))
    yield Check("dbt: production's manifest", lambda: _published(values), needs, wants, (BUCKET_CHECK,))


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


def _published(values: Settings) -> Outcome:
    manifests = DbtManifests.of(values.google_cloud_project, values.dataplatform_state_bucket or "")
    try:
        return published(manifests.latest(), version("dbt-core"), datetime.now(UTC))
    except ERRORS as error:
        return explained(error, ROLE, ADDRESS)


def published(latest: Published | None, installed: str, now: datetime) -> Outcome:
    """What the newest deploy has left, by the version of dbt that is installed here."""
    if latest is None:
        return failed(
            "none was published", "Run `dataplatform dbt publish`, and see whether the sensor `deployed` is on"
        )
    found = f"of commit {latest.commit[:12]}, deployed {age(now - latest.deployed_at)} ago by dbt {latest.dbt_version}"
    if latest.dbt_version.split(".")[:2] != installed.split(".")[:2]:
        return failed(f"{found}, and {installed} is installed", "Run `make install` at the commit that was deployed")
    return ok(found)


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
