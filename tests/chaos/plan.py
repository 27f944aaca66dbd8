"""What goes wrong when, from a seed: the same seed and duration give the same plan. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.chaos import names

Kind = Literal[
    "reported", "pair", "alone", "check", "chain", "killed", "transient", "retried", "vendor", "cancelled", "warning",
    "unreadable", "misreported", "late", "behind", "elsewhere", "crossing", "removed", "hook", "notice", "sensor",
]  # fmt: skip

KINDS: dict[Kind, int] = {
    "reported": 9, "pair": 1, "alone": 3, "check": 3, "chain": 2, "killed": 2, "transient": 3, "retried": 2, "vendor": 3,
    "cancelled": 1, "warning": 1,
    "unreadable": 2, "misreported": 2, "late": 2, "behind": 2, "elsewhere": 3, "crossing": 2, "removed": 1, "hook": 2, "notice": 2,
    "sensor": 1,
}  # fmt: skip
"""With the weight that each has."""
ONCE = {"removed", "sensor", "unreadable", "behind"}
"""Kinds that do not return: what was removed stays so, and a clock that is behind would tell of the second time as if it were before
the first one's end."""
SLOW = {"late", "removed", "sensor"}
"""Kinds that take minutes, most of which are spent waiting."""
OUTAGES = ("refused", "http_500", "http_429", "storm", "limit", "revoked", "hang", "html", "reset", "truncated")
"""How incident.io is out of order. `revoked` is the alert source's token, `limit` is incident.io's own limit of requests, lowered."""
DROPS = "drops"
"""incident.io accepts notifications and loses them. Only a comparison with its list, minutes later, finds that out."""
LONG_SECONDS = 600.0
"""The least duration of a run with failures that take many minutes to judge."""
SHORT_SECONDS = 120.0
"""A shorter run has no kind of `SLOW`."""
STRIKES = ("daemon", "code-server", "second-server", "incident-io", "lock", "postgres")
WARM_UP, QUIET = 3.0, 5.0
"""Seconds in which nothing strikes: at the beginning, and between two strikes on the same."""
FIRST, BETWEEN = (0.5, 2.0), (2.0, 8.0)
"""Seconds between one thing that goes wrong and the next: of the first ones, while little is under way, and of the others."""
SOON = 8


@dataclass(frozen=True)
class Episode:
    """Something that goes wrong, and is mended later. No asset is in two of them."""

    number: int
    at: float
    """Not before so many seconds from the beginning."""
    kind: Kind
    keys: tuple[str, ...]
    lasts: float
    """Seconds between the failure and the mending."""
    again: bool
    """It fails a second time before it is mended."""
    returns: bool
    """When that is over, the same happens once more."""
    waits: float = 0.0
    """Of a late commit, the seconds until it; of a run whose clock is behind, by how many."""
    form: int = 0
    """Which of the forms it takes that its kind has."""


@dataclass(frozen=True)
class Strike:
    """Something of the platform, or of incident.io, that is out of order for a while."""

    at: float
    what: str
    how: str
    lasts: float


@dataclass(frozen=True)
class Plan:
    episodes: tuple[Episode, ...]
    strikes: tuple[Strike, ...]


def plan(seed: int, duration: float) -> Plan:
    """What goes wrong within so many seconds."""
    outages = (*OUTAGES, DROPS) if duration >= LONG_SECONDS else OUTAGES
    # Two generators: whether episodes are added says nothing about the strikes.
    episodes = tuple(_episodes(random.Random(seed), duration))
    return Plan(episodes, tuple(_strikes(random.Random(seed + 1), duration, outages)))


