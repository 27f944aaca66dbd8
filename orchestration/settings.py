"""Every environment variable that the platform reads: its type, its meaning, and where its value comes from.

`.env.example` lists the same variables. A `.env` file in the repository's root fills in what the environment lacks; Dagster's own
commands read a `.env` in their working directory too, and let it win.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from dotenv import load_dotenv
from pydantic import AnyHttpUrl, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

REPOSITORY = Path(__file__).resolve().parent.parent
DBT_PROJECT = REPOSITORY / "dbt_project"

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]
CodeUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^/]+/.+/tree/.+$")]


class SettingsError(ValueError):
    """Variables are missing or malformed; the message names each of them and says where to get it."""


class Settings(BaseSettings):
    """The platform's configuration. A field's description says what the variable is and where to find its value."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=False)

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
    bigquery_retry_seconds: float = Field(
        60, gt=0, description="how long a BigQuery that cannot be reached is tried before a step fails"
    )

    dbt_target: Literal["prod", "dev", "ci"] = Field(description="the target of dbt_project/profiles.yml")
    dbt_schema_prefix: Text | None = Field(
        None, description="what the datasets of the targets dev and ci begin with, such as dev_ada; prod has none"
    )

    fivetran_api_url: AnyHttpUrl = Field(AnyHttpUrl("https://api.fivetran.com"), description="Fivetran's API")
    fivetran_account_id: Text = Field(description="Fivetran: Account settings, General")
    fivetran_api_key: Text = Field(description="Fivetran: Account settings, API config, a system key")
    fivetran_api_secret: Secret = Field(description="Fivetran: shown once, with the key")

    hightouch_api_url: AnyHttpUrl = Field(
        AnyHttpUrl("https://api.hightouch.com/api/v1"), description="Hightouch's API, with its version"
    )
    hightouch_api_key: Secret = Field(description="Hightouch: Settings, API keys")

    incident_io_api_url: AnyHttpUrl = Field(AnyHttpUrl("https://api.incident.io"), description="incident.io's API")
    incident_io_api_key: Secret = Field(
        description="incident.io: Settings, API keys, a key that may view alerts, escalations and incidents"
    )
    incident_io_alert_source_id: Text = Field(
        description="incident.io: Alerts, Sources, the HTTP source, the last part of its URL"
    )
    incident_io_alert_source_token: Secret = Field(description="incident.io: the same HTTP source, its token")

    dataplatform_url: AnyHttpUrl = Field(description="where people open this Dagster's UI; alerts link to it")
    dataplatform_code_url: CodeUrl | None = Field(
        None,
        description="this repository's branch, such as https://github.com/acme/data-platform/tree/main; models link to it; "
        "without it to the files of this machine",
    )
    dataplatform_state_dir: Path = Field(
        REPOSITORY / ".state", description="where the vendors' saved state and dbt's manifest are kept"
    )

    @property
    def dagster_url(self) -> str:
        """The UI's address with no slash at the end."""
        return str(self.dataplatform_url).rstrip("/")


@cache
def settings() -> Settings:
    """The settings of this process, read once.

    Raises SettingsError, which names every variable that is missing or malformed at once.
    """
    # Google's clients and dbt read the process's environment, so a `.env` file has to reach it too.
    load_dotenv(REPOSITORY / ".env")
    try:
        return Settings()  # pyright: ignore[reportCallIssue]  (the environment fills the required fields)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    lines = ["The platform's settings are not complete. Set these in the environment or in .env (see .env.example):"]
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0])
        what = "is not set" if problem["type"] == "missing" else f"is malformed: {problem['msg']}"
        lines.append(f"  {name.upper()} {what}. {Settings.model_fields[name].description}.")
    return "\n".join(lines)
