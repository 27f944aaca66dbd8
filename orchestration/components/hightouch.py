"""Hightouch syncs as assets, joined to the tables that their models read; all of them run in one step."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, override

import dagster as dg
from google.api_core.exceptions import GoogleAPIError
from pydantic import BaseModel, ValidationError
from sqlglot.errors import SqlglotError

from orchestration.components import automation
from orchestration.components import dagster_values as values
from orchestration.components.consumers import ConsumerState
from orchestration.components.dbt_exposures import dbt_models
from orchestration.components.outside_syncs import Ended, Look, UnitFault, watch
from orchestration.components.setting_names import find_unknown_names
from orchestration.components.steps import Failures, Sleep, find_output_keys_once, side_by_side, start_sync
from orchestration.lineage import keys
from orchestration.lineage.consumers import Consumer, Finding
from orchestration.lineage.failures import SYNC_KEY
from orchestration.settings import HightouchSettings, VendorSettings, hightouch_settings
from orchestration.vendors.bigquery_sync_log import TABLE, SyncLog
from orchestration.vendors.hightouch import (
    NOT_FOUND,
    SENT,
    DbtCloudModel,
    Destination,
    Hightouch,
    Model,
    RowCounts,
    Sync,
    Synced,
    SyncRun,
    run_identity,
)
from orchestration.vendors.http import PATIENCE_SECONDS, VendorError
from orchestration.vendors.waiting import Wait

GROUP = "activation"
REJECTED = "rejected_rows"
QUOTED = 3
"""So many rejected rows a failed check quotes."""
LATE = "If it is only slow, raise `sync_timeout_minutes` in defs/activation/defs.yaml."
ASKED_AT_ONCE = 8
"""So many syncs are asked for their runs side by side, by the sensor."""
TICK_PATIENCE_SECONDS = 11.0
"""How long a request of the sensor waits for the rate limit to pass: one window of Hightouch's."""


class HightouchState(BaseModel):
    """What a workspace runs. A sync has the slug that it had when it was first seen; `renamed` has the vendor's own now, by that slug."""

    syncs: list[Sync]
    models: list[Model]
    destinations: list[Destination]
    renamed: dict[str, str] = {}


def hightouch(patience_seconds: float = PATIENCE_SECONDS) -> Hightouch:
    """Return a client of the workspace of the settings. `patience_seconds` is how long a request waits for the rate limit to pass."""
    values = hightouch_settings()
    key = values.hightouch_api_key.get_secret_value()
    return Hightouch(str(values.hightouch_api_url), key, patience_seconds=patience_seconds)


