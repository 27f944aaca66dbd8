"""Explo's customers, kept in step with the organisations: who has none can see no dashboard."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from orchestration.components.platform_causes import bigquery_cause
from orchestration.components.steps import Failures
from orchestration.lineage import keys
from orchestration.vendors.bigquery_tenants import UNAVAILABLE, TenantQueries
from orchestration.vendors.explo import Explo
from orchestration.vendors.http import VendorError
from orchestration.vendors.waiting import SyncFailed

CUSTOMERS = keys.consumer("explo", "customers")
ORGANISATIONS = keys.table("core", "organisations")
PLACE = "https://app.explo.co/customers"
NAMED = 20


@dataclass(frozen=True)
class Kept:
    """What was done. `gone` are customers that are no organisation (any more), which are left as they are."""

    created: Sequence[str]
    updated: Sequence[str]
    unchanged: int
    gone: Sequence[str]


def customers(explo: Callable[[], Explo], owners: Sequence[str]) -> dg.AssetsDefinition:
    """The asset of the customers."""

    @dg.asset(
        key=CUSTOMERS,
        deps=[ORGANISATIONS],
        group_name="analytics",
        kinds={"explo"},
        owners=owners,
        automation_condition=dg.AutomationCondition.eager(),
        pool="explo",
        description="A customer in Explo for every organisation: dashboards are embedded for one of them.",
    )
    def explo_customers(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        failed = Failures(context)
        try:
            organisations = _organisations()
            kept = keep_in_step(explo(), organisations)
        except (SyncFailed, VendorError) as error:
            failed.add("explo/customers", [CUSTOMERS], error, PLACE)
            failed.raise_any()
            raise
        return dg.MaterializeResult(metadata=_metadata(kept, len(organisations)))

    return explo_customers


def keep_in_step(api: Explo, organisations: Mapping[str, str]) -> Kept:
    """Create the customers that are missing, and rename those whose organisation has another name. None is deleted.

    Creating one that another run has created meanwhile gets that one. One that Explo refuses does not keep the others from their turn.
    Raises SyncFailed with those, and VendorError at once where Explo cannot be asked.
    """
    there = {customer.provided_id: customer.name for customer in api.customers()}
    missing = [id_ for id_ in organisations if id_ not in there]
    renamed = [id_ for id_, name in organisations.items() if there.get(id_, name) != name]
    refused: list[str] = []
    for id_, write in [
        *((id_, api.create_customer) for id_ in missing),
        *((id_, api.update_customer) for id_ in renamed),
    ]:
        try:
            write(id_, organisations[id_])
        except VendorError as error:
            if not error.permanent or error.status in {401, 403}:
                raise
            refused.append(f"{id_}: {error}")
    if refused:
        raise SyncFailed(
            f"{len(refused)} of {len(missing) + len(renamed)} customers could not be written. The first: {refused[0]}",
            permanent=True,
        )
    unchanged = len(organisations) - len(missing) - len(renamed)
    return Kept(missing, renamed, unchanged, sorted(there.keys() - organisations.keys()))


def _organisations() -> dict[str, str]:
    try:
        return TenantQueries.configured().organisations()
    except UNAVAILABLE as error:
        raise SyncFailed(
            f"BigQuery could not be asked for the organisations: {error}", cause=bigquery_cause(error)
        ) from error


def _metadata(kept: Kept, organisations: int) -> dict[str, Any]:
    return {
        "created": len(kept.created),
        "updated": len(kept.updated),
        "unchanged": kept.unchanged,
        "not_in_organisations": len(kept.gone),
        "not_in_organisations_ids": ", ".join(kept.gone[:NAMED]) or "none",
        "dagster/row_count": organisations,
    }