def _episodes(dice: random.Random, duration: float) -> Iterator[Episode]:
    left = {
        "single": _shuffled(dice, names.SINGLE), "pair": _shuffled(dice, names.PAIRS), "alone": _shuffled(dice, names.ALONE[2:-2]),
        "checked": _shuffled(dice, names.CHECKED), "chain": _shuffled(dice, names.CHAINS), "behind": _shuffled(dice, names.BEHIND),
        "odd": _shuffled(dice, names.ODD), "second": _shuffled(dice, names.SECOND), "crossing": _shuffled(dice, (*names.CROSSING, *names.SHARED)),
        "hook": _shuffled(dice, names.HOOKS), "notice": _shuffled(dice, names.NOTICES),
        "removed": _shuffled(dice, names.REMOVABLE), "sensor": [names.SECOND_SENSOR],
    }  # fmt: skip
    if duration >= LONG_SECONDS:
        left["removed"] = _shuffled(dice, (*left["removed"], *names.REMOVABLE_SENSORS))
    # What is removed has to be missing for three minutes before its alert ends.
    kinds = {kind: weight for kind, weight in KINDS.items() if kind not in SLOW or duration >= SHORT_SECONDS}
    at, number = dice.uniform(*FIRST), 0
    while at < duration:
        kind: Kind = dice.choices([*kinds], [*kinds.values()])[0]
        shelf = left[_shelf(kind)]
        wanted = dice.choice((1, 2, 3, 5, 8)) if kind == "reported" else 1
        # What there is of a kind has been used up: a report of something else.
        if len(shelf) < wanted:
            kind, shelf = "reported", left["single"]
        keys = tuple(shelf.pop() for _ in range(min(wanted, len(shelf))))
        if not keys:
            return
        yield Episode(
            number,
            at,
            kind,
            keys,
            _lasting(dice, kind, duration),
            again=dice.random() < 0.15,
            returns=dice.random() < 0.2 and kind not in ONCE,
            waits=min(dice.uniform(30, 150), max(30.0, duration / 4)) if kind in {"late", "behind"} else 0.0,
            form=dice.randrange(1_000),
        )
        number += 1
        at += dice.uniform(*(FIRST if number < SOON else BETWEEN))


def _lasting(dice: random.Random, kind: Kind, duration: float) -> float:
    """Return for how many seconds it is broken. Only a sensor that fails for minutes has to be told of."""
    minutes = kind == "sensor" and duration >= LONG_SECONDS
    return dice.uniform(260, 330) if minutes else dice.uniform(2, 25)


def _shelf(kind: Kind) -> str:
    return {"unreadable": "odd", "misreported": "odd", "behind": "behind", "elsewhere": "second", "crossing": "crossing",
            "removed": "removed", "hook": "hook", "notice": "notice", "sensor": "sensor", "pair": "pair", "alone": "alone", "killed": "alone", "cancelled": "alone", "retried": "alone",
            "check": "checked", "warning": "checked", "chain": "chain"}.get(kind, "single")  # fmt: skip


def _strikes(dice: random.Random, duration: float, outages: tuple[str, ...]) -> Iterator[Strike]:
    """One after the other on each part; on different parts they overlap as it happens."""
    every = {
        "daemon": 60.0,
        "code-server": 110.0,
        "second-server": 120.0,
        "incident-io": 45.0,
        "lock": 50.0,
        "postgres": 90.0,
    }
    found: list[Strike] = []
    left: list[str] = []
    for what in STRIKES:
        at = WARM_UP + dice.uniform(0.05, 0.7) * min(every[what], duration / 2)
        while at < duration:
            # Each of them before one comes again.
            left = left or _shuffled(dice, outages)
            how = left.pop() if what == "incident-io" else ""
            lasts = dice.uniform(5, 30) if what in {"incident-io", "second-server"} else dice.uniform(1, 10)
            found.append(Strike(at, what, how, min(lasts, duration / 4)))
            at += lasts + QUIET + dice.uniform(0.5, 1.5) * every[what]
    yield from sorted(found, key=lambda strike: strike.at)


def _shuffled(dice: random.Random, keys: tuple[str, ...]) -> list[str]:
    return dice.sample(keys, len(keys))
