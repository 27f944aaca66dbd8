"""Tables made and extended from a registry, in BigQuery's stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from google.cloud import bigquery

from product_events.registry import load
from product_events.tables import Change, DatasetElsewhere, SchemaConflict, apply
from sandbox.config import PROJECT
from tests.orchestration.wire import reply
from tests.product_events.conftest import DATASET
from tests.product_events.faulty import Network
from tests.product_events.test_registry import WITH_KEY, file, written


@pytest.fixture
def dataset(warehouse: bigquery.Client) -> Iterator[str]:
    name = f"t_{uuid4().hex[:8]}"
    yield name
    warehouse.delete_dataset(name, delete_contents=True, not_found_ok=True)


def test_tables_are_partitioned_clustered_and_described(warehouse: bigquery.Client) -> None:
    table = warehouse.get_table(f"{DATASET}.insight_viewed")
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("DAY", "received_at")
    assert table.clustering_fields == ["organisation_id"]
    assert table.description == "A customer opened a dashboard that is embedded in the product."
    assert all(column.description for column in table.schema)
    assert {change.done for change in apply(warehouse, DATASET)} == {"unchanged"}


def test_columns_are_added_and_other_types_refused_before_anything_is_changed(
    warehouse: bigquery.Client, dataset: str, tmp_path: Path, between: Network
) -> None:
    first = load(written(tmp_path, file()))
    assert [(change.table, change.done) for change in apply(warehouse, dataset, first)] == [
        ("door_opened", "created"),
        ("dead_letters", "created"),
    ]
    second = load(written(tmp_path, file(), file(version=2, **WITH_KEY)))
    # Somebody else changed the table since it was read: it is read again.
    between.changes = [reply(412, {"error": {"message": "the etag does not match"}})]
    done = apply(bigquery.Client(project=PROJECT), dataset, second)
    assert done[0] == Change("door_opened", "extended", ("key",))
    assert between.changes == []
    assert [column.name for column in warehouse.get_table(f"{dataset}.door_opened").schema][6:] == ["door", "key"]

    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    other = load(written(elsewhere, file(door={"type": "integer"}), file("gate_opened")))
    with pytest.raises(SchemaConflict, match=r"^door_opened.door is STRING, and the registry says INTEGER"):
        apply(warehouse, dataset, other)
    assert {table.table_id for table in warehouse.list_tables(dataset)} == {"door_opened", "dead_letters"}


def test_the_dataset_is_created_in_the_clients_location(dataset: str, tmp_path: Path) -> None:
    events = load(written(tmp_path, file()))
    european = bigquery.Client(project=PROJECT, location="EU")
    apply(european, dataset, events)
    assert european.get_dataset(dataset).location == "EU"
    with pytest.raises(DatasetElsewhere, match=rf"^Dataset {PROJECT}.{dataset} is in EU, and US is wanted"):
        apply(bigquery.Client(project=PROJECT, location="US"), dataset, events)


def test_a_table_that_rows_could_not_be_written_to_is_refused(
    warehouse: bigquery.Client, dataset: str, tmp_path: Path
) -> None:
    warehouse.create_dataset(dataset)
    schema = [
        bigquery.SchemaField("door", "STRING", "REQUIRED"),
        bigquery.SchemaField("user_id", "STRING", "REPEATED"),
    ]
    warehouse.create_table(bigquery.Table(f"{PROJECT}.{dataset}.door_opened", schema))
    with pytest.raises(SchemaConflict) as raised:
        apply(warehouse, dataset, load(written(tmp_path, file())))
    assert str(raised.value).splitlines() == [
        "door_opened.door is required, and the registry lets rows lack it",
        "door_opened.user_id is repeated STRING, and the registry says STRING: types do not change",
        "door_opened is not partitioned by received_at: only a new table can be",
    ]
