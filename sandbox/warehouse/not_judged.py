"""Statements that the analyzer cannot judge. They reach DuckDB unjudged; each entry says why.

A statement that the analyzer cannot judge and that no entry names fails: an entry is a decision, not a default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A kind of statement. It is recognized by its text, or by the analyzer's answer, whichever of the two is given."""

    name: str
    reason: str
    statement: re.Pattern[str] | None = None
    answer: re.Pattern[str] | None = None


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


ENTRIES = (
    Entry(
        "dynamic SQL",
        "The text of EXECUTE IMMEDIATE exists only while the script runs, and the emulator rewrites it before it hands it on.",
        statement=_pattern(r"^\s*execute\s+immediate\b"),
    ),
    Entry(
        "procedures",
        "CALL and CREATE PROCEDURE: the analyzer does not know procedures. The statements of a body are judged when they run.",
        statement=_pattern(r"^\s*(call\b|(create(\s+or\s+replace)?|drop)\s+procedure\b)"),
    ),
    Entry(
        "table functions",
        "A table function has no fixed columns that could be registered, and the emulator rewrites its definition.",
        statement=_pattern(r"^\s*(create(\s+or\s+replace)?|drop)\s+table\s+function\b"),
        answer=_pattern(r"^user-defined table function$"),
    ),
    Entry(
        "functions of any type",
        "A user-defined function with an argument of type ANY TYPE has no result type before it is called.",
        answer=_pattern(r"^user-defined function of any type$"),
    ),
    Entry(
        "BigQuery ML",
        "Models and the functions ML.*, AI.* and VECTOR_SEARCH are BigQuery's own: GoogleSQL has no signatures for them.",
        statement=_pattern(r"^\s*(create(\s+or\s+replace)?|alter|drop|export)\s+model\b"),
        answer=_pattern(r"^(table-valued )?function not found: `?(ml|ai|vector_search|external_query|gap_fill)`?\b"),
    ),
    Entry(
        "INFORMATION_SCHEMA",
        "A view of INFORMATION_SCHEMA whose columns sandbox/warehouse/information_schema.py does not describe.",
        answer=_pattern(r"^undescribed view of INFORMATION_SCHEMA: "),
    ),
    Entry(
        "indexes",
        "CREATE and DROP of SEARCH and VECTOR INDEX, which GoogleSQL knows in other forms.",
        statement=_pattern(r"^\s*(create(\s+or\s+replace)?|drop|alter)\s+(search|vector)\s+index\b"),
    ),
)


def entry_of_statement(sql: str) -> Entry | None:
    """Return the entry for a statement that is not handed to the analyzer."""
    text = LEADING_COMMENTS.sub("", sql)
    return next((each for each in ENTRIES if each.statement and each.statement.search(text)), None)


def entry_of_answer(message: str) -> Entry | None:
    """Return the entry for what the analyzer answered."""
    return next((each for each in ENTRIES if each.answer and each.answer.search(message)), None)


LEADING_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*|#[^\n]*|/\*.*?\*/)+", re.DOTALL)
