"""`dataplatform dbt`: change models against production's data, and publish what a deploy is made of."""

from __future__ import annotations

import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

if TYPE_CHECKING:
    from types import FrameType

    from orchestration.dbt_loop.workspace import Workspace
    from orchestration.settings import DbtSettings

app = typer.Typer(no_args_is_help=True, help=__doc__)
err = Console(stderr=True)
REST = {"allow_extra_args": True, "ignore_unknown_options": True}
Build = Annotated[
    int | None,
    typer.Option(
        envvar="CIRCLE_BUILD_NUM",
        min=1,
        help="The number of CI's job, so that two of one pull request share no dataset.",
    ),
]
OPTIONS = "Options after it go to dbt as they are: `--full-refresh`, `--exclude a`, `--vars '{…}'`."


@app.command()
def mfest() -> None:
    """Fetch production's newest manifest, and parse this branch."""
    with _told():
        from orchestration.dbt_loop.build import parse, told
        from orchestration.dbt_loop.production import fetch

        values, workspace = _here()
        known = fetch(values, workspace.production)
        workspace.enter()
        parse(workspace)
        _say(told(workspace, known))


@app.command(context_settings=REST, epilog=OPTIONS)
def dbm(context: typer.Context) -> None:
    """Build whatever this branch has changed and what is downstream of it, with tests; the rest is read from production."""
    _modified("build", context.args)


@app.command(context_settings=REST, epilog=OPTIONS)
def drm(context: typer.Context) -> None:
    """Run (without tests) whatever this branch has changed and what is downstream of it; the rest is read from production."""
    _modified("run", context.args)


@app.command(context_settings=REST, epilog=OPTIONS)
def dbs(context: typer.Context) -> None:
    """Build these models, with tests: `dbs incidents+ tag:daily`. All that is not named is read from production."""
    _named("build", context.args)


@app.command(context_settings=REST, epilog=OPTIONS)
def drs(context: typer.Context) -> None:
    """Run (without tests) these models: `drs incidents+ tag:daily`. All that is not named is read from production."""
    _named("run", context.args)


@app.command()
def drop(
    pull_request: Annotated[
        str | None, typer.Option(help="Those of a pull request, by its number or address, or by its branch.")
    ] = None,
    build: Build = None,
) -> None:
    """Drop your own datasets, with all that is in them; of a pull request those of every build, where no build is named."""
    with _told():
        from orchestration.dbt_loop.workspace import Workspace

        values, workspace = _here()
        if pull_request is not None:
            workspace = Workspace.of_pull_request(values, Path.cwd(), pull_request, build)
        _drop(workspace, values)


@app.command(context_settings=REST, epilog=OPTIONS)
def ci(
    context: typer.Context,
    pull_request: Annotated[
        str, typer.Argument(help="The pull request's number or address, or its branch where there is none yet.")
    ],
    build: Build = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the datasets for a look; `drop` drops them.")] = False,
) -> None:
    """What a pull request is checked by: fetch production's manifest, build what changed into datasets of its own, drop them.

    They are dropped whatever the build does, also where it is interrupted.
    """
    with _told():
        from orchestration.dbt_loop import build as dbt
        from orchestration.dbt_loop.production import fetch
        from orchestration.dbt_loop.workspace import Workspace

        values = _settings()
        workspace = Workspace.of_pull_request(values, Path.cwd(), pull_request, build)
        known = fetch(values, workspace.production)
        _say(dbt.told(workspace, known))
        # A job that is cancelled gets SIGTERM, at which Python would end at once.
        signal.signal(signal.SIGTERM, _interrupted)
        try:
            well = dbt.build("build", [dbt.MODIFIED], workspace, known, context.args)
        finally:
            if not keep:
                _drop(workspace, values)
        if not well:
            raise typer.Exit(1)


