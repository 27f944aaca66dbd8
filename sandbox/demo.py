"""The demo: every source landed or looked at and the whole graph materialized once, with what each brought."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from sandbox import dagster_api
from sandbox.config import SandboxConfig
from sandbox.dagster_api import Asset
from sandbox.services import warehouse


class DemoError(RuntimeError):
    """A run of the demo failed; the message carries the failed step and its error."""


SECONDS = 900
"""How long one run may take: a safety net for machines that are busy with something else."""
STAGES = ("ingestion", "transformation", "activation", "analytics", "lineage")
LOADERS = {
    "fivetran": "Fivetran",
    "segment": "Segment",
    "product": "the product's publisher",
    "dagster": "Dagster",
    "incidentio": "incident.io's API",
}
"""Who lands the tables of a source, by the kinds of its assets."""


def run(config: SandboxConfig, console: Console) -> None:
    """Materialize every asset that has no materialization yet (or look at it, where others land it), in one run, and print what moved.

    Raises DemoError when a run does not succeed.
    """
    # Of a demo that was interrupted, say, or of the schedule: two runs at once would make the same tables twice.
    for run_id in dagster_api.under_way(config):
        console.print(f"  waiting for a run that is under way: {config.url('dagster')}/runs/{run_id}", soft_wrap=True)
        deque(dagster_api.follow(config, run_id, SECONDS), maxlen=0)
    known = dagster_api.assets(config)
    # In one run: what is looked at by itself has all that reads it built at once, by the sensor `downstream`.
    missing = [asset for asset in known if asset.missing and (asset.materializable or asset.observable)]
    if missing:
        _launch(config, console, missing)
    else:
        made = sum(asset.materializable for asset in known)
        console.print(f"[bold]All {made} assets are materialized already[/bold]: nothing to do")
    _summary(config, console)
    console.print(f"\n{warehouse.statements_analyzed(config)}", soft_wrap=True, highlight=False)
    console.print(f"\n  Dagster UI      {config.url('dagster')}/asset-groups", highlight=False)
    console.print(f"  Control room    {config.url('control')}/", highlight=False)
    console.print(
        "\nNext: `sandbox tick`, `sandbox break fivetran product`, `sandbox --help`; `make docs` shows dbt's documentation; "
        "`make down` stops it all.",
        soft_wrap=True,
    )


def _launch(config: SandboxConfig, console: Console, assets: list[Asset]) -> None:
    began = time.monotonic()
    days = sorted({day for asset in assets for day in asset.days})
    run_id = dagster_api.launch(config, [asset.key for asset in assets], days=(days[0], days[-1]) if days else None)
    console.print(
        f"[bold]Materializing {len(assets)} assets[/bold]  {config.url('dagster')}/runs/{run_id}",
        highlight=False,
        soft_wrap=True,
    )
    done: set[str] = set()
    failures: list[str] = []
    status = ""
    for status, events in dagster_api.follow(config, run_id, SECONDS):  # noqa: B007  (the last one is read below)
        for event in events:
            match event["__typename"]:
                case "MaterializationEvent" | "ObservationEvent":
                    key = "/".join(event["assetKey"]["path"])
                    if key not in done:  # an asset with partitions has an event for each
                        done.add(key)
                        console.print(f"  {len(done):>3}/{len(assets)} {key}", highlight=False)
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
    console.print()
    console.print(_sources(known))
    seconds = _seconds(config, known)
    table = _table("stage", "assets", "rows", "seconds", title="What the newest materializations moved")
    for stage in STAGES:
        of_stage = [a for a in known if a.materializable and _stage(a) == stage]
        rows = sum(_rows(asset) for asset in of_stage)
        table.add_row(stage, str(len(of_stage)), f"{rows:,.0f}", f"{seconds.get(stage, 0.0):.1f}")
    readers = [a for a in known if _stage(a) == "analytics" and not a.materializable]
    table.add_row("", str(len(readers)), "read live", "-")
    console.print()
    console.print(table)


def _sources(known: Iterable[Asset]) -> Table:
    """A line a source: who lands it, and what it holds now."""
    table = _table("source", "tables", "rows landed", "landed by", title="The sources")
    table.columns[-1].justify = "left"
    sources: dict[str, list[Asset]] = {}
    for asset in known:
        if _stage(asset) == "ingestion":
            sources.setdefault(asset.key.split("/")[0], []).append(asset)
    for name, assets in sorted(sources.items()):
        rows = sum(asset.numbers.get("dagster/row_count", 0) for asset in assets)
        who = ", ".join(LOADERS[kind] for kind in LOADERS if kind in assets[0].kinds)
        table.add_row(name, str(len(assets)), f"{rows:,.0f}", who)
    return table


def _table(*columns: str, title: str) -> Table:
    table = Table(*columns, box=None, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _stage(asset: Asset) -> str:
    """The stage of an asset: its group, but for dbt's, which are the schemas."""
    return asset.group if asset.group in STAGES else "transformation"


def _rows(asset: Asset) -> float:
    moved = (asset.numbers.get(name) for name in ("rows_moved", "rows_synced", "dagster/row_count"))
    return next((value for value in moved if value is not None), 0)


def _seconds(config: SandboxConfig, known: list[Asset]) -> dict[str, float]:
    """Seconds a stage: of each stage's newest run, the length of its longest step."""
    seconds: dict[str, float] = {}
    for stage in STAGES:
        of_stage = [a for a in known if a.materializable and _stage(a) == stage]
        newest = max((a for a in of_stage if a.run_id), key=lambda a: a.made_at or 0, default=None)
        if newest is not None and newest.run_id is not None:
            steps = {step for asset in of_stage for step in asset.steps}
            times = dagster_api.step_times(config, newest.run_id)
            seconds[stage] = max((one.seconds for one in times if one.step in steps), default=0.0)
    return seconds
