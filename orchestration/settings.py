"""Every environment variable that the platform reads: its type, its meaning, and where its value comes from.

`.env.example` lists the same variables. A `.env` file in the repository's root fills in what the environment lacks; Dagster's own
commands read a `.env` in their working directory too, and let it win.

`settings()` has what every platform needs, and the channels of alerts, each of which may be left out. The variables of a vendor are a
class of their own (`FivetranSettings`), which is required where a component in `orchestration/defs/` names it
(`orchestration/defs_tree.py`), and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from zoneinfo import available_timezones

from dotenv import load_dotenv
from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    create_model,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

MAIL = ("smtp_host", "alert_mail_from", "alert_mail_to")
"""What alerts by mail cannot do without."""
INCIDENT_IO = ("incident_io_api_key", "incident_io_alert_source_id", "incident_io_alert_source_token")
"""What alerts by incident.io cannot do without."""
SLACK = ("slack_bot_token", "slack_alerts_channel")
"""What alerts by Slack cannot do without."""
REPOSITORY = Path(__file__).resolve().parent.parent
DBT_PROJECT = REPOSITORY / "dbt_project"


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("there is no such time zone; one is called Europe/London, for example")
    return name


def _empty_as_none(value: object) -> object:
    """Read a variable without a value, as `.env.example` has it, like one that is not set."""
    return None if isinstance(value, str) and not value.strip() else value


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]
OptionalText = Annotated[Text | None, BeforeValidator(_empty_as_none)]
OptionalSecret = Annotated[Secret | None, BeforeValidator(_empty_as_none)]
CodeUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^/]+/.+/tree/.+$")]
MailAddress = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^@\s,]+@[^@\s,]+$")]
SlackHandle = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^@\s]+$")]
Cron = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^\S+( +\S+){4}$")]
TimeZoneName = Annotated[str, AfterValidator(_known_zone)]
MailAddresses = Annotated[str, StringConstraints(pattern=r"^\s*[^@\s,]+@[^@\s,]+(\s*,\s*[^@\s,]+@[^@\s,]+)*\s*$")]


class SettingsError(ValueError):
    """Variables are missing or malformed; the message names each of them and says where to get it."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with one variable, or with several together, by their names in the environment.

    `what` has no value in it. `remedy` is what to set, and where its value comes from.
    """

    names: tuple[str, ...]
    what: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"{self.names[0]} {self.what}. {self.remedy}." if len(self.names) == 1 else f"{self.what}; {self.remedy}."
        )


NO_CHANNEL = Problem(
    tuple(name.upper() for name in (*INCIDENT_IO, *SLACK, *MAIL, "alerts_without_channel")),
    "Alerts reach no one: neither incident.io nor Slack nor mail is configured",
    f"set {', '.join(name.upper() for name in INCIDENT_IO)} for incident.io; {' and '.join(name.upper() for name in SLACK)} for Slack; "
    f"or {', '.join(name.upper() for name in MAIL)} for mail. ALERTS_WITHOUT_CHANNEL=true loads the platform without any of them",
)


class PlatformSection(BaseSettings):
    """Some of the platform's variables, from the environment."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=False)


class VendorSettings(PlatformSection):
    """What one vendor needs. A component that uses the vendor names the class in its `vendor_settings`."""


class IncidentIoApi(PlatformSection):
    """What is needed to speak to incident.io's API at all: its settings are made before there is an alert source to name."""

    incident_io_api_url: AnyHttpUrl = Field(AnyHttpUrl("https://api.incident.io"), description="incident.io's API")
    incident_io_api_key: Secret = Field(
        description="incident.io: Settings, API keys, a key that may view alerts, escalations and incidents, and, for "
        "`dataplatform on-call`, what docs/on-call.md lists"
    )


