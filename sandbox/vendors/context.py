"""What every vendor stand-in is given."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.clock import Clock
from sandbox.config import SandboxConfig
from sandbox.vendors.faults import Faults
from sandbox.vendors.store import Store


@dataclass(frozen=True)
class VendorContext:
    config: SandboxConfig
    store: Store
    faults: Faults
    clock: Clock

    @classmethod
    def of(cls, config: SandboxConfig) -> VendorContext:
        store = Store(config.root / "vendors" / "state.sqlite")
        return cls(config, store, Faults(store), Clock(config.root))
