"""The check that a dashboard shows a customer its own rows, all of them in time, and never anybody else's."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import dagster as dg

from orchestration.components.platform_causes import bigquery_cause, platform_cause
from orchestration.components.steps import Sleep, failed, side_by_side
from orchestration.components.tenant_look import Look, Problem
from orchestration.core.redaction import redact
from orchestration.lineage import tenants
from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.runs import check_token
from orchestration.vendors.bigquery_tenants import UNAVAILABLE, TenantQueries
from orchestration.vendors.explo import Dashboard, Explo
from orchestration.vendors.http import VendorError
from orchestration.vendors.waiting import SyncFailed

CHECK = "tenants"
WORKERS = 4
REBUILT = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
)
DESCRIPTION = (
    "Some of the customers, others each day, get every dataset without an error and in time, and no row of anybody else. The datasets "
    "are read from Explo for each check. Metadata has the seconds of each."
)


@dataclass(frozen=True)
class Watched:
    """A dashboard, and what is upstream of it in the graph."""

    dashboard: Dashboard
    reads: tuple[dg.AssetKey, ...]


@dataclass(frozen=True)
class Sampling:
    """For how many tenants to look, and what to look for."""

    tenants: int
    column: str
    seconds: float
    variables: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Seen:
    problems: Sequence[Problem]
    seconds: Mapping[str, float]
    """By dataset, that of the tenant who waited longest."""


@dataclass(frozen=True)
class TenantChecks:
    """The step that checks dashboards."""

    watched: Mapping[dg.AssetKey, Watched]
    sampling: Sampling
    explo: Callable[[], Explo]

    def definition(self) -> dg.AssetChecksDefinition:
        @dg.multi_asset_check(
            name="explo_tenant_checks",
            specs=[self.spec(key, one) for key, one in self.watched.items()],
            can_subset=True,
        )
        def look(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
            yield from self.execute(context)

        return look

    def spec(self, key: dg.AssetKey, watched: Watched) -> dg.AssetCheckSpec:
        """Evaluated when something that the dashboard reads was made anew; the asset itself is never made here."""
        return dg.AssetCheckSpec(
            CHECK, asset=key, description=DESCRIPTION, additional_deps=watched.reads, automation_condition=REBUILT
        )

    def execute(self, context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        """Check the selected dashboards side by side, and report each as soon as it is known.

        Raises dagster.Failure at the end, with a report of every dashboard that could not be looked at: that is no pass.
        """
        chosen = sorted(check.asset_key for check in context.selected_asset_check_keys)
        queries, units = TenantQueries.configured(), list[FailedUnit]()
        try:
            names = _tenants(queries, self.sampling.tenants)
        except SyncFailed as error:
            raise failed(context, [self._unit(key, error) for key in chosen]) from error
        jobs = {key: partial(self._look, queries, names, self.watched[key].dashboard) for key in chosen}
        for key, future in side_by_side(jobs, WORKERS):
            if error := future.exception():
                units.append(self._unit(key, error))
                trace = redact("".join(traceback.format_exception(error)))
                context.log.error(f"{key.to_user_string()} was not checked: {trace}")
            else:
                yield _result(key, future.result(), names)
        if units:
            raise failed(context, units)

    def _look(self, queries: TenantQueries, names: Mapping[str, str], dashboard: Dashboard, sleep: Sleep) -> Seen:
        datasets = self.explo().datasets(dashboard.embed_id)
        if datasets is None:
            return Seen(
                [Problem("Explo does not give its datasets: is it gone? Run `dataplatform refresh`.", False)], {}
            )
        look = Look(queries, self.sampling.column, self.sampling.seconds)
        problems: list[Problem] = []
        seconds: dict[str, float] = {}
        for dataset in datasets:
            met: Problem | None = None
            states = (
                (tenant, values)
                for tenant, name in names.items()
                for values in tenants.states(dataset.query, tenant, name, self.sampling.variables)
            )
            for tenant, values in states:
                if met and met.certain:
                    break  # as nobody else does it become better
                sleep(0)  # where the step was cancelled meanwhile, nothing more is asked
                try:
                    found = look.at(dataset.query, tenant, values)
                except UNAVAILABLE as error:
                    raise SyncFailed(
                        f"BigQuery could not be asked for `{dataset.name}`: {error}", cause=bigquery_cause(error)
                    ) from error
                seconds[dataset.name] = max(seconds.get(dataset.name, 0), round(found.seconds, 2))
                if found.problem and (met is None or found.problem.certain):
                    place = f"{dashboard.name}, dataset `{dataset.name}`, for {tenant}"
                    met = Problem(f"{place}: {found.problem.text}", found.problem.certain)
            problems += [met] if met else []
        return Seen(problems, seconds)

    def _unit(self, key: dg.AssetKey, error: BaseException) -> FailedUnit:
        """A dashboard that was not looked at, which the check that passes mends: nobody here makes it."""
        expected = isinstance(error, SyncFailed | VendorError)
        asset = key.to_user_string()
        return FailedUnit(
            unit=f"check/{asset}/{CHECK}",
            asset_keys=(asset,),
            error=f"What customers see was not checked. {error if expected else f'{type(error).__name__}: {error}'}",
            vendor_url=self.watched[key].dashboard.url,
            permanent=expected and error.permanent,
            awaits=(check_token(asset, CHECK),),
            cause=platform_cause(error),
        )


def _tenants(queries: TenantQueries, count: int) -> dict[str, str]:
    """The names of today's tenants by their ids. Raises SyncFailed."""
    try:
        names = queries.organisations()
    except UNAVAILABLE as error:
        raise SyncFailed(
            f"BigQuery could not be asked for the organisations: {error}", cause=bigquery_cause(error)
        ) from error
    if not names:
        raise SyncFailed("core.organisations has no rows, so there is nobody to look for.")
    return {tenant: names[tenant] for tenant in tenants.sample(names, count, datetime.now(UTC).date())}


def _result(key: dg.AssetKey, seen: Seen, names: Mapping[str, str]) -> dg.AssetCheckResult:
    certain = any(problem.certain for problem in seen.problems)
    slowest = max(seen.seconds.values(), default=0)
    fine = f"{len(seen.seconds)} datasets, as {len(names)} customers see them: their own rows alone, after {slowest} s at most."
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=CHECK,
        passed=not seen.problems,
        severity=dg.AssetCheckSeverity.ERROR if certain or not seen.problems else dg.AssetCheckSeverity.WARN,
        description="\n".join(problem.text for problem in seen.problems) or fine,
        metadata={"seconds": dict(seen.seconds), "tenants": list(names)},
    )
