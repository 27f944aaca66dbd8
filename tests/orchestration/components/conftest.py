from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.settings import settings
from sandbox.config import SandboxConfig
from sandbox.env_file import environment


@pytest.fixture
def configured(company: SandboxConfig, tmp_path: Path) -> Iterator[None]:
    """The platform's settings: the stand-ins' addresses, and a state directory of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(company).items():
            patch.setenv(name, value)
        patch.setenv("DATAPLATFORM_STATE_DIR", str(tmp_path / "state"))
        # Cloud Storage's stand-in is started only where it is tested.
        patch.delenv("DATAPLATFORM_STATE_BUCKET")
        settings.cache_clear()
        yield
    settings.cache_clear()
