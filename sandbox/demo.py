"""The demo: the whole graph materialized once, with what moved at each stage."""

from __future__ import annotations

import time
from collections import deque

from rich.console import Console
from rich.table import Table

from sandbox import dagster_api
from sandbox.config import SandboxConfig
from sandbox.dagster_api import Asset


class DemoError(RuntimeError):
    """The run of the demo failed; the message carries the failed step and its error."""


STAGES = ("ingestion", "transformation", "activation")


def run(config: SandboxConfig, console: Console) -> None:
    """Materialize every asset that has no materialization yet, in one run, and print a table of rows and seconds a stage.

    Raises DemoError when the run does not succeed.
    """
    # Of a demo that was interrupted, say, or of the schedule: two runs at once would make the same tables twice.
    for run_id in dagster_api.under_way(config):
        console.print(f"  waiting for a run that is under way: {config.url('dagster')}/runs/{run_id}", soft_wrap=True)
        deque(dagster_api.follow(config, run_id), maxlen=0)
    known = [asset for asset in dagster_api.assets(config) if asset.materializable]
    missing = [asset.key for asset in known if asset.materialized_at is None]
    if missing:
        _materialize(config, console, missing)
    else:
        console.print(f"[bold]All {len(known)} assets are materialized already[/bold]: nothing to do")
    _summary(config, console)
    console.print(f"\n  Dagster UI      {config.url('dagster')}/asset-groups", highlight=False)
    console.print(f"  Control room    {config.url('control')}/", highlight=False)
    console.print(
        "\nNext: `sandbox tick`, `sandbox break fivetran product`, `sandbox --help`; `make down` stops it all.",
        soft_wrap=True,
    )


def _materialize(config: SandboxConfig, console: Console, keys: list[str]) -> None:
    began = time.monotonic()
    run_id = dagster_api.launch(config, keys)
    console.print(
        f"[bold]Materializing {len(keys)} assets[/bold]  {config.url('dagster')}/runs/{run_id}",
        highlight=False,
        soft_wrap=True,
    )
    done, failures, status = 0, [], ""
    for status, events in dagster_api.follow(config, run_id):  # noqa: B007  (the last one is read below)
        for event in events:
            match event["__typename"]:
                case "MaterializationEvent":
                    done += 1
                    key = "/".join(event["assetKey"]["path"])
                    console.print(f"  {done:>3}/{len(keys)} {key}", highlight=False)
                case "ExecutionStepFailureEvent":
                    error = event["error"]
                    failures.append(f"{event['stepKey']}: {(error['cause'] or error)['message']}")
                case "RunFailureEvent" if not failures:
                    failures.append(event["message"])
                case _:
                    pass
    if status != "SUCCESS":
        raise DemoError("\n".join([f"the run ended as {status}: {config.url('dagster')}/runs/{run_id}", *failures]))
    console.print(f"  done in {time.monotonic() - began:.0f} s")


def _summary(config: SandboxConfig, console: Console) -> None:
    known = dagster_api.assets(config)
    seconds = _seconds(config, known)
    table = Table("stage", "assets", "rows", "seconds", box=None, title="What the newest materializations moved")
    for column in table.columns[1:]:
        column.justify = "right"
    for stage in STAGES:
        of_stage = [a for a in known if a.materializable and _stage(a) == stage]
        rows = sum(_rows(asset) for asset in of_stage)
        table.add_row(stage, str(len(of_stage)), f"{rows:,.0f}", f"{seconds.get(stage, 0.0):.1f}")
    readers = [a for a in known if _stage(a) == "analytics"]
    table.add_row("analytics", str(len(readers)), "read live", "-")
    console.print()
    console.print(table)


def _stage(asset: Asset) -> str:
    """The stage of an asset: its group, but for dbt's, which are the schemas."""
    return asset.group if asset.group in {"ingestion", "activation", "analytics"} else "transformation"


def _rows(asset: Asset) -> float:
    moved = (asset.numbers.get(name) for name in ("rows_moved", "rows_synced", "dagster/row_count"))
    return next((value for value in moved if value is not None), 0)


def _seconds(config: SandboxConfig, known: list[Asset]) -> dict[str, float]:
    """Seconds a stage: of each stage's newest run, the length of its longest step."""
    seconds: dict[str, float] = {}
    for stage in STAGES:
        newest = max(
            (a for a in known if _stage(a) == stage and a.run_id),
            key=lambda a: a.materialized_at or 0,
            default=None,
        )
        if newest is not None and newest.run_id is not None:
            steps = dagster_api.step_times(config, newest.run_id)
            seconds[stage] = max(
                (s.seconds for s in steps if stage in s.step or _step_of(stage) in s.step), default=0.0
            )
    return seconds


def _step_of(stage: str) -> str:
    return {"ingestion": "fivetran", "transformation": "dbt", "activation": "hightouch"}[stage]