class DbtSettings(PlatformSection):
    """What building dbt's models takes: all that a developer or a CI job has to have, who run nothing else."""

    google_cloud_project: Text = Field(description="BigQuery's project: the Google Cloud console's project picker")
    google_application_credentials: Path | None = Field(
        None, description="a service account's key file; leave out where the machine has an identity of its own"
    )
    bigquery_emulator_host: AnyHttpUrl | None = Field(
        None, description="address of another BigQuery; read by Google's and dbt's clients; leave out for the real one"
    )
    storage_emulator_host: AnyHttpUrl | None = Field(
        None, description="address of another Cloud Storage; read by Google's client; leave out for the real one"
    )
    bigquery_location: Text = Field("US", description="where the datasets are: the dataset's details in BigQuery")
    bigquery_raw_project: Text | None = Field(
        None, description="the project that sources land in; leave out where that is GOOGLE_CLOUD_PROJECT too"
    )
    bigquery_dev_project: Text | None = Field(
        None,
        description="the project that the targets dev and ci build in; leave out where that is GOOGLE_CLOUD_PROJECT too",
    )

    dbt_target: Literal["prod", "dev", "ci"] = Field(description="the target of dbt_project/profiles.yml")
    dbt_schema_prefix: Text | None = Field(
        None, description="what the datasets of the targets dev and ci begin with, such as dev_ada; prod has none"
    )

    dataplatform_state_dir: Path = Field(
        REPOSITORY / ".state", description="where the vendors' saved state and dbt's manifest are kept"
    )
    dataplatform_state_bucket: Text | None = Field(
        None,
        description="the Cloud Storage bucket of the vendors' state, below state/, and of production's dbt manifests, below dbt/; "
        "leave out where one machine runs all of Dagster and nobody builds models elsewhere",
    )
    dataplatform_state_on_load: bool = Field(
        False,
        description="whether a load of the code location takes newer state from that bucket first; true in the image, whose "
        "containers share no disk; else a load makes no call",
    )
    dagster_compute_logs_bucket: Text | None = Field(
        None,
        description="the Cloud Storage bucket of what runs print, as production's instance has it; here for the doctor alone",
    )
    dataplatform_commit: Text | None = Field(
        None, description="the commit that was deployed; set in the image; without it the checkout's own is asked for"
    )

    @property
    def raw_project(self) -> str:
        """The project that sources land in."""
        return self.bigquery_raw_project or self.google_cloud_project

    @property
    def modelled_project(self) -> str:
        """The project that the target builds in."""
        development = None if self.dbt_target == "prod" else self.bigquery_dev_project
        return development or self.google_cloud_project


class FivetranSettings(VendorSettings):
    """Fivetran's API."""

    fivetran_api_url: AnyHttpUrl = Field(AnyHttpUrl("https://api.fivetran.com"), description="Fivetran's API")
    fivetran_account_id: Text = Field(description="Fivetran: Account settings, General")
    fivetran_api_key: Text = Field(description="Fivetran: Account settings, API config, a system key")
    fivetran_api_secret: Secret = Field(description="Fivetran: shown once, with the key")


class HightouchSettings(VendorSettings):
    """Hightouch's API."""

    hightouch_api_url: AnyHttpUrl = Field(
        AnyHttpUrl("https://api.hightouch.com/api/v1"), description="Hightouch's API, with its version"
    )
    hightouch_api_key: Secret = Field(description="Hightouch: Settings, API keys")


class OmniSettings(VendorSettings):
    """Omni's API."""

    omni_api_url: AnyHttpUrl = Field(description="where people open Omni, such as https://acme.omniapp.co")
    omni_api_key: Secret = Field(description="Omni: Settings, API keys, an organisation's key")
    omni_requests_per_minute: int = Field(
        60, gt=0, description="how many requests a minute Omni allows; 60 unless raised"
    )


class ExploSettings(VendorSettings):
    """Explo's API."""

    explo_api_url: AnyHttpUrl = Field(AnyHttpUrl("https://api.explo.co"), description="Explo's API")
    explo_api_token: Secret = Field(description="Explo: Settings, Data visibility groups, the group's API token")


