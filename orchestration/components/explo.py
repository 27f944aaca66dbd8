"""Explo's dashboards as assets, joined to the tables that their datasets read; who may see them, and that they see nothing else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, override

import dagster as dg
from pydantic import BaseModel
from sqlglot.errors import SqlglotError

from orchestration.components.consumers import ConsumerState
from orchestration.components.explo_customers import CUSTOMERS, ORGANISATIONS, customers
from orchestration.components.explo_tenants import Sampling, TenantChecks, Watched
from orchestration.components.saved_state import Lineage
from orchestration.components.setting_names import find_unknown_names
from orchestration.lineage import keys, tenants
from orchestration.lineage.consumers import Consumer, Finding
from orchestration.lineage.graph import Audience
from orchestration.settings import ExploSettings, VendorSettings, explo_settings
from orchestration.vendors.explo import Dashboard, Dataset, Explo

RETRY = {"dagster/max_retries": "1"}


class KnownDashboard(BaseModel):
    """A dashboard with its slug, which stays when it is renamed. `datasets` is None where Explo does not give them."""

    dashboard: Dashboard
    slug: str
    datasets: list[Dataset] | None


class ExploState(BaseModel):
    dashboards: list[KnownDashboard]


def explo() -> Explo:
    values = explo_settings()
    return Explo(str(values.explo_api_url), values.explo_api_token.get_secret_value())


@dataclass
class ExploDashboards(ConsumerState, dg.Resolvable):
    """Every dashboard of an Explo workspace, with a check that it shows a customer nothing but its own rows; and the customers."""

    audience: Audience = "customer"
    sampled_tenants: int = 3
    """For how many customers each dashboard is checked; others each day."""
    tenant_column: str = "organisation_id"
    """The column that tells the customers' rows apart, in every table that has it."""
    dashboard_seconds: float = 20
    """How long a dataset may take."""
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """What viewers may set the dashboards' own variables to. A clause that needs one which is not here is checked by nobody."""
    cron: str = "20 * * * *"
    """When the dashboards are checked whatever happens; they are too when what they read has been rebuilt."""

    state_name: ClassVar[str] = "explo.json"
    vendor: ClassVar[str] = "explo"
    vendor_settings: ClassVar[tuple[type[VendorSettings], ...]] = (ExploSettings,)

    @property
    @override
    def source(self) -> str:
        return str(explo_settings().explo_api_url)

    @override
    def read(self, last: str | None) -> str:
        api = explo()
        known = ExploState.model_validate_json(last).dashboards if last else []
        found = {dashboard.embed_id: dashboard for dashboard in api.dashboards()}
        # The customers have a key of their own, which a dashboard of that name must not take.
        kept = {"": CUSTOMERS.path[-1], **{one.dashboard.embed_id: one.slug for one in known}}
        slugs = keys.slugs({"": "", **{embed_id: one.name for embed_id, one in found.items()}}, kept)
        return ExploState(
            dashboards=[
                KnownDashboard(dashboard=one, slug=slugs[embed_id], datasets=api.datasets(embed_id))
                for embed_id, one in found.items()
            ]
        ).model_dump_json()

    @override
    def findings(self, state: str) -> list[Finding]:
        """Return the settings that name variables that no dashboard has."""
        return [name.finding for name in find_unknown_names(self, json.loads(state))]

    @override
    def read_consumers(self, state: str) -> list[Consumer]:
        return [consumer(known) for known in ExploState.model_validate_json(state).dashboards]

    @override
    def lineage(self, state: str) -> Lineage:
        # The customers are there without any dashboard: they must not hide that Explo lists nothing any more.
        return {key: above for key, above in super().lineage(state).items() if key != CUSTOMERS.to_user_string()}

    @override
    def definitions(self, state: str) -> dg.Definitions:
        asset = customers(explo, self.owners)
        dashboards = [known.dashboard for known in ExploState.model_validate_json(state).dashboards]
        specs = [self.spec(one) for one in self.consumers(state)]
        watched = {
            spec.key: Watched(dashboard, tuple(dep.asset_key for dep in spec.deps))
            for spec, dashboard in zip(specs, dashboards, strict=True)
        }
        return dg.Definitions.merge(dg.Definitions(assets=[asset, *specs]), self._watch(watched))

    def _watch(self, watched: Mapping[dg.AssetKey, Watched]) -> dg.Definitions:
        """The checks of the dashboards, with what has them run."""
        if not watched:
            return dg.Definitions()
        sampling = Sampling(self.sampled_tenants, self.tenant_column, self.dashboard_seconds, self.variables)
        checks = TenantChecks(watched, sampling, explo).definition()
        job = dg.define_asset_job(
            "explo_tenants",
            selection=dg.AssetSelection.checks(checks),
            tags=RETRY,
            description="Looks at every Explo dashboard as some of its customers would.",
        )
        schedule = dg.ScheduleDefinition(
            name="hourly_explo_tenants",
            job=job,
            cron_schedule=self.cron,
            should_execute=_has_tenants,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Checks that customers see nothing but their own rows, since anybody may have changed a dashboard in Explo.",
        )
        # Dagster leaves the checks of assets that it does not make out of "all assets", at which the sensor `downstream` looks.
        sensor = dg.AutomationConditionSensorDefinition(
            "rebuilt_explo_tenants",
            target=dg.AssetSelection.checks(checks),
            run_tags=RETRY,
            default_status=dg.DefaultSensorStatus.RUNNING,
            description="Checks the dashboards when what they read has been rebuilt.",
        )
        return dg.Definitions(asset_checks=[checks], jobs=[job], schedules=[schedule], sensors=[sensor])


def _has_tenants(context: dg.ScheduleEvaluationContext) -> bool:
    """Whether the organisations were ever made: before that there is nobody to look as, and no page is earned."""
    return context.instance.get_latest_materialization_event(ORGANISATIONS) is not None


def consumer(known: KnownDashboard) -> Consumer:
    """A dashboard with the tables of all its datasets: one that cannot be read must not hide what the others read."""
    reads: set[dg.AssetKey] = set()
    unknown: list[str] = []
    if known.datasets is None:
        unknown.append("Explo does not say what datasets it has.")
    for dataset in known.datasets or ():
        try:
            reads.update(tenants.tables_read(dataset.query))
        except (SqlglotError, ValueError) as error:
            unknown.append(f"Its dataset `{dataset.name}` cannot be read: {error}")
    return Consumer(
        key=keys.consumer("explo", known.slug),
        name=known.dashboard.name,
        reads=tuple(sorted(reads, key=lambda key: key.to_user_string())),
        unknown=tuple(unknown),
        url=known.dashboard.url,
    )
