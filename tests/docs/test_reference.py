"""That the pages which are written from the code are those of the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.config import REPOSITORY

WRITTEN = ("settings.md", "product-events.md", "cli.md")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, REPOSITORY / "scripts" / "reference.py", folder], check=True)
    return folder


@pytest.mark.parametrize("page", WRITTEN)
def test_a_page_is_what_the_code_says(written: Path, page: str) -> None:
    assert (REPOSITORY / "docs" / "reference" / page).read_text() == (written / page).read_text(), (
        "run `make reference`"
    )


def test_no_other_page_says_that_it_is_written() -> None:
    pages = (REPOSITORY / "docs" / "reference").glob("*.md")
    assert {page.name for page in pages if "make reference" in page.read_text()} == {*WRITTEN}
