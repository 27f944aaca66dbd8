"""How Fivetran lands sources, by its own dbt packages: the tables, columns and types that the emulated connectors and the models may have.

    landed = Landing.of("stripe")
    landed.types("invoice")  # {"id": "STRING", …}
    landed.faults("invoice", {"id": "INT64", "mood": "STRING"})  # what a table has otherwise

The files in `landing/` are copies of facts, one a service. `corrections.yaml` has what Fivetran's pages say otherwise, each with its source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sandbox.config import REPOSITORY

FOLDER = Path(__file__).with_name("landing")
SERVICES = ("salesforce", "stripe", "zendesk")
SAME_COLUMNS = {
    ("stripe", "subscription_history"): "subscription",
    ("stripe", "price"): "price_plan",
}
"""Tables of which the package reads the columns under another name: it takes the one of two tables that a connection has."""
CUSTOM = {
    ("salesforce", "account"): {
        "organisation_id_c": "STRING",
        "health_score_c": "FLOAT64",
        "health_band_c": "STRING",
        "incidents_28d_c": "FLOAT64",
        "open_tasks_c": "FLOAT64",
        "mrr_c": "FLOAT64",
    },
}
"""The company's own fields, which no package can know. Salesforce's end in `_c`, Zendesk's begin with `custom_`."""
SOURCES = REPOSITORY / "dbt_project" / "models" / "staging"

Columns = dict[str, str]


@dataclass(frozen=True)
class Landing:
    service: str
    tables: Mapping[str, Any]
    corrections: tuple[Mapping[str, str], ...]

    @classmethod
    def of(cls, service: str) -> Landing:
        return _read(service)

    def names(self) -> list[str]:
        """The tables whose columns have types."""
        return [
            table for table, spec in self.tables.items() if "columns" in spec or (self.service, table) in SAME_COLUMNS
        ]

    def of_package(self, table: str) -> Columns:
        """The columns that Fivetran's package reads of a table, with the types that it gives them."""
        spec = self.tables[table]
        if "columns" in spec:
            return spec["columns"]
        known: Columns = self.tables[SAME_COLUMNS[self.service, table]]["columns"]
        return {name: kind for name, kind in known.items() if name in spec["sample"]}

    def types(self, table: str, *, corrected: bool = True) -> Columns:
        """The columns that a table may have, with their types. Without corrections, the types of the package where it has one."""
        package = self.of_package(table)
        corrections = {one["column"]: one["type"] for one in self.corrections if self.corrects(one, table)}
        return (package | corrections if corrected else corrections | package) | CUSTOM.get((self.service, table), {})

    def corrects(self, correction: Mapping[str, str], table: str) -> bool:
        """Whether a correction is for a table: the one that it names, or each that has the column."""
        if "table" in correction:
            return correction["table"] == table
        return correction["column"] in {*self.of_package(table), *self.tables[table].get("sample", ())}

    def faults(self, table: str, columns: Columns) -> Iterator[str]:
        """What a table's columns have otherwise than the spec."""
        if table not in self.names():
            yield f"{self.service}.{table}: Fivetran lands no such table"
            return
        allowed = self.types(table)
        for name, kind in columns.items():
            if name not in allowed:
                yield f"{self.service}.{table}.{name}: Fivetran lands no such column"
            elif allowed[name] != kind:
                yield f"{self.service}.{table}.{name}: {kind}, and Fivetran lands {allowed[name]}"


def declared(service: str) -> dict[str, Columns]:
    """The columns of a service's dbt sources with their data types, by table."""
    [source] = yaml.safe_load((SOURCES / service / f"_{service}__sources.yml").read_text())["sources"]
    return {
        table["name"]: {column["name"]: column["data_type"].upper() for column in table["columns"]}
        for table in source["tables"]
    }


@cache
def _read(service: str) -> Landing:
    tables = yaml.safe_load((FOLDER / f"{service}.yaml").read_text())["tables"]
    corrections = yaml.safe_load((FOLDER / "corrections.yaml").read_text())["corrections"]
    return Landing(service, tables, tuple(one for one in corrections if one["service"] == service))
