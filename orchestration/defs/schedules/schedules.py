"""When things run: landing by the clock, all that follows when what it reads has landed."""

from __future__ import annotations

import dagster as dg

ingest = dg.define_asset_job(
    "ingest", selection=dg.AssetSelection.groups("ingestion"), description="Syncs every connection."
)

hourly = dg.ScheduleDefinition(
    name="hourly_ingest",
    job=ingest,
    cron_schedule="0 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Syncs every connection on the hour; dbt and Hightouch follow by themselves.",
)

downstream = dg.AutomationConditionSensorDefinition(
    name="downstream",
    target=dg.AssetSelection.all(),
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Builds dbt models when what they read has landed, and runs Hightouch syncs when their model has.",
)
