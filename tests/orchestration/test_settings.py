from __future__ import annotations

import re

import pytest

from orchestration import settings as module
from orchestration.settings import REPOSITORY, Settings, SettingsError, settings
from sandbox.config import SandboxConfig
from sandbox.env_file import environment

NAMES = {name.upper() for name in Settings.model_fields}
# What the sandbox leaves as it is by default.
REAL_ONLY = {"BIGQUERY_RETRY_SECONDS", "DATAPLATFORM_CODE_URL", "DBT_SCHEMA_PREFIX"}


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch):
    """Makes the given variables the only ones, as on a machine without a .env file."""

    def set_only(values: dict[str, str]) -> None:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(module, "load_dotenv", lambda _path: False)
        settings.cache_clear()

    yield set_only
    settings.cache_clear()


def test_the_example_and_the_sandbox_list_every_variable_and_no_other(tmp_path) -> None:
    listed = re.findall(r"^(?:# )?([A-Z_]+)=", (REPOSITORY / ".env.example").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(NAMES)
    ports = dict.fromkeys(SandboxConfig.load().ports, 1)
    assert set(environment(SandboxConfig(tmp_path, ports))) == NAMES - REAL_ONLY


def test_every_variable_says_what_it_is() -> None:
    assert not [name for name, field in Settings.model_fields.items() if not field.description]


def test_all_that_is_missing_or_malformed_is_named_at_once_with_where_to_get_it(only) -> None:
    only({"DBT_TARGET": "staging", "DATAPLATFORM_URL": "not a url", "HIGHTOUCH_API_KEY": "k", "FIVETRAN_API_KEY": "  "})
    with pytest.raises(SettingsError) as caught:
        settings()
    message = str(caught.value)
    assert "GOOGLE_CLOUD_PROJECT is not set. BigQuery's project" in message
    assert "FIVETRAN_API_SECRET is not set. Fivetran: shown once" in message
    assert "DBT_TARGET is malformed: Input should be 'prod', 'dev' or 'ci'" in message
    assert "DATAPLATFORM_URL is malformed" in message
    assert "FIVETRAN_API_KEY is malformed" in message
    assert "HIGHTOUCH_API_KEY" not in message


def test_secrets_do_not_show(only, tmp_path) -> None:
    ports = dict.fromkeys(SandboxConfig.load().ports, 1)
    only(environment(SandboxConfig(tmp_path, ports)))
    assert "local-hightouch-key" not in repr(settings())
    assert settings().hightouch_api_key.get_secret_value() == "local-hightouch-key"
