"""A small code location for the production instance: what it does is read from files, so that a test can hold a run up."""

from __future__ import annotations

import os
import time
from pathlib import Path

import dagster as dg

GATE = "DEPLOY_TEST_GATE"
"""Names the variable with the file that `wait` waits for."""
SAID = "the run has said this"


@dg.asset(pool="vendor")
def spoken() -> None:
    print(SAID, flush=True)


@dg.asset
def waited() -> None:
    gate = Path(os.environ[GATE])
    deadline = time.monotonic() + 120
    while not gate.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(gate)
        time.sleep(0.2)


defs = dg.Definitions(
    assets=[spoken, waited],
    jobs=[dg.define_asset_job("speak", [spoken]), dg.define_asset_job("wait", [waited])],
    executor=dg.in_process_executor,
)
