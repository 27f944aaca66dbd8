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

BEHIND = _numbered("behind", 8)
"""Assets whose runs have a clock that is minutes behind."""
ODD = _numbered("odd", 12)
"""Assets whose records carry metadata that cannot be read."""
UNRELATED = "back/unrelated"
"""An asset that never fails. Its success proves nothing about anything else."""
HOOKS = tuple(f"hook{n:03}" for n in range(8))
"""Ops of the job `HOOK_JOB`, each independent of the others."""
HOOK_JOB, UNRELATED_HOOK = "hooks", "hook_unrelated"
NOTICES = tuple(f"back/notice{n:03}" for n in range(8))
"""Assets whose step fails in a part that makes no asset, as a hook of dbt does."""

SECOND_LOCATION = "second"
SECOND = _numbered("second", 14)
"""Assets of the second code location."""
CROSSING = tuple(f"back/crossing{n}" for n in range(4))
"""Assets of the second code location. Their only consumer, a customer's, is in the first one."""
SHARED = tuple(f"back/shared{n}" for n in range(4))
"""Assets of the first code location. Their only consumer, a customer's, is in the second one."""
REMOVABLE = _numbered("removable", 5)
REMOVABLE_SENSORS = ("removable_sensor0", "removable_sensor1")
SECOND_SENSOR = "second/faulty_sensor"
"""The order for the second code location's sensor, which has the name `SENSOR`, too."""
BROKEN_LOCATION = "broken_location"
"""The order by which the second code location does not load."""
BEHIND_TAG, CLOCK_BEHIND = "chaos/behind", "clock_behind"
"""The tag of a run whose clock is so many seconds behind, and the order by which runs look for that tag."""
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


def notice(key: str) -> str:
    """Return the unit that the step of one of `NOTICES` reports."""
    return f"hook/{key.rpartition('/')[2]}"


def removal(name: str) -> str:
    """Return the order by which an asset or sensor is no longer defined."""
    return f"removed/{name}"


def check(key: str) -> str:
    return f"check/{key}/{CHECK}"


def order_of_check(key: str, name: str) -> str:
    return f"{key}/{name}"
