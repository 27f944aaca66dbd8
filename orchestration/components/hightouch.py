"""Hightouch syncs as assets, joined to the tables that their models read; all of them run in one step."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, override

import dagster as dg
from pydantic import BaseModel
from sqlglot.errors import SqlglotError

from orchestration.components.outside_syncs import Ended, watch
from orchestration.components.saved_state import VendorState
from orchestration.components.steps import Failures, Sleep, side_by_side
from orchestration.lineage import keys
from orchestration.lineage.graph import AUDIENCE_TAG
from orchestration.settings import settings
from orchestration.vendors.hightouch import ENDED, SENT, Destination, Hightouch, Model, Sync, Synced, SyncRun
from orchestration.vendors.waiting import SyncFailed, Wait

GROUP = "activation"
LATE = "If it is only slow, raise `sync_timeout_minutes` in defs/activation/defs.yaml."
log = logging.getLogger(__name__)


class HightouchState(BaseModel):
    """What a workspace runs."""

    syncs: list[Sync]
    models: list[Model]
    destinations: list[Destination]


def hightouch() -> Hightouch:
    values = settings()
    return Hightouch(str(values.hightouch_api_url), values.hightouch_api_key.get_secret_value())


@dataclass
class HightouchSyncs(VendorState, dg.Resolvable):
    """Every sync of a Hightouch workspace that is enabled. What it runs is read from Hightouch by `dataplatform refresh`."""

    owners: list[str] = field(default_factory=list[str])
    """Who is asked about a failure: e-mail addresses, or `team:<name>`."""
    sync_timeout_minutes: int = 120
    concurrent_syncs: int = 8
    audience: str = "internal"
    """Who reads what these syncs write: `customer` or `internal`."""

    state_name: ClassVar[str] = "hightouch.json"

    @override
    def write_state_to_path(self, state_path: Path) -> None:
        api = hightouch()
        state = HightouchState(syncs=api.syncs(), models=api.models(), destinations=api.destinations())
        state_path.write_text(state.model_dump_json(indent=1), encoding="utf-8")

    @override
    def definitions(self, state_path: Path) -> dg.Definitions:
        state = HightouchState.model_validate_json(state_path.read_text(encoding="utf-8"))
        syncs = {keys.consumer("hightouch", sync.slug): sync for sync in state.syncs if not sync.disabled}
        if not syncs:
            return dg.Definitions()

        @dg.multi_asset(
            name="hightouch", specs=[self.get_asset_spec(state, sync) for sync in syncs.values()], can_subset=True
        )
        def run(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
            yield from self.execute(context, syncs)

        return dg.Definitions(assets=[run], sensors=[watch("hightouch_syncs", "Hightouch", partial(_last_ends, syncs))])

    def get_asset_spec(self, state: HightouchState, sync: Sync) -> dg.AssetSpec:
        model = next((model for model in state.models if model.id == sync.model_id), None)
        destination = next((place for place in state.destinations if place.id == sync.destination_id), None)
        return dg.AssetSpec(
            key=keys.consumer("hightouch", sync.slug),
            deps=_upstream(sync, model),
            description=f"Sends `{model.name if model else '?'}` to {destination.name if destination else '?'}.",
            group_name=GROUP,
            kinds={"hightouch", destination.type} if destination else {"hightouch"},
            owners=self.owners,
            tags={AUDIENCE_TAG: self.audience},
            automation_condition=dg.AutomationCondition.eager(),
        )

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


def _upstream(sync: Sync, model: Model | None) -> list[dg.AssetKey]:
    """The tables above a sync; none, with a warning, where its model cannot be read: one odd model must not stop the rest."""
    try:
        if model is not None:
            return tables_of(model)
        problem = "Hightouch does not list its model"
    except (SqlglotError, ValueError) as error:
        problem = str(error)
    log.warning(
        "hightouch/%s has no upstream assets, since the tables that it reads are unknown: %s", sync.slug, problem
    )
    return []


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