@dataclass
class HightouchSyncs(ConsumerState, dg.Resolvable):
    """Every sync of a Hightouch workspace that is enabled. What it runs is read from Hightouch by `dataplatform refresh`."""

    sync_timeout_minutes: int = 120
    concurrent_syncs: int = 8
    cron_of: dict[str, str] = field(default_factory=dict[str, str])
    """When syncs run, by slug, that do not run whenever what they read has changed: five fields of cron, in UTC.

    A sync that was renamed in Hightouch has its old slug here; its new one is known too.
    """
    rejected_rows_of: dict[str, int] = field(default_factory=dict[str, int])
    """How many rows the destination of a sync may reject in a run before that is a failure, by slug; else none."""

    state_name: ClassVar[str] = "hightouch.json"
    vendor: ClassVar[str] = "hightouch"
    vendor_settings: ClassVar[tuple[type[VendorSettings], ...]] = (HightouchSettings,)

    @property
    @override
    def source(self) -> str:
        return str(hightouch_settings().hightouch_api_url)

    @override
    def read(self, last: str | None) -> str:
        api = hightouch()
        found, before = api.syncs(), HightouchState.model_validate_json(last).syncs if last else []
        own = {str(sync.id): sync.slug for sync in found}
        # So that an asset keeps its key, and settings and exposures their meaning, when its sync is renamed.
        slugs = keys.slugs(own, {str(sync.id): sync.slug for sync in before}, str)
        state = HightouchState(
            # What changes with each run is no part of what the workspace is.
            syncs=[
                sync.model_copy(update={"slug": slugs[str(sync.id)], "status": None, "last_run_at": None})
                for sync in found
            ],
            models=api.models(),
            destinations=api.destinations(),
            renamed={slugs[id_]: slug for id_, slug in own.items() if slug != slugs[id_]},
        )
        return state.model_dump_json()

    @override
    def findings(self, state: str) -> list[Finding]:
        """Return the settings that name syncs which the workspace does not have."""
        return [name.finding for name in find_unknown_names(self, json.loads(state))]

    @override
    def read_consumers(self, state: str) -> list[Consumer]:
        workspace = HightouchState.model_validate_json(state)
        models = {model.id: model for model in workspace.models}
        return [_consumer(sync, models.get(sync.model_id), models) for sync in _enabled(workspace).values()]

    @override
    def definitions(self, state: str) -> dg.Definitions:
        workspace = HightouchState.model_validate_json(state)
        syncs = _enabled(workspace)
        if not syncs:
            return dg.Definitions()
        return self._with_names_of(workspace)._definitions(workspace, syncs, self.consumers(state))

    def _with_names_of(self, workspace: HightouchState) -> "HightouchSyncs":
        """Return the component with settings by the slugs that syncs have here, also where they name a renamed sync by its new slug."""

        slugs = {sync.slug for sync in workspace.syncs}

        def by_slug[T](setting: Mapping[str, T]) -> dict[str, T]:
            here = {new: old for old, new in workspace.renamed.items()}
            own = {name: value for name, value in setting.items() if name in slugs or name not in here}
            return {here[name]: value for name, value in setting.items() if name in here} | own

        return replace(self, cron_of=by_slug(self.cron_of), rejected_rows_of=by_slug(self.rejected_rows_of))

    def _definitions(
        self, workspace: HightouchState, syncs: Mapping[dg.AssetKey, Sync], consumers: Sequence[Consumer]
    ) -> dg.Definitions:
        destinations = {place.id: place for place in workspace.destinations}
        specs = [
            self._run_when(self.spec(consumer), destinations.get(syncs[consumer.key].destination_id))
            for consumer in consumers
        ]

        @dg.multi_asset(
            name="hightouch",
            specs=specs,
            check_specs=[
                dg.AssetCheckSpec(REJECTED, asset=key, description="The destination took every row.") for key in syncs
            ],
            config_schema={
                "full_resync": dg.Field(
                    [str],
                    default_value=[],
                    description="Slugs of syncs to send every row of, and not only what changed.",
                )
            },
            can_subset=True,
            pool="hightouch",
        )
        def run(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
            yield from self.execute(context, syncs)

        return dg.Definitions(
            assets=[run],
            sensors=[
                watch("hightouch_syncs", "Hightouch", partial(self._look_at_workspace, syncs), at_once=ASKED_AT_ONCE)
            ],
        )

    def _run_when(self, spec: dg.AssetSpec, destination: Destination | None) -> dg.AssetSpec:
        cron, read = self.cron_of.get(spec.key.path[-1]), [dep.asset_key for dep in spec.deps]
        return spec.replace_attributes(
            group_name=GROUP,
            kinds={"hightouch", *values.kinds([destination.type] if destination else [])},
            automation_condition=automation.on_cron(cron, read) if cron else automation.when_read_changes(read),
        )

    def execute(
        self, context: dg.AssetExecutionContext, syncs: Mapping[dg.AssetKey, Sync]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Run the selected syncs side by side, and report each as soon as it has ended.

        Raises dagster.Failure at the end, with a report of every sync that failed. Rows that were rejected are a failed check.
        """
        find_output_keys_once(context)
        api, failed = hightouch(), Failures(context)
        whole = set(context.op_execution_context.op_config["full_resync"])
        if unknown := sorted(whole - {sync.slug for sync in syncs.values()}):
            raise dg.Failure(
                f"full_resync names {', '.join(unknown)}, which Hightouch has no enabled sync of; it has "
                f"{', '.join(sorted(sync.slug for sync in syncs.values()))}.",
                allow_retries=False,
            )

        def run(key: dg.AssetKey, sync: Sync, sleep: Sleep) -> Synced:
            start_sync(context, key)
            wait = Wait(self.sync_timeout_minutes * 60, LATE, context.log.info, sleep)
            return api.sync(sync, wait, full_resync=sync.slug in whole)

        jobs = {key: partial(run, key, syncs[key]) for key in context.selected_asset_keys}
        for key, future in side_by_side(jobs, self.concurrent_syncs):
            sync = syncs[key]
            if error := future.exception():
                failed.add(f"hightouch/{sync.slug}", [key], error, _url(sync), sync_of=key)
            else:
                synced = future.result()
                check = rejected_rows(key, sync, synced.run, self._allowed(sync))
                yield dg.MaterializeResult(asset_key=key, metadata=_metadata(sync, synced), check_results=[check])
        failed.raise_any()

    def _look_at_workspace(self, syncs: Mapping[dg.AssetKey, Sync]) -> Iterator[Look]:
        """Yield the last run of each sync, by a listing of the workspace that says which syncs have run since the last look.

        Raises VendorError where the syncs cannot be listed.
        """
        api = hightouch(TICK_PATIENCE_SECONDS)
        listed = {sync.id: sync for sync in api.syncs()}
        missing: list[Look] = []
        for key, sync in syncs.items():
            unit = f"hightouch/{sync.slug}"
            if (now := listed.get(sync.id)) is not None:
                state = f"{now.status} {now.last_run_at}" if now.status else None
                yield Look(unit, partial(self._last_end, api, key, sync), state)
            else:
                missing.append(Look(unit, partial(self._last_end_of_unlisted, api, key, sync)))
        yield from missing

    def _last_end(self, api: Hightouch, key: dg.AssetKey, sync: Sync) -> list[Ended]:
        try:
            run = api.newest_ended_run(sync.id)
        except ValidationError as error:
            text = f"Hightouch lists runs of `{sync.slug}` with values that cannot be read ({error.error_count()} of them)."
            raise _fault(key, sync, "cannot be read", text) from error
        except VendorError as error:
            if error.status != NOT_FOUND:
                raise
            return self._last_end_of_unlisted(api, key, sync, asked=True)
        if run is None or run.finished_at is None:
            return []
        problem = partial(_problem, sync, run, self._allowed(sync))
        return [Ended((key,), run.finished_at, run_identity(sync.id, run.id), problem, _url(sync))]

    def _last_end_of_unlisted(
        self, api: Hightouch, key: dg.AssetKey, sync: Sync, *, asked: bool = False
    ) -> list[Ended]:
        if api.sync_exists(sync.id):
            # Its runs are not there, or the listing lacked it.
            return [] if asked else self._last_end(api, key, sync)
        text = (
            f"Hightouch has no sync `{sync.slug}` ({sync.id}) any more: it was deleted there. Run `dataplatform refresh` to take it out of the"
            " graph, or set it up again in Hightouch."
        )
        raise _fault(key, sync, "was deleted", text)

    def _allowed(self, sync: Sync) -> int:
        """How many rows a destination may reject."""
        return self.rejected_rows_of.get(sync.slug, 0)


def _fault(key: dg.AssetKey, sync: Sync, state: str, text: str) -> UnitFault:
    identity = f"hightouch/{sync.id}/{state.replace(' ', '_')}"
    return UnitFault(state, Ended((key,), datetime.now(UTC), identity, lambda: text, _url(sync)))


def _problem(sync: Sync, run: SyncRun, allowed: int) -> str | None:
    if run.status not in SENT:
        return f"Run {run.id} of `{sync.slug}` {run.status}: {run.reason}"
    if run.rejected > allowed:
        return _rejection(sync, run)
    return None


def rejected_rows(key: dg.AssetKey, sync: Sync, run: SyncRun, allowed: int) -> dg.AssetCheckResult:
    """The check of a run that was sent: it fails where more rows were rejected than are `allowed`, and quotes some with the reasons."""
    description = _rejection(sync, run) if run.rejected else "The destination took every row."
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=REJECTED,
        passed=run.rejected <= allowed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=description,
        metadata={"rejected": run.rejected, "allowed": allowed, "hightouch": dg.MetadataValue.url(_url(sync))},
    )


def _rejection(sync: Sync, run: SyncRun) -> str:
    """What was rejected in a run, with some rows as the warehouse sync logs have them."""
    first = f"The destination of `{sync.slug}` rejected {run.rejected} of {run.query_size} rows in run {run.id}."
    try:
        rows = SyncLog.configured().rejected(sync.id, run.id, QUOTED)
    except GoogleAPIError as error:
        return f"{first} The sync logs, which say why, could not be read: {error}"
    if rows is None:
        return f"{first} Which and why is not known: switch on warehouse sync logs in Hightouch."
    quoted = [f"{row.row}: {row.reason}" for row in rows]
    more = [f"All of them: {TABLE} in BigQuery, by sync_run_id and status."] if run.rejected > len(rows) else []
    return "\n".join([first, *quoted, *more])


def tables_of(model: Model, models: Mapping[int, Model]) -> list[dg.AssetKey]:
    """The tables that a model reads: of its SQL, the table that it names, that of its dbt model, or those of the model that it filters.

    Raises ValueError, or sqlglot's ParseError, with the reason where that is not known.
    """
    seen = {model.id}
    while model.visual:
        parent = models.get(model.visual.parent_id)
        if parent is None or parent.id in seen:
            raise ValueError(
                f"Its model `{model.name}` filters model {model.visual.parent_id}, which Hightouch does not list."
            )
        seen.add(parent.id)
        model = parent
    if model.raw:
        return keys.tables_read(model.raw.sql)
    if model.dbt:
        return [keys.table(model.dbt.schema_, model.dbt.name)]
    if model.table:
        return [keys.table_named(model.table.name)]
    if model.dbt_cloud:
        return _tables_of_dbt_cloud(model.name, model.dbt_cloud)
    if model.custom:
        raise ValueError(f"Its model `{model.name}` is a custom query, of a source without SQL.")
    raise ValueError(f"Its model `{model.name}` is of a kind that is not known: {model.query_type}.")


def _tables_of_dbt_cloud(name: str, model: DbtCloudModel) -> list[dg.AssetKey]:
    """The table of a model of dbt Cloud where our dbt project has that model, else the tables that its SQL reads."""
    if (found := dbt_models().get(model.dbt_unique_id)) is not None:
        return [found]
    if tables := keys.tables_read(model.compiled_sql):
        return tables
    raise ValueError(f"Its model `{name}` is dbt Cloud's `{model.dbt_unique_id}`, which the dbt project does not have.")


def _enabled(workspace: HightouchState) -> dict[dg.AssetKey, Sync]:
    return {keys.consumer("hightouch", sync.slug): sync for sync in workspace.syncs if not sync.disabled}


def _consumer(sync: Sync, model: Model | None, models: Mapping[int, Model]) -> Consumer:
    """A sync with the tables above it: where its model cannot be read, none, for one odd model must not stop the rest."""
    key, name = keys.consumer("hightouch", sync.slug), model.name if model else sync.slug
    if model is None:
        return Consumer(key, name, (), ("Hightouch does not list its model.",), url=_url(sync))
    try:
        return Consumer(key, name, tuple(tables_of(model, models)), url=_url(sync))
    except (SqlglotError, ValueError) as error:
        return Consumer(key, name, (), (str(error),), url=_url(sync))


def _metadata(sync: Sync, synced: Synced) -> dict[str, Any]:
    sent, planned = synced.run.successful_rows or RowCounts(), synced.run.planned_rows or RowCounts()
    return {
        "rows_synced": sent.total,
        "rows_planned": planned.total,
        "rows_added": sent.added_count or 0,
        "rows_changed": sent.changed_count or 0,
        "rows_removed": sent.removed_count or 0,
        "rows_rejected": synced.run.rejected,
        "dagster/row_count": synced.run.query_size or 0,
        "duration_seconds": round(synced.seconds, 1),
        "hightouch": dg.MetadataValue.url(_url(sync)),
        SYNC_KEY: run_identity(sync.id, synced.run.id),
    }


def _url(sync: Sync) -> str:
    # The API does not give the workspace's slug, which the address of a sync has; this one redirects after sign-in. [unverified]
    return f"https://app.hightouch.com/syncs/{sync.id}"
