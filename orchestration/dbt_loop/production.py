"""Production's manifest on this machine: fetched, looked at, and said how old it is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.dbt_loop.workspace import Refused
from orchestration.lineage.ages import age
from orchestration.settings import DbtSettings, SettingsError

if TYPE_CHECKING:  # Google's client takes a second to import, and only `mfest` needs it
    from orchestration.vendors.dbt_manifests import DbtManifests, Published

MANIFEST, ABOUT, FETCHED = "manifest.json", "about.json", "fetched"
OLD = timedelta(days=1)
KEPT = 2
"""Generations: a build that is under way may read the one before."""


@dataclass(frozen=True)
class Fetched:
    """Production's manifest as it lies in `folder`, which is what dbt's `--state` takes. Times in UTC."""

    folder: Path
    manifest: Mapping[str, Any]
    deployed_at: datetime
    fetched_at: datetime
    commit: str

    def text(self, now: datetime) -> str:
        """One line, with a second one where it is long ago that it was fetched."""
        line = (
            f"production: commit {self.commit[:12]}, deployed {self.deployed_at:%Y-%m-%d %H:%M} UTC ({age(now - self.deployed_at)} ago), "
            f"dbt {self.manifest['metadata']['dbt_version']}"
        )
        since = now - self.fetched_at
        return line if since < OLD else f"{line}\nfetched {age(since)} ago: run `mfest` for a newer one"


def manifests(values: DbtSettings) -> DbtManifests:
    """Where deploys leave theirs. Raises SettingsError without a bucket."""
    from orchestration.vendors.dbt_manifests import DbtManifests

    if values.dataplatform_state_bucket is None:
        raise SettingsError("DATAPLATFORM_STATE_BUCKET is not set: it is where deploys leave production's manifest.")
    return DbtManifests.of(values.google_cloud_project, values.dataplatform_state_bucket)


def fetch(values: DbtSettings, folder: Path) -> Fetched:
    """Bring the newest manifest of production into `folder`, unless it is there.

    Raises SettingsError without a bucket, NoManifest where nothing was published, and google.api_core's exceptions. What was there stays.
    """
    published = manifests(values)
    latest = published.latest()
    if latest is None or not (folder / str(latest.generation)).exists():
        latest = _download(published, folder)
    here = folder / str(latest.generation)
    (here / FETCHED).touch()
    for old in sorted(_generations(folder))[:-KEPT]:
        shutil.rmtree(folder / str(old), ignore_errors=True)
    return fetched(folder)


def fetched(folder: Path) -> Fetched:
    """What was fetched last. Raises Refused where nothing was, or where it cannot be read."""
    generations = _generations(folder)
    if not generations:
        raise Refused("Production's manifest is not here yet: run `mfest` (`dataplatform dbt mfest`) first.")
    here = folder / str(max(generations))
    try:
        manifest = json.loads((here / MANIFEST).read_bytes())
        about = json.loads((here / ABOUT).read_bytes())
        return Fetched(
            folder=here,
            manifest=manifest,
            deployed_at=datetime.fromisoformat(about["deployed_at"]),
            fetched_at=datetime.fromtimestamp((here / FETCHED).stat().st_mtime, UTC),
            commit=about["commit"],
        )
    except (OSError, ValueError, KeyError) as error:
        raise Refused(f"{here} cannot be read ({error}): delete it and run `mfest` again.") from error


def _download(manifests: DbtManifests, folder: Path) -> Published:
    """A folder of the object's generation, there with all that belongs to it or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as new:
        published = manifests.fetch(Path(new) / MANIFEST)
        (Path(new) / ABOUT).write_text(json.dumps(published.metadata()))
        (Path(new) / FETCHED).touch()
        # Where another `mfest` was faster, its folder is the same.
        with contextlib.suppress(OSError):
            os.rename(new, folder / str(published.generation))
            os.mkdir(new)
    return published


def _generations(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
