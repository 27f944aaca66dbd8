"""Runs checks side by side, each within a time limit, and in their order where one needs another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from queue import Empty, Queue

from orchestration.doctor.model import Check, Outcome, Result, failed, not_to_be_looked_at, secrets, without
from orchestration.settings import Settings

Tell = Callable[[Collection[str]], None]
"""Is given the names of the checks that are under way, whenever one begins or ends."""

Ended = Queue[tuple[str, Outcome, float]]


def run(
    checks: Sequence[Check],
    values: Settings,
    broken: Collection[str],
    seconds: float,
    tell: Tell = lambda _names: None,
) -> list[Result]:
    """The results in the order of the checks. `seconds` is how long each may take; one that takes longer has failed, and is left behind.

    Raises ValueError where checks wait for one that is not among them, or for each other.
    """
    hidden, ended = secrets(values), Ended()
    waiting, under_way = {check.name: check for check in checks}, dict[str, float]()
    results = dict[str, Result]()

    def take(name: str, outcome: Outcome, took: float) -> None:
        results[name] = Result(name, without(outcome, hidden), took)
        tell(tuple(under_way))

    while waiting or under_way:
        before = len(waiting)
        for check in [*waiting.values()]:
            outcomes = {name: result.outcome for name, result in results.items()}
            if (outcome := not_to_be_looked_at(check, values, broken, outcomes)) is not None:
                del waiting[check.name]
                take(check.name, outcome, 0)
            elif outcomes.keys() >= set(check.after):
                del waiting[check.name]
                under_way[check.name] = time.monotonic()
                # No pool of threads: one that hangs would keep this process from ending.
                threading.Thread(target=_look, args=(check, ended), name=check.name, daemon=True).start()
        if not under_way:
            if waiting and len(waiting) == before:
                raise ValueError(f"{', '.join(waiting)} wait for what does not come")
            continue
        try:
            patience = min(under_way.values()) + seconds - time.monotonic()
            name, outcome, took = ended.get(timeout=max(0.0, patience))
        except Empty:
            late = [name for name, began in under_way.items() if time.monotonic() - began >= seconds]
            for name in late:
                del under_way[name]
                take(name, _late(seconds), seconds)
            continue
        if name in under_way:
            del under_way[name]
            take(name, outcome, took)
    return [results[check.name] for check in checks]


def _look(check: Check, ended: Ended) -> None:
    began = time.monotonic()
    try:
        outcome = check.look()
    except Exception as error:  # whatever it is: a check that breaks is told of like one that fails, and ends no other
        outcome = failed(f"{type(error).__name__}: {error}", "This was not foreseen: the message says what is known")
    ended.put((check.name, outcome, time.monotonic() - began))


def _late(seconds: float) -> Outcome:
    return failed(
        f"no answer within {seconds:g} s",
        "See whether this machine may connect there, or that it is up; --timeout waits longer",
    )
