from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.lineage.failures import METADATA_KEY, FailedUnit, from_metadata, summary, to_metadata

names = st.lists(st.text(), max_size=3).map(tuple)


@given(st.lists(st.builds(FailedUnit, st.text(), names, st.text(), st.none() | st.text(), names)))
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


def test_the_summary_has_a_line_a_failure() -> None:
    assert summary([FailedUnit("a", (), "x"), FailedUnit("b", (), "y")]) == "a: x\nb: y"
