"""`dataplatform`: the platform's own commands."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)


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
    from orchestration.components.dbt import DbtModels
    from orchestration.components.fivetran import FivetranConnections
    from orchestration.components.hightouch import HightouchSyncs

    for component in (FivetranConnections(), HightouchSyncs(), DbtModels()):
        name = component.state_name
        if if_stale and not component.stale():
            console.print(f"{name}: up to date")
            continue
        try:
            component.refresh()
            console.print(f"{name}: refreshed")
        except Exception as error:
            problems += 1
            kept = "the last state is kept" if component.state_path().exists() else f"there is no state in {folder} yet"
            console.print(f"{name}: not refreshed, {kept}. {error}", style="red", markup=False, highlight=False)
    if problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
