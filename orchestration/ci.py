"""`dataplatform ci`: tell Dagster what became of a job of CI, so that one that fails on main is alerted of as a failed asset is."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import typer

FOLDER = "ci"
"""What the keys of the assets begin with: `ci/<job>`."""
TRIES, SECONDS = 4, 20.0

app = typer.Typer(no_args_is_help=True, help=__doc__)

Job = Annotated[str, typer.Argument(envvar="CIRCLE_JOB", help="The job's name, as in .circleci/config.yml.")]
Dagster = Annotated[
    str, typer.Option(envvar="DATAPLATFORM_URL", help="Where Dagster's webserver answers; no sign-in may be before it.")
]
Url = Annotated[str, typer.Option(envvar="CIRCLE_BUILD_URL", help="The page of this run of the job.")]
Commit = Annotated[str, typer.Option(envvar="CIRCLE_SHA1", help="The commit that it ran for.")]


@app.callback()
def main() -> None:
    """Tell Dagster what became of a job of CI."""


@app.command()
def failed(job: Job, dagster_url: Dagster, url: Url, commit: Commit) -> None:
    """A job has failed: an alert, until it passes. The exit status is 1 where Dagster was not told."""
    _post(dagster_url, "observation", job, {**_facts(url, commit), **_failure(job, url, commit)})


@app.command()
def passed(job: Job, dagster_url: Dagster, url: Url, commit: Commit) -> None:
    """A job has passed: its alert, if there is one, is over. The exit status is 1 where Dagster was not told."""
    _post(dagster_url, "materialization", job, _facts(url, commit))


def _facts(url: str, commit: str) -> dict[str, Any]:
    return {"commit": commit, "url": url}


def _failure(job: str, url: str, commit: str) -> dict[str, Any]:
    from orchestration.lineage.failures import FailedUnit, to_metadata

    key = f"{FOLDER}/{job}"
    error = f"The job `{job}` of CI failed on main, at commit {commit[:12]}."
    return to_metadata([FailedUnit(key, (key,), error, vendor_url=url, permanent=True)])


def _post(dagster_url: str, event: str, job: str, metadata: dict[str, Any]) -> None:
    """Report an event (https://docs.dagster.io/api/rest-apis/external-assets-rest-api)."""
    import httpx
    import stamina

    address = f"{dagster_url.rstrip('/')}/report_asset_{event}/{FOLDER}/{job}"
    try:
        # Said twice it is no second alert.
        for attempt in stamina.retry_context(on=httpx.HTTPError, attempts=TRIES, wait_max=SECONDS):
            with attempt:
                httpx.post(address, json={"metadata": metadata}, timeout=SECONDS).raise_for_status()
    except httpx.HTTPError as error:
        _fail(f"Dagster was not told that `{job}` has {'failed' if event == 'observation' else 'passed'}: {error}")


def _fail(text: str) -> NoReturn:
    typer.secho(text, fg=typer.colors.RED, err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
