from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG, extract_data_version_from_entry

from orchestration.incidents import mutes
from orchestration.incidents.mutes import Mute
from orchestration.lineage.failures import METADATA_KEY

NOW = time.time()
KEYS = [dg.AssetKey(["insights", name]) for name in ("pages", "time")]


def mute(selection: str, hours: float = 1) -> Mute:
    return Mute(selection, datetime.fromtimestamp(NOW, UTC) + timedelta(hours=hours), "the source moves", "ada")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield instance


@pytest.mark.parametrize(
    ("selection", "keys", "muted"),
    [
        ("insights/time", ["insights/time"], True),
        ("insights/*", ["insights/time", "insights/pages"], True),
        ("insights/*", ["insights/time", "sales/pipeline"], False),
        ("insights/*, sales/pipeline", ["insights/time", "sales/pipeline"], True),
        ("insights", ["insights/time"], False),
        ("*", ["tick/hourly"], True),
        ("tick/*", ["tick/hourly"], True),
        ("*", [], False),
        ("Insights/time", ["insights/time"], False),
    ],
)
def test_a_failure_is_muted_when_all_of_it_is(selection: str, keys: list[str], muted: bool) -> None:
    assert (mutes.is_muted(keys, [mute(selection)]) is not None) is muted


def test_several_mutes_together_cover_a_failure_until_the_first_of_them_ends() -> None:
    short, long, other = mute("a/b", 1), mute("a/*", 5), mute("x/*", 0.5)
    assert mutes.is_muted(["a/b", "a/c"], [long, short, other]) == short
    assert mutes.is_muted(["a/c"], [long, short, other]) == long


def test_a_mute_is_kept_beside_others_replaced_by_its_like_and_ends_by_itself(instance: dg.DagsterInstance) -> None:
    assert mutes.active(instance, NOW) == ()
    mutes.add(instance, mute("insights/*", 1), KEYS, NOW)
    mutes.add(instance, mute("sales/*", 2), [], NOW)
    mutes.add(instance, mute("insights/*", 3), KEYS, NOW)
    assert mutes.active(instance, NOW) == (mute("sales/*", 2), mute("insights/*", 3))
    assert mutes.active(instance, NOW + 2.5 * 3600) == (mute("insights/*", 3),)
    assert mutes.active(instance, NOW + 3.1 * 3600) == ()

    assert mutes.remove(instance, "sales/*", [], NOW, "ada")
    assert not mutes.remove(instance, "sales/*", [], NOW, "ada")
    assert mutes.active(instance, NOW) == (mute("insights/*", 3),)


def planned(selection: str, begins: float, ends: float) -> Mute:
    return replace(mute(selection, ends), since=datetime.fromtimestamp(NOW, UTC) + timedelta(hours=begins))


def test_what_is_planned_applies_from_its_beginning_to_its_end(instance: dg.DagsterInstance) -> None:
    mutes.add(instance, planned("*", 2, 4), KEYS[:1], NOW)
    assert mutes.read(instance, NOW) == (planned("*", 2, 4),)
    muted = {hours: bool(mutes.active(instance, NOW + hours * 3600)) for hours in (0, 1.9, 2.1, 3.9, 4.1)}
    assert muted == {0: False, 1.9: False, 2.1: True, 3.9: True, 4.1: False}
    [record] = instance.fetch_observations(KEYS[0], limit=5).records
    assert record.asset_observation is not None
    assert "Incidents are muted from 20" in (record.asset_observation.description or "")


def test_a_mute_replaces_only_its_like_of_the_same_time(instance: dg.DagsterInstance) -> None:
    mutes.add(instance, planned("*", 24, 26), [], NOW)
    mutes.add(instance, mute("*", 1), [], NOW)
    mutes.add(instance, planned("*", 26, 27), [], NOW)
    mutes.add(instance, planned("*", 25, 26), [], NOW)
    assert mutes.read(instance, NOW) == (mute("*", 1), planned("*", 25, 26), planned("*", 26, 27))


