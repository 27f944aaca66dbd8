"""BigQuery: credentials, what they may do, and each dataset. Nothing is written: what may be written is asked by dry runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

CALL_SECONDS = 10.0
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
GOOGLE = ("google_cloud_project", "google_application_credentials")
NEEDS = (*GOOGLE, "bigquery_emulator_host", "bigquery_location")
CREDENTIALS_CHECK, ACCESS = "google: credentials", "bigquery: access"
PROBE = "dataplatform_doctor"
"""What the table is called that no dry run makes."""

ADDRESS = "BIGQUERY_EMULATOR_HOST"
VIEWER = "the role BigQuery Metadata Viewer in the project of GOOGLE_CLOUD_PROJECT"
JOB_USER = "the role BigQuery Job User (bigquery.jobs.create) in the project of GOOGLE_CLOUD_PROJECT"
READER = "the role BigQuery Data Viewer (bigquery.tables.getData) in"
EDITOR = "the role BigQuery Data Editor (bigquery.tables.create) in"


class Project:
    """The project of the settings, asked once for what several checks need. No call is repeated: what fails is to be told."""

    def __init__(self, values: Settings) -> None:
        self._values = values
        # Untyped: its annotations do not allow what its documentation does, to retry nothing.
        self._client = Once[Any](
            lambda: bigquery.Client(project=values.google_cloud_project, location=values.bigquery_location)
        )
        self.listed = Once(self._list)

    def place(self, dataset: str) -> str:
        """The location of a dataset, such as EU. Raises NotFound where there is none."""
        return str(self._client().get_dataset(dataset, retry=None, timeout=CALL_SECONDS).location)

    def query(self) -> None:
        job = self._client().query("select 1", retry=None, job_retry=None, timeout=CALL_SECONDS)
        job.result(timeout=CALL_SECONDS)

    def would_create(self, dataset: str) -> None:
        """Ask what making a table would come to."""
        self._client().query(
            f"create or replace table `{dataset}.{PROBE}` as select 1 as one",
            job_config=bigquery.QueryJobConfig(dry_run=True), retry=None, job_retry=None, timeout=CALL_SECONDS,
        )  # fmt: skip

    def may_read(self, table: str) -> bool:
        wanted = "bigquery.tables.getData"
        path = f"{self._values.google_cloud_project}.{table}"
        answer = self._client().test_iam_permissions(path, [wanted], retry=None, timeout=CALL_SECONDS)
        return wanted in cast("dict[str, list[str]]", answer).get("permissions", [])

    def _list(self) -> frozenset[str]:
        found = self._client().list_datasets(retry=None, timeout=CALL_SECONDS)
        return frozenset(cast("str", one.dataset_id) for one in found)


def checks(values: Settings, datasets: Datasets | None) -> Iterator[Check]:
    """`datasets` are those that are wanted; None where no saved state tells."""
    project = Project(values)
    yield Check(CREDENTIALS_CHECK, credentials, needs=GOOGLE)

    def access() -> str:
        return f"{len(project.listed())} datasets are visible"

    def query() -> str:
        project.query()
        return "a query ran"

    yield _asking(ACCESS, access, VIEWER, after=(CREDENTIALS_CHECK,), needs=NEEDS)
    yield _asking("bigquery: queries", query, JOB_USER, after=(ACCESS,), needs=NEEDS)
    if datasets is None:
        return
    wanted = dict.fromkeys(datasets.landed, False) | dict.fromkeys(datasets.built, True)
    yield Check(
        "bigquery: location", lambda: _location(project, wanted.keys() & project.listed(), values), after=(ACCESS,)
    )
    yield Check("bigquery: reading", lambda: _reading(project, datasets), after=(ACCESS,))
    yield Check("bigquery: writing", lambda: _writing(project, datasets), after=("bigquery: queries",))
    for name, built in sorted(wanted.items()):
        yield Check(f"dataset: {name}", lambda name=name, built=built: _dataset(project, name, built), after=(ACCESS,))


def credentials() -> Outcome:
    """Whether there are any, and Google gives a token for them."""
    try:
        known = cast("Credentials", cast(Any, google.auth.default)(scopes=SCOPES)[0])
        if not known.valid:
            known.refresh(Request())
    except ERRORS as error:
        return explained(error, VIEWER, CREDENTIALS)
    return ok("accepted")


def _dataset(project: Project, name: str, built: bool) -> Outcome:
    try:
        # What is not visible may be there all the same: only asked for itself it says which of the two.
        if name not in project.listed():
            project.place(name)
    except NotFound:
        return missing(name, built=built)
    except ERRORS as error:
        return explained(error, f"{VIEWER}, or in the dataset {name}", ADDRESS)
    return ok("exists")


def missing(name: str, *, built: bool) -> Outcome:
    """dbt makes its own datasets with the first model; one that rows land in has its rows from elsewhere."""
    if built:
        return warning(
            "does not exist yet", f"Materialize a model of it: dbt makes the dataset, which needs {EDITOR} the project"
        )
    return failed(
        "does not exist, and models of dbt or assets read it",
        f"Run the sync that lands `{name}`, or see GOOGLE_CLOUD_PROJECT; where it is gone for good, take it out of what reads it",
    )


def _location(project: Project, names: set[str], values: Settings) -> Outcome:
    there: dict[str, list[str]] = {}
    for name in sorted(names):
        try:
            there.setdefault(project.place(name), []).append(name)
        except ERRORS as error:
            return explained(error, f"{VIEWER}, or in the dataset {name}", ADDRESS)
    return located(there, values.bigquery_location)


def located(there: dict[str, list[str]], wanted: str) -> Outcome:
    """Datasets by their location against the one that queries are sent to: a query reads those of its own location only."""
    others = {place: names for place, names in there.items() if place.upper() != wanted.upper()}
    if not others:
        return ok(f"all are in {wanted}" if there else "there is no dataset yet")
    found = "; ".join(f"{', '.join(names)} in {place}" for place, names in others.items())
    return failed(f"BIGQUERY_LOCATION is {wanted}, but {found}", "Set BIGQUERY_LOCATION to where the datasets are")


def _reading(project: Project, datasets: Datasets) -> Outcome:
    tables = {name: table for name, table in datasets.landed.items() if table and name in project.listed()}

    def refused(name: str, table: str) -> bool:
        try:
            return not project.may_read(f"{name}.{table}")
        except NotFound:  # nothing has landed in it yet
            return False

    return _each({name: lambda name=name, table=table: refused(name, table) for name, table in tables.items()}, READER)


def _writing(project: Project, datasets: Datasets) -> Outcome:
    def refused(name: str) -> bool:
        project.would_create(name)
        return False

    names = sorted(datasets.built & project.listed())
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
