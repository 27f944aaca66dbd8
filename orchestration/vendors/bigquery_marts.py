"""The `data_platform` marts of the dbt project, as far as people ask for them outside of BigQuery."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel

from orchestration.settings import settings
from orchestration.vendors.bigquery_project import BigQueryProject

MOST_ROWS = 10_000


class IncidentResponse(BaseModel):
    """A data incident, from the failure to its end."""

    incident_id: str
    reference: str
    incident_name: str
    unit: str | None
    cause: str
    team: str | None
    is_customer_facing: bool
    is_transient: bool
    is_flapping: bool
    alerted_at: datetime
    paged_at: datetime | None
    acknowledged_at: datetime | None
    resolved_at: datetime | None
    minutes_to_acknowledge: float | None
    minutes_to_resolve: float | None


class AssetReliability(BaseModel):
    """How often an asset was tried, and failed, in the period that was asked for."""

    asset_key: str
    attempts: int
    failures: int
    transients: int


class CheckFlakiness(BaseModel):
    """How far a check can be trusted, over all of its history."""

    asset_key: str
    check_name: str
    severity: str | None
    evaluations: int
    failures: int
    flips: int
    last_failed_at: datetime


class PlatformMarts(BigQueryProject):
    """What the platform knows of itself. Every call raises google.api_core's exceptions."""

    def __init__(self, project: str, location: str, retry_seconds: float, dataset: str = "data_platform") -> None:
        super().__init__(project, location, retry_seconds)
        self._dataset = dataset

    @classmethod
    def configured(cls) -> Self:
        """The marts of the target that the settings name."""
        values = settings()
        prefix = f"{values.dbt_schema_prefix}_" if values.dbt_target != "prod" and values.dbt_schema_prefix else ""
        return cls(
            values.modelled_project,
            values.bigquery_location,
            values.bigquery_retry_seconds,
            f"{prefix}data_platform",
        )

    def incidents(self, since: datetime, until: datetime) -> list[IncidentResponse]:
        """The incidents that began in a period, the first to begin first."""
        columns = ", ".join(IncidentResponse.model_fields)
        rows = self._rows(
            f"select {columns} from `{self._dataset}.incident_response`"
            f" where alerted_at >= @since and alerted_at < @until order by alerted_at limit {MOST_ROWS}",
            {"since": since, "until": until},
        )
        return [IncidentResponse.model_validate(_plain(row)) for row in rows]

    def assets(self, since: datetime, until: datetime, most: int) -> list[AssetReliability]:
        """The assets that failed most often on the days of a period, those whose retries succeeded first."""
        rows = self._rows(
            "select asset_key, sum(days.attempts) as attempts, sum(days.failures) as failures, sum(days.transients) as transients"
            f" from `{self._dataset}.asset_reliability` as days"
            " where occurred_on >= date(@since) and occurred_on <= date(@until)"
            # `sum(failures)` would be the sum of the sum above it.
            " group by asset_key having sum(days.failures) > 0"
            f" order by transients desc, failures desc, asset_key limit {most}",
            {"since": since, "until": until},
        )
        return [AssetReliability.model_validate(_plain(row)) for row in rows]

    def checks(self, since: datetime, until: datetime, most: int) -> list[CheckFlakiness]:
        """Of the checks that failed last in a period or later, those that flip most."""
        columns = ", ".join(CheckFlakiness.model_fields)
        rows = self._rows(
            f"select {columns} from `{self._dataset}.check_flakiness`"
            " where last_failed_at >= @since and last_failed_at < @until"
            f" order by flips desc, failures desc, asset_key, check_name limit {most}",
            {"since": since, "until": until},
        )
        return [CheckFlakiness.model_validate(_plain(row)) for row in rows]


def _plain(row: Any) -> dict[str, Any]:
    return dict(row.items())
