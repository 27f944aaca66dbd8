"""The checks of one step, to and from Dagster's event log: what they said before, what they say now, and which of them are failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from orchestration.components.dbt import MANIFEST, DbtModels
from orchestration.components.dbt_nodes import read_nodes
from orchestration.components.schema_drift import Change, Columns, at_risk
from orchestration.components.source_checks import DESCRIPTIONS, ERROR, Before, Verdict
from orchestration.components.steps import Failures
from orchestration.lineage.failures import UNIT_KEY
from orchestration.settings import settings
from orchestration.vendors.waiting import SyncFailed

ENDED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
Decide = Callable[[Before | None], Verdict]


class ChecksFailed(SyncFailed):
    """A table has landed, and is not as it has to be. The message has what its checks say. The same data fails them again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


def specs(key: dg.AssetKey, names: Iterable[str]) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(name, asset=key, description=DESCRIPTIONS[name]) for name in names]


def table_schema(columns: Columns) -> dg.TableSchema:
    """Columns for the metadata `dagster/column_schema`."""
    return dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()])


def table_url(dataset: str, table: str = "") -> str:
    """Where a person looks at a table, or at a dataset."""
    project = settings().raw_project
    place = f"t={table}&page=table" if table else "page=dataset"
    return f"https://console.cloud.google.com/bigquery?project={project}&p={project}&d={dataset}&{place}"


class CheckReports:
    """Decides the checks that a step was asked for, and keeps those that are failures until its end."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._failed: dict[dg.AssetKey, list[str]] = {}

    def report(self, key: dg.AssetKey, checks: Mapping[str, Decide]) -> Iterator[dg.AssetCheckResult]:
        for name, decide in checks.items():
            check = dg.AssetCheckKey(key, name)
            if check not in self._context.selected_asset_check_keys:
                continue
            verdict = decide(self._before(check))
            metadata = verdict.metadata
            if not verdict.passed and verdict.severity is ERROR:
                self._failed.setdefault(key, []).append(f"{name}: {verdict.description}")
                metadata = {**metadata, UNIT_KEY: _unit(key)}
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=name,
                passed=verdict.passed,
                severity=verdict.severity,
                description=verdict.description,
                metadata=metadata,
            )

    def fail(self, failed: Failures) -> None:
        """Add each table that failed a check of severity error, as one failed unit with all that its checks say."""
        for key, problems in self._failed.items():
            error = ChecksFailed(" ".join(problems))
            failed.add(_unit(key), [key], error, table_url(*key.path))

    def models_at_risk(self, key: dg.AssetKey, changed: list[Change]) -> list[str] | None:
        """By the manifest of the last refresh; None where there is none."""
        return None if self._manifest is None else at_risk(self._manifest, key, changed)

    def _before(self, check: dg.AssetCheckKey) -> Before | None:
        history = self._context.instance.event_log_storage.get_asset_check_execution_history(check, 1, status=ENDED)
        if not history or (evaluation := history[0].evaluation) is None:
            return None
        at = datetime.fromtimestamp(history[0].create_timestamp, UTC)
        return Before(at, {name: value.value for name, value in evaluation.metadata.items()})

    @cached_property
    def _manifest(self) -> Mapping[str, Any] | None:
        try:
            return read_nodes(DbtModels.state_path() / MANIFEST).manifest
        except (OSError, ValueError, KeyError) as error:
            self._context.log.warning(f"The dbt manifest cannot be read, so models at risk are not known: {error}")
            return None


def _unit(key: dg.AssetKey) -> str:
    """The name of a table's failed checks as a failed unit."""
    return f"check/{key.to_user_string()}"
