"""A line for each environment variable, and one for each group that does not go together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestration.doctor.model import Check, Outcome, failed, ok, skipped
from orchestration.doctor.usage import Usage, find_unused
from orchestration.settings import VENDORS, Problem, Settings


def checks(values: Settings, problems: Sequence[Problem], usage: Usage | None = None) -> Iterator[Check]:
    """Values are never told: only whether there is one. `usage` as in `catalogue.all_checks`."""
    if usage is not None and usage.problem:
        unread = failed(usage.problem, "Correct the file in orchestration/defs/ that the message names")
        yield Check("defs: components", lambda: unread)
    unused = {
        name: outcome
        for vendor in VENDORS
        if (outcome := find_unused(values, usage, vendor))
        for name in vendor.model_fields
    }
    wrong = {name: problem for problem in problems for name in problem.names}
    told = set[str]()
    for name in Settings.model_fields:
        problem = wrong.get(name.upper())
        # One of a group is told with the group, where the first of it is.
        if name.upper() in told:
            continue
        told |= set(problem.names if problem else (name.upper(),))
        outcome = unused.get(name) or _outcome(values, name, problem)
        yield _check(problem.names[0] if problem else name.upper(), outcome)


def _check(name: str, outcome: Outcome) -> Check:
    return Check(f"setting: {name}", lambda: outcome)


def _outcome(values: Settings, name: str, problem: Problem | None) -> Outcome:
    if problem is not None:
        remedy = (
            f"Set it in the environment or in .env. {problem.remedy}" if len(problem.names) == 1 else problem.remedy
        )
        return failed(problem.what, remedy)
    if name in values.model_fields_set:
        return ok("is set")
    return skipped("is not set, and need not be") if getattr(values, name) is None else ok("has its default")
