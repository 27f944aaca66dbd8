"""The jobs of CI on main as assets that others make: a job that fails there is an incident like any other."""

from dataclasses import dataclass, field
from typing import override

import dagster as dg

from orchestration.ci import FOLDER


@dataclass
class CiJobs(dg.Component, dg.Resolvable):
    """External assets `ci/<job>`. `dataplatform ci` reports what became of each job; nothing here runs one."""

    jobs: list[str]
    """By their names in .circleci/config.yml."""
    owners: list[str] = field(default_factory=list[str])

    @override
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions(
            assets=[
                dg.AssetSpec(
                    [FOLDER, job],
                    group_name="lineage",
                    owners=self.owners,
                    kinds={"circleci"},
                    description=f"CI's job `{job}` on main. Materialized where it has passed.",
                )
                for job in self.jobs
            ]
        )
