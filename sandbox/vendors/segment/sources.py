"""The sources of the company's Segment workspace: each has a write key, and a dataset that is named by its slug."""

from __future__ import annotations

WRITE_KEYS = {
    "local-website-write-key": "website",
    "local-web-app-write-key": "web_app",
    "local-mobile-write-key": "mobile",
}


def write_key(source: str) -> str:
    """The write key of a source, by its slug."""
    return next(key for key, slug in WRITE_KEYS.items() if slug == source)
