"""A BigQuery client of this sandbox's warehouse, whatever the environment says."""

from __future__ import annotations

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from sandbox.config import PROJECT, SandboxConfig


def client(config: SandboxConfig) -> bigquery.Client:
    return bigquery.Client(
        project=PROJECT, credentials=AnonymousCredentials(), client_options={"api_endpoint": config.url("bigquery")}
    )
