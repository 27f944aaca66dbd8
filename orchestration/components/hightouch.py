"""Hightouch syncs as assets, joined to the tables that their models read; all of them run in one step."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, override

import dagster as dg
from pydantic import BaseModel
from sqlglot.errors import SqlglotError

from orchestration.components.consumers import ConsumerState
from orchestration.components.outside_syncs import Ended, watch
from orchestration.components.steps import Failures, Sleep, side_by_side
from orchestration.lineage import keys
from orchestration.lineage.consumers import Consumer
from orchestration.settings import settings
from orchestration.vendors.hightouch import ENDED, SENT, Destination, Hightouch, Model, Sync, Synced, SyncRun
from orchestration.vendors.waiting import SyncFailed, Wait

GROUP = "activation"
LATE = "If it is only slow, raise `sync_timeout_minutes` in defs/activation/defs.yaml."


class HightouchState(BaseModel):
    """What a workspace runs."""

    syncs: list[Sync]
    models: list[Model]
    destinations: list[Destination]


def hightouch() -> Hightouch:
    values = settings()
    return Hightouch(str(values.hightouch_api_url), values.hightouch_api_key.get_secret_value())


@dataclass
class HightouchSyncs(ConsumerState, dg.Resolvable):
    """Every sync of a Hightouch workspace that is enabled. What it runs is read from Hightouch by `dataplatform refresh`."""

    sync_timeout_minutes: int = 120
    concurrent_syncs: int = 8

    state_name: ClassVar[str] = "hightouch.json"
    vendor: ClassVar[str] = "hightouch"

    @property
    @override
    def source(self) -> str:
        return str(settings().hightouch_api_url)

    @override
    def read(self, last: str | None) -> str:
        api = hightouch()
        state = HightouchState(syncs=api.syncs(), models=api.models(), destinations=api.destinations())
        return state.model_dump_json()

    @override
    def consumers(self, state: str) -> list[Consumer]:
        workspace = HightouchState.model_validate_json(state)
        models = {model.id: model for model in workspace.models}
        return [_consumer(sync, models.get(sync.model_id)) for sync in _enabled(workspace).values()]

    @override
    def definitions(self, state: str) -> dg.Definitions:
        workspace = HightouchState.model_validate_json(state)
        syncs = _enabled(workspace)
        if not syncs:
            return dg.Definitions()
        destinations = {place.id: place for place in workspace.destinations}
        specs = [
            _runs(self.spec(consumer), destinations.get(syncs[consumer.key].destination_id))
            for consumer in self.consumers(state)
        ]

        @dg.multi_asset(name="hightouch", specs=specs, can_subset=True)
        def run(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
            yield from self.execute(context, syncs)

        return dg.Definitions(assets=[run], sensors=[watch("hightouch_syncs", "Hightouch", partial(_last_ends, syncs))])

    def execute(
        self, context: dg.AssetExecutionContext, syncs: Mapping[dg.AssetKey, Sync]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Run the selected syncs side by side, and report each as soon as it has ended.

        Raises dagster.Failure at the end, with a report of every sync that failed or had rows rejected.
        """
        api, failed = hightouch(), Failures(context)

        def run(sync: Sync, sleep: Sleep) -> Synced:
            synced = api.sync(sync, Wait(self.sync_timeout_minutes * 60, LATE, context.log.info, sleep))
            reject(sync, synced)
            return synced

        jobs = {key: partial(run, syncs[key]) for key in context.selected_asset_keys}
        for key, future in side_by_side(jobs, self.concurrent_syncs):
            if error := future.exception():
                failed.add(f"hightouch/{syncs[key].slug}", [key], error, _url(syncs[key]))
            else:
                yield dg.MaterializeResult(asset_key=key, metadata=_metadata(syncs[key], future.result()))
        failed.raise_any()


def _last_ends(syncs: Mapping[dg.AssetKey, Sync]) -> Iterator[Ended]:
    api = hightouch()
    for key, sync in syncs.items():
        run = api.newest_run(sync.id)
        if run is not None and run.finished_at is not None and run.status in ENDED:
            yield Ended(f"hightouch/{sync.slug}", (key,), run.finished_at, _problem(sync, run), _url(sync))


def _problem(sync: Sync, run: SyncRun) -> str | None:
    if run.status not in SENT:
        return f"Run {run.id} of `{sync.slug}` {run.status}: {run.reason}"
    try:
        reject(sync, Synced(run, 0))
    except SyncFailed as problem:
        return str(problem)
    return None


def tables_of(model: Model) -> list[dg.AssetKey]:
    """The tables that a model reads: by its SQL, or by the table that it names. A dbt model arrives as its table."""
    if model.raw:
        return keys.tables_read(model.raw.sql)
    return [keys.table_named(model.table.name)] if model.table else []


def _enabled(workspace: HightouchState) -> dict[dg.AssetKey, Sync]:
    return {keys.consumer("hightouch", sync.slug): sync for sync in workspace.syncs if not sync.disabled}


def _consumer(sync: Sync, model: Model | None) -> Consumer:
    """A sync with the tables above it: where its model cannot be read, none, for one odd model must not stop the rest."""
    key, name = keys.consumer("hightouch", sync.slug), model.name if model else sync.slug
    if model is None:
        return Consumer(key, name, (), ("Hightouch does not list its model.",), url=_url(sync))
    try:
        return Consumer(key, name, tuple(tables_of(model)), url=_url(sync))
    except (SqlglotError, ValueError) as error:
        return Consumer(key, name, (), (str(error),), url=_url(sync))


def _runs(spec: dg.AssetSpec, destination: Destination | None) -> dg.AssetSpec:
    return spec.replace_attributes(
        group_name=GROUP,
        kinds={"hightouch", destination.type} if destination else {"hightouch"},
        automation_condition=dg.AutomationCondition.eager(),
    )


def reject(sync: Sync, synced: Synced) -> None:
    """Raise SyncFailed where the destination refused rows: Hightouch calls such a run a warning, yet rows are missing."""
    rejected = synced.run.failed_rows.total if synced.run.failed_rows else 0
    if synced.run.status == "warning" or rejected:
        raise SyncFailed(
            f"The destination of `{sync.slug}` rejected {rejected} of {synced.run.query_size} rows in run {synced.run.id}. Which and "
            f"why: `hightouch_audit.sync_changelog` in BigQuery, by sync_run_id and status."
        )


def _metadata(sync: Sync, synced: Synced) -> dict[str, Any]:
    return {
        "rows_synced": synced.run.successful_rows.total if synced.run.successful_rows else 0,
        "dagster/row_count": synced.run.query_size or 0,
        "duration_seconds": round(synced.seconds, 1),
        "hightouch": dg.MetadataValue.url(_url(sync)),
    }


def _url(sync: Sync) -> str:
    # The API does not give the workspace's slug, which the address of a sync has; this one redirects after sign-in. [unverified]
    return f"https://app.hightouch.com/syncs/{sync.id}"
