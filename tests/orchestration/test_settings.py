from __future__ import annotations

import re

import pytest

from orchestration import settings as module
from orchestration.settings import REPOSITORY, Settings, SettingsError, settings
from sandbox.config import SandboxConfig
from sandbox.env_file import environment

NAMES = {name.upper() for name in Settings.model_fields}
# What the sandbox leaves as it is by default.
REAL_ONLY = {"BIGQUERY_RETRY_SECONDS", "DAGSTER_COMPUTE_LOGS_BUCKET", "DATAPLATFORM_CODE_URL", "DATAPLATFORM_COMMIT", "DATAPLATFORM_STATE_ON_LOAD", "DBT_SCHEMA_PREFIX", "INCIDENT_IO_FALLBACK_MINUTES"} | {
    "BIGQUERY_RAW_PROJECT", "BIGQUERY_DEV_PROJECT",
    "ALERT_QUEUE_MINUTES", "DIGEST_CRON", "DIGEST_TIME_ZONE", "INCIDENT_IO_HEARTBEAT_SECONDS", "INCIDENT_IO_SCHEDULE", "OMNI_REQUESTS_PER_MINUTE", "SLACK_RESPONDER_GROUP",
    "SMTP_HOST", "SMTP_PORT", "SMTP_SECURITY", "SMTP_USER", "SMTP_PASSWORD", "ALERT_MAIL_FROM", "ALERT_MAIL_TO",
}  # fmt: skip


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


MAIL = {
    "SMTP_HOST": "mail.example.com",
    "ALERT_MAIL_FROM": "dagster@example.com",
    "ALERT_MAIL_TO": "ada@example.com, bob@example.com",
}


@pytest.mark.parametrize(
    ("mail", "words"),
    [
        (
            {"SMTP_HOST": "mail.example.com"},
            "alerts by mail need ALERT_MAIL_FROM, ALERT_MAIL_TO too; or leave out every one",
        ),
        ({"ALERT_MAIL_TO": "ada@example.com"}, "alerts by mail need SMTP_HOST, ALERT_MAIL_FROM too"),
        ({"SMTP_PASSWORD": "pw"}, "alerts by mail need SMTP_HOST, ALERT_MAIL_FROM, ALERT_MAIL_TO too"),
        (MAIL | {"SMTP_USER": "ada"}, "SMTP_USER and SMTP_PASSWORD are set together, or neither is"),
        (MAIL | {"ALERT_MAIL_TO": "ada, bob"}, "ALERT_MAIL_TO is malformed"),
        (MAIL | {"SMTP_SECURITY": "tls"}, "SMTP_SECURITY is malformed: Input should be 'starttls', 'ssl' or 'none'"),
    ],
)
def test_a_mail_server_is_set_whole_or_not_at_all(only, tmp_path, mail: dict[str, str], words: str) -> None:
    known = environment(SandboxConfig(tmp_path, dict.fromkeys(SandboxConfig.load().ports, 1)))
    only(known)
    assert settings().alert_mail_receivers == ()
    only(known | mail)
    with pytest.raises(SettingsError) as caught:
        settings()
    assert words in str(caught.value)
    only(known | MAIL)
    assert settings().alert_mail_receivers == ("ada@example.com", "bob@example.com")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"SLACK_BOT_TOKEN": None},
            "SLACK_ALERTS_CHANNEL and SLACK_DIGEST_CHANNEL and ROTA_SYNC cannot be without SLACK_BOT_TOKEN",
        ),
        ({"INCIDENT_IO_HEARTBEAT_TOKEN": None}, "INCIDENT_IO_HEARTBEAT_TOKEN are set together, or neither is"),
        ({"SLACK_RESPONDER_GROUP": "@data-responder"}, "SLACK_RESPONDER_GROUP is malformed"),
        ({"DIGEST_CRON": "at nine"}, "DIGEST_CRON is malformed"),
        ({"DIGEST_TIME_ZONE": "London"}, "DIGEST_TIME_ZONE is malformed: there is no such time zone"),
        ({"INCIDENT_IO_HEARTBEAT_SECONDS": "0"}, "INCIDENT_IO_HEARTBEAT_SECONDS is malformed"),
    ],
)
def test_slack_rota_and_heartbeat_are_whole_or_left_out(
    only, tmp_path, changed: dict[str, str | None], words: str
) -> None:
    known: dict[str, str | None] = {
        **environment(SandboxConfig(tmp_path, dict.fromkeys(SandboxConfig.load().ports, 1)))
    }
    only({name: value for name, value in (known | changed).items() if value is not None})
    with pytest.raises(SettingsError) as caught:
        settings()
    assert words in str(caught.value)
    optional = ("SLACK_", "ROTA_", "INCIDENT_IO_HEARTBEAT_")
    only({name: value for name, value in known.items() if value is not None and not name.startswith(optional)})
    assert (settings().slack_bot_token, settings().rota_sync, settings().incident_io_heartbeat_id) == (
        None,
        False,
        None,
    )
