"""`sandbox`: the stand-ins for every vendor and the warehouse, on loopback, and what can be broken in them."""

from __future__ import annotations

import shutil
from datetime import datetime
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sandbox.config import VENDORS, ConfigurationError, SandboxConfig
from sandbox.vendors.faults import DEFAULT_KIND, KINDS

app = typer.Typer(no_args_is_help=True, help=__doc__, rich_markup_mode="markdown", pretty_exceptions_enable=False)
clock_app = typer.Typer(
    no_args_is_help=True, help="The on-call clock of the stand-ins: which hour incident.io believes it is."
)
app.add_typer(clock_app, name="clock")
console = Console()

Scale = Annotated[float, typer.Option(help="Size of the company's history; 1.0 is 60 organisations over 90 days.")]


SERVICES = {
    "billing_customers": "Stripe customers", "billing_subscriptions": "Stripe subscriptions",
    "billing_invoices": "Stripe invoices", "support_tickets": "Zendesk tickets", "support_comments": "Zendesk comments",
}  # fmt: skip
"""What the tables around the product's are to those who read `sandbox tick`."""


def _config() -> SandboxConfig:
    try:
        return SandboxConfig.load()
    except ConfigurationError as error:
        raise _fail(str(error)) from error


def _fail(message: str) -> typer.Exit:
    # As text, not markup: a message may hold [brackets].
    Console(stderr=True).print(Text(message, style="red"), soft_wrap=True)
    return typer.Exit(1)


@app.command()
def up(
    scale: Scale = 1.0,
    platform: Annotated[bool, typer.Option(help="Start Dagster too.")] = True,
) -> None:
    """Start everything that does not run yet, and wait until it is healthy. Safe to repeat."""
    start(_config(), scale, platform=platform)


def start(config: SandboxConfig, scale: float, *, platform: bool) -> None:
    """Bring the sandbox up, printing a line a service; exits with 1 and the reason where one does not start."""
    from sandbox import env_file
    from sandbox.stack import stack
    from sandbox.supervisor import ServiceError, Started

    def show(done: Started) -> None:
        console.print(f"  {done.name:<12} {done.state} [dim]({done.seconds:.1f} s)[/dim]", highlight=False)

    path, written = env_file.write(config)
    if not written:
        console.print(f"[yellow]{path} is your own and was left alone: commands typed by hand use it[/yellow]")
    try:
        stack(config, scale=scale, with_platform=platform).up(show)
    except ServiceError as error:
        raise _fail(str(error)) from error


@app.command()
def down() -> None:
    """Stop everything; what it holds is kept for the next `up`."""
    from sandbox.stack import stack

    stack(_config()).down(lambda name: console.print(f"  {name:<12} stopped"))


@app.command()
def status() -> None:
    """Say what runs and where, and what is broken on purpose. Exit status 1 unless all of it is healthy."""
    from sandbox import beat
    from sandbox.stack import stack

    config = _config()
    states = stack(config).status()
    table = Table("service", "state", "address", box=None)
    addresses = {
        "warehouse": config.url("bigquery"),
        "storage": config.url("storage"),
        "postgres": f"127.0.0.1:{config.port('postgres')}",
        "vendors": config.url("control"),
        "code-server": f"127.0.0.1:{config.port('code_server')}",
        "webserver": config.url("dagster"),
        "daemon": "",
    }
    for name, state in states.items():
        colour = {"healthy": "green", "stopped": "dim"}.get(state, "red")
        table.add_row(name, Text(state, style=colour), addresses[name])
    console.print(table)
    if states["vendors"] == "healthy":
        for vendor in VENDORS:
            console.print(Text(f"  {vendor:<12} {config.url(vendor)}"))
        for fault in _control(config, "GET", "faults"):
            console.print(Text(f"  broken: {_described(fault)}"))
    beats = beat.last(config) if states["vendors"] == "healthy" else [beat.UNKNOWN]
    for line in beats:
        console.print(Text(f"  {line.text}", style="" if line.well else "red"), soft_wrap=True)
    if any(state != "healthy" for state in states.values()) or any(line.failing for line in beats):
        raise typer.Exit(1)


