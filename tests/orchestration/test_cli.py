"""`dataplatform` as it is typed: a process, its output and its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.settings import Settings
from sandbox.env_file import environment
from tests.orchestration.wire import refused_port
from tests.stand_ins import Vendors


def python(folder: Path, variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python away from the repository, with the platform's variables replaced by these."""
    own = {name.upper() for name in Settings.model_fields}
    clean = {name: value for name, value in os.environ.items() if name not in own}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=clean | variables, capture_output=True, text=True, timeout=200
    )


@pytest.fixture
def configured(vendors: Vendors, tmp_path: Path) -> dict[str, str]:
    return environment(vendors.config) | {"DATAPLATFORM_STATE_DIR": str(tmp_path / "state")}


def test_a_refresh_reads_everything_and_an_outage_then_keeps_it(configured: dict[str, str], tmp_path: Path) -> None:
    first = python(tmp_path, configured, "-m", "orchestration.cli", "refresh")
    assert first.returncode == 0, first.stderr
    state = tmp_path / "state"
    before = (state / "fivetran.json").read_text()
    loaded = python(
        tmp_path,
        configured,
        "-c",
        "from orchestration.definitions import defs; print(len(defs().resolve_all_asset_keys()))",
    )
    assert loaded.stdout.strip() == "148", loaded.stderr

    again = python(tmp_path, configured, "-m", "orchestration.cli", "refresh", "--if-stale")
    assert again.stderr.count("up to date") == 4

    away = configured | {"FIVETRAN_API_URL": f"http://127.0.0.1:{refused_port()}"}
    outage = python(tmp_path, away, "-m", "orchestration.cli", "refresh")
    assert outage.returncode == 1
    assert "fivetran.json: not refreshed, the last state is kept. Fivetran: GET" in " ".join(outage.stderr.split())
    assert "hightouch.json: refreshed" in outage.stderr
    assert (state / "fivetran.json").read_text() == before


def test_a_missing_variable_stops_the_command_and_the_code_location_by_name(
    configured: dict[str, str], tmp_path: Path
) -> None:
    # An empty variable also keeps a `.env` of this checkout from filling it in.
    configured["HIGHTOUCH_API_KEY"] = ""
    for arguments in (
        ["-m", "orchestration.cli", "refresh"],
        ["-c", "from orchestration.definitions import defs; defs()"],
    ):
        result = python(tmp_path, configured, *arguments)
        assert result.returncode == 1
        assert "HIGHTOUCH_API_KEY is malformed" in result.stderr
        assert "Hightouch: Settings, API keys" in result.stderr
