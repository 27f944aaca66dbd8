from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.incidents.sizes import (
    LARGEST,
    LAST_REDUCTION,
    LONGEST_DESCRIPTION,
    LONGEST_KEY,
    LONGEST_TITLE,
    ROUTING,
    bounded,
    reduced,
    size,
)
from orchestration.vendors.incident_io import AlertEvent

USUAL = AlertEvent(
    "dbt/x:run", "firing", "dbt model `x` failed", "It failed.\n\tLook.", "https://dagster.example.com/runs/1",
    {"customer_facing": True, "assets": ["a/b"], "consumers": [{"key": "explo/x", "late": None}], "count": 3},
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=30) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=9), inner, max_size=4)
    ),
    max_leaves=30,
)


def test_an_event_that_fits_stays_as_it_is() -> None:
    assert bounded(USUAL) == USUAL
    assert reduced(USUAL, 0) is USUAL


def test_an_event_of_any_size_fits_and_keeps_its_routing() -> None:
    routing = dict.fromkeys(ROUTING, "ü" * 10_000) | {"customer_facing": True, "transient": False}
    lists = {f"list {n}": [{"key": "k" * 300, "n": [["x" * 90] * 60] * 2}] * 60 for n in range(60)}
    huge = AlertEvent(
        "k" * 10**6, "firing", "t" * 10**6, "🙂" * 10**6, "https://x/" + "u" * 10**6, {**lists, **routing}
    )
    fits = bounded(huge)
    assert size(fits) <= LARGEST
    assert (len(fits.title), len(fits.description), fits.source_url) == (LONGEST_TITLE, LONGEST_DESCRIPTION, "")
    assert set(ROUTING) <= set(fits.metadata)
    assert (fits.metadata["customer_facing"], fits.metadata["transient"], fits.metadata["shortened"]) == (
        True,
        False,
        True,
    )
    assert bounded(fits) == fits


def test_what_is_cut_first_is_long_lists() -> None:
    wide = replace(
        USUAL, metadata=USUAL.metadata | {"assets": [f"asset {n} {'x' * 300}" for n in range(1000)], "run_id": "r1"}
    )
    fits = bounded(wide)
    assert len(fits.metadata["assets"]) == 50
    assert (fits.metadata["run_id"], fits.metadata["consumers"]) == ("r1", USUAL.metadata["consumers"])


def test_a_key_that_is_too_long_is_the_same_for_the_firing_and_the_resolved_and_no_other() -> None:
    keys = [bounded(replace(USUAL, deduplication_key="k" * 1000 + end)).deduplication_key for end in "aab"]
    assert len(keys[0]) <= LONGEST_KEY
    assert keys[0] == keys[1] != keys[2]


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.characters()), st.text(st.characters()), st.dictionaries(st.sampled_from([*ROUTING, "a", "b"]), ANYTHING)
)
def test_whatever_it_has_is_json_in_utf_8_and_small_enough(title: str, text: str, metadata: dict[str, Any]) -> None:
    event = bounded(AlertEvent("key", "firing", title, text, "", metadata))
    said = json.dumps(asdict(event), ensure_ascii=False, allow_nan=False).encode()
    assert json.loads(said) == asdict(event)
    assert len(said) <= LARGEST
    assert set(event.metadata) >= set(metadata)
    for level in range(LAST_REDUCTION + 2):
        form = reduced(event, level)
        json.dumps(asdict(form), allow_nan=False)
        assert (form.deduplication_key, form.status) == ("key", "firing")
        assert {name for name in ROUTING if name in form.metadata} >= {
            name for name in ROUTING if name in metadata and not isinstance(metadata[name], (list, dict))
        }
