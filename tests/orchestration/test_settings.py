from __future__ import annotations

import re

import pytest

from orchestration import settings as module
from orchestration.settings import (
    INCIDENT_IO,
    REPOSITORY,
    VENDORS,
    ExploSettings,
    FivetranSettings,
    HightouchSettings,
    Need,
    Settings,
    SettingsError,
    check_settings,
    examine,
    fivetran_settings,
    hightouch_settings,
    settings,
)
from sandbox.config import SandboxConfig
from sandbox.env_file import environment

NAMES = {name.upper() for name in Settings.model_fields}
# What the sandbox leaves as it is by default.
REAL_ONLY = {"BIGQUERY_RETRY_SECONDS", "DAGSTER_COMPUTE_LOGS_BUCKET", "DATAPLATFORM_CODE_URL", "DATAPLATFORM_COMMIT", "DATAPLATFORM_STATE_ON_LOAD", "DBT_SCHEMA_PREFIX", "INCIDENT_IO_FALLBACK_MINUTES"} | {
    "BIGQUERY_RAW_PROJECT", "BIGQUERY_DEV_PROJECT",
    "ALERT_QUEUE_MINUTES", "ALERTS_WITHOUT_CHANNEL", "DIGEST_CRON", "DIGEST_TIME_ZONE", "INCIDENT_IO_HEARTBEAT_SECONDS", "INCIDENT_IO_SCHEDULE", "OMNI_REQUESTS_PER_MINUTE", "SLACK_RESPONDER_GROUP",
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
        check_settings(ALL)
    message = str(caught.value)
    assert "GOOGLE_CLOUD_PROJECT is not set. BigQuery's project" in message
    assert "FIVETRAN_API_SECRET is not set. Fivetran: shown once" in message
    assert "DBT_TARGET is malformed: Input should be 'prod', 'dev' or 'ci'" in message
    assert "DATAPLATFORM_URL is malformed" in message
    assert "FIVETRAN_API_KEY is malformed" in message
    assert "HIGHTOUCH_API_KEY" not in message
    assert "Alerts reach no one" in message


ALL = tuple(Need(vendor, f"company.{vendor.__name__}", "orchestration/defs/all/defs.yaml") for vendor in VENDORS)
SLACK = {"SLACK_BOT_TOKEN": "t", "SLACK_ALERTS_CHANNEL": "C1"}
CORE = {"GOOGLE_CLOUD_PROJECT": "p", "DBT_TARGET": "prod", "DATAPLATFORM_URL": "https://dagster.example.com"}
FIVETRAN = {"FIVETRAN_ACCOUNT_ID": "a", "FIVETRAN_API_KEY": "k", "FIVETRAN_API_SECRET": "s"}


def test_only_the_vendors_of_components_have_to_be_set(only) -> None:
    needs = (Need(FivetranSettings, "company.Connections", "orchestration/defs/ingestion/defs.yaml"),)
    only(CORE | SLACK)
    assert check_settings(()).slack_alerts_channel == "C1"
    with pytest.raises(SettingsError) as caught:
        check_settings(needs)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["FIVETRAN_ACCOUNT_ID", "FIVETRAN_API_KEY", "FIVETRAN_API_SECRET"]
    assert lines[0].endswith(
        "FIVETRAN_ACCOUNT_ID is not set. Fivetran: Account settings, General. company.Connections in "
        "orchestration/defs/ingestion/defs.yaml needs it: set it, or remove the component from orchestration/defs/ingestion/defs.yaml."
    )
    only(CORE | SLACK | FIVETRAN)
    check_settings(needs)
    assert fivetran_settings().fivetran_account_id == "a"


def test_several_components_of_a_vendor_are_all_named(only) -> None:
    only(CORE | SLACK)
    with pytest.raises(SettingsError) as caught:
        check_settings([Need(HightouchSettings, f"company.{name}", f"orchestration/defs/{name}.yaml") for name in "ab"])
    assert (
        "company.a in orchestration/defs/a.yaml and company.b in orchestration/defs/b.yaml need it: set it, or remove the "
        "components from orchestration/defs/a.yaml and orchestration/defs/b.yaml." in str(caught.value)
    )


@pytest.mark.parametrize(
    "more",
    [{"EXPLO_API_TOKEN": "t"}, {"EXPLO_API_URL": "no url"}, {"OMNI_REQUESTS_PER_MINUTE": "many"}, {"OMNI_API_URL": ""}],
)
def test_a_vendor_without_a_component_may_be_set_in_part_or_wrong(only, more: dict[str, str]) -> None:
    only(CORE | SLACK | more)
    check_settings(())
    values, problems = examine(())
    assert problems == ()
    assert values.dbt_target == "prod"
    with pytest.raises(SettingsError, match="HIGHTOUCH_API_KEY is not set"):
        hightouch_settings()


class NewVendorSettings(ExploSettings):
    """A vendor of an adopter's own, of which `Settings` knows nothing."""

    new_vendor_key: str = "unused"
    new_vendor_team: str


def test_a_vendor_of_an_adopters_own_is_required_by_its_component(only, monkeypatch: pytest.MonkeyPatch) -> None:
    only(CORE | SLACK | {"EXPLO_API_TOKEN": "t"})
    needs = (Need(NewVendorSettings, "company.New", "orchestration/defs/new/defs.yaml"),)
    with pytest.raises(
        SettingsError, match=r"NEW_VENDOR_TEAM is not set.*company.New in orchestration/defs/new/defs.yaml"
    ):
        check_settings(needs)
    monkeypatch.setenv("NEW_VENDOR_TEAM", "data")
    check_settings(needs)


INCIDENT_IO_VALUES = {name.upper(): "x" for name in INCIDENT_IO}
MAIL_VALUES = {"SMTP_HOST": "m", "ALERT_MAIL_FROM": "a@example.com", "ALERT_MAIL_TO": "b@example.com"}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (SLACK, None),
        (MAIL_VALUES, None),
        (INCIDENT_IO_VALUES, None),
        ({"ALERTS_WITHOUT_CHANNEL": "true"}, None),
        # As `.env.example` has them, copied and not filled in.
        (SLACK | dict.fromkeys(INCIDENT_IO_VALUES, ""), None),
        ({}, "Alerts reach no one: neither incident.io nor Slack nor mail is configured; set INCIDENT_IO_API_KEY"),
        (dict.fromkeys(INCIDENT_IO_VALUES, " "), "Alerts reach no one"),
        # The morning's warnings alone are no channel of alerts.
        ({"SLACK_BOT_TOKEN": "t", "SLACK_DIGEST_CHANNEL": "C2"}, "Alerts reach no one"),
        ({"SLACK_ALERTS_CHANNEL": "C1"}, "SLACK_ALERTS_CHANNEL cannot be without SLACK_BOT_TOKEN"),
        *(
            (
                SLACK | {name: value for name, value in INCIDENT_IO_VALUES.items() if name != left_out},
                f"alerts by incident.io need {left_out} too",
            )
            for left_out in INCIDENT_IO_VALUES
        ),
        (SLACK | {"INCIDENT_IO_API_URL": "https://api.incident.io"}, "alerts by incident.io need INCIDENT_IO_API_KEY"),
        (
            SLACK | {"INCIDENT_IO_HEARTBEAT_ID": "i", "INCIDENT_IO_HEARTBEAT_TOKEN": "t"},
            "alerts by incident.io need INCIDENT_IO_API_KEY, INCIDENT_IO_ALERT_SOURCE_ID, INCIDENT_IO_ALERT_SOURCE_TOKEN too",
        ),
        (SLACK | {"ROTA_SYNC": "true"}, "ROTA_SYNC cannot be on without incident.io"),
    ],
)
def test_alerts_have_a_channel_that_is_set_whole_or_reach_no_one_by_choice(
    only, given: dict[str, str], problem: str | None
) -> None:
    only(CORE | given)
    if problem is None:
        assert (settings().incident_io is not None) == (given == INCIDENT_IO_VALUES)
        return
    with pytest.raises(SettingsError) as caught:
        settings()
    assert problem in str(caught.value)
    # One cause is one line.
    assert len(str(caught.value).splitlines()) == 2


def test_secrets_do_not_show(only, tmp_path) -> None:
    ports = dict.fromkeys(SandboxConfig.load().ports, 1)
    only(environment(SandboxConfig(tmp_path, ports)))
    assert "local-hightouch-key" not in repr(hightouch_settings())
    assert hightouch_settings().hightouch_api_key.get_secret_value() == "local-hightouch-key"
    assert "local-incident_io-key" not in f"{settings()!r}{settings().incident_io!r}"


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
