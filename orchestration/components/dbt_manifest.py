"""Production's dbt manifest in Cloud Storage as an asset: what developers and CI build against, published after each deploy."""

from dataclasses import dataclass, field
from typing import Any, override

import dagster as dg

from orchestration.ci import FOLDER
from orchestration.components.dbt import DbtModels
from orchestration.dbt_loop.deploys import commit, publish
from orchestration.settings import settings

KEY = dg.AssetKey(["dbt", "manifest"])
INTERVAL_SECONDS = 60
TAGS = {"dagster/max_retries": "1", "dagster/priority": "1"}
"""Before what waits for a pool: CI waits for it, and everybody who builds against production."""


@dataclass
class ProductionManifest(dg.Component, dg.Resolvable):
    """Publishes the manifest that this code location was loaded with, once a deploy. Nothing where there is no bucket for it, or in no production."""

    owners: list[str] = field(default_factory=list[str])

    @override
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        values = settings()
        if values.dataplatform_state_bucket is None or values.dbt_target != "prod":
            return dg.Definitions()

        @dg.asset(
            key=KEY,
            group_name="lineage",
            owners=self.owners,
            kinds={"dbt", "gcs"},
            deps=[[FOLDER, "deploy"]],
            description="The manifest of the newest deploy: what `mfest` fetches, and pull requests are compared with.",
        )
        def manifest(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
            # When it was asked for: a run that has waited, or is tried again, is not of the newest deploy for that.
            first = context.instance.get_run_record_by_id(context.run.root_run_id or context.run.run_id)
            if first is None:
                raise dg.DagsterInvariantViolationError(
                    f"The run {context.run.root_run_id} was deleted: launch a new one."
                )
            published = publish(settings(), DbtModels.manifest_path(), first.create_timestamp)
            return dg.MaterializeResult(
                metadata={
                    "commit": published.commit,
                    "deployed_at": dg.MetadataValue.timestamp(published.deployed_at),
                    "dbt_version": published.dbt_version,
                    "generation": published.generation,
                }
            )

        @dg.sensor(
            name="deployed",
            asset_selection=dg.AssetSelection.assets(KEY),
            minimum_interval_seconds=INTERVAL_SECONDS,
            default_status=dg.DefaultSensorStatus.RUNNING,
            description="Publishes dbt's manifest when another one was deployed.",
        )
        def deployed(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
            parsed = DbtModels.manifest_path().stat().st_mtime_ns
            this = f"{commit(settings())} {parsed}"
            if context.cursor == this:
                return dg.SkipReason("Published already.")
            context.update_cursor(this)
            return dg.RunRequest(tags=TAGS)

        return dg.Definitions(assets=[manifest], sensors=[deployed])
