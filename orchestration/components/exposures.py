"""The dashboards that only dbt's exposures know of, as assets at the end of the graph."""

from dataclasses import dataclass
from typing import override

import dagster as dg

from orchestration.components.consumers import ConsumerState, unreported
from orchestration.components.dbt import DbtModels


@dataclass
class DbtExposures(dg.Component, dg.Resolvable):
    """One asset for each exposure that no vendor reports.

    Its `meta` says what it is: `vendor`, `slug`, and `audience` (`customer` or `internal`).
    """

    @override
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        if any(part.is_left_out() for part in context.component_tree.get_all_components(DbtModels)):
            return dg.Definitions()
        DbtModels.manifest_path()  # raises where there is none
        components = [
            part for part in context.component_tree.get_all_components(ConsumerState) if not part.is_left_out()
        ]
        return dg.Definitions(
            assets=unreported(consumer.key for one in components for consumer in one.consumers(one.saved()))
        )
