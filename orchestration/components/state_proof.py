"""Build the whole code location from a folder of saved states, in a fresh process: a state is published only after that has worked.

The process is started with `python -m orchestration.components.state_proof RESULT MODULE`. It imports what the code location needs, then
reads one line from its standard input, the path of a state directory, builds all definitions of the module's `defs` from it as a code server
would, and writes a Proof as JSON to the file RESULT. It makes no connection: it does not look into the bucket of the states.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from orchestration.settings import REPOSITORY

LOCATION = "orchestration.definitions"
"""The module of the code location. Its `defs` is a function that returns the definitions."""
SECONDS = 300
"""How long building the code location may take: 25 s with 5,000 models, on two cores that are free."""
SHOWN_LINES = 20


@dataclass(frozen=True)
class Proof:
    """What came of building the code location from a folder of saved states."""

    error: str | None = None
    """Why it does not load: the first cause, in one line or several; None where it loads."""
    trace: str = ""
    """The whole traceback of the error."""
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])
    """The parts that have no readable state in the folder, each with the reason. The rest was built without them."""
    finished: bool = True
    """Whether the process has come to a result. One that was killed, or took too long, says nothing about the states."""

    @property
    def loads(self) -> bool:
        return self.finished and self.error is None


class ProofProcess:
    """A process that builds a code location once. It imports while its caller still reads the states. Its files are in `folder`."""

    def __init__(self, folder: Path, location: str = LOCATION) -> None:
        own = Path(tempfile.mkdtemp(prefix="proof-", dir=folder))
        self._result, self._errors = own / "result.json", own / "stderr"
        with self._errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._result), location],
                cwd=REPOSITORY,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """End the process, where it has not ended."""
        self._process.kill()
        self._process.communicate()

    def build(self, folder: Path, seconds: float = SECONDS) -> Proof:
        """Build the code location from a state directory, and return what came of it. `seconds` is the time limit."""
        try:
            self._process.communicate(f"{folder.resolve()}\n".encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            return Proof(f"building the code location took more than {seconds:.0f} s", finished=False)
        try:
            return Proof(**json.loads(self._result.read_text("utf-8")))
        except (FileNotFoundError, ValueError):
            said = self._errors.read_text("utf-8", errors="replace").strip()
            last = "\n".join(said.splitlines()[-SHOWN_LINES:])
            status = self._process.returncode
            why = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            return Proof(f"the process that builds the code location {why}", trace=last, finished=False)


def _environment() -> dict[str, str]:
    left_out = {"DAGSTER_IS_DEV_CLI"}  # with it Dagster would refresh states on load
    return {name: value for name, value in os.environ.items() if name not in left_out} | {
        "DATAPLATFORM_STATE_ON_LOAD": "false",
        "PYTHONWARNINGS": "ignore",
    }


def main(result: Path, location: str) -> None:
    """Build the code location of a module from the state directory that standard input names, and write the Proof to a file."""
    _import_components(location)
    folder = sys.stdin.readline().strip()
    if not folder:  # nothing has to be proven, or the caller has ended
        return
    os.environ["DATAPLATFORM_STATE_DIR"] = folder
    proof = _build(location)
    new = result.with_suffix(".new")
    new.write_text(json.dumps(asdict(proof)), encoding="utf-8")
    new.replace(result)


def _import_components(location: str) -> None:
    with contextlib.suppress(Exception):  # the same error is met again, and reported, when the location is built
        if location == LOCATION:
            package = importlib.import_module("orchestration.components")
            for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
                importlib.import_module(module.name)
        else:
            importlib.import_module("orchestration.components.saved_state")


def _build(location: str) -> Proof:
    from orchestration.components.saved_state import SavedState

    left_out: dict[str, str] = {}
    SavedState.left_out = left_out
    try:
        _load(importlib.import_module(location))
    except Exception as error:
        return Proof(_cause(error), "".join(traceback.format_exception(error)), left_out)
    return Proof(left_out=left_out)


def _load(module: ModuleType) -> None:
    """Do what a code server does before the UI shows a location (`ExternalRepository` in dagster/_grpc/server.py, 1.13.27)."""
    import dagster as dg
    from dagster._core.remote_representation.external_data import RepositorySnap

    found: Any = module.defs
    definitions: dg.Definitions = found if isinstance(found, dg.Definitions) else found()
    dg.Definitions.validate_loadable(definitions)
    RepositorySnap.from_def(definitions.get_repository_def())


def _cause(error: BaseException) -> str:
    """Return the first cause of an error: those around it are Dagster's own, with the tree of all components."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
