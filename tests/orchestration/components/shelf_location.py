"""A small code location of saved states, for tests of how states are published: three vendors that have books, each made of others."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import ClassVar, override

import dagster as dg
from pydantic import TypeAdapter

from orchestration.components.saved_state import VendorState

LOCATION = __name__
BOOKS = TypeAdapter(dict[str, list[str]])


@dataclass
class Shelf(VendorState):
    """A vendor that has books, each made of others."""

    books: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    error: Exception | None = None
    state_name: ClassVar[str] = "shelf.json"

    @property
    @override
    def source(self) -> str:
        return "https://shelf.example.com"

    @override
    def read(self, last: str | None) -> str:
        if self.error:
            raise self.error
        return json.dumps(self.books)

    @override
    def definitions(self, state: str) -> dg.Definitions:
        return dg.Definitions(assets=[_asset(name, deps) for name, deps in BOOKS.validate_json(state).items()])


def _asset(name: str, deps: list[str]) -> dg.AssetsDefinition:
    # Of these Dagster refuses two with one key, and a cycle, once it has all of them.
    @dg.asset(key=[name], deps=deps)
    def book() -> None: ...

    return book


class Desk(Shelf):
    """The second vendor."""

    state_name = "desk.json"


class Attic(Shelf):
    """The third vendor."""

    state_name = "attic.json"


def defs() -> dg.Definitions:
    """Build the code location, or do what the test's environment asks for: SHELF_FAULT is an error's text, `sleep` or `die`."""
    fault = os.environ.get("SHELF_FAULT")
    if fault == "sleep":
        time.sleep(60)
    if fault == "die":
        os.kill(os.getpid(), 9)
    if fault:
        raise dg.DagsterInvalidDefinitionError(fault)
    context = dg.ComponentTree.for_test().load_context
    return dg.Definitions.merge(*(part().build_defs(context) for part in (Shelf, Desk, Attic)))
