"""BigQuery clients of the sandbox's warehouse. Each creates datasets and runs jobs in the sandbox's location."""

from __future__ import annotations

import os

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from sandbox.config import PROJECT, SandboxConfig


def client(config: SandboxConfig) -> bigquery.Client:
    """Return a client of the project that dbt builds in, whatever the environment says."""
    return _client(config, PROJECT)


def raw_client(config: SandboxConfig) -> bigquery.Client:
    """Return a client of the project that sources land in, whatever the environment says."""
    return _client(config, config.raw_project)


def client_of_environment(*, raw: bool = False) -> bigquery.Client:
    """Return a client as the variables of `sandbox.env_file.environment` describe it: those of the emulators' process."""
    project = os.environ.get("BIGQUERY_RAW_PROJECT", PROJECT) if raw else PROJECT
    return bigquery.Client(project=project, location=os.environ.get("BIGQUERY_LOCATION", SandboxConfig.location))


def _client(config: SandboxConfig, project: str) -> bigquery.Client:
    return bigquery.Client(
        project=project, location=config.location, credentials=AnonymousCredentials(),
        client_options={"api_endpoint": config.url("bigquery")},
    )  # fmt: skip
