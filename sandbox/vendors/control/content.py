"""Content of any size for the vendors whose content the platform discovers, with the truth of what each piece of it reads."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from sandbox.company.marts import marts, with_column
from sandbox.vendors.context import VendorContext
from sandbox.vendors.hightouch.content import KEY
from sandbox.vendors.store import Store

Add = Callable[[Store, int, Sequence[str], int], Mapping[str, Sequence[str]]]
MAKERS = {"hightouch": "add_syncs", "omni": "add_documents", "explo": "add_dashboards", "hex": "add_projects"}
"""What adds content to a vendor: a function of its module `content`."""

Count = Annotated[int, Field(ge=0, le=10_000)]


class Wanted(BaseModel):
    """How many syncs, documents, dashboards and projects to add. The same seed adds the same names and tables."""

    hightouch: Count = 0
    omni: Count = 0
    explo: Count = 0
    hex: Count = 0
    seed: int = 1


def add(store: Store, wanted: Wanted) -> dict[str, dict[str, list[str]]]:
    """Add what is wanted; return the tables that each piece reads, by the vendor and by the vendor's own name for it."""
    truth: dict[str, dict[str, list[str]]] = {}
    for vendor, name in MAKERS.items():
        if count := getattr(wanted, vendor):
            maker: Add = getattr(importlib.import_module(f"sandbox.vendors.{vendor}.content"), name)
            # A sync needs a key, where the others read whatever there is.
            tables = with_column(KEY) if vendor == "hightouch" else marts()
            truth[vendor] = {piece: sorted(read) for piece, read in maker(store, count, tables, wanted.seed).items()}
    return truth


def router(context: VendorContext) -> APIRouter:
    routes = APIRouter()

    @routes.post("/content")
    def content(body: Wanted) -> dict[str, dict[str, list[str]]]:
        return add(context.store, body)

    return routes
