"""What a check is, and what comes of one. Pure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import SecretStr

from orchestration.settings import Settings

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """One line of what was found, and what to do where that is not well."""

    status: Status
    found: str
    remedy: str = ""


def ok(found: str) -> Outcome:
    return Outcome("ok", found)


def warning(found: str, remedy: str) -> Outcome:
    return Outcome("warning", found, remedy)


def failed(found: str, remedy: str) -> Outcome:
    return Outcome("failed", found, remedy)


def skipped(found: str) -> Outcome:
    return Outcome("skipped", found)


@dataclass(frozen=True)
class Check:
    """Something to look at. `look` may raise: that is a failure, told by the exception's type and message.

    `needs` are settings, by their fields, that it cannot do without, nor with a malformed one; `wants` those that may be left out, and
    without which there is nothing to look at; `after` the checks that have to go well first.
    """

    name: str
    look: Callable[[], Outcome]
    needs: Collection[str] = ()
    wants: Collection[str] = ()
    after: Collection[str] = ()


@dataclass(frozen=True)
class Result:
    """`seconds` is how long the check took."""

    name: str
    outcome: Outcome
    seconds: float


def not_to_be_looked_at(
    check: Check, values: Settings, broken: Collection[str], outcomes: Mapping[str, Outcome]
) -> Outcome | None:
    """Why a check is left out; None where nothing is in its way. `broken` are the variables with which something is wrong."""
    if wrong := [name.upper() for name in (*check.needs, *check.wants) if name.upper() in broken]:
        return skipped(f"needs {', '.join(wrong)}")
    if unset := [name.upper() for name in check.wants if not getattr(values, name)]:
        return skipped(f"{', '.join(unset)} is not set" if len(unset) == 1 else f"{', '.join(unset)} are not set")
    held_up = [name for name in check.after if name in outcomes and outcomes[name].status in {"failed", "skipped"}]
    return skipped(f"needs `{held_up[0]}`") if held_up else None


def secrets(values: Settings) -> set[str]:
    """Everything that nobody may read in an outcome."""
    found = (getattr(values, name) for name in Settings.model_fields)
    # Half of Fivetran's credentials, though its UI shows it.
    plain = {value.get_secret_value() for value in found if isinstance(value, SecretStr)} | {values.fivetran_api_key}
    return {secret for secret in plain if secret}


def without(outcome: Outcome, hidden: Iterable[str]) -> Outcome:
    """An outcome in one line each, with none of these texts in it."""
    found, remedy = (" ".join(text.split()) for text in (outcome.found, outcome.remedy))
    # The longest first: one may be the beginning of another.
    for text in sorted(hidden, key=len, reverse=True):
        found, remedy = found.replace(text, "***"), remedy.replace(text, "***")
    return replace(outcome, found=found, remedy=remedy)


class Once[T]:
    """What several checks need, found by whichever asks first; the others wait for it. What it raises is raised to each that asks."""

    def __init__(self, find: Callable[[], T]) -> None:
        self._find, self._lock, self._found = find, threading.Lock(), list[T]()

    def __call__(self) -> T:
        with self._lock:
            if not self._found:
                self._found.append(self._find())
            return self._found[0]
