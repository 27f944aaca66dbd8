"""The manifest of a production deploy, left in Cloud Storage for developers and CI."""

from __future__ import annotations

import contextlib
import json
import subprocess
from datetime import datetime
from pathlib import Path

from orchestration.components.dbt_files import target_of
from orchestration.dbt_loop.production import manifests
from orchestration.dbt_loop.workspace import Refused
from orchestration.settings import DBT_PROJECT, DbtSettings
from orchestration.vendors.dbt_manifests import Published


def publish(values: DbtSettings, manifest: Path, deployed_at: datetime) -> Published:
    """Leave a manifest where `mfest` looks, and return the one that is the newest now: of a later deploy, if there is one.

    Raises Refused for another target than prod, of the settings or of the manifest, and where the commit is not known, SettingsError without a bucket, ManifestInvalid, and
    google.api_core's exceptions.
    """
    if values.dbt_target != "prod":
        raise Refused(f"DBT_TARGET is {values.dbt_target}: only production's manifest is published.")
    if not manifest.exists():
        raise Refused(f"{manifest} is not there: run `dataplatform refresh` first.")
    if (target := _read_target(manifest)) != values.dbt_target:
        parsed = f"was parsed for the target {target}" if target else "does not say for which target it was parsed"
        raise Refused(
            f"{manifest} {parsed}: only production's is published. Run `DBT_TARGET=prod dataplatform refresh` first."
        )
    return manifests(values).publish(manifest, commit(values), values.dbt_target, deployed_at)


def _read_target(manifest: Path) -> str | None:
    """Return the target that a file's manifest was parsed for; None where it does not say, or is no manifest."""
    with contextlib.suppress(ValueError, AttributeError):
        return target_of(json.loads(manifest.read_bytes()))
    return None


def commit(values: DbtSettings) -> str:
    """The commit that this code is of: the setting, else the checkout's own, with `-dirty` after it where files differ from it.

    Raises Refused where neither is known.
    """
    if values.dataplatform_commit:
        return values.dataplatform_commit
    command = ["git", "-C", str(DBT_PROJECT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise Refused("This is no git checkout: set DATAPLATFORM_COMMIT to the commit that was deployed.") from error
