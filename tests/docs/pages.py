"""The documentation's pages as tests read them: commands in `sh` blocks, commands within the text, and what the tests are told beside them.

A comment before a block is for the tests alone; nobody sees it in the rendered page:

| comment | says |
| --- | --- |
| `<!-- tested by: tests/a.py -->` | the block is not run with the pages: that test runs the same |
| `<!-- not run: why -->` | nothing runs it, for this reason |
| `<!-- write: path -->` | the block, of any language, is a file to be written, from the checkout's root |
| `<!-- append: path -->` | the same, at the end of a file that is there |
| `<!-- in the UI: launch ingest -->` | what a reader does in the Dagster UI meanwhile: `launch <job>`, `launch <job>, which fails`, or `backfill <asset> <days>` |
| `<!-- then: text -->` | after a block: a part of what it has printed. After an act in the UI: `incident <title>` or `no incident` |
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from sandbox.config import REPOSITORY

PAGES = sorted([REPOSITORY / "README.md", *REPOSITORY.glob("docs/**/*.md")])
SHELL = "sh"
COMMENT = re.compile(r"<!-- (tested by|not run|write|append|in the UI|then): (.+?) -->")
INNER = re.compile(r"\$\(([^)]*)\)")
PROGRAMS = (
    "dataplatform",
    "sandbox",
    "make",
    "python -m ",
    "dbt ",
    "mfest",
    "dbm",
    "drm",
    "dbs",
    "drs",
    "dg ",
    "dagster ",
)


@dataclass(frozen=True)
class Step:
    """Something of a page, in the order of the page: a block, or a comment that stands for an act or an expectation."""

    page: Path
    line: int
    kind: str
    """`sh`, `tested by`, `not run`, `write`, `append`, `in the UI` or `then`."""
    text: str
    """The block's text; of an act or an expectation, the comment's."""
    note: str = ""
    """What the comment before a block says: the test, the reason, or the path."""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def steps(page: Path) -> list[Step]:
    """What a page has for the tests. Raises ValueError where a comment that needs a block has none behind it."""
    found = list[Step]()
    pending: tuple[str, str] | None = None
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        line = (token.map or [0])[0] + 1
        if token.type == "html_block":
            for kind, text in COMMENT.findall(token.content):
                if kind in {"in the UI", "then"}:
                    found.append(Step(page, line, kind, text))
                elif pending:
                    raise ValueError(f"{page.name}:{line}: two comments before one block")
                else:
                    pending = (kind, text)
        elif token.type == "fence":
            kind, note = pending or (SHELL, "")
            if pending or token.info.strip() == SHELL:
                found.append(Step(page, line, kind, token.content, note))
            pending = None
        elif pending and token.type.endswith("_open"):
            raise ValueError(f"{page.name}:{line}: no block behind the comment `{pending[0]}`")
    return found


def inline(page: Path) -> Iterator[tuple[int, str]]:
    """Commands within the page's text, `like this`, with their lines."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        for child in token.children or ():
            text = " ".join(child.content.split())
            if child.type == "code_inline" and text.startswith(PROGRAMS):
                yield (token.map or [0])[0] + 1, text


def commands(text: str) -> list[list[str]]:
    """The words of each command of a block, without comments and variables set before it; what follows `&&`, `|` or `;`, and what is in `$( )`, is a command too."""
    found, line = list[list[str]](), ""
    for more in text.replace("\\\n", " ").splitlines():
        line += more
        try:
            words = _words(line)
        except ValueError:
            line += "\n"  # a quotation goes on
            continue
        line = ""
        found += [
            *words,
            *(inner for one in words for word in one for text in INNER.findall(word) for inner in _words(text)),
        ]
    if line:
        raise ValueError(f"a quotation without an end: {line}")
    return found


def _words(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if word and set(word) <= set("&|;"):
            found.append([])
        elif found[-1] or not re.match(r"[A-Z_]+=", word):
            found[-1].append(word)
    return [words for words in found if words]
