"""The one redactor: text that may leave the platform, without credentials and without the values of rows. Pure.

Names of tables, columns, models and jobs, codes, counts and times stay. Redact a text first, and join or shorten its lines after that:
the rules know the beginning and the end of a line.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from orchestration.core.hidden_characters import remove_hidden_characters
from orchestration.core.personal_data_rules import PERSONAL_DATA
from orchestration.core.secret_rules import LOOKS, SECRET, SECRETS, VALUE
from orchestration.core.value_rules import SQL_LITERALS, VALUES, has_sql, prose_literals

__all__ = ["LONGEST", "SECRET", "VALUE", "redact", "redact_line", "redact_lines"]

LONGEST = 40_000
"""Characters. Of a longer text the beginning and the end are kept: the cause, and the last line of a traceback."""
MOST_PASSES = 6
"""What one rule has replaced can show another rule a value. Texts of real systems need two passes."""


def redact(text: str, names: Collection[str] = ()) -> str:
    """Return the text with credentials as `«secret»` and values of rows as `«value»`, and without hidden characters.

    Args:
        text: An error, a log line, or any other text from a system. It keeps its lines.
        names: Names of this failure's objects, such as those of its tables. They stay where they stand in quotes.
    """
    return _redact(text, frozenset(names))


def redact_lines(text: str, names: Collection[str] = ()) -> list[str]:
    """Return the lines of the redacted text, without those that are empty and without runs of blanks."""
    return [" ".join(line.split()) for line in redact(text, names).splitlines() if line.strip()]


def redact_line(text: str, names: Collection[str] = ()) -> str:
    """Return the redacted text as one line."""
    return " ".join(redact_lines(text, names))


@lru_cache(maxsize=4096)
def _redact(text: str, names: frozenset[str]) -> str:
    text = _cut(remove_hidden_characters(text))
    for _ in range(MOST_PASSES):
        before, text = text, _pass(text, names)
        if text == before:
            break
    return text


def _pass(text: str, names: frozenset[str]) -> str:
    for rule in (*SECRETS, *PERSONAL_DATA, *VALUES):
        text = rule.apply(text)
    for rule in (*(SQL_LITERALS if has_sql(text) else prose_literals(names)), *LOOKS):
        text = rule.apply(text)
    return text


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    # At a blank: half a key would not be known as one.
    head, tail = text[: LONGEST // 2], text[-LONGEST // 2 :]
    head = head[: len(head) - _length_of_word(head[::-1])]
    tail = tail[_length_of_word(tail) :]
    return f"{head}\n…\n{tail}"


def _length_of_word(text: str) -> int:
    match = re.match(r"\S{0,5000}", text)
    return match.end() if match else 0
