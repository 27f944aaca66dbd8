"""The tables that people read: the dbt project's marts, by the files that make them."""

from __future__ import annotations

from sandbox.config import REPOSITORY

MARTS = REPOSITORY / "dbt_project" / "models" / "marts"


def marts() -> list[str]:
    """`dataset.table` of every mart, in alphabetical order."""
    return sorted(f"{file.parent.name}.{file.stem}" for file in MARTS.glob("*/*.sql"))
