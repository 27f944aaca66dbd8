"""`dataplatform`: the platform's own commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from orchestration.ci import app as ci
from orchestration.dbt_loop.cli import app as dbt
from orchestration.doctor.cli import doctor
from orchestration.incidents import cli as incidents_cli
from orchestration.on_call.cli import app as on_call

if TYPE_CHECKING:
    from orchestration.components.refresh import Line

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
app.add_typer(on_call, name="on-call")
app.add_typer(incidents_cli.app, name="incidents")
app.add_typer(dbt, name="dbt")
app.add_typer(ci, name="ci")
app.command()(doctor)
lineage = typer.Typer(no_args_is_help=True, help="Who reads what, as vendors report it and as dbt declares it.")
app.add_typer(lineage, name="lineage")


@lineage.callback()
def lineage_main() -> None:
    """Who reads what, as vendors report it and as dbt declares it."""


@lineage.command()
def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """List exposures whose dashboard is gone, dashboards with no exposure, what could not be joined to the graph, and why; what reads
    a table that nothing lands; and dbt's resources that share an asset key or have values that Dagster cannot hold.

    Also connections that land the same tables, and settings in `defs/` that name what does not exist.

    By the saved state: run `dataplatform refresh` first. The exit status is 1 where something has to be done.
    """
    import json
    from dataclasses import asdict

    from orchestration.components.graph_findings import findings
    from orchestration.components.refresh import components
    from orchestration.components.saved_state import StateMissing
    from orchestration.definitions import defs
    from orchestration.lineage.consumers import KINDS
    from orchestration.settings import SettingsError

    try:
        parts = components()
        for part in parts:
            if part.read_at() is None:
                raise part.missing()
        found = findings(parts, defs().resolve_asset_graph())
    except (SettingsError, StateMissing) as error:
        raise _fail(error) from error
    console = Console()
    if as_json:
        console.print_json(json.dumps([asdict(finding) for finding in found]))
    for kind, title in KINDS.items() if not as_json else ():
        of_kind = [finding for finding in found if finding.kind == kind]
        if of_kind:
            console.print(f"{title} ({len(of_kind)})", style="bold")
        for finding in of_kind:
            console.print(f"  {finding.key}: {finding.why}", markup=False, highlight=False, soft_wrap=True)
    if not found and not as_json:
        console.print("Exposures and vendors agree, and everything is joined to the graph.")
    if any(finding.wrong for finding in found):
        raise typer.Exit(1)


def _fail(error: Exception) -> typer.Exit:
    Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(1)


@app.callback()
def main() -> None:
    """The platform's own commands."""


@app.command()
def refresh(
    if_stale: Annotated[
        bool, typer.Option("--if-stale", help="Leave alone what is there and newer than what it was made from.")
    ] = False,
    from_bucket: Annotated[
        bool,
        typer.Option("--from-bucket", help="Take what the last refresh left in Cloud Storage, and ask no vendor."),
    ] = False,
) -> None:
    """Read what each vendor runs and parse the dbt project: what the code location builds its assets from.

    What was read is published once the whole code location was built from it in a process of its own. A part that cannot be read, or that
    the code location does not load with, keeps its last state. The exit status is then 1.
    """
    from orchestration.components.refresh import components, pull, refresh_all
    from orchestration.settings import SettingsError

    console = Console(stderr=True)

    def say(line: Line) -> None:
        console.print(line.text, style="red" if line.failed else "", markup=False, highlight=False, soft_wrap=True)

    def report(text: str) -> None:
        console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    try:
        found = components()
        if from_bucket:
            lines = pull(found, say, progress=report)
        else:
            lines = refresh_all(found, say, only_stale=if_stale, progress=report)
    except SettingsError as error:
        raise _fail(error) from error
    if any(line.failed for line in lines):
        raise typer.Exit(1)


@app.command()
def docs(
    port: Annotated[int, typer.Option(help="Where to serve them.")] = 8580,
    serve: Annotated[bool, typer.Option(help="Serve them until interrupted; else only generate.")] = True,
) -> None:
    """Generate dbt's documentation, with the columns as they are in BigQuery now, and serve it on this machine."""
    import subprocess

    from orchestration.settings import SettingsError, settings

    console = Console(stderr=True)
    try:
        folder = settings().dataplatform_state_dir / "docs"
    except SettingsError as error:
        raise _fail(error) from error
    from orchestration.components.dbt import DBT
    from orchestration.settings import DBT_PROJECT

    project = ["--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT), "--target-path", str(folder)]
    project += ["--target", settings().dbt_target, "--log-path", str(folder)]
    commands = [["docs", "generate", "--static", *project]]
    if serve:
        commands.append(["docs", "serve", "--no-browser", "--port", str(port), *project])
    try:
        for command in commands:
            result = subprocess.run([str(DBT), *command], check=False)
            if result.returncode:
                raise typer.Exit(result.returncode)
    except KeyboardInterrupt:
        return
    console.print(f"generated: {folder / 'static_index.html'}, one page that any web server can serve", soft_wrap=True)


if __name__ == "__main__":
    app()
