"""Where a developer, or a CI job, builds: which project, into which datasets."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from orchestration.settings import DBT_PROJECT, DbtSettings

PROJECT_FILE = "dbt_project.yml"
LONGEST_USER = 40
LONGEST_BRANCH = 30


class Refused(RuntimeError):
    """A command will not do what it was asked for; the message says why, and what to do."""


@dataclass(frozen=True)
class Workspace:
    """A checkout of the dbt project and the datasets that it builds in: `prefix`, or `prefix` with `_<schema>` after it."""

    project_dir: Path
    target: str
    prefix: str
    database: str
    production: Path
    """The folder of production's manifest, as `dataplatform dbt mfest` left it."""

    @classmethod
    def of(cls, values: DbtSettings, folder: Path) -> Workspace:
        """Of the checkout that `folder` is in. Never of the target prod, whatever the settings say: that is the platform's."""
        return cls._of(values, folder, "ci" if values.dbt_target == "ci" else "dev", values.dbt_schema_prefix)

    @classmethod
    def of_pull_request(cls, values: DbtSettings, folder: Path, which: str, build: int | None = None) -> Workspace:
        """With datasets of the pull request's own, and of one build of it where its number is given.

        `which` is the pull request's number or address, or the name of a branch that has none yet. Raises Refused where it is empty.
        """
        of_build = "" if build is None else f"_b{build}"
        return cls._of(values, folder, "ci", f"ci_{_pull_request(which)}{of_build}")

    @classmethod
    def _of(cls, values: DbtSettings, folder: Path, target: str, prefix: str | None) -> Workspace:
        return cls(
            project_dir=project_folder(folder),
            target=target,
            prefix=prefix or f"{target}_{_user()}",
            database=values.bigquery_dev_project or values.google_cloud_project,
            production=values.dataplatform_state_dir / "production" / (values.dataplatform_state_bucket or "no-bucket"),
        )

    @property
    def arguments(self) -> list[str]:
        """What every invocation of dbt has."""
        places = ["--project-dir", str(self.project_dir), "--profiles-dir", str(self.project_dir)]
        return [*places, "--target", self.target, "--target-path", str(self.target_path)]

    @property
    def target_path(self) -> Path:
        """Of the checkout: two worktrees share no parsed project."""
        return self.project_dir / "target" / self.target

    def owns(self, database: str | None, schema: str) -> bool:
        """Whether a dataset is one of this workspace's."""
        return database == self.database and (schema == self.prefix or schema.startswith(f"{self.prefix}_"))

    def enter(self) -> None:
        """Have dbt's profile name this workspace's datasets."""
        os.environ["DBT_SCHEMA_PREFIX"] = self.prefix


def project_folder(folder: Path) -> Path:
    """The dbt project of the checkout that a folder is in; this installation's own where it is in none."""
    for above in (folder, *folder.parents):
        for place in (above, above / DBT_PROJECT.name):
            if (place / PROJECT_FILE).exists():
                return place
    return DBT_PROJECT


def _pull_request(which: str) -> str:
    """Of a branch with a digest, since of no two the words may be the same, nor one's the beginning of another's."""
    if not which:
        raise Refused("Name the pull request by its number, or by its branch where it has none yet.")
    if number := re.fullmatch(r"(?:https?://.*/)?0*([1-9]\d*)", which):
        return f"pr_{number[1]}"
    return f"branch_{_word(which)[:LONGEST_BRANCH]}{hashlib.sha256(which.encode()).hexdigest()[:8]}"


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower())


def _user() -> str:
    """Whoever is logged in, in letters and digits alone: with an underscore, `ada_b`'s datasets would begin as those of `ada` do."""
    return _word(getpass.getuser())[:LONGEST_USER] or "nobody"