@app.command()
def reset(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Stop everything and delete the sandbox's state: the next `up` starts the company's history anew."""
    config = _config()
    if not yes:
        typer.confirm(f"Delete {config.root}?", abort=True)
    down()
    shutil.rmtree(config.root)


@app.command()
def tick(
    hours: Annotated[int, typer.Argument(min=1, max=24 * 14, help="Hours to move forward.")] = 1,
) -> None:
    """Move the company forward: the product database's rows, billing (Stripe) and support (Zendesk), and what people do meanwhile."""
    import os

    import psycopg

    from product_events.publisher import Undelivered
    from sandbox.company import activity
    from sandbox.company.tick import NotSeeded
    from sandbox.company.tick import tick as move
    from sandbox.env_file import environment
    from sandbox.services import postgres

    config = _config()
    # The product's publisher makes its client from the environment, as in the product.
    os.environ.update(environment(config))
    try:
        result = move(postgres.dsn(config), hours)
    except NotSeeded as error:
        raise _fail(str(error)) from error
    except psycopg.OperationalError as error:
        address = f"127.0.0.1:{config.port('postgres')}"
        raise _fail(f"the product database does not answer at {address}: run `sandbox up`") from error
    table = Table("table", "inserted", "updated", "deleted", box=None)
    for name, counts in sorted(result.tables.items()):
        table.add_row(name, str(counts.inserted), str(counts.updated), str(counts.deleted))
    console.print(table)
    for name, counts in sorted(result.services.items()):
        console.print(f"{SERVICES[name]}: {counts.inserted} inserted, {counts.updated} updated", highlight=False)
    console.print(
        f"{len(result.organisations)} organisations changed: {', '.join(sorted(result.organisations))}", soft_wrap=True
    )
    try:
        sent = activity.live(config, result.organisations)
    except (activity.NotSent, Undelivered) as error:
        raise _fail(f"the company has moved, but not all of what its people did was sent: {error}") from error
    for name, count in sorted((sent.messages | sent.events).items()):
        console.print(f"sent {name}: {count}", highlight=False)


@app.command(name="sql")
def sql_(
    statement: Annotated[str, typer.Argument(help="One or more statements; the last one's rows are printed.")],
) -> None:
    """Run SQL on the product database, as its developers do: change its rows, or its schema."""
    import psycopg

    from sandbox.services import postgres

    config = _config()
    try:
        with psycopg.connect(postgres.dsn(config), connect_timeout=5) as connection:
            result = connection.execute(statement.encode())
            while result.nextset():
                pass
            names = [column.name for column in result.description or ()]
            rows = result.fetchall() if names else []
    except psycopg.OperationalError as error:
        if error.sqlstate is None:
            address = f"127.0.0.1:{config.port('postgres')}"
            raise _fail(f"the product database does not answer at {address}: run `sandbox up`") from error
        raise _fail(" ".join(str(error).split())) from error
    except psycopg.Error as error:
        raise _fail(" ".join(str(error).split())) from error
    if names:
        table = Table(*names, box=None)
        for row in rows:
            table.add_row(*(Text("" if value is None else str(value)) for value in row))
        console.print(table)
    count = max(result.rowcount, 0)
    console.print(f"{count} {'row' if count == 1 else 'rows'}", highlight=False)


def _kinds_help() -> str:
    """Every fault by vendor, as a Markdown list: Typer keeps a list's lines only when blank lines part them."""
    lines = [
        "**Faults by vendor** (the first is the default; without a TARGET it is http_500 where that one needs a TARGET)"
    ]
    for vendor in VENDORS:
        default = DEFAULT_KIND[vendor]
        names = [default, *(name for name, kind in KINDS.items() if vendor in kind.vendors and name != default)]
        lines.append(f"- **{vendor}**: {', '.join(names)}")
    lines.append("**What they do**")
    for name, kind in KINDS.items():
        takes = "".join(f"; `--param {key}={value}`" for key, value in kind.params.items())
        lines.append(f"- **{name}**: {kind.description}{takes}{' (needs a TARGET)' if kind.needs_target else ''}")
    return "\n\n".join(lines)


@app.command(name="break", epilog=_kinds_help())
def break_(
    vendor: Annotated[str, typer.Argument(help=f"One of {', '.join(VENDORS)}.")],
    target: Annotated[
        str | None,
        typer.Argument(
            help="The name of the sync; for a fault on the wire, a part of the method and path that it strikes: 'POST /v1'."
        ),
    ] = None,
    fault: Annotated[str | None, typer.Option(help="The kind of fault.")] = None,
    times: Annotated[int | None, typer.Option(min=1, help="How often it strikes; else until it is mended.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="key=value, as often as needed.")] = None,
) -> None:
    """Break a vendor on purpose, until `sandbox mend` or for a number of times."""
    body = {"vendor": vendor, "target": target, "kind": fault, "params": _params(fault, param or []), "times": times}
    made = _control(_config(), "POST", "faults", body)
    console.print(Text(f"broken: {_described(made)}", style="red"), soft_wrap=True)
    where = f"{vendor} {target}" if target else vendor
    console.print(Text(f"mend it with: sandbox mend {where}"), soft_wrap=True)


@app.command()
def mend(
    vendor: Annotated[str | None, typer.Argument(help="Only this vendor's faults.")] = None,
    target: Annotated[str | None, typer.Argument(help="Only those with this target.")] = None,
) -> None:
    """Mend what `sandbox break` broke: everything, a vendor, or one target of it."""
    query = {name: value for name, value in (("vendor", vendor), ("target", target)) if value is not None}
    removed = _control(_config(), "DELETE", "faults", query=query)["removed"]
    console.print(f"{removed} {'fault' if removed == 1 else 'faults'} mended" if removed else "nothing was broken")


@app.command()
def content(
    hightouch: Annotated[int, typer.Option(help="Syncs to add.", min=0)] = 0,
    omni: Annotated[int, typer.Option(help="Documents to add.", min=0)] = 0,
    explo: Annotated[int, typer.Option(help="Dashboards to add.", min=0)] = 0,
    hex_: Annotated[int, typer.Option("--hex", help="Projects to add.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="The same seed adds the same names and tables.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables that each reads.")] = False,
) -> None:
    """Add any number of syncs, documents, dashboards and projects that read the marts; `dataplatform refresh` then finds them."""
    import json

    wanted = {"hightouch": hightouch, "omni": omni, "explo": explo, "hex": hex_}
    if not any(wanted.values()):
        raise _fail("nothing to add: give --hightouch, --omni, --explo or --hex a number")
    truth = _control(_config(), "POST", "content", wanted | {"seed": seed})
    if as_json:
        print(json.dumps(truth, indent=1))
        return
    for vendor, pieces in truth.items():
        console.print(f"{vendor}: {len(pieces)} added", highlight=False)
    console.print("`dataplatform refresh` puts them into the graph", highlight=False)


def _described(fault: dict) -> str:
    """One line about a fault, as the control app gives it."""
    target = f" {fault['target']}" if fault["target"] else ""
    params = ", ".join(f"{key}={value}" for key, value in fault["params"].items())
    strikes = f", {fault['times']} more" if fault["times"] else ""
    return f"{fault['vendor']}{target}: {fault['kind']}, {KINDS[fault['kind']].description}{f' ({params})' if params else ''}{strikes}"


def _params(kind: str | None, given: list[str]) -> dict[str, int | float | str]:
    """`key=value` texts as values of the type that the parameter's default has; an unknown name is left to the control app."""
    defaults = {key: value for name, k in KINDS.items() if kind in {None, name} for key, value in k.params.items()}
    values: dict[str, int | float | str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise _fail(f"--param {text!r} is not key=value")
        wanted = type(defaults.get(key, ""))
        try:
            values[key] = wanted(value)
        except ValueError as error:
            raise _fail(f"--param {key} is a number, such as {defaults[key]}; {value!r} is not") from error
    return values


@app.command(name="env")
def env() -> None:
    """Print the variables that point the platform at the stand-ins, for `eval \"$(sandbox env)\"`."""
    import shlex

    from sandbox.services.platform import platform_environment

    for name, value in platform_environment(_config()).items():
        print(f"export {name}={shlex.quote(value)}")


@app.command()
def demo(scale: Scale = 1.0) -> None:
    """Start everything, materialize what is missing of the graph, and print what moved."""
    from sandbox.demo import DemoError, run

    config = _config()
    console.print("[bold]Starting the stand-ins and Dagster[/bold]")
    start(config, scale, platform=True)
    try:
        run(config, console)
    except DemoError as error:
        raise _fail(str(error)) from error
    except (httpx.HTTPError, RuntimeError, TimeoutError) as error:
        raise _fail(f"Dagster did not do it: {error}. See `sandbox status` and {config.root / 'logs'}") from error


@clock_app.command("show")
def clock_show() -> None:
    """Print the stand-ins' time."""
    console.print(_control(_config(), "GET", "clock")["now"])


@clock_app.command("set")
def clock_set(
    at: Annotated[str, typer.Argument(help="ISO 8601 with an offset, such as 2026-11-23T03:00:00+00:00.")],
) -> None:
    """Set the stand-ins' time; it runs on from there."""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise _fail(f"{at!r} is not an ISO 8601 time, such as 2026-11-23T03:00:00+00:00") from error
    if moment.tzinfo is None:
        raise _fail(f"{at!r} has no offset: add one, such as {at}+00:00")
    console.print(_control(_config(), "POST", "clock", {"at": moment.isoformat()})["now"])


@clock_app.command("reset")
def clock_reset() -> None:
    """Back to this machine's time."""
    console.print(_control(_config(), "DELETE", "clock")["now"])


def _control(config: SandboxConfig, method: str, path: str, body: dict | None = None, query: dict | None = None):
    try:
        answer = httpx.request(method, f"{config.url('control')}/_control/{path}", json=body, params=query, timeout=15)
    except httpx.TransportError as error:
        raise _fail(f"the vendor stand-ins do not answer at {config.url('control')}: run `sandbox up`") from error
    if answer.is_error:
        raise _fail(str(answer.json().get("detail", answer.text)))
    return answer.json()


if __name__ == "__main__":
    app()
