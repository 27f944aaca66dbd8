"""The records of the chaos are as hostile as they have to be: Dagster stores each of them, and none is a failure report."""

import subprocess
import sys
import time

import dagster as dg
import pytest

from orchestration.lineage.failures import METADATA_KEY, UnreadableReportError, from_metadata
from tests.chaos import clocks, hostile


@pytest.mark.parametrize("number", range(len(hostile.REPORTS)))
def test_dagster_stores_what_cannot_be_read(number: int) -> None:
    asset = dg.AssetKey(["back", "odd"])
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(dg.AssetObservation(asset, metadata=hostile.metadata(number)))
        [record] = instance.fetch_observations(asset, limit=1).records
    observation = record.asset_observation
    assert observation is not None
    with pytest.raises(UnreadableReportError):
        from_metadata({METADATA_KEY: observation.metadata[METADATA_KEY].value})


def test_a_clock_is_set_back_in_a_process_of_its_own() -> None:
    code = f"from {clocks.__name__} import set_back; set_back(150); import logging, time; from dagster._time import get_current_datetime as now;"
    code += "print(time.time(), logging.makeLogRecord({}).created, now().timestamp())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for moment in map(float, done.stdout.split()):
        assert 149 < time.time() - moment < 180
