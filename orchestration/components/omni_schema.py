"""Omni's schema model as an asset: refreshed when a table that documents read has other columns, and checked for what that broke."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg

from orchestration.components.omni_changes import Seen, look, unmade, unwell
from orchestration.components.steps import Failures, Sleep, side_by_side
from orchestration.lineage import keys
from orchestration.vendors.http import VendorError, excerpt
from orchestration.vendors.omni import Omni
from orchestration.vendors.omni_payloads import Broken, Model
from orchestration.vendors.waiting import Wait

GROUP = "analytics"
KEY = keys.consumer("omni", "schema_model")
CONTENT = "content"
INTERVAL_SECONDS = 60
SAID, ISSUES_SAID = 10, 3
"""So many broken documents a failed check names, with so many issues each."""
LISTED = 100
"""So many are in its metadata."""
LATE = "If it is only slow, raise `refresh_timeout_minutes` in defs/analytics/defs.yaml."
RETRY = {"dagster/max_retries": "1"}


@dataclass(frozen=True)
class SchemaModel:
    """The schema model of the connections that documents use, by their ids. `read` are the tables that documents read."""

    read: Sequence[dg.AssetKey]
    connections: Collection[str | None]
    owners: Sequence[str]
    url: str
    timeout_seconds: float
    branch_of: Mapping[str, str]
    omni: Callable[[], Omni]

    def asset(self) -> dg.AssetsDefinition:
        spec = dg.AssetSpec(
            KEY,
            deps=self.read,
            description="Omni's picture of the warehouse's schema, on which documents are built.",
            group_name=GROUP,
            kinds={"omni"},
            owners=self.owners,
        )
        check = dg.AssetCheckSpec(
            CONTENT,
            asset=KEY,
            description="No published document refers to a view or a field that is not there any more.",
        )

        @dg.multi_asset(name="omni_schema_model", specs=[spec], check_specs=[check], pool="omni")
        def refresh(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
            yield from self.execute(context)

        return refresh

    def execute(self, context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        """Have Omni read the schema anew, then ask it which documents are broken by that, which is a failed check.

        Raises dagster.Failure, with a report, where Omni does not do so.
        """
        api, failed = self.omni(), Failures(context)
        try:
            models = [model for model in api.models() if model.connection_id in self.connections]
            schemas = {model.id: model for model in models if model.model_kind == "SCHEMA"}
            seconds = self._refresh(context, api, schemas, failed)
            failed.raise_any()
            broken = by_document(found for model in _checked(models) for found in api.broken(model))
        except VendorError as error:
            failed.add(KEY.to_user_string(), [KEY], error, self.url)
            failed.raise_any()
            raise
        yield dg.MaterializeResult(
            asset_key=KEY,
            metadata={"duration_seconds": round(seconds, 1), "omni": dg.MetadataValue.url(self.url)},
            check_results=[content(broken, self.url)],
        )

    def sensor(self) -> dg.SensorDefinition:
        """Asks for a refresh when a table that documents read has other columns than at the last one, when dbt's project has others, and
        again after one that did not end well.
        """

        @dg.sensor(
            name="omni_schema",
            asset_selection=dg.AssetSelection.assets(KEY),
            minimum_interval_seconds=INTERVAL_SECONDS,
            default_status=dg.DefaultSensorStatus.RUNNING,
            description="Has Omni read the warehouse's schema anew when a table that documents read has other columns, after a deploy, and every hour while it is not well.",
        )
        def omni_schema(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
            before = Seen.model_validate_json(context.cursor) if context.cursor else None
            # Where dbt has made nothing yet, Omni would find every document broken.
            if before is None and (waiting := unmade(context.instance, self.read)):
                return dg.SkipReason(f"Not built yet: {', '.join(waiting[:SAID])}.")
            now = look(context.instance, self.read, before or Seen())
            changed = now.since(before or Seen())
            again = unwell(context.instance, dg.AssetCheckKey(KEY, CONTENT), datetime.now(UTC))
            if before is not None and not changed and not again:
                return dg.SkipReason("No table that documents read has other columns.")
            context.update_cursor(now.model_dump_json())
            why = f"these have changed: {', '.join(changed)}" if changed else again or "nothing is known yet"
            context.log.info(f"Refreshing, since {why}")
            return dg.RunRequest(tags=RETRY)

        return omni_schema

    def _refresh(
        self, context: dg.AssetExecutionContext, api: Omni, schemas: Mapping[str, Model], failed: Failures
    ) -> float:
        """Refresh these models side by side, and return in how many seconds the slowest was. What fails is put into `failed`."""

        def run(model: Model, sleep: Sleep) -> float:
            wait = Wait(self.timeout_seconds, LATE, context.log.info, sleep)
            return api.refresh(model, wait, self.branch_of.get(model.id))

        slowest = 0.0
        jobs = {id_: partial(run, model) for id_, model in schemas.items()}
        for _id, future in side_by_side(jobs, max(1, len(jobs))):
            if error := future.exception():
                failed.add(KEY.to_user_string(), [KEY], error, self.url)
            else:
                slowest = max(slowest, future.result())
        if not jobs:
            error = VendorError("Omni lists no schema model of the connections that its documents use.", started=False)
            failed.add(KEY.to_user_string(), [KEY], error, self.url)
        return slowest


def by_document(found: Iterable[Broken]) -> list[Broken]:
    """Each broken document once, with what is wrong with it in any of its models, by name."""
    merged: dict[str, Broken] = {}
    for one in found:
        known = merged.get(one.identifier, one)
        merged[one.identifier] = known.model_copy(update={"issues": list(dict.fromkeys([*known.issues, *one.issues]))})
    return sorted(merged.values(), key=lambda one: (one.name, one.identifier))


def content(broken: Sequence[Broken], url: str) -> dg.AssetCheckResult:
    """The check of what Omni's content validator says."""
    issues = sum(len(one.issues) for one in broken)
    return dg.AssetCheckResult(
        asset_key=KEY,
        check_name=CONTENT,
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR,
        description=_told(broken, issues) if broken else "No document is broken.",
        metadata={
            "documents": len(broken),
            "issues": issues,
            "broken": [
                {"name": one.name, "url": _page(url, one), "issues": one.issues[:SAID]} for one in broken[:LISTED]
            ],
            "omni": dg.MetadataValue.url(url),
        },
    )


def _told(broken: Sequence[Broken], issues: int) -> str:
    documents = f"{len(broken)} documents refer" if len(broken) > 1 else "A document refers"
    lines = [f"{documents} to what is not in Omni's model any more, in {issues} {'places' if issues > 1 else 'place'}."]
    for one in broken[:SAID]:
        more = f"; and {len(one.issues) - ISSUES_SAID} more" if len(one.issues) > ISSUES_SAID else ""
        lines.append(
            f"{excerpt(one.name, 100)}: {'; '.join(excerpt(issue, 150) for issue in one.issues[:ISSUES_SAID])}{more}"
        )
    if len(broken) > SAID:
        lines.append(f"And {len(broken) - SAID} more documents.")
    return "\n".join(lines)


def _page(url: str, one: Broken) -> str:
    return f"{url.rstrip('/')}/dashboards/{one.identifier}"


def _checked(models: Iterable[Model]) -> list[Model]:
    """The models that documents are built on: what people have made of the schema, or the schema itself where nobody has made anything."""
    shared = [model for model in models if model.model_kind == "SHARED"]
    return shared or [model for model in models if model.model_kind == "SCHEMA"]
