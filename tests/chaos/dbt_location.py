"""A code location with the platform's own dbt component over the forty models, its retries, and the real `incident_alerts`."""

import os
from pathlib import Path

import dagster as dg
from dagster_dbt import DbtProject

from orchestration.components.dbt import DbtModels
from orchestration.defs.schedules.schedules import RETRY
from orchestration.incidents.sensor import incident_alerts
from orchestration.lineage.graph import AUDIENCE_TAG
from tests.chaos import forty

ROOT = Path(os.environ["SANDBOX_DIR"])
PROJECT = DbtProject(
    ROOT / "forty", target_path=DbtModels.state_path(), profiles_dir=ROOT / "forty", target=os.environ["DBT_TARGET"]
)

board = dg.AssetSpec(["explo", "board"], deps=[[forty.DATASET, "m08"]], tags={AUDIENCE_TAG: "customer"})
build = dg.define_asset_job("build", dg.AssetSelection.key_prefixes(forty.DATASET), tags=RETRY)

defs = dg.Definitions.merge(
    dg.build_defs_for_component(DbtModels(project=PROJECT)),
    dg.Definitions(assets=[board], jobs=[build], sensors=[incident_alerts], executor=dg.in_process_executor),
)
