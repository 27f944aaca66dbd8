"""Waiting for a vendor to finish what it was told to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestration.core.causes import Cause
from orchestration.core.redaction import redact

FIRST_SECONDS, LONGEST_SECONDS, GROWTH = 0.5, 30.0, 1.3


class SyncFailed(Exception):
    """A sync ended badly, did not end in time, or could not start. The message is the vendor's reason and the remedy.

    `permanent` says that it fails again until a person has done something about it. `cause` is what is wrong with the platform
    itself, where a call of the platform's own failed by that. `sync` is the vendor's identity of the sync that has ended; None where
    none has.
    """

    def __init__(
        self, message: str, *, permanent: bool = False, cause: Cause | None = None, sync: str | None = None
    ) -> None:
        super().__init__(redact(message))
        self.permanent, self.sync = permanent, sync
        self.cause: Cause | None = cause


@dataclass(frozen=True)
class Wait:
    """How long one sync may take, and whom to tell meanwhile.

    `sleep` may raise, which ends the wait: that is how a run is cancelled. `remedy` is what to change when the time is up.
    """

    seconds: float
    remedy: str
    log: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    began: float = field(default_factory=time.monotonic)

    @property
    def passed(self) -> float:
        """Seconds since the wait began."""
        return time.monotonic() - self.began

    def until[T](self, look: Callable[[], T], done: Callable[[T], bool], state: Callable[[T], str]) -> T:
        """What `look` sees when it is `done`, looking ever less often; each new `state` is logged. Raises SyncFailed when it is late."""
        pause, said = FIRST_SECONDS, ""
        while True:
            now = look()
            if state(now) != said:
                said = state(now)
                self.log(said)
            if done(now):
                return now
            if self.passed + pause > self.seconds:
                raise SyncFailed(f"{said}, and not finished within the time limit. It may still finish. {self.remedy}")
            self.sleep(pause)
            pause = min(pause * GROWTH, LONGEST_SECONDS)
