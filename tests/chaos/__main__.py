"""`python -m tests.chaos --duration 1200 --seed 7`: docs/chaos.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
import warnings
from datetime import datetime
from pathlib import Path

from tests.chaos.chaos import unleash
from tests.chaos.plan import plan
from tests.chaos.platform import SECOND_MODULE, running
from tests.chaos.truth import Verdict

MONITORING = {"start_timeout_seconds": 60, "max_runtime_seconds": 180, "poll_interval_seconds": 5}
"""A launch that is cut off by the daemon's death is a failure after one minute, not three; a run that dies when the code server that
started it is dead already, which nobody notices, after three minutes, not sixty."""


def main() -> int:
    # Dagster warns of each code server that it cannot reach.
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Break things, and count what nobody heard."
    )
    parser.add_argument(
        "--duration", type=float, default=1200, help="seconds in which things break; the end takes a few minutes more"
    )
    parser.add_argument("--seed", type=int, default=7, help="the same seed breaks the same things in the same order")
    parser.add_argument(
        "--root", type=Path, help="where the platform keeps its files; kept, so that they can be looked at"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        verdict = chaos(given.root or Path(temporary), given.seed, given.duration)
    return 0 if verdict.good else 1


def chaos(root: Path, seed: int, duration: float) -> Verdict:
    """A platform of its own, the plan of this seed, and the verdict in words, the counts last."""
    planned = plan(seed, duration)
    _say(
        f"seed {seed}: up to {len(planned.episodes)} episodes and {len(planned.strikes)} strikes within {duration:.0f} s"
    )
    try:
        with running(root, second=SECOND_MODULE, monitoring=MONITORING) as platform:
            verdict = unleash(platform, planned, duration, _say)
    except Exception as error:
        traceback.print_exc()
        verdict = Verdict(0, (), (), (), (), (), (f"the chaos itself: {error!r}",))
    for line in _details(verdict):
        _say(line)
    _say(verdict.counts())
    return verdict


def _details(verdict: Verdict) -> list[str]:
    unfinished = [f"lost: {what}" for what in verdict.unfinished]
    lost = [
        f"lost: {' or '.join(one.names)} {sorted(one.keys)}, {_time(one.start)} to {_time(one.end)}"
        for one in verdict.lost
    ]
    groups = {
        "lost, since it was resolved wrongly": verdict.wrongly_resolved,
        "duplicated": verdict.duplicated,
        "wrongly paged": verdict.wrongly_paged,
        "left open": verdict.left_open,
    }
    return [*unfinished, *lost] + [
        f"{what}: {one.key}, {_time(one.start)} to {_time(one.end) if one.end else 'now'}, paged {one.page} ({one.pages})"
        for what, found in groups.items()
        for one in found
    ]


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%H:%M:%S}"  # noqa: DTZ006  (as the clock on the wall has it)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
