"""Which vendors and saved states the components in `orchestration/defs/` use."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from orchestration.doctor.model import Outcome, skipped
from orchestration.settings import Need, Settings, VendorSettings, is_configured

NOT_USED = "not used: no component in defs/"


@dataclass(frozen=True)
class Usage:
    """What components use. `problem` says why that could not be read; nothing counts as used then.

    `states` are the names of the saved states, as `SavedState.state_name` has them.
    """

    needs: tuple[Need, ...]
    states: Collection[str]
    problem: str = ""

    def uses(self, vendor: type[VendorSettings]) -> bool:
        """Return whether a component requires a vendor's settings."""
        return any(need.settings is vendor for need in self.needs)


def read_usage() -> Usage:
    """Return what the components use. Dagster is imported here and not with the module: the command's help does without it."""
    from orchestration import defs_tree

    try:
        tree = defs_tree.load_tree()
        return Usage(defs_tree.read_needs(tree), defs_tree.read_state_names(tree))
    except Exception as error:  # a YAML or a module of an adopter's, which may raise anything
        return Usage((), (), f"{type(error).__name__}: {error}")


def find_unused(values: Settings, usage: Usage | None, vendor: type[VendorSettings]) -> Outcome | None:
    """Return why a vendor is not looked at; None for one that a component uses, or whose variables are all set."""
    if usage is None or usage.uses(vendor) or is_configured(values, vendor):
        return None
    return skipped(NOT_USED)
