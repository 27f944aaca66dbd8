"""The tables that people read: the dbt project's marts, by the files that make them."""

from __future__ import annotations

from sandbox.config import REPOSITORY

MARTS = REPOSITORY / "dbt_project" / "models" / "marts"


def marts() -> list[str]:
    """`dataset.table` of every mart, in alphabetical order."""
    # The first version of a model has the table that the model had before there was a second.
    return sorted(f"{file.parent.name}.{file.stem.removesuffix('_v1')}" for file in MARTS.glob("*/*.sql"))
