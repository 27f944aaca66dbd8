from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.lineage.failures import (
    METADATA_KEY,
    FailedUnit,
    UnreadableReportError,
    from_metadata,
    summary,
    to_metadata,
)

# Halves of surrogate pairs are no text that a storage takes.
text = st.text(st.characters(exclude_categories=["Cs"]))
name = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
names = st.lists(name, max_size=3).map(tuple)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(text | st.sampled_from(["unit", "asset_keys", "error", "held_up"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(st.lists(st.builds(FailedUnit, name, names, text, st.none() | text, names, st.booleans(), names)))
def test_a_report_survives_the_event_log(failures: list[FailedUnit]) -> None:
    stored = json.loads(json.dumps(to_metadata(failures)))
    assert from_metadata(stored) == failures


def test_a_step_without_a_report_has_none() -> None:
    assert from_metadata({"something": "else"}) is None


def test_a_field_of_another_version_is_passed_over() -> None:
    [item] = to_metadata([FailedUnit("u", ("a",), "e")])[METADATA_KEY]
    assert from_metadata({METADATA_KEY: [item | {"new": 1}]}) == [FailedUnit("u", ("a",), "e")]


def test_a_broken_report_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        from_metadata({METADATA_KEY: [{"unit": "fivetran/product"}]})


@given(json_values)
def test_whatever_stands_in_place_of_a_report_is_read_or_refused_by_name(value: object) -> None:
    for stored in (value, json.dumps(value)):
        try:
            found = from_metadata({METADATA_KEY: stored})
        except UnreadableReportError:
            continue
        assert found is None or all(isinstance(unit, FailedUnit) for unit in found)


@pytest.mark.parametrize(
    "report",
    [
        ["a", "b"],
        {"unit": "a"},
        7,
        [{"unit": 7, "asset_keys": [], "error": "e"}],
        [{"unit": "", "asset_keys": [], "error": "e"}],
        [{"unit": "u", "asset_keys": "abc", "error": "e"}],
        [{"unit": "u", "asset_keys": [None], "error": "e"}],
        [{"unit": "u", "asset_keys": [], "error": None}],
        [{"unit": "u", "asset_keys": [], "error": "e", "vendor_url": 7}],
        [{"unit": "u", "asset_keys": [], "error": "e", "permanent": "no"}],
        "not json",
        "[" * 100_000,
    ],
)
def test_a_report_of_another_shape_is_refused(report: object) -> None:
    with pytest.raises(UnreadableReportError):
        from_metadata({METADATA_KEY: report})


def test_the_summary_has_a_line_a_failure() -> None:
    assert summary([FailedUnit("a", (), "x"), FailedUnit("b", (), "y")]) == "a: x\nb: y"
