"""The vendors' saved state in Cloud Storage, for machines that do not share a disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import WeakSet

import dagster as dg
from google.api_core.exceptions import NotFound
from google.api_core.retry import Retry
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from orchestration.components.saved_state import (
    Candidate,
    Refreshed,
    Stamped,
    StateIncomplete,
    StateMissing,
    StateRefused,
    VendorState,
    explain,
)
from orchestration.components.state_files import open_staging
from orchestration.settings import SettingsError, settings

FOLDER = "state/"
PROOF = f"{FOLDER}proven.txt"
"""The object with the fingerprint of the code location that the last refresh has built (`state_fingerprint`): whoever takes the same
states, with the same code and settings, has nothing to prove."""
SECONDS = 30
RETRY = DEFAULT_RETRY.with_timeout(15)
"""Google's client would try for two minutes, while the other vendors' states wait to be told."""
LOAD_SECONDS = 5
"""How long a load of the code location waits for the bucket: it goes on with the states it has."""
LOAD_PROOF_SECONDS = 90
"""How long a load builds the code location from newer states, all tries together, before it goes on with those it has."""
LOAD_LOCK_SECONDS = 30
"""How long a load waits for a refresh that publishes in the same folder."""


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

    def read_proof(self) -> str | None:
        """Return the fingerprint of the code location that the last refresh has built; None where there is none, or none can be had."""
        try:
            text = self._bucket.blob(PROOF).download_as_bytes(
                timeout=LOAD_SECONDS, retry=DEFAULT_RETRY.with_timeout(LOAD_SECONDS)
            )
        except Exception:  # whatever Google's client raises: the code location is built here then
            return None
        return text.decode("utf-8", errors="replace")

    def record_proof(self, fingerprint: str) -> None:
        """Record that the code location with a fingerprint loads. Without that record loads are slower, and nothing else."""
        try:
            self._bucket.blob(PROOF).upload_from_string(fingerprint, timeout=SECONDS, retry=RETRY)
        except Exception as error:  # whatever Google's client raises
            logging.getLogger(__name__).warning("%s was not written to the bucket: %s", PROOF, error)

    def stage_newer(
        self, parts: Sequence[VendorState], folder: Path, seconds: int = SECONDS, retry: Retry = RETRY
    ) -> list[tuple[VendorState, Candidate | Exception | None]]:
        """Read the states of these parts side by side, and write those that are newer than the ones in place to `folder`.

        Returns, for each part in their order, the candidate, None where there is nothing newer, or what went wrong: StateMissing where
        there is a state neither here nor there, StateRefused where this version of the code makes no assets of it, and google.api_core's
        exceptions. `seconds` is how long one call may take.
        """
        if not parts:
            return []
        with ThreadPoolExecutor(len(parts)) as pool:
            started = [(part, pool.submit(self._stage_newer, part, folder, seconds, retry)) for part in parts]
        return [(part, _exception(future) or future.result()) for part, future in started]

    def _stage_newer(self, part: VendorState, folder: Path, seconds: int, retry: Retry) -> Candidate | None:
        read_at = part.read_at()
        try:
            text = self._bucket.blob(FOLDER + part.state_name).download_as_bytes(timeout=seconds, retry=retry)
        except NotFound:
            if read_at is None:
                raise StateMissing(
                    f"There is no {FOLDER}{part.state_name} in the bucket yet: run `dataplatform refresh` once."
                ) from None
            return None
        path = folder / part.state_name
        path.write_bytes(text)
        try:
            stamped = Stamped.model_validate_json(text)
            if read_at is not None and stamped.read_at <= read_at:
                return None
            after = part.lineage(json.dumps(stamped.state))
        except Exception as error:  # whatever the component's code raises of a state that it did not write
            why = StateIncomplete(
                f"{FOLDER}{part.state_name} in the bucket is of another version of this code, or broken: {explain(error)}"
            )
            raise StateRefused(path, why) from error
        return Candidate(part, path, Refreshed(len(after)), stamped.read_at)


def _exception(future: Future[Candidate | None]) -> Exception | None:
    error = future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return error


_looked = WeakSet[Any]()
"""The component trees whose load has looked into the bucket already."""


def take_newer(part: VendorState, tree: dg.ComponentTree) -> None:
    """Take the states of all vendors from the bucket of the settings, where they are newer and the code location loads with them.

    The first part of a load asks for all parts: they are proven together. What cannot be had, or does not load, leaves the state here,
    with a warning. A code server that is told to load again, and a run in a container of its own, have no other way to see what a refresh
    elsewhere has read. The process that builds the code location from the new states does not look into the bucket (`state_proof`).
    """
    from orchestration.components.publication import Publisher  # it imports this package's components

    log = logging.getLogger(__name__)
    if tree.state_tracker in _looked:
        return
    _looked.add(tree.state_tracker)
    parts = {one.state_name: one for one in (*tree.get_all_components(VendorState), part)}
    try:
        bucket = StateBucket.required()
        with open_staging(settings().dataplatform_state_dir) as folder:
            newer = bucket.stage_newer(
                list(parts.values()), folder, LOAD_SECONDS, DEFAULT_RETRY.with_timeout(LOAD_SECONDS)
            )
            for one, took in newer:
                if isinstance(took, Exception):
                    log.warning("%s was not taken from the bucket: %s", one.state_name, took)
            candidates = [took for _one, took in newer if isinstance(took, Candidate)]
            if not candidates:
                return
            publisher = Publisher(
                folder,
                progress=log.info,
                search_seconds=LOAD_PROOF_SECONDS,
                lock_seconds=LOAD_LOCK_SECONDS,
                read_proof=bucket.read_proof,
            )
            for name, why in publisher.publish(candidates).refused.items():
                log.warning("%s%s was not taken from the bucket, and the last state stays: %s", FOLDER, name, why)
    except Exception as error:  # whatever Google's client raises, and what is below it
        log.warning("The states were not taken from the bucket, and the last ones stay: %s", error)
