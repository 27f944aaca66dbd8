"""Asset keys: an asset is named by what it is in the warehouse or in the vendor. Nothing else in the project makes keys."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import sqlglot
from sqlglot import exp

RESOLVED = "dataplatform_asset_key"
"""The field of a node of a manifest with the parts of its key, where another node would have the same one (lineage/dbt_keys.py)."""
HELD = re.compile(r"[A-Za-z0-9_.-]+")
"""A part of a key that Dagster can build a step's output of: `AssetKey.to_python_identifier` replaces `-` and `.` only, and
`check_valid_name` (dagster/_core/definitions/utils.py) refuses what is then no letter, digit or underscore."""


def part(name: str) -> str:
    """Return a name as a part of a key.

    A name with other characters than ASCII letters, digits, `_`, `-` and `.` is written with these, and ends with a checksum of the
    name, so that two names never become one: `größen` is `grossen_` and four hexadecimal digits.
    """
    if HELD.fullmatch(name):
        return name
    return f"{_ascii(name) or 'unnamed'}_{checksum(name)}"


def checksum(name: str) -> str:
    """Return four hexadecimal digits that tell a name from similar ones."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:4]


def table(dataset: str, name: str) -> dg.AssetKey:
    """A table that a loader writes."""
    return dg.AssetKey([part(dataset), part(name)])


def consumer(vendor: str, slug: str) -> dg.AssetKey:
    """A Hightouch sync, an Explo dashboard, an Omni document, a Hex project."""
    return dg.AssetKey([part(vendor), part(slug)])


def dbt_node(node: Mapping[str, Any]) -> dg.AssetKey:
    """A node of dbt's manifest: a source by the table that lands it, the rest by schema and table.

    The schema is the configured one, which has no prefix of an environment: the graph is the same in every target. The table is
    the alias, which tells the versions of a model apart. Where `lineage/dbt_keys.py` has given the node another key, it is that one.
    """
    if resolved := node.get(RESOLVED):
        return dg.AssetKey(resolved)
    if node["resource_type"] == "source":
        return table(node["schema"], node["identifier"])
    return table(dbt_schema(node), node.get("alias") or node["name"])


def dbt_schema(node: Mapping[str, Any]) -> str:
    """Return the schema of a node without the environment's prefix: of a source its own, else the configured one."""
    if node["resource_type"] == "source":
        return node["schema"]
    return node["config"].get("schema") or node["schema"]


def tables_read(sql: str) -> list[dg.AssetKey]:
    """The tables that a BigQuery query reads, in alphabetical order, by dataset and name. Names without a dataset are its own.

    Raises sqlglot.errors.ParseError for SQL that BigQuery would refuse too.
    """
    found = {
        table(read.db, read.name)
        for tree in sqlglot.parse(sql, dialect="bigquery")
        if tree
        for read in tree.find_all(exp.Table)
        if read.db
    }
    return sorted(found, key=lambda key: key.to_user_string())


def table_named(name: str) -> dg.AssetKey:
    """The key of `[project.]dataset.table`. Raises ValueError for a name without a dataset."""
    parts = name.replace("`", "").split(".")
    if len(parts) < 2:
        raise ValueError(f"{name!r} has no dataset")
    return table(parts[-2], parts[-1])


def slug(name: str) -> str:
    """A name as a part of a key: lower case, ASCII letters and digits, `_` for the rest; "unnamed" where nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "unnamed"


def _ascii(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "_", plain).strip("_")


def slugs(names: Mapping[str, str], kept: Mapping[str, str], shorten: Callable[[str], str] = slug) -> dict[str, str]:
    """A slug for each id of a vendor, from its name; those in `kept` stay, whatever they are called now.

    So an asset keeps its history when its dashboard is renamed. Of two with one name the second has its id in its slug. `shorten` makes a
    slug of a name; a vendor that has slugs of its own needs none.
    """
    found = {id_: kept[id_] for id_ in names if id_ in kept}
    taken = set(found.values())
    for id_ in sorted(names.keys() - found.keys()):
        short = shorten(names[id_])
        found[id_] = short if short not in taken else f"{short}_{slug(id_)}"
        taken.add(found[id_])
    return found
