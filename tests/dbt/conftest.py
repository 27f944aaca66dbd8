"""The dbt project as production would have it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dbt.project import ENVIRONMENT, Dbt


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of production, parsed with every deprecation as an error."""
    dbt = Dbt(tmp_path_factory.mktemp("prod"), ENVIRONMENT)
    parsed = dbt.run("--warn-error", "parse", "--target", "prod")
    assert parsed.returncode == 0, parsed.stdout
    return dbt.manifest()