class HexSettings(VendorSettings):
    """Hex's API."""

    hex_api_url: AnyHttpUrl = Field(AnyHttpUrl("https://app.hex.tech/api"), description="Hex's API")
    hex_api_token: Secret = Field(
        description="Hex: Settings, API keys, a workspace token that may read projects and run them"
    )


VENDORS: tuple[type[VendorSettings], ...] = (
    FivetranSettings,
    HightouchSettings,
    OmniSettings,
    ExploSettings,
    HexSettings,
)
"""The vendors that a component can require."""


@dataclass(frozen=True)
class IncidentIoAccess:
    """incident.io where alerts go there: its API, and the alert source."""

    api_url: str
    api_key: SecretStr
    alert_source_id: str
    alert_source_token: SecretStr


class IncidentIoSettings(PlatformSection):
    """incident.io as a channel of alerts. All of it may be left out: alerts then go to Slack, or by mail."""

    incident_io_api_url: AnyHttpUrl = Field(AnyHttpUrl("https://api.incident.io"), description="incident.io's API")
    incident_io_api_key: OptionalSecret = Field(
        None,
        description="incident.io: Settings, API keys, a key that may view alerts, escalations and incidents, and, for "
        "`dataplatform on-call`, what docs/on-call.md lists; leave out every INCIDENT_IO_* to have no incident.io",
    )
    incident_io_alert_source_id: OptionalText = Field(
        None, description="incident.io: Alerts, Sources, the HTTP source, the last part of its URL"
    )
    incident_io_alert_source_token: OptionalSecret = Field(
        None, description="incident.io: the same HTTP source, its token"
    )
    incident_io_schedule: Text = Field(
        "Data responder", description="incident.io: On-call, Schedules, the data responder's, by its name or id"
    )
    incident_io_heartbeat_id: OptionalText = Field(
        None,
        description="incident.io: Alerts, Sources, the heartbeat, the part of its ping URL before /ping; leave out to have none",
    )
    incident_io_heartbeat_token: OptionalSecret = Field(None, description="incident.io: the same heartbeat, its token")
    incident_io_heartbeat_seconds: int = Field(
        30, ge=5, description="how often it is pinged: more often than `heartbeat.every_seconds` of deploy/on_call.yaml"
    )
    rota_sync: bool = Field(
        False,
        description="whether a sensor keeps the user group in step with the schedule; leave it off where incident.io does "
        "(`slack_user_group` in deploy/on_call.yaml), and where there is no incident.io",
    )

    @property
    def incident_io(self) -> IncidentIoAccess | None:
        """incident.io as the settings name it; None where they do not."""
        key, source, token = (
            self.incident_io_api_key, self.incident_io_alert_source_id, self.incident_io_alert_source_token,
        )  # fmt: skip
        if key is None or source is None or token is None:
            return None
        return IncidentIoAccess(str(self.incident_io_api_url), key, source, token)


class MailSettings(PlatformSection):
    """Mail as a channel of alerts."""

    smtp_host: Text | None = Field(
        None,
        description="the mail server that carries alerts when incident.io and Slack do not, or where neither is configured; leave out to have no mail",
    )
    smtp_port: int = Field(587, gt=0, lt=65536, description="the mail server's port: 587, or 465 with ssl")
    smtp_security: Literal["starttls", "ssl", "none"] = Field(
        "starttls", description="how mail is encrypted on its way"
    )
    smtp_user: Text | None = Field(None, description="the mail server's login; leave out where it asks for none")
    smtp_password: Secret | None = Field(None, description="the password of that login")
    alert_mail_from: MailAddress | None = Field(None, description="the sender of alerts by mail")
    alert_mail_to: MailAddresses | None = Field(None, description="who gets alerts by mail; commas between several")

    @property
    def alert_mail_receivers(self) -> tuple[str, ...]:
        return tuple(address.strip() for address in (self.alert_mail_to or "").split(",") if address.strip())

    @property
    def mails_alerts(self) -> bool:
        """Whether alerts can go by mail."""
        return all(getattr(self, name) for name in MAIL)


