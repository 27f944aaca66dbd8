"""What there is in the chaos' code location. Much of it, for an asset that fails for the third time in some hours flaps, and stays open."""

from __future__ import annotations

STAGES = ("shop", "back")


def _numbered(what: str, number: int) -> tuple[str, ...]:
    return tuple(f"{stage}/{what}{n:03}" for n in range(number) for stage in STAGES)


SINGLE = _numbered("made", 150)
"""Made by one step, each a unit of its own."""
PAIRS = _numbered("pair", 10)
"""Units with two assets each."""
ALONE = _numbered("alone", 32)
"""A step each."""
CHECKED = _numbered("checked", 24)
CHAINS = _numbered("chain", 12)
IN_LANE = ("back/lane0", "back/lane1")
"""In a pool with one place."""
FRESH = ("shop/fresh",)
FRESH_SECONDS = 60
FORGOTTEN = ("back/kept", "back/forgotten", "back/after")
CHECK, WARNING = "sound", "odd"
SENSOR, SCHEDULE, GONE = "faulty_sensor", "faulty_schedule", "gone"
WAITING = "waiting"
BEAT_SECONDS = 15
"""Between two of the daemon's signs of life."""

TABLES = tuple(f"shop/table{n:03}" for n in range(500))
"""Of the storm, which has a code location of its own."""
TOGETHER, APART = "together", "apart"
"""Orders for all of them: to fail of one cause, or each of its own."""


def halves(pair: str) -> tuple[str, str]:
    return f"{pair}/left", f"{pair}/right"


def links(chain: str) -> tuple[str, str, str]:
    return f"{chain}/root", f"{chain}/middle", f"{chain}/end"


MADE_TOGETHER = (*SINGLE, *(half for pair in PAIRS for half in halves(pair)))


def unit(key: str) -> str:
    """The unit that an asset of the step `many` belongs to."""
    return f"unit/{'/'.join(key.split('/')[:2])}"


def step(key: str) -> str:
    """The unit of an asset with a step of its own: Dagster names the step after the key."""
    return f"step/{key.replace('/', '__')}"


def check(key: str) -> str:
    return f"check/{key}/{CHECK}"


def order_of_check(key: str, name: str) -> str:
    return f"{key}/{name}"
