"""The SQL of consumers in the saved state: Hightouch models, the datasets of Explo dashboards, and the queries of Omni documents."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from pydantic import ValidationError

from googlesql import Parameter
from orchestration.components.explo import ExploDashboards, ExploState
from orchestration.components.hightouch import HightouchState, HightouchSyncs
from orchestration.components.omni import OmniDocuments, OmniState
from orchestration.components.saved_state import Stamped
from orchestration.dbt_loop.check_sql import Consumer
from orchestration.lineage import tenants
from orchestration.vendors.hightouch import Model


def consumers(state: Path, used: Collection[str] | None = None) -> Iterator[Consumer]:
    """Yield the statements of each consumer, from the folder of the saved state. A vendor without a state has none.

    A state that an older version of this code wrote is a consumer that cannot be judged. Hex's state has no SQL. With `used`, the names
    of the states that components in `orchestration/defs/` have, the files that a removed component has left are not read.
    """
    readers = {HightouchSyncs: _hightouch, ExploDashboards: _explo, OmniDocuments: _omni}
    for component, read in readers.items():
        path = state / component.state_name
        if not path.exists() or (used is not None and component.state_name not in used):
            continue
        file = os.path.relpath(path)
        try:
            yield from read(json.dumps(Stamped.model_validate_json(path.read_bytes()).state), file)
        except ValidationError as error:
            problem = (
                f"the saved state {file} cannot be read ({error.error_count()} faults): run `dataplatform refresh`"
            )
            yield Consumer(component.vendor, f"{component.vendor}'s saved state", file, "", problem=problem)


def _hightouch(state: str, file: str) -> Iterator[Consumer]:
    workspace = HightouchState.model_validate_json(state)
    readers: dict[int, list[str]] = {}
    for sync in workspace.syncs:
        if not sync.disabled:
            readers.setdefault(sync.model_id, []).append(f"`{sync.slug}`")
    for model in workspace.models:
        if model.id not in readers:
            continue
        syncs = readers[model.id]
        name = f"Hightouch model `{model.name}` of the {'syncs' if len(syncs) > 1 else 'sync'} {', '.join(syncs)}"
        sql = _sql(model)
        problem = None if sql else "Hightouch gives no SQL for its kind of model"
        yield Consumer(f"hightouch/{model.slug}", name, file, sql or "", problem=problem)


def _sql(model: Model) -> str | None:
    if model.raw:
        return model.raw.sql
    if model.table:
        name = model.table.name.replace("`", "")
    elif model.dbt:
        name = f"{model.dbt.schema_}.{model.dbt.name}"
    else:
        return None
    path = name.replace(".", "`.`")
    return f"select {f'`{model.primary_key}`' if model.primary_key else '*'} from `{path}`"


def _explo(state: str, file: str) -> Iterator[Consumer]:
    for known in ExploState.model_validate_json(state).dashboards:
        for dataset in known.datasets or ():
            name = f"Explo dashboard `{known.dashboard.name}`, dataset `{dataset.name}`"
            # Every variable has a value, so that optional clauses are analyzed too.
            given = dict.fromkeys(tenants.variables(dataset.query), "v")
            rendered = tenants.render(dataset.query, given)
            yield Consumer(
                f"explo/{known.slug}/{dataset.name}",
                name,
                file,
                rendered.sql,
                tuple(Parameter(parameter, "STRING") for parameter in rendered.parameters),
                problem="a variable of it is pasted into the SQL" if tenants.pastes(dataset.query) else None,
                guessed_types=bool(rendered.parameters.keys() - {tenants.TENANT}),
            )


def _omni(state: str, file: str) -> Iterator[Consumer]:
    for document in OmniState.model_validate_json(state).documents:
        for query in document.queries:
            if query.sql:
                name = f"Omni document `{document.title}`, query `{query.name}`"
                yield Consumer(f"omni/{document.slug}/{query.name}", name, file, query.sql)
