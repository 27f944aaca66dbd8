"""Values of dbt and of vendors as Dagster takes them. Pure.

Dagster validates names when the code location loads, and one value that it refuses takes the whole location down, and the alerts with
it. Each function here returns a value that Dagster takes, and what was changed, in words, or None. What Dagster 1.13 refuses:

- owners that are neither `team:<text>` nor match the expression of `is_valid_email` (dagster/_core/utils.py), which has no
  apostrophe, and no top-level domain of more than seven letters;
- groups, checks and outputs that have other characters than letters, digits and `_` (dagster/_core/definitions/utils.py);
- tags whose key or value has more than 63 characters, or others than letters, digits, `_`, `-` and `.` (dagster/_utils/tags.py);
- more than ten kinds (dagster/_core/definitions/assets/definition/asset_spec.py);
- freshness policies whose windows are not positive, or that warn after they fail (dagster/_core/definitions/freshness.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.utils import getaddresses
from typing import Any, cast

import dagster as dg
from dagster._check import CheckError
from dagster._core.definitions.utils import is_valid_owner

from orchestration.lineage import keys
from orchestration.lineage.graph import OWNERS_METADATA

MOST_KINDS = 8
"""Of the ten that Dagster takes, two are left for the component's own."""
LONGEST_TAG = 63
LONGEST_DESCRIPTION = 50_000
"""Characters. Descriptions are part of the snapshot that a code server sends whole, and of every page of the asset."""
SEPARATORS = re.compile(r"\s*[,;]\s*")


@dataclass(frozen=True)
class Owners:
    """Who answers for an asset. `texts` are those whom Dagster cannot hold as owners; they are shown as metadata instead."""

    names: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    warning: str | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """Return the metadata that has `texts`; alerts read it too (lineage/asset_graph.py)."""
        return {OWNERS_METADATA: dg.MetadataValue.text(", ".join(self.texts))} if self.texts else {}


def owners(given: object, team: object = None) -> Owners:
    """Return the owners of an asset.

    Args:
        given: One owner or several, as people write them: an address, `Name <address>`, `team:<name>`, `#channel`, a name.
        team: The name of a team, which is the owner where nothing else is given.
    """
    names: dict[str, None] = {}
    texts: dict[str, None] = {}
    found = [one for text in _texts(given) for one in _owners_in(text)]
    if not found and isinstance(team, str) and team.strip():
        return Owners((f"team:{team.strip()}",))
    for one in found:
        (names if is_valid_owner(one) else texts)[one] = None
    warning = f"Dagster has no owners like {', '.join(texts)}: shown as text" if texts else None
    return Owners(tuple(names), tuple(texts), warning)


def tags(given: Iterable[object]) -> tuple[dict[str, str], str | None]:
    """Return dbt's tags, which have no values, as Dagster's, with what was changed."""
    found: dict[str, str] = {}
    changed: list[str] = []
    for one in given:
        tag, change = tag_key(str(one))
        found[tag] = ""
        changed += [change] if change else []
    return found, "; ".join(changed) or None


def tag_key(text: str) -> tuple[str, str | None]:
    """Return a text as the key of a tag. A `/` stands for a namespace of Dagster's, which dbt does not know, and is replaced."""
    key = re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:LONGEST_TAG] or "_"
    return key, None if key == text else f"the tag {text!r} is shown as {key!r}"


def group_name(text: str) -> tuple[str, str | None]:
    """Return a text as the name of a group."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", keys.part(text))
    return name, None if name == text else f"the group {text!r} is shown as {name!r}"


def check_name(text: str) -> tuple[str, str | None]:
    """Return a text as the name of a check."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text) or "_"
    return name, None if name == text else f"the test {text!r} is shown as {name!r}"


def kinds(given: Iterable[str]) -> set[str]:
    """Return texts as kinds, at most eight of them."""
    found = {re.sub(r"[^a-z0-9_.-]", "_", one.lower())[:LONGEST_TAG] for one in given if one}
    return set(sorted(found)[:MOST_KINDS])


def description(text: object) -> tuple[str | None, str | None]:
    """Return a text as a description: cut where it is too long to send to every page."""
    if text is None:
        return None, None
    whole = text if isinstance(text, str) else str(text)
    if len(whole) <= LONGEST_DESCRIPTION:
        return whole, None
    return f"{whole[:LONGEST_DESCRIPTION]}…", f"the description of {len(whole)} characters is cut"


def freshness(given: object) -> tuple[dg.FreshnessPolicy | None, str | None]:
    """Return `{warn_hours: …, fail_hours: …}` as a policy. Without `warn_hours` nothing warns before it fails."""
    if given is None:
        return None, None
    said = cast("Mapping[str, Any]", given if isinstance(given, Mapping) else {})
    fail, warn = _hours(said.get("fail_hours")), _hours(said.get("warn_hours"))
    if fail is None:
        return None, f"freshness is {given!r}: without a number `fail_hours` it is not watched"
    change = None
    if said.get("warn_hours") is not None and (warn is None or warn >= fail):
        warn, change = None, f"freshness is {given!r}: nothing warns before it fails"
    try:
        return dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=warn), change
    except (dg.DagsterError, CheckError, ValueError, TypeError) as error:
        return None, f"freshness is {given!r}, which is not watched: {error}"


def _hours(value: object) -> timedelta | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**6:
        return None
    return timedelta(hours=value)


def _texts(given: object) -> list[str]:
    if given is None or given == "":
        return []
    if isinstance(given, str):
        return [given.strip()] if given.strip() else []
    if isinstance(given, Sequence | set):
        return [text for one in cast("Iterable[object]", given) for text in _texts(one)]
    if isinstance(given, Mapping):
        said = cast("Mapping[str, object]", given)
        return _texts(said.get("email") or said.get("name"))
    return [str(given)]


def _owners_in(text: str) -> list[str]:
    """Return the owners in a text: itself, or the addresses of a list or of `Name <address>`."""
    if is_valid_owner(text):
        return [text]
    if text.startswith("team:"):
        return []
    if "<" in text and text.endswith(">"):
        addresses = [address for _, address in getaddresses([text]) if "@" in address]
        return addresses or [text]
    parts = [one for one in SEPARATORS.split(text) if one]
    if len(parts) > 1 and all("@" in one for one in parts):
        return [owner for one in parts for owner in _owners_in(one)]
    # An address that Dagster refuses is somebody all the same; what is no address is a channel or a team.
    return [text] if "@" in text else [f"team:{text}"]
