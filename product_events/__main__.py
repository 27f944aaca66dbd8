"""`python -m product_events`: the registry of product events, their tables, and one event by hand."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from requests.exceptions import RequestException
from rich.console import Console
from rich.table import Column, Table

from product_events.registry import Event, Registry, RegistryError, registry

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
out, err = Console(), Console(stderr=True)

Project = Annotated[
    str, typer.Option(envvar=["BIGQUERY_RAW_PROJECT", "GOOGLE_CLOUD_PROJECT"], help="BigQuery's project.")
]
Location = Annotated[
    str, typer.Option(envvar="BIGQUERY_LOCATION", help="Where the dataset is or is created, such as EU.")
]
Dataset = Annotated[str, typer.Option(help="The dataset of the events' tables.")]


@app.command("list")
def list_events() -> None:
    """Show the registry: each version of each event, its owner, and its properties; * marks the required ones."""
    whole = [Column(name, overflow="fold") for name in ("event", "version", "owner", "properties")]
    table = Table(*whole, "description")
    for event in _registry().events.values():
        for version in event.versions:
            required = version.schema.get("required", [])
            names = ", ".join(name + "*" * (name in required) for name in version.properties)
            table.add_row(event.name, str(version.number), version.owner, names, version.description)
    out.print(table)


@app.command()
def check() -> None:
    """Check every file of the registry. The exit status is 1 where one is wrong."""
    events = _registry().events.values()
    out.print(f"{len(events)} events, {sum(len(event.versions) for event in events)} versions: all right")


@app.command()
def tables(project: Project, location: Location = "US", dataset: Dataset = "product_events") -> None:
    """Create the tables that are missing, and add the columns that are. The exit status is 1 where the registry contradicts a table."""
    from google.cloud.bigquery import Client

    from product_events.tables import DatasetElsewhere, SchemaConflict, apply

    events = _registry()
    try:
        changes = apply(Client(project=project, location=location), dataset, events)
    except (DatasetElsewhere, SchemaConflict, GoogleAPIError, GoogleAuthError, RequestException) as error:
        _fail(error)
    for change in changes:
        out.print(f"{dataset}.{change.table}: {change.done} {', '.join(change.columns)}".rstrip(), soft_wrap=True)


@app.command()
def publish(
    name: Annotated[str, typer.Argument(help="The event, as the registry names it.")],
    project: Project,
    organisation: Annotated[str, typer.Option(help="The organisation that it happened in.")],
    version: Annotated[int | None, typer.Option(help="The version of its schema; the latest where left out.")] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="NAME=VALUE", help="A property, again for each; null for none."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="The user who did it.")] = None,
    occurred_at: Annotated[str | None, typer.Option(help="When, with a time zone; now where left out.")] = None,
    dataset: Dataset = "product_events",
    spool_dir: Annotated[Path | None, typer.Option(help="Where it waits while BigQuery cannot be reached.")] = None,
    seconds: Annotated[float, typer.Option(help="How long BigQuery is tried.")] = 30.0,
) -> None:
    """Publish one event and wait for BigQuery. The exit status is 1 where it became a dead letter or is not delivered."""
    from product_events.publisher import Limits, Publisher, SpoolFull, Undelivered

    events = _registry()
    event = events.events.get(name)
    number = version if version is not None else event.latest.number if event else 1
    values = _properties(event, number, properties or [])
    try:
        moment = datetime.fromisoformat(occurred_at) if occurred_at else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--occurred-at") from None
    try:
        with Publisher(
            project,
            dataset,
            spool_dir=spool_dir,
            events=events,
            limits=Limits(batch_seconds=0.05, flush_seconds=seconds),
        ) as publisher:
            done = publisher.publish(
                name, number, values, organisation_id=organisation, user_id=user, occurred_at=moment
            )
    except (SpoolFull, Undelivered, OSError, GoogleAuthError) as error:
        _fail(error)
    if done.problem:
        _fail(f"{done.event_id} is in {dataset}.dead_letters: {done.problem}")
    out.print(f"{done.event_id} is in {dataset}.{name}")


def _properties(event: Event | None, number: int, pairs: list[str]) -> dict[str, Any]:
    """Text for properties that may be text, and else what the value is as JSON."""
    version = event.version(number) if event else None
    values: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise typer.BadParameter(f"{pair} is not NAME=VALUE", param_hint="--property")
        kinds = version.properties.get(name, {}).get("type", "string") if version else "string"
        values[name] = value if "string" in kinds and value != "null" else _parsed(value)
    return values


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _registry() -> Registry:
    try:
        return registry()
    except RegistryError as error:
        _fail(error)


def _fail(error: object) -> NoReturn:
    err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m product_events")