class SlackSettings(PlatformSection):
    """Slack as a channel of alerts and of the morning's warnings."""

    slack_api_url: AnyHttpUrl = Field(AnyHttpUrl("https://slack.com/api/"), description="Slack's Web API")
    slack_bot_token: Secret | None = Field(
        None,
        description="api.slack.com/apps, the app, OAuth & Permissions, the bot's token with the scopes chat:write, "
        "usergroups:read, usergroups:write, users:read and users:read.email, and for `dataplatform doctor` channels:read and "
        "groups:read; leave out to have no Slack",
    )
    slack_alerts_channel: Text | None = Field(
        None,
        description="the channel that gets alerts when incident.io takes none, or where it is not configured: its id, from the channel's details",
    )
    slack_digest_channel: Text | None = Field(
        None, description="the channel that gets all warnings each working morning: its id, from the channel's details"
    )
    slack_responder_group: SlackHandle = Field(
        "data-responder", description="the handle of the user group of whoever answers for data, without @"
    )

    digest_cron: Cron = Field("0 9 * * 1-5", description="when the warnings are posted: five fields of cron")
    digest_time_zone: TimeZoneName = Field(
        "Europe/London", description="the time zone of that: the data responder's, as in deploy/on_call.yaml"
    )

    @property
    def posts_alerts(self) -> bool:
        """Whether alerts can go to Slack."""
        return all(getattr(self, name) for name in SLACK)


class PlatformSettings(SlackSettings, MailSettings, IncidentIoSettings, DbtSettings):
    """What every platform needs, and the channels of its alerts. A field's description says what the variable is and where to find its value."""

    bigquery_retry_seconds: float = Field(
        60, gt=0, description="how long a BigQuery that cannot be reached is tried before a step fails"
    )

    incident_io_fallback_minutes: float = Field(
        5,
        gt=0,
        description="how long the first channel of alerts may take none before the next one tells of it: incident.io before Slack, Slack before mail",
    )
    alerts_without_channel: bool = Field(
        False,
        description="whether the platform may load with no channel for alerts, which then reach no one; else it needs incident.io, Slack or mail",
    )
    alert_queue_minutes: float = Field(
        30, gt=0, description="how long a run may wait in the queue before it is an incident"
    )

    dataplatform_url: AnyHttpUrl = Field(description="where people open this Dagster's UI; alerts link to it")
    dataplatform_code_url: CodeUrl | None = Field(
        None,
        description="this repository's branch, such as https://github.com/acme/data-platform/tree/main; models link to it; "
        "without it to the files of this machine",
    )

    def together(self) -> Iterator[Problem]:
        """What is wrong with variables that are right each by itself. Which are not set is all that it looks at."""
        channels = [*self._incident_io_problems(), *self._mail_problems()]
        if self.slack_bot_token is None:
            users = {
                "SLACK_ALERTS_CHANNEL": self.slack_alerts_channel,
                "SLACK_DIGEST_CHANNEL": self.slack_digest_channel,
                "ROTA_SYNC": self.rota_sync,
            }
            if names := [name for name, value in users.items() if value]:
                what = f"{' and '.join(names)} cannot be without SLACK_BOT_TOKEN"
                channels.append(Problem(("SLACK_BOT_TOKEN", *names), what, "set it, or leave these out"))
        yield from channels
        has_channel = self.incident_io or self.posts_alerts or self.mails_alerts
        # A channel that is set in part has its own problem.
        if not has_channel and not channels and not self.alerts_without_channel:
            yield NO_CHANNEL

    def _incident_io_problems(self) -> Iterator[Problem]:
        heartbeat = (self.incident_io_heartbeat_id, self.incident_io_heartbeat_token)
        given = [name for name in INCIDENT_IO if getattr(self, name) is not None]
        missing = [name for name in INCIDENT_IO if name not in given]
        if missing and (given or any(heartbeat) or "incident_io_api_url" in self.model_fields_set):
            names = [name.upper() for name in missing]
            where = ". ".join(str(IncidentIoSettings.model_fields[name].description) for name in missing)
            yield Problem(
                tuple(names),
                f"alerts by incident.io need {', '.join(names)} too",
                f"{where}. Or leave out every one of INCIDENT_IO_*: alerts then go to Slack, or by mail",
            )
        elif missing and self.rota_sync:
            yield Problem(
                ("ROTA_SYNC",),
                "cannot be on without incident.io, whose schedule it follows",
                "Leave it out, and let people change the user group in Slack; or set the variables INCIDENT_IO_*",
            )
        if (self.incident_io_heartbeat_id is None) != (self.incident_io_heartbeat_token is None):
            yield _both("INCIDENT_IO_HEARTBEAT_ID", "INCIDENT_IO_HEARTBEAT_TOKEN")

    def _mail_problems(self) -> Iterator[Problem]:
        given = {name: getattr(self, name) for name in MAIL}
        optional = (self.smtp_user, self.smtp_password)
        if (any(given.values()) or any(optional)) and (missing := [name.upper() for name in MAIL if not given[name]]):
            yield Problem(
                tuple(missing),
                f"alerts by mail need {', '.join(missing)} too",
                "or leave out every one of SMTP_* and ALERT_MAIL_*",
            )
        elif any(optional) and not all(optional):
            yield _both("SMTP_USER", "SMTP_PASSWORD")

    @property
    def dagster_url(self) -> str:
        """The UI's address with no slash at the end."""
        return str(self.dataplatform_url).rstrip("/")


