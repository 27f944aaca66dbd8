"""BigQuery: credentials, what they may do, and each dataset. Nothing is written: what may be written is asked by dry runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import google.auth
from google.api_core.exceptions import NotFound
from google.auth.credentials import Credentials
from google.auth.transport.requests import Request
from google.cloud import bigquery

from orchestration.doctor.datasets import Datasets
from orchestration.doctor.google_errors import CREDENTIALS, ERRORS, explained
from orchestration.doctor.model import Check, Once, Outcome, failed, ok, warning
from orchestration.settings import Settings
from orchestration.vendors.bigquery_project import bigquery_client

CALL_SECONDS = 10.0
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
GOOGLE = ("google_cloud_project", "google_application_credentials")
NEEDS = (*GOOGLE, "bigquery_emulator_host", "bigquery_location")
CREDENTIALS_CHECK, ACCESS, QUERIES = "google: credentials", "bigquery: access", "bigquery: queries"
PROBE = "dataplatform_doctor"
"""What the table is called that no dry run makes."""

ADDRESS = "BIGQUERY_EMULATOR_HOST"
VIEWER = "the role BigQuery Metadata Viewer in the project of GOOGLE_CLOUD_PROJECT"
JOB_USER = "the role BigQuery Job User (bigquery.jobs.create) in the project"
READER = "the role BigQuery Data Viewer (bigquery.tables.getData) in"
EDITOR = "the role BigQuery Data Editor (bigquery.tables.create) in"


class Warehouse:
    """BigQuery as the settings name it; each dataset is asked for once. No call is repeated: what fails is to be told."""

    def __init__(self, values: Settings, datasets: Datasets) -> None:
        self._values, self._datasets = values, datasets
        # Untyped: its annotations do not allow what its documentation does, to retry nothing.
        self._client = Once[Any](lambda: bigquery_client(values.google_cloud_project, values.bigquery_location))
        names = {*datasets.landed, *datasets.built}
        self._places = {name: Once(lambda name=name: self._place(name)) for name in names}

    def visible(self) -> int:
        """How many datasets the credentials may see in the project."""
        return sum(1 for _ in self._client().list_datasets(retry=None, timeout=CALL_SECONDS))

    def query(self, project: str) -> None:
        """Run a query that is billed to a project."""
        job = self._client().query("select 1", project=project, retry=None, job_retry=None, timeout=CALL_SECONDS)
        job.result(timeout=CALL_SECONDS)

    def place(self, dataset: str) -> str | None:
        """Where a dataset is, such as EU; None where there is none."""
        return self._places[dataset]()

    def there(self) -> dict[str, str]:
        """The datasets that exist and can be seen, with where each is. Of the others their own lines tell."""
        found: dict[str, str] = {}
        for name in sorted(self._places):
            with contextlib.suppress(*ERRORS):
                if (place := self.place(name)) is not None:
                    found[name] = place
        return found

    def would_create(self, dataset: str) -> None:
        """Ask what making a table would come to."""
        self._client().query(
            f"create or replace table `{self._path(dataset)}.{PROBE}` as select 1 as one",
            job_config=bigquery.QueryJobConfig(dry_run=True), retry=None, job_retry=None, timeout=CALL_SECONDS,
        )  # fmt: skip

    def may_read(self, dataset: str, table: str) -> bool:
        wanted, path = "bigquery.tables.getData", f"{self._path(dataset)}.{table}"
        answer = self._client().test_iam_permissions(path, [wanted], retry=None, timeout=CALL_SECONDS)
        return wanted in cast("dict[str, list[str]]", answer).get("permissions", [])

    def _path(self, dataset: str) -> str:
        return self._datasets.path(dataset, self._values.raw_project)

    def _place(self, dataset: str) -> str | None:
        try:
            found = self._client().get_dataset(self._path(dataset), retry=None, timeout=CALL_SECONDS)
        except NotFound:
            return None
        return str(found.location)


def checks(values: Settings, datasets: Datasets | None) -> Iterator[Check]:
    """`datasets` are those that are wanted; None where no saved state tells."""
    warehouse = Warehouse(values, datasets or Datasets({}, frozenset()))
    yield Check(CREDENTIALS_CHECK, credentials, needs=GOOGLE)

    def access() -> str:
        return f"{warehouse.visible()} datasets are visible"

    def query(project: str) -> str:
        warehouse.query(project)
        return "a query ran"

    yield _asking(ACCESS, access, VIEWER, after=(CREDENTIALS_CHECK,), needs=NEEDS)
    modelled, raw = values.modelled_project, values.raw_project
    yield _asking(QUERIES, lambda: query(modelled), f"{JOB_USER} {modelled}", after=(ACCESS,), needs=NEEDS)
    if raw != modelled:
        needs = (*NEEDS, "bigquery_raw_project")
        yield _asking(f"{QUERIES} in {raw}", lambda: query(raw), f"{JOB_USER} {raw}", after=(ACCESS,), needs=needs)
    if datasets is None:
        return
    wanted = dict.fromkeys(datasets.landed, False) | dict.fromkeys(datasets.built, True)
    location = values.bigquery_location
    yield Check("bigquery: location", lambda: located(warehouse.there(), location), after=(ACCESS,))
    yield Check("bigquery: reading", lambda: _reading(warehouse, datasets), after=(ACCESS,))
    yield Check("bigquery: writing", lambda: _writing(warehouse, datasets), after=(QUERIES,))
    for name, built in sorted(wanted.items()):
        yield Check(
            f"dataset: {name}", lambda name=name, built=built: _dataset(warehouse, name, built), after=(ACCESS,)
        )


def credentials() -> Outcome:
    """Whether there are any, and Google gives a token for them."""
    try:
        known = cast("Credentials", cast(Any, google.auth.default)(scopes=SCOPES)[0])
        if not known.valid:
            known.refresh(Request())
    except ERRORS as error:
        return explained(error, VIEWER, CREDENTIALS)
    return ok("accepted")


def _dataset(warehouse: Warehouse, name: str, built: bool) -> Outcome:
    try:
        there = warehouse.place(name) is not None
    except ERRORS as error:
        return explained(error, f"{VIEWER}, or in the dataset {name}", ADDRESS)
    return ok("exists") if there else missing(name, built=built)


def missing(name: str, *, built: bool) -> Outcome:
    """dbt makes its own datasets with the first model; one that rows land in has its rows from elsewhere."""
    if built:
        return warning(
            "does not exist yet", f"Materialize a model of it: dbt makes the dataset, which needs {EDITOR} the project"
        )
    return failed(
        "does not exist, and models of dbt or assets read it",
        f"Run what lands `{name}` (`ingest`, `export_history`, or Segment), or see BIGQUERY_RAW_PROJECT (without it GOOGLE_CLOUD_PROJECT); where it is gone for good, take it out of what reads it",
    )


def located(there: Mapping[str, str], wanted: str) -> Outcome:
    """Datasets with where they are, against the location that queries are sent to: one reads datasets of its own location only."""
    others = [f"{name} in {place}" for name, place in there.items() if place.upper() != wanted.upper()]
    if not others:
        return ok(f"all are in {wanted}" if there else "there is no dataset yet")
    return failed(f"BIGQUERY_LOCATION is {wanted}, but {', '.join(others)}", "Set BIGQUERY_LOCATION to where they are")


def _reading(warehouse: Warehouse, datasets: Datasets) -> Outcome:
    there = warehouse.there()
    tables = {name: table for name, table in datasets.landed.items() if table and name in there}

    def refused(name: str, table: str) -> bool:
        try:
            return not warehouse.may_read(name, table)
        except NotFound:  # nothing has landed in it yet
            return False

    return _each({name: lambda name=name, table=table: refused(name, table) for name, table in tables.items()}, READER)


def _writing(warehouse: Warehouse, datasets: Datasets) -> Outcome:
    def refused(name: str) -> bool:
        warehouse.would_create(name)
        return False

    names = sorted(datasets.built & warehouse.there().keys())
    return _each({name: lambda name=name: refused(name) for name in names}, EDITOR)


def _each(asked: dict[str, Callable[[], bool]], role: str) -> Outcome:
    """Whether any dataset refuses; `asked` says so, or raises."""
    refused: list[str] = []
    for name, ask in asked.items():
        try:
            if ask():
                refused.append(name)
        except ERRORS as error:
            outcome = explained(error, f"{role} the dataset {name}", ADDRESS)
            return failed(f"{name}: {outcome.found}", outcome.remedy)
    if refused:
        return failed(f"not permitted in {', '.join(refused)}", f"Give this account {role} these datasets")
    return ok(f"permitted in {len(asked)} datasets" if asked else "there is no dataset yet")


def _asking(
    name: str, ask: Callable[[], str], permission: str, *, after: tuple[str, ...], needs: tuple[str, ...]
) -> Check:
    def look() -> Outcome:
        try:
            return ok(ask())
        except ERRORS as error:
            return explained(error, permission, ADDRESS)

    return Check(name, look, needs=needs, after=after)
