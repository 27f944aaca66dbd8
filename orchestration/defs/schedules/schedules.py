"""When things run: landing by the clock, all that follows when what it reads has landed."""

import json
import warnings
from collections.abc import Iterator

import dagster as dg

from orchestration.defs_tree import iterate_other_definitions

# Once, and then only what failed and what it held up. Errors that are the same when tried again switch it off for their run.
RETRY = {"dagster/max_retries": "1", "dagster/retry_strategy": "FROM_ASSET_FAILURE"}

# What a pod gets that has dbt's manifest in memory twice, Dagster's and dbt's own; nothing but Kubernetes reads it (deploy/helm/values.yaml).
ROOM_FOR_DBT = {
    "dagster-k8s/config": json.dumps(
        {
            "container_config": {
                "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "4Gi"}},
            }
        }
    )
}

HISTORY = dg.AssetSelection.key_prefixes(["dataplatform"], ["incident_io"])

with warnings.catch_warnings():
    # `include_sources`, without which what is only observed is left out, is still called beta.
    warnings.simplefilter("ignore", dg.BetaWarning)
    SOURCES = dg.AssetSelection.groups("ingestion", include_sources=True)

ingest = dg.define_asset_job(
    "ingest",
    selection=SOURCES - HISTORY,
    tags=RETRY,
    description="Syncs every connection, and looks at what others land.",
)
hourly = dg.ScheduleDefinition(
    name="hourly_ingest",
    job=ingest,
    cron_schedule="0 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Syncs every connection on the hour, and looks at what others land; dbt and Hightouch follow by themselves.",
)

history = dg.define_asset_job(
    "export_history",
    selection=HISTORY,
    tags=RETRY,
    description="Exports the platform's own runs, events and incidents.",
)
hourly_history = dg.ScheduleDefinition(
    name="hourly_export_history",
    job=history,
    cron_schedule="45 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Exports what the platform knows of itself, once an hour: an export that followed runs would follow itself.",
)

downstream = dg.AutomationConditionSensorDefinition(
    name="downstream",
    target=dg.AssetSelection.all(),
    minimum_interval_seconds=10,
    run_tags=RETRY | ROOM_FOR_DBT,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Builds dbt models when what they read has landed, and runs Hightouch syncs when their model has.",
)


@dg.definitions
def schedules(context: dg.ComponentLoadContext) -> dg.Definitions:
    """Leave out a job whose assets no component defines: it would run every hour for nothing."""
    specs = list(_executable_specs(context))
    ingests = any(spec.group_name == "ingestion" and not _is_history(spec.key) for spec in specs)
    exports = any(_is_history(spec.key) for spec in specs)
    return dg.Definitions(
        jobs=[*([ingest] if ingests else []), *([history] if exports else [])],
        schedules=[*([hourly] if ingests else []), *([hourly_history] if exports else [])],
        sensors=[downstream],
    )


def _executable_specs(context: dg.ComponentLoadContext) -> Iterator[dg.AssetSpec]:
    for defs in iterate_other_definitions(context):
        for one in defs.assets or ():
            if isinstance(one, dg.AssetsDefinition) and one.is_executable:
                yield from one.specs


def _is_history(key: dg.AssetKey) -> bool:
    return key.path[0] in {"dataplatform", "incident_io"}
