"""What a person sees: the lineage graph in Dagster's UI and the control room, in Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.e2e.conftest import Platform, wait_for

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def page(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"), executable_path=CHROMIUM, headless=True, args=ARGUMENTS,
            viewport={"width": 1900, "height": 1100},
        )  # fmt: skip
        yield context.new_page()
        context.close()


def test_the_whole_lineage_is_one_graph_in_the_ui(platform: Platform, page: Page, tmp_path: Path) -> None:
    page.goto(f"{platform.config.url('dagster')}/asset-groups")
    for group in ("ingestion", "staging", "intermediate", "insights", "sales", "analytics", "activation"):
        page.wait_for_selector(f"text=/^{group}$/", timeout=60_000)
    page.goto(f"{platform.config.url('dagster')}/assets/explo/on_call_load?view=lineage&lineageScope=upstream")
    for name in ("on_call_load", "pages_by_responder", "stg_product__pages"):
        page.wait_for_selector(f"text={name}", timeout=60_000)


def test_the_control_room_shows_what_is_broken_who_was_paged_and_the_way_back(platform: Platform, page: Page) -> None:
    known = len(platform.pages())
    platform.sandbox("break", "fivetran", "product")
    try:
        platform.ingest()
        wait_for(lambda: len(platform.pages()) > known, 15, "somebody is paged")
        page.goto(platform.config.url("control"))
        text = page.inner_text("body")
        assert "sync_failure" in text
        assert "Fivetran sync of `product` failed: 3 customer dashboards hurt" in text
        assert platform.pages()[-1]["user"] in text
    finally:
        platform.sandbox("mend")
    platform.ingest()
    wait_for(lambda: platform.alert_events()[-1]["status"] == "resolved", 15, "the alert is resolved")
    page.goto(platform.config.url("control"))
    assert "sync_failure" not in page.inner_text("body")
