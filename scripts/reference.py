"""Write the parts of docs/reference that the code says itself: settings, product events, and the commands with their options.

python scripts/reference.py [FOLDER]
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from orchestration.defs_tree import load_tree, read_needs
from orchestration.settings import (
    REPOSITORY,
    DbtSettings,
    IncidentIoSettings,
    MailSettings,
    Need,
    PlatformSettings,
    SlackSettings,
)
from product_events.registry import Version, registry

FOLDER = REPOSITORY / "docs" / "reference"
WRITTEN = "<!-- Written by `make reference`: change the code, not this page. -->"
COMMANDS = {
    "dataplatform": "orchestration.cli",
    "sandbox": "sandbox.cli",
    "python -m product_events": "product_events.__main__",
}
"""What is typed, and the module of its Typer app."""


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.md").write_text("\n".join(settings()) + "\n")
    (folder / "product-events.md").write_text("\n".join(events()) + "\n")
    (folder / "cli.md").write_text("\n".join(commands()) + "\n")


EVERY = "every platform"
NEEDED_BY: dict[type[object], str] = {
    DbtSettings: "every platform, and who builds models",
    IncidentIoSettings: "alerts to incident.io",
    SlackSettings: "alerts to Slack, the morning's warnings",
    MailSettings: "alerts by mail",
}
"""What the variables are needed by that no component requires."""


def settings() -> Iterator[str]:
    """Yield the page of the variables. A vendor is on it where a component in orchestration/defs/ requires its settings."""
    yield from (WRITTEN, "# Settings", "")
    yield "Environment variables, or lines of a file `.env` in the repository's root, which fills in what the environment lacks. `.env.example` is such a file with all of them."
    yield "`dataplatform doctor` reads each, and says what is wrong with it. A variable without a default has to be set, but where it says that it may be left out."
    yield "A vendor's variables are needed by its component alone: a vendor without a component in `orchestration/defs/` is not on this page. incident.io, Slack and mail may each be left out; alerts need one of them, or `ALERTS_WITHOUT_CHANNEL`."
    yield from ("", "| variable | needed by | default | is |", "| --- | --- | --- | --- |")
    needs = read_needs(load_tree())
    vendors = dict.fromkeys(need.settings for need in needs)
    for section in (DbtSettings, *vendors, IncidentIoSettings, SlackSettings, MailSettings, PlatformSettings):
        inherited = {name for base in section.__mro__[1:] for name in getattr(base, "model_fields", {})}
        for name, field in section.model_fields.items():
            if name not in inherited:
                by = _needed_by(section, needs)
                yield f"| `{name.upper()}` | {by} | {_default(field)} | {_cell(field.description or '')} |"


def _needed_by(section: type[object], needs: Sequence[Need]) -> str:
    users = [f"`{need.component.rpartition('.')[2]}` in `{need.file}`" for need in needs if need.settings is section]
    return ", ".join(users) or NEEDED_BY.get(section, EVERY)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "has to be set, a secret" if field.annotation is SecretStr else "has to be set"
    optional = NoneType in get_args(field.annotation)
    return "none" if optional and field.default is None else f"`{_text(field.default)}`"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path) and value.is_relative_to(REPOSITORY):
        return str(value.relative_to(REPOSITORY))
    return str(value)


def events() -> Iterator[str]:
    yield from (WRITTEN, "# Product events", "")
    yield "What the product publishes into BigQuery: the dataset `product_events`, a table for each event. `product_events/registry/` has them, and [adding one](../how-to/add-a-source.md#a-product-event-or-another-version-of-one) is a file."
    yield "Every event has `event_id`, `event_version`, `organisation_id`, `user_id`, `occurred_at` and `received_at` besides. What does not fit is in `product_events.dead_letters`, with the reason."
    for event in registry().events.values():
        yield from ("", f"## {event.name}")
        for version in event.versions:
            yield from ("", f"**Version {version.number}**, of {version.owner}. {_cell(version.description)}", "")
            yield from ("| property | type | is |", "| --- | --- | --- |")
            yield from _properties(version)


def _properties(version: Version) -> Iterator[str]:
    required = version.schema.get("required", [])
    for name, schema in version.properties.items():
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        kind = ", ".join(schema.get("enum", [])) or " or ".join(kinds)
        yield f"| `{name}`{'' if name in required else ' (may be left out)'} | {_cell(kind)} | {_cell(schema['description'])} |"


def commands() -> Iterator[str]:
    yield from (WRITTEN, "# Commands")
    for name, module in COMMANDS.items():
        asked = [sys.executable, "-m", "typer", module, "utils", "docs", "--name", name]
        text = subprocess.run(asked, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout
        # One page: every heading a level lower.
        yield from ("", re.sub(r"^(#+) ", r"\1# ", text, flags=re.MULTILINE).strip())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