class Settings(
    HexSettings, ExploSettings, OmniSettings, HightouchSettings, FivetranSettings, PlatformSettings
):  # fmt: skip
    """Every variable that the platform may read, of all vendors: for the doctor and for the reference."""


@dataclass(frozen=True)
class Need:
    """A component in `orchestration/defs/` that requires the settings of a vendor.

    `component` is its type as its YAML spells it, and `file` that YAML, relative to the repository.
    """

    settings: type[VendorSettings]
    component: str
    file: str


@cache
def settings() -> PlatformSettings:
    """The settings of this process that every platform has, read once.

    Raises SettingsError, which names every variable that is missing or malformed at once.
    """
    return _read(PlatformSettings)


def fivetran_settings() -> FivetranSettings:
    """Only what Fivetran's API needs. Raises SettingsError as `settings` does."""
    return _read(FivetranSettings)


def hightouch_settings() -> HightouchSettings:
    """Only what Hightouch's API needs. Raises SettingsError as `settings` does."""
    return _read(HightouchSettings)


def omni_settings() -> OmniSettings:
    """Only what Omni's API needs. Raises SettingsError as `settings` does."""
    return _read(OmniSettings)


def explo_settings() -> ExploSettings:
    """Only what Explo's API needs. Raises SettingsError as `settings` does."""
    return _read(ExploSettings)


def hex_settings() -> HexSettings:
    """Only what Hex's API needs. Raises SettingsError as `settings` does."""
    return _read(HexSettings)


def incident_io_api() -> IncidentIoApi:
    """Only what incident.io's API needs. Raises SettingsError as `settings` does."""
    return _read(IncidentIoApi)


def dbt_settings() -> DbtSettings:
    """Only what building dbt's models takes. Raises SettingsError as `settings` does."""
    return _read(DbtSettings)


def check_settings(needs: Sequence[Need]) -> PlatformSettings:
    """Return the settings that every platform has, where those of the vendors in `needs` are complete, too.

    Raises SettingsError, which names every variable of all of them that is missing or malformed at once, and the component that needs it.
    """
    _, problems = examine(needs)
    if problems:
        raise SettingsError(_explain(problems))
    return settings()


