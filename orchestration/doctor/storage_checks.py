"""Cloud Storage: the bucket of the vendors' state, production's dbt manifest in it, and the bucket of the compute logs."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
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
from orchestration.vendors.dbt_manifests import DbtManifests, ManifestInvalid, Published

OBJECTS = ("storage.objects.get", "storage.objects.list", "storage.objects.create", "storage.objects.delete")
"""To write an object anew is to delete the one before it (https://cloud.google.com/storage/docs/access-control/iam-permissions)."""
FOLDER, STATES_FOLDER = "doctor/", "state/"
ADDRESS = "STORAGE_EMULATOR_HOST"
BUCKET_CHECK = "storage: bucket"


@dataclass(frozen=True)
class Bucket:
    """A bucket that a setting names, and what this account has to be permitted there."""

    setting: str
    name: str | None
    permissions: tuple[str, ...] = OBJECTS
    roles: str = "the role Storage Object User"

    @property
    def role(self) -> str:
        return f"{self.roles} in the bucket of {self.setting}"

    def permitted(self, given: Collection[str]) -> Outcome:
        if lacking := [one for one in self.permissions if one not in given]:
            return failed(f"{', '.join(lacking)} not permitted", f"Give this account {self.role}")
        return ok("objects may be read, listed, written and deleted")


def state_bucket(values: Settings) -> Bucket:
    return Bucket("DATAPLATFORM_STATE_BUCKET", values.dataplatform_state_bucket)


def compute_logs_bucket(values: Settings) -> Bucket:
    """Dagster asks whether it exists, which is more than to use its objects."""
    roles = "the roles Storage Object User and Storage Legacy Bucket Reader"
    return Bucket(
        "DAGSTER_COMPUTE_LOGS_BUCKET", values.dagster_compute_logs_bucket, (*OBJECTS, "storage.buckets.get"), roles
    )


def checks(values: Settings) -> Iterator[Check]:
    needs, wants = (*GOOGLE, "storage_emulator_host"), ("dataplatform_state_bucket",)
    yield Check(BUCKET_CHECK, lambda: _bucket(values, state_bucket(values)), needs, wants, (CREDENTIALS_CHECK,))
    logs = ("dagster_compute_logs_bucket",)
    yield Check(
        "storage: compute logs", lambda: _bucket(values, compute_logs_bucket(values)), needs, logs, (CREDENTIALS_CHECK,)
    )
    yield Check("dbt: production's manifest", lambda: _published(values), needs, wants, (BUCKET_CHECK,))


def _bucket(values: Settings, wanted: Bucket) -> Outcome:
    client = storage.Client(project=values.google_cloud_project)
    bucket: Any = client.bucket(wanted.name)
    try:
        try:
            given = cast("list[str]", bucket.test_iam_permissions(wanted.permissions, timeout=CALL_SECONDS, retry=None))
        except NotFound:
            # There is no such bucket, or the service knows no permissions: a small object tells which.
            return _written(bucket)
    except NotFound:
        return failed(
            f"there is no bucket {wanted.name}",
            f"See {wanted.setting}, or make it in the project of GOOGLE_CLOUD_PROJECT",
        )
    except ERRORS as error:
        return explained(error, wanted.role, ADDRESS)
    return wanted.permitted(given)


def kept_at(values: Settings, state: str) -> datetime | None:
    """When the bucket was last given a vendor's state; None where it has none. Raises what `ERRORS` has."""
    bucket: Any = storage.Client(project=values.google_cloud_project).bucket(values.dataplatform_state_bucket)
    blob = bucket.get_blob(f"{STATES_FOLDER}{state}", timeout=CALL_SECONDS, retry=None)
    return blob.updated if blob else None


def _published(values: Settings) -> Outcome:
    manifests = DbtManifests.of(values.google_cloud_project, values.dataplatform_state_bucket or "")
    try:
        return published(manifests.latest(), version("dbt-core"), datetime.now(UTC))
    except ManifestInvalid as error:
        return failed(str(error), "Run `dataplatform dbt publish`")
    except ERRORS as error:
        return explained(error, state_bucket(values).role, ADDRESS)


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


def _written(bucket: Any) -> Outcome:
    blob = bucket.blob(f"{FOLDER}{uuid.uuid4().hex}")
    blob.upload_from_string(b"well", timeout=CALL_SECONDS, retry=None)
    try:
        blob.download_as_bytes(timeout=CALL_SECONDS, retry=None)
    finally:
        blob.delete(timeout=CALL_SECONDS, retry=None)
    return ok("an object was written, read and deleted")