def test_what_is_under_way_ends_first_and_what_is_planned_is_called_off_next(instance: dg.DagsterInstance) -> None:
    for one in (mute("*", 1), planned("*", 24, 26), planned("*", 48, 50)):
        mutes.add(instance, one, [], NOW)
    assert mutes.remove(instance, "*", [], NOW, "ada")
    assert mutes.read(instance, NOW) == (planned("*", 24, 26), planned("*", 48, 50))
    assert mutes.remove(instance, "*", [], NOW, "ada")
    assert mutes.read(instance, NOW) == ()


def test_what_an_earlier_version_stored_is_read(instance: dg.DagsterInstance) -> None:
    stored = '[{"selection": "*", "until": "2100-01-01T00:00:00Z", "reason": "x", "by": "ada"}]'
    instance.daemon_cursor_storage.set_cursor_values({mutes.KEY: stored})
    assert mutes.active(instance, NOW) == (Mute("*", datetime(2100, 1, 1, tzinfo=UTC), "x", "ada"),)


def test_another_process_reads_it(instance: dg.DagsterInstance) -> None:
    mutes.add(instance, mute("insights/*"), KEYS, NOW)
    with dg.DagsterInstance.from_ref(instance.get_ref()) as other:
        assert mutes.active(other, NOW) == (mute("insights/*"),)


def test_it_shows_on_the_assets_page_and_counts_neither_as_made_nor_as_looked_at(instance: dg.DagsterInstance) -> None:
    mutes.add(instance, mute("insights/*"), KEYS, NOW)
    for key in KEYS:
        [record] = instance.fetch_observations(key, limit=5).records
        observation = record.asset_observation
        assert observation is not None
        assert "muted until" in (observation.description or "")
        assert "the source moves" in (observation.description or "")
        assert not observation.tags
    assert not any(instance.get_latest_materialization_events(KEYS).values())
    mutes.remove(instance, "insights/*", KEYS[:1], NOW, "ada")
    [last, _first] = instance.fetch_observations(KEYS[0], limit=5).records
    assert last.asset_observation is not None
    assert last.asset_observation.description == "Incidents are no longer muted, says ada."


def test_what_cannot_be_read_mutes_nothing(instance: dg.DagsterInstance) -> None:
    instance.daemon_cursor_storage.set_cursor_values({mutes.KEY: '[{"selection": 1}]'})
    assert mutes.active(instance, NOW) == ()
    with pytest.raises(ValueError, match="cannot be read"):
        mutes.read(instance, NOW)


def test_the_next_look_at_an_observed_table_goes_on_from_the_last_and_nothing_runs_for_a_mute(
    instance: dg.DagsterInstance,
) -> None:
    table = dg.AssetKey(["web_app", "tracks"])

    @dg.multi_observable_source_asset(name="web_app", specs=[dg.AssetSpec(table)])
    def look() -> Iterator[dg.ObserveResult]:
        yield dg.ObserveResult(asset_key=table, metadata={"rows": 7}, data_version=dg.DataVersion("1"))

    @dg.asset(key=["staging", "tracks"], deps=[table], automation_condition=dg.AutomationCondition.any_deps_updated())
    def staged() -> None: ...

    defs = dg.Definitions([look, staged])
    first = dg.evaluate_automation_conditions(defs, instance)
    observed = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[table]
    )
    assert observed.success
    seen = dg.evaluate_automation_conditions(defs, instance, cursor=first.cursor)
    assert seen.total_requested == 1

    mutes.add(instance, mute("*"), [table], NOW)
    after = dg.evaluate_automation_conditions(defs, instance, cursor=seen.cursor)
    assert after.total_requested == 0
    [newest] = instance.fetch_observations(table, limit=1).records
    version = extract_data_version_from_entry(newest.event_log_entry)
    assert newest.asset_observation is not None
    assert newest.asset_observation.metadata["rows"].value == 7
    assert version == dg.DataVersion("1")


def test_a_remark_does_not_report_again_what_failed(instance: dg.DagsterInstance) -> None:
    said = dg.AssetObservation(KEYS[0], metadata={METADATA_KEY: "[]", "rows": 7}, tags={DATA_VERSION_TAG: "1"})
    instance.report_runless_asset_event(said)
    mutes.add(instance, mute("*"), KEYS, NOW)
    [newest] = instance.fetch_observations(KEYS[0], limit=1).records
    assert newest.asset_observation is not None
    assert METADATA_KEY not in newest.asset_observation.metadata
