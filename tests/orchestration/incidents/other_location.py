"""A second code location, served by a code server of its own. The file in OTHER_LOCATION says what it lacks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import dagster as dg

LACKS = set(json.loads(Path(os.environ["OTHER_LOCATION"]).read_text()))
if "code" in LACKS:
    raise RuntimeError("the code location does not load")


@dg.asset(key=["other", "model"], owners=["other@example.com"], deps=[["shared", "table"]])
def model() -> None: ...


@dg.asset(key=["other", "daily"], partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def daily() -> None: ...


@dg.asset_check(asset=["other", "model"])
def rows() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


CONSUMER = dg.AssetSpec(["explo", "other"], deps=[["other", "model"]], tags={"dataplatform/audience": "customer"})


@dg.sensor(name="watch", job_name="nightly")
def watch() -> None: ...


@dg.op
def work() -> None: ...


@dg.job
def nightly() -> None:
    work()


defs = dg.Definitions(
    [one for name, one in {"model": model, "daily": daily, "consumer": CONSUMER}.items() if name not in LACKS],
    asset_checks=[] if LACKS & {"rows", "model"} else [rows],
    sensors=[] if LACKS & {"watch"} else [watch],
    jobs=[nightly],
)