def examine(needs: Sequence[Need] | None = None) -> tuple[Settings, tuple[Problem, ...]]:
    """The settings as far as they can be read, and what is wrong with the others, which are None there. Not kept: read at each call.

    A vendor that is not in `needs` may lack any of its variables, and have malformed ones. Without `needs`, all vendors are needed.
    """
    found, problems = _examine(Settings)
    if needs is None:
        return found, problems
    by_vendor: Mapping[type[VendorSettings], list[Need]] = {
        vendor: [need for need in needs if need.settings is vendor] for vendor in VENDORS
    }
    vendor_of = {name.upper(): vendor for vendor in VENDORS for name in vendor.model_fields}
    kept = list[Problem]()
    for problem in problems:
        vendor = vendor_of.get(problem.names[0])
        if vendor is None:
            kept.append(problem)
        elif by_vendor[vendor]:
            kept.append(replace(problem, remedy=f"{problem.remedy}. {_explain_needs(by_vendor[vendor])}"))
    # The class of an adopter's own vendor, of which `Settings` knows nothing.
    others = dict.fromkeys(need.settings for need in needs if need.settings not in by_vendor)
    for vendor in others:
        why = _explain_needs([need for need in needs if need.settings is vendor])
        kept += [replace(problem, remedy=f"{problem.remedy}. {why}") for problem in _examine(vendor)[1]]
    return found, tuple(kept)


def is_configured(values: Settings, vendor: type[VendorSettings]) -> bool:
    """Return whether every variable of a vendor has a value."""
    return all(getattr(values, name) is not None for name in vendor.model_fields)


def _explain_needs(needs: Collection[Need]) -> str:
    who = " and ".join(f"{need.component} in {need.file}" for need in needs)
    files = " and ".join(dict.fromkeys(need.file for need in needs))
    components, verb = ("component", "needs") if len(needs) == 1 else ("components", "need")
    return f"{who} {verb} it: set it, or remove the {components} from {files}"


def _read[S: BaseSettings](kind: type[S]) -> S:
    found, problems = _examine(kind)
    if problems:
        raise SettingsError(_explain(problems))
    return found


def _examine[S: BaseSettings](kind: type[S]) -> tuple[S, tuple[Problem, ...]]:
    # Google's clients and dbt read the process's environment, so a `.env` file has to reach it too.
    load_dotenv(REPOSITORY / ".env")
    try:
        found, problems = _constructed(kind), list[Problem]()
    except ValidationError as error:
        problems = [_problem(kind, one) for one in error.errors(include_url=False, include_input=False)]
        broken = {problem.names[0].lower() for problem in problems}
        taken = cast("Any", dict.fromkeys(broken, (Any, None)))
        readable = create_model(kind.__name__, __base__=kind, **taken)
        found = _constructed(readable).model_copy(update=dict.fromkeys(broken))
    if isinstance(found, PlatformSettings):
        # A variable that is malformed is not one that is left out.
        named = {name for problem in problems for name in problem.names}
        problems += [one for one in found.together() if not named.intersection(one.names)]
    return found, tuple(problems)


def _constructed[S: BaseSettings](kind: type[S]) -> S:
    return kind()  # pyright: ignore[reportCallIssue]  (the environment fills the required fields)


def _both(one: str, other: str) -> Problem:
    return Problem(
        (one, other), f"{one} and {other} are set together, or neither is", "set the other too, or leave out both"
    )


def _problem(kind: type[BaseSettings], error: ErrorDetails) -> Problem:
    name = str(error["loc"][0])
    malformed = f"is malformed: {error['msg'].removeprefix('Value error, ')}"
    what = "is not set" if error["type"] == "missing" else malformed
    return Problem((name.upper(),), what, kind.model_fields[name].description or "")


def _explain(problems: tuple[Problem, ...]) -> str:
    first = "The platform's settings are not complete. Set these in the environment or in .env (see .env.example):"
    return "\n".join([first, *(f"  {problem}" for problem in problems)])
