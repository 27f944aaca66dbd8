"""The vendors' saved state in Cloud Storage, for machines that do not share a disk."""

from __future__ import annotations

import json
import logging

import dagster as dg
from google.api_core.exceptions import NotFound
from google.api_core.retry import Retry
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from orchestration.components.saved_state import Stamped, StateIncomplete, StateMissing, VendorState
from orchestration.settings import SettingsError, settings

FOLDER = "state/"
SECONDS = 30
RETRY = DEFAULT_RETRY.with_timeout(15)
"""Google's client would try for two minutes, while the other vendors' states wait to be told."""
LOAD_SECONDS = 5
"""How long a load of the code location waits for one state: it goes on with the one it has."""


class StateBucket:
    """The states in one bucket, each whole: an upload that breaks off leaves the one before it. Every call raises google.api_core's exceptions."""

    def __init__(self, project: str, name: str) -> None:
        self._bucket = storage.Client(project=project).bucket(name)

    @classmethod
    def configured(cls) -> StateBucket | None:
        """The bucket of the settings; None where there is none."""
        values = settings()
        return (
            cls(values.google_cloud_project, values.dataplatform_state_bucket)
            if values.dataplatform_state_bucket
            else None
        )

    @classmethod
    def required(cls) -> StateBucket:
        """The bucket of the settings. Raises SettingsError where there is none."""
        bucket = cls.configured()
        if bucket is None:
            raise SettingsError("DATAPLATFORM_STATE_BUCKET is not set: there is no bucket to take the state from.")
        return bucket

    def push(self, part: VendorState) -> None:
        blob = self._bucket.blob(FOLDER + part.state_name)
        blob.upload_from_filename(str(part.state_path()), content_type="application/json", timeout=SECONDS, retry=RETRY)

    def pull(self, part: VendorState, seconds: int = SECONDS, retry: Retry = RETRY) -> bool:
        """Take the state, where it is newer than the one here; return whether it was.

        Raises StateMissing where neither is there, and StateIncomplete where this version of the code makes no assets of it.
        """
        read_at = part.read_at()
        try:
            text = self._bucket.blob(FOLDER + part.state_name).download_as_bytes(timeout=seconds, retry=retry)
        except NotFound:
            if read_at is None:
                raise StateMissing(
                    f"There is no {FOLDER}{part.state_name} in the bucket yet: run `dataplatform refresh` once."
                ) from None
            return False
        stamped = Stamped.model_validate_json(text)
        if read_at is not None and stamped.read_at <= read_at:
            return False
        try:
            part.lineage(json.dumps(stamped.state))
        except (ValueError, KeyError, TypeError, dg.DagsterError) as error:
            raise StateIncomplete(
                f"{FOLDER}{part.state_name} in the bucket is of another version of this code, or broken: {error}"
            ) from error
        part.put(stamped)
        return True


def take_newer(part: VendorState) -> None:
    """Take a part's state from the bucket of the settings, where that is newer; where it cannot be had, the one here stays, with a warning.

    A code server that is told to load anew, and a run in a container of its own, have no other way to see what a refresh elsewhere has read.
    """
    try:
        StateBucket.required().pull(part, LOAD_SECONDS, DEFAULT_RETRY.with_timeout(LOAD_SECONDS))
    except Exception as error:  # whatever Google's client raises, and what is below it
        logging.getLogger(__name__).warning("%s was not taken from the bucket: %s", part.state_name, error)
