"""Fills an instance with one run of each kind, and tells what an instance holds. Run by the Python of any version of Dagster since 1.7.

`filler.py fill` adds to the instance at DAGSTER_HOME; `filler.py tell` prints what it holds as JSON.
"""

import json
import sys

import dagster as dg

DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-02-01")


@dg.asset(partitions_def=DAYS)
def by_day(context):
    return dg.MaterializeResult(metadata={"day": context.partition_key})


@dg.asset(check_specs=[dg.AssetCheckSpec("enough", asset="checked")])
def checked():
    return dg.MaterializeResult(metadata={"rows": 3}, check_results=[dg.AssetCheckResult(passed=False)])


@dg.asset
def failing():
    raise ValueError("on purpose")


ASSETS = [by_day, checked, failing]


def fill(instance):
    for day in ("2026-01-02", "2026-01-03"):
        dg.materialize([by_day], instance=instance, partition_key=day, tags={"team": "data", "day": day})
    dg.materialize([checked], instance=instance)
    dg.materialize([failing], instance=instance, raise_on_error=False, tags={"dagster/backfill": "backfilled"})


def tell(instance):
    runs = instance.get_runs()
    key = dg.AssetKey("by_day")
    partitions = instance.get_materialized_partitions(key)
    newest = instance.get_latest_materialization_event(dg.AssetKey("checked"))
    return {
        "runs": {
            run.run_id: [run.status.value, {k: v for k, v in run.tags.items() if k in ("team", "day")}] for run in runs
        },
        "events": {run.run_id: len(instance.all_logs(run.run_id)) for run in runs},
        "assets": sorted(key.to_user_string() for key in instance.all_asset_keys()),
        "partitions": sorted(partitions),
        "rows": newest.asset_materialization.metadata["rows"].value,
        "tagged": len(instance.get_runs(dg.RunsFilter(tags={"team": "data"}))),
        "backfilled": len(instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": "backfilled"}))),
    }


if __name__ == "__main__":
    with dg.DagsterInstance.get() as opened:
        if sys.argv[1] == "fill":
            fill(opened)
        print(json.dumps(tell(opened), sort_keys=True))