@app.command()
def check(
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select", "-s", help="Report only these, in dbt's words: `+incidents`, `tag:daily`. May be repeated."
        ),
    ] = None,
    variables: Annotated[str, typer.Option("--vars", help="dbt's variables, as YAML.")] = "{}",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Have the configured BigQuery judge each statement instead, against the tables as they are.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compile the project without a connection, and have Google's analyzer judge each statement, and those of consumers in the saved state.

    The exit status is 1 where a statement is rejected. A statement that cannot be judged is counted, with the reason.
    """
    with _told():
        from orchestration.dbt_loop.check_command import run

        if not run(select or (), variables, _out, as_json=as_json, dry_run=dry_run):
            raise typer.Exit(1)


@app.command()
def publish(
    manifest: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Which file; else the one that `refresh` has parsed."),
    ] = None,
) -> None:
    """Leave the manifest of this deploy in Cloud Storage, where `mfest` finds it. The asset dbt/manifest does so after each deploy."""
    with _told():
        from datetime import UTC, datetime

        from orchestration.dbt_loop.deploys import publish as leave
        from orchestration.vendors.dbt_manifests import MANIFEST

        values = _settings()
        path = manifest or values.dataplatform_state_dir / "dbt" / MANIFEST
        now = leave(values, path, datetime.now(UTC))
        _say(
            f"production's manifest: commit {now.commit[:12]}, deployed {now.deployed_at:%Y-%m-%d %H:%M:%S} UTC, dbt {now.dbt_version}"
        )


@app.command()
def deployed(
    commit: Annotated[str, typer.Argument(help="Of the deploy: the whole of its SHA.")],
    timeout: Annotated[float, typer.Option(min=1, help="Seconds.")] = 900,
) -> None:
    """Wait until production has published the manifest of a commit: it then runs that commit. The exit status is 2 where it does not in time."""
    with _told():
        import time

        from orchestration.dbt_loop.production import manifests
        from orchestration.dbt_loop.workspace import Refused

        published, deadline = manifests(_settings()), time.monotonic() + timeout
        while (latest := published.latest()) is None or latest.commit != commit:
            if time.monotonic() > deadline:
                runs = f"commit {latest.commit[:12]}" if latest else "nothing that was published"
                raise Refused(
                    f"After {timeout:.0f} s production runs {runs}: see whether the code location has loaded, and the sensor `deployed`."
                )
            time.sleep(min(5, timeout))
        _say(f"production runs commit {commit[:12]}")


def _modified(command: str, rest: Sequence[str]) -> None:
    from orchestration.dbt_loop.build import MODIFIED

    if rest and not rest[0].startswith("-"):
        _stop(f"`{rest[0]}` is no option: name models with `dbs` or `drs`.")
    _build(command, [MODIFIED], rest)


def _named(command: str, rest: Sequence[str]) -> None:
    options = next((place for place, argument in enumerate(rest) if argument.startswith("-")), len(rest))
    if not options:
        _stop("Name what to build first: models, `+` for what is up- or downstream, `tag:…`. Options come after.")
    _build(command, rest[:options], rest[options:])


def _build(command: str, select: Sequence[str], extra: Sequence[str]) -> None:
    with _told():
        from orchestration.dbt_loop.build import build, told
        from orchestration.dbt_loop.production import fetched

        _values, workspace = _here()
        known = fetched(workspace.production)
        _say(told(workspace, known))
        if not build(command, select, workspace, known, extra):
            raise typer.Exit(1)


def _drop(workspace: Workspace, values: DbtSettings) -> None:
    from orchestration.dbt_loop.datasets import drop

    dropped = list(drop(workspace, values.bigquery_location))
    _say(f"dropped: {', '.join(dropped)}" if dropped else f"nothing to drop: no dataset of {workspace.prefix}")


def _settings() -> DbtSettings:
    from orchestration.settings import dbt_settings

    return dbt_settings()


def _here() -> tuple[DbtSettings, Workspace]:
    from orchestration.dbt_loop.workspace import Workspace

    values = _settings()
    return values, Workspace.of(values, Path.cwd())


@contextmanager
def _told() -> Generator[None]:
    """What a person can mend, as a line and the exit status 2; 1 is for models that fail."""
    from orchestration.dbt_loop.workspace import Refused
    from orchestration.settings import SettingsError

    try:
        yield
    except (Refused, SettingsError) as error:
        _stop(str(error))
    except typer.Exit:
        raise
    except Exception as error:
        # Google's client takes a second to import, and a build without an error does not need it here.
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        from orchestration.vendors.dbt_manifests import ManifestInvalid, NoManifest

        if isinstance(error, GoogleAPIError | GoogleAuthError | RequestException | ManifestInvalid | NoManifest):
            _stop(f"{type(error).__name__}: {error}")
        raise


def _out(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    err.print(text, markup=False, highlight=False, soft_wrap=True)


def _stop(text: str) -> NoReturn:
    err.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
