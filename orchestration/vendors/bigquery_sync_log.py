"""Hightouch's warehouse sync logs: which rows a destination has rejected, and why (https://hightouch.com/docs/syncs/warehouse-sync-logs)."""

from __future__ import annotations

from dataclasses import dataclass

from google.api_core.exceptions import NotFound

from orchestration.vendors.bigquery_project import BigQueryProject

TABLE = "hightouch_audit.sync_changelog"


@dataclass(frozen=True)
class Rejected:
    """A row of a model by its primary key, and the destination's words."""

    row: str
    reason: str


class SyncLog(BigQueryProject):
    """The logs in one project. Every call raises google.api_core's exceptions."""

    def rejected(self, sync_id: int, run_id: int, most: int) -> list[Rejected] | None:
        """Up to `most` of the rows that were rejected in a run; None where the workspace writes no sync logs."""
        # The types of the ids are not documented: they may be numbers or texts.
        query = (
            f"select * from {TABLE} where cast(sync_id as string) = @sync and cast(sync_run_id as string) = @run"
            f" and status = 'failed' limit {most}"
        )
        try:
            rows = self._rows(query, {"sync": str(sync_id), "run": str(run_id)})
        except NotFound:
            return None
        # The column is `row_id`, which a BigQuery that is kept in DuckDB cannot have; there it has something before it.
        return [
            Rejected(
                next(str(value) for name, value in row.items() if name.endswith("row_id")), row["failure_reason"] or ""
            )
            for row in rows
        ]
