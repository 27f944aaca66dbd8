"""A code location with the platform's own dbt component over the project of every shape, its exposures, and the real `incident_alerts`."""

import os
from pathlib import Path

import dagster as dg
from dagster_dbt import DbtProject

from orchestration.components.consumers import unreported
from orchestration.components.dbt import DbtModels
from orchestration.defs.schedules.schedules import RETRY
from orchestration.incidents.sensor import incident_alerts

ROOT = Path(os.environ["SANDBOX_DIR"])
PROJECT = DbtProject(
    ROOT / "shapes", target_path=DbtModels.state_path(), profiles_dir=ROOT / "shapes", target=os.environ["DBT_TARGET"]
)

build = dg.define_asset_job("build", dg.AssetSelection.all(), tags=RETRY)

defs = dg.Definitions.merge(
    dg.build_defs_for_component(DbtModels(project=PROJECT)),
    dg.Definitions(assets=unreported([]), jobs=[build], sensors=[incident_alerts], executor=dg.in_process_executor),
)
