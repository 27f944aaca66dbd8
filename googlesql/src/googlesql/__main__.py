"""Compile the analyzer, so that the first process that needs it does not: `python -m googlesql`."""

from __future__ import annotations

import time

from googlesql import Analyzer
from googlesql.service import cache_directory


def main() -> None:
    """Compile the analyzer where this machine has not compiled it yet, analyze one statement, and print how long it took."""
    print(f"compiling the SQL analyzer into {cache_directory()} (once a machine, about 15 s)", flush=True)
    began = time.monotonic()
    Analyzer().analyze("select 1")
    print(f"the SQL analyzer is ready after {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
