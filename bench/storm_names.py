"""Names that `bench.alert_storm` shares with its code location: the assets, and the orders to fail."""

from __future__ import annotations

TABLES = tuple(f"shop/table{number:04}" for number in range(2_000))
ONE_CAUSE, OWN_CAUSES, THOUSAND_CAUSES = "one-cause", "own-causes", "thousand-causes"
"""Orders for the step."""
