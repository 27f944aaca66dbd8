"""State of a vendor or of dbt, read once and saved, so that loading the code location calls nobody."""

from __future__ import annotations

import asyncio
import os
import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, override

import dagster as dg
from dagster.components.component.state_backed_component import StateBackedComponent
from dagster.components.utils.defs_state import DefsStateConfig, DefsStateConfigArgs

from orchestration.settings import settings


class StateMissing(dg.DagsterError):
    """There is no saved state to build assets from; the message has the command that makes it."""


class StateIncomplete(dg.DagsterError):
    """What a vendor answered lacks something that it had before and that it does not say is gone."""


class SavedState(StateBackedComponent):
    """A state-backed component whose state is below `DATAPLATFORM_STATE_DIR`.

    Dagster's own local file is inside the package and is deleted before the new state is read. Here a refresh that fails
    leaves the last state as it was, and a location without any state does not load, where Dagster would show no assets.
    """

    state_name: ClassVar[str]
    """The name of the file or folder, and what messages call the state."""

    @property
    @override
    def defs_state_config(self) -> DefsStateConfig:
        # Never on load: `dg` commands would call every vendor each time.
        arguments = DefsStateConfigArgs.local_filesystem().model_copy(update={"refresh_if_dev": False})
        return DefsStateConfig.from_args(arguments, default_key=self.state_name)

    @classmethod
    def state_path(cls) -> Path:
        return settings().dataplatform_state_dir / cls.state_name

    @override
    async def refresh_state(self, project_root: Path) -> str:
        await asyncio.to_thread(self.refresh)
        return self.state_name

    @abstractmethod
    def refresh(self) -> None:
        """Read the state anew and save it whole, or raise and keep the last one."""

    def stale(self) -> bool:
        """Whether a refresh is due before the code location can load."""
        return not self.state_path().exists()

    @classmethod
    def saved(cls) -> Path:
        """Where the state is. Raises StateMissing where there is none yet."""
        path = cls.state_path()
        if not path.exists():
            raise StateMissing(f"There is no saved state of {cls.state_name} at {path}: run `dataplatform refresh`.")
        return path

    @override
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return self.build_defs_from_state(context, self.saved())

    @abstractmethod
    @override
    def write_state_to_path(self, state_path: Path) -> None: ...


class VendorState(SavedState):
    """A saved state that is one file, read from a vendor's API."""

    @override
    def refresh(self) -> None:
        path = self.state_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            new = Path(folder) / path.name
            self.write_state_to_path(new)
            # A state from which no assets can be built would take the whole location down, and its alerts with it.
            self.definitions(new)
            os.replace(new, path)

    @override
    def build_defs_from_state(self, context: dg.ComponentLoadContext, state_path: Path | None) -> dg.Definitions:
        assert state_path is not None
        return self.definitions(state_path)

    @abstractmethod
    def definitions(self, state_path: Path) -> dg.Definitions:
        """The assets of a saved state."""
