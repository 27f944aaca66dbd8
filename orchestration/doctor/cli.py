"""`dataplatform doctor`: is everything that the platform needs there, and well?"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from orchestration.doctor.model import Result

STYLES = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list of name, status, found, remedy and seconds of each check.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings and failures.")] = False,
    seconds: Annotated[
        float, typer.Option("--timeout", min=0.1, help="How many seconds a check may take before it has failed.")
    ] = 15,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Then compile dbt's models and dry-run each on BigQuery, which costs nothing."),
    ] = False,
) -> None:
    """Look at each setting, credential, permission, dataset, bucket, vendor, alert route, manifest and the clock, side by side.

    Each is a line: ok, warning, failed, or skipped, where it needs another that failed or a feature that is not set up. What is not
    well has a remedy below it. Nothing is changed, but for a small object in the bucket where Cloud Storage does not tell what is permitted.

    The exit status is 0 where nothing failed, warnings or not, and 1 otherwise.
    """
    import logging

    import stamina.instrumentation

    from orchestration.doctor.catalogue import all_checks
    from orchestration.doctor.runner import run
    from orchestration.doctor.usage import read_usage
    from orchestration.settings import examine

    # What a client says of each retry, or of what it found, is told by its check.
    stamina.instrumentation.set_on_retry_hooks([])
    logging.disable(logging.ERROR)
    usage = read_usage()
    values, problems = examine(usage.needs)
    broken = {name for problem in problems for name in problem.names}
    errors = Console(stderr=True)
    with errors.status("looking") as status:  # shown on a terminal only

        def tell(names: Collection[str]) -> None:
            first = ", ".join(list(names)[:3])
            status.update(f"looking: {first}{f' and {len(names) - 3} more' if len(names) > 3 else ''}")

        results = run(all_checks(values, problems, usage), values, broken, seconds, tell)
        if dry_run:
            from orchestration.doctor import dry_run as models

            status.update("compiling dbt's models, and dry-running each")
            results += models.results(values, broken & set(models.NEEDS), results)
    if as_json:
        json.dump([as_object(one) for one in results], sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        show(results, quiet=quiet)
    if any(one.outcome.status == "failed" for one in results):
        raise typer.Exit(1)


def as_object(result: Result) -> dict[str, str | float]:
    outcome = result.outcome
    return {
        "name": result.name, "status": outcome.status, "found": outcome.found, "remedy": outcome.remedy,
        "seconds": round(result.seconds, 2),
    }  # fmt: skip


def summary(results: Sequence[Result]) -> str:
    """How many there are of each status that there is."""
    statuses = [one.outcome.status for one in results]
    return ", ".join(f"{count} {name}" for name in STYLES if (count := statuses.count(name)))  # pyright: ignore[reportArgumentType]


def show(results: Sequence[Result], *, quiet: bool) -> None:
    """Print a line each, a remedy below where there is one, and the summary; `quiet`, only what is not well."""
    console = Console()
    width = max(len(one.name) for one in results)

    def say(text: str, style: str) -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    for one in results:
        outcome = one.outcome
        if quiet and outcome.status in {"ok", "skipped"}:
            continue
        say(f"{outcome.status:8} {one.name:{width}}  {outcome.found}", STYLES[outcome.status])
        if outcome.remedy:
            say(f"{'':8} {'':{width}}  -> {outcome.remedy}", "")
    say(summary(results), "bold")
