"""The dbt manifests of production deploys in Cloud Storage: the newest at one name, and every one that was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from google.api_core.exceptions import PreconditionFailed
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

FOLDER = "dbt"
MANIFEST = "manifest.json"
SECONDS = 60
RETRY = DEFAULT_RETRY.with_timeout(10)
"""Google's client would try for two minutes: a person waits, or a deploy that is tried again as a whole."""
TRIES = 5


class NoManifest(RuntimeError):
    """Nothing has been published for the target yet; the message says what publishes."""


class ManifestInvalid(ValueError):
    """A file is not what dbt writes."""


@dataclass(frozen=True)
class Published:
    """A manifest as the metadata of its object has it. `generation` is Cloud Storage's number of the object's version."""

    deployed_at: datetime
    commit: str
    dbt_version: str
    adapter: str
    target: str
    checksum: str
    generation: int = 0

    def metadata(self) -> dict[str, str]:
        """What is kept beside the object."""
        kept = {name: getattr(self, name) for name in ("commit", "dbt_version", "adapter", "target", "checksum")}
        return {"deployed_at": self.deployed_at.isoformat(), **kept}

    @classmethod
    def of(cls, metadata: dict[str, str], generation: int) -> Published:
        """Raises ManifestInvalid where something is missing: another tool has written the object."""
        try:
            kept = {name: metadata[name] for name in ("commit", "dbt_version", "adapter", "target", "checksum")}
            return cls(deployed_at=datetime.fromisoformat(metadata["deployed_at"]), generation=generation, **kept)
        except (KeyError, ValueError) as error:
            raise ManifestInvalid(
                f"The newest manifest in the bucket lacks what a deploy writes with it ({error}): another tool has put it there. "
                "The next deploy replaces it, as `dataplatform dbt publish` does now."
            ) from error


class DbtManifests:
    """The manifests in one bucket, at `dbt/<target>/`. Every call raises google.api_core's exceptions where not said otherwise."""

    def __init__(self, bucket: storage.Bucket) -> None:
        self._bucket = bucket

    @classmethod
    def of(cls, project: str, bucket: str) -> DbtManifests:
        return cls(storage.Client(project=project).bucket(bucket))

    def latest(self, target: str = "prod") -> Published | None:
        """The newest, by its metadata alone; None where there is none. Raises ManifestInvalid where another tool has put it there."""
        blob = self._bucket.get_blob(_name(target), timeout=SECONDS, retry=RETRY)
        return Published.of(cast(Any, blob.metadata or {}), blob.generation or 0) if blob else None

    def fetch(self, path: Path, target: str = "prod") -> Published:
        """Put the newest at `path`, whole or not at all. Raises NoManifest, and ManifestInvalid where another tool has put it there."""
        blob = self._bucket.get_blob(_name(target), timeout=SECONDS, retry=RETRY)
        if blob is None:
            raise NoManifest(
                f"gs://{self._bucket.name}/{_name(target)} is not there: no deploy has published a manifest yet "
                "(`dataplatform dbt publish` does)."
            )
        generation = blob.generation or 0
        partial = path.with_suffix(".partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of the very version whose metadata was read, although a deploy may end meanwhile.
        blob.download_to_filename(str(partial), if_generation_match=generation, timeout=SECONDS, retry=RETRY)
        partial.replace(path)
        return Published.of(cast(Any, blob.metadata or {}), generation)

    def publish(self, manifest: Path, commit: str, target: str, deployed_at: datetime) -> Published:
        """Keep the manifest for good, and make it the newest; return what is the newest now.

        An upload that breaks off leaves the newest as it was: Cloud Storage shows an object when it is whole. Where a later deploy
        has published meanwhile, its manifest stays the newest. The same manifest of the same commit is published once. What
        another tool has put there is replaced.
        Raises ManifestInvalid for a file that is no manifest.
        """
        wanted = _described(manifest.read_bytes(), commit, target, deployed_at)
        for _ in range(TRIES):
            blob = self._bucket.get_blob(_name(target), timeout=SECONDS, retry=RETRY)
            latest = _of_a_deploy(blob)
            same = latest and (latest.commit, latest.checksum) == (wanted.commit, wanted.checksum)
            if latest and (same or latest.deployed_at > wanted.deployed_at):
                return latest
            self._upload(_kept(wanted), manifest, wanted)
            try:
                generation = self._upload(_name(target), manifest, wanted, replaces=blob.generation if blob else 0)
            except PreconditionFailed:
                continue  # another deploy was faster
            return replace(wanted, generation=generation)
        raise RuntimeError(f"{_name(target)} was written {TRIES} times by others while this deploy tried to.")

    def _upload(self, name: str, manifest: Path, wanted: Published, replaces: int | None = None) -> int:
        """Upload, where `replaces` is the generation that is there (0: none; None: whatever it is); return the new generation."""
        blob = self._bucket.blob(name)
        blob.metadata = wanted.metadata()
        blob.upload_from_filename(
            str(manifest), content_type="application/json", if_generation_match=replaces, timeout=SECONDS, retry=RETRY
        )
        return blob.generation or 0


def _of_a_deploy(blob: storage.Blob | None) -> Published | None:
    if blob is None:
        return None
    try:
        return Published.of(cast(Any, blob.metadata or {}), blob.generation or 0)
    except ManifestInvalid:
        return None


def _name(target: str) -> str:
    return f"{FOLDER}/{target}/{MANIFEST}"


def _kept(published: Published) -> str:
    """Sorts by time."""
    return f"{FOLDER}/{published.target}/history/{published.deployed_at:%Y%m%dT%H%M%SZ}-{published.commit[:12]}.json"


def _described(content: bytes, commit: str, target: str, deployed_at: datetime) -> Published:
    try:
        metadata = json.loads(content)["metadata"]
        return Published(
            deployed_at=deployed_at,
            commit=commit,
            dbt_version=metadata["dbt_version"],
            adapter=metadata["adapter_type"],
            target=target,
            checksum=hashlib.sha256(content).hexdigest(),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestInvalid(f"{type(error).__name__}: {error}: this is no manifest of dbt") from error
