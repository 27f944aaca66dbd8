"""The tables that people read: the dbt project's marts, by the files that make them."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from sandbox.config import REPOSITORY

MARTS = REPOSITORY / "dbt_project" / "models" / "marts"


def marts() -> list[str]:
    """`dataset.table` of every mart, in alphabetical order."""
    # The first version of a model has the table that the model had before there was a second.
    return sorted(f"{file.parent.name}.{file.stem.removesuffix('_v1')}" for file in MARTS.glob("*/*.sql"))


def with_column(name: str) -> list[str]:
    """Those of `marts` that have a column, by their contracts."""
    having = set(_models_with(name))
    return [mart for mart in marts() if mart.rpartition("_v2")[0] in having or mart in having]


def _models_with(column: str) -> Iterator[str]:
    for file in MARTS.glob("*/_*__models.yml"):
        for model in yaml.safe_load(file.read_text())["models"]:
            if column in {one["name"] for one in model["columns"]}:
                yield f"{file.parent.name}.{model['name']}"
