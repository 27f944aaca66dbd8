"""Changing dbt models against production's data: build what changed, read the rest from production, write nothing there."""
