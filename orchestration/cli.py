"""`dataplatform`: the platform's own commands."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Annotated

import typer
from rich.console import Console

from orchestration.incidents import cli as incidents_cli
from orchestration.on_call.cli import app as on_call

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
app.add_typer(on_call, name="on-call")
app.add_typer(incidents_cli.app, name="incidents")


@app.callback()
def main() -> None:
    """The platform's own commands."""


@app.command()
def refresh(
    if_stale: Annotated[
        bool, typer.Option("--if-stale", help="Leave alone what is there and newer than what it was made from.")
    ] = False,
) -> None:
    """Read what each vendor runs and parse the dbt project: what the code location builds its assets from.

    A part that cannot be read keeps its last state. The exit status is then 1.
    """
    from orchestration.settings import SettingsError, settings

    console, problems = Console(stderr=True), 0
    try:
        folder = settings().dataplatform_state_dir
    except SettingsError as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error
    import dagster as dg

    from orchestration.components.saved_state import SavedState
    from orchestration.settings import REPOSITORY

    # As `defs/` configures them: which datasets are looked at, for one, is written there.
    components = dg.ComponentTree.for_project(REPOSITORY).get_all_components(SavedState)
    due = [component for component in components if component.stale() or not if_stale]
    for component in components:
        if component not in due:
            console.print(f"{component.state_name}: up to date")
    with ThreadPoolExecutor(len(due) or 1) as pool:
        started = {pool.submit(component.refresh): component for component in due}
        for future in as_completed(started):
            component = started[future]
            name = component.state_name
            if (error := future.exception()) is None:
                console.print(f"{name}: refreshed")
                continue
            problems += 1
            kept = "the last state is kept" if component.state_path().exists() else f"there is no state in {folder} yet"
            console.print(f"{name}: not refreshed, {kept}. {error}", style="red", markup=False, highlight=False)
    if problems:
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
        console.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error
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
