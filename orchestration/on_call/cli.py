"""`dataplatform on-call`: routing as configuration, compared with incident.io and applied to it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from orchestration.on_call.apply import Planned
    from orchestration.on_call.plan import Change
    from orchestration.vendors.incident_io_settings import OnCallSettings

app = typer.Typer(no_args_is_help=True, help="Who is told of which failure: deploy/on_call.yaml and incident.io.")

CHANGES = 2
"""The exit status of a plan that has changes; 1 is for what went wrong."""
DONE = {"create": "created", "update": "updated", "adopt": "took over", "delete": "deleted"}

File = Annotated[Path | None, typer.Option(help="The configuration; deploy/on_call.yaml by default.")]
Adopt = Annotated[
    list[str] | None,
    typer.Option(help='Take over something that was not made here, such as "alert_route/Data platform: internal".'),
]


@app.command()
def plan(file: File = None, adopt: Adopt = None) -> None:
    """Show what `apply` would do. The exit status is 0 where that is nothing, and 2 where there are changes."""
    with _planned(file, adopt) as (planned, _):
        from orchestration.on_call.plan import describe

        for change in planned.pending:
            _say(describe(change))
        _say(_summary(planned) if planned.pending else "nothing to do: incident.io is as the file says")
        if planned.pending:
            raise typer.Exit(CHANGES)


@app.command()
def apply(file: File = None, adopt: Adopt = None) -> None:
    """Make incident.io as the file says. Done twice, the second time there is nothing to do."""
    from orchestration.on_call.apply import carry_out

    def done(change: Change, name: str) -> None:
        _say(f"{DONE[change.action]} {change.kind.replace('_', ' ')} {change.shown!r} ({name})")
        if change.kind == "alert_source" and change.action == "create":
            variable = "INCIDENT_IO_HEARTBEAT" if change.name == "heartbeat" else "INCIDENT_IO_ALERT_SOURCE"
            _say(f"  its token is in incident.io, Alerts, Sources: {variable}_ID={name}, and {variable}_TOKEN")

    with _planned(file, adopt) as (planned, api):
        carry_out(planned, api, done)
        _say("done" if planned.pending else "nothing to do: incident.io is as the file says")


@contextmanager
def _planned(file: Path | None, adopt: list[str] | None) -> Generator[tuple[Planned, OnCallSettings]]:
    """The plan and the API to carry it out by; what goes wrong, in the block too, is told in words, with exit status 1."""
    import stamina.instrumentation

    from orchestration.on_call.apply import look
    from orchestration.on_call.config import FILE, OnCallConfigError, load
    from orchestration.on_call.plan import Refused
    from orchestration.settings import SettingsError, incident_io_api
    from orchestration.vendors.http import VendorError
    from orchestration.vendors.incident_io_settings import OnCallSettings

    # Each retry would be a line of its own on the standard output; how they ended is told below.
    stamina.instrumentation.set_on_retry_hooks([])
    path = file or FILE
    try:
        config, access = load(path), incident_io_api()
        api = OnCallSettings(str(access.incident_io_api_url), access.incident_io_api_key.get_secret_value())
        yield look(config, path, api, adopt or ()), api
    except (OnCallConfigError, Refused, SettingsError, VendorError) as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _summary(planned: Planned) -> str:
    actions = [change.action for change in planned.pending]
    counts = [f"{actions.count(action)} to {action}" for action in DONE if action in actions]
    return f"{', '.join(counts)}; `dataplatform on-call apply` does it"


def _say(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
