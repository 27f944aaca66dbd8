"""Names of tables as they stand in SQL."""

from __future__ import annotations

import re

# Comments and texts first, so that a backtick in them counts for nothing.
LEXEME = re.compile(
    r"""
    (?P<other>
        --[^\n]* | \#[^\n]* | /\*.*?\*/
      | [rR]?[bB]?[rR]?(?: \"\"\"(?:\\.|[^\\])*?\"\"\" | '''(?:\\.|[^\\])*?''' | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
    )
    | `(?P<quoted>(?:\\.|[^`\\\n])+)`
    """,
    re.VERBOSE | re.DOTALL,
)


def split_quoted_paths(sql: str) -> str:
    """Return the statement with `` `a.b.c` `` written as `` `a`.`b`.`c` ``, as BigQuery reads it. Lines stay where they are.

    A name with a dot in backticks can only be a path: no column of BigQuery may have one.
    """

    def rewrite(found: re.Match[str]) -> str:
        quoted = found["quoted"]
        if quoted is None or "." not in quoted:
            return found[0]
        # Old projects are named `domain.com:project`; their dot is part of the name.
        domain, colon, path = quoted.rpartition(":")
        first, *rest = path.split(".")
        return ".".join(f"`{part}`" for part in (f"{domain}{colon}{first}", *rest))

    return LEXEME.sub(rewrite, sql)
