"""The registry's files, what is said of wrong ones, and the rows that events become."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from product_events import registry
from product_events.registry import DEAD_LETTER, RegistryError, expected_schema, load
from product_events.rows import MAX_REASON, Malformed, Submission, dead_letter

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def file(
    name: str = "door_opened", version: int = 1, required: tuple[str, ...] = ("door",), **properties: Any
) -> dict[str, Any]:
    properties = properties or {"door": {"type": "string"}}
    described = {key: {"description": "It.", **value} for key, value in properties.items()}
    return {
        "name": name,
        "version": version,
        "owner": "doors@example.com",
        "description": "A door was opened.",
        "schema": {
            "type": "object",
            "additionalProperties": False,
            "required": list(required),
            "properties": described,
        },
    }


def written(folder: Path, *files: dict[str, Any]) -> Path:
    for number, content in enumerate(files):
        path = folder / f"{content.get('name', number)}.v{content.get('version')}.yaml"
        path.write_text(yaml.safe_dump(content))
    return folder


def test_the_events_of_this_company() -> None:
    events = registry.registry().events
    assert {name: len(event.versions) for name, event in events.items()} == {
        "insight_viewed": 1,
        "slack_command_invoked": 1,
        "status_page_viewed": 2,
        "workflow_run_finished": 1,
    }
    assert registry.events() == sorted(events)
    assert registry.owners()["insight_viewed"] == ["insights@example.com"]
    assert len(registry.owners()["dead_letters"]) == 4
    assert expected_schema("dead_letters") == list(DEAD_LETTER)
    assert [(c.name, c.field_type, c.mode) for c in expected_schema("status_page_viewed")] == [
        ("event_id", "STRING", "REQUIRED"),
        ("event_version", "INTEGER", "REQUIRED"),
        ("occurred_at", "TIMESTAMP", "REQUIRED"),
        ("received_at", "TIMESTAMP", "REQUIRED"),
        ("organisation_id", "STRING", "REQUIRED"),
        ("user_id", "STRING", "NULLABLE"),
        ("status_page_id", "STRING", "NULLABLE"),
        ("visitor_id", "STRING", "NULLABLE"),
        ("component", "STRING", "NULLABLE"),
        ("referrer", "STRING", "NULLABLE"),
    ]
    assert all(column.description for event in registry.events() for column in expected_schema(event))


def test_each_type_of_a_property_has_its_column(tmp_path: Path) -> None:
    properties = {
        "text": {"type": "string"},
        "count": {"type": ["null", "integer"]},
        "share": {"type": "number"},
        "open": {"type": ["boolean"]},
        "at": {"type": "string", "format": "date-time"},
        "on": {"type": "string", "format": "date"},
        "id": {"type": "string", "format": "uuid"},
    }
    columns = load(written(tmp_path, file(required=(), **properties))).schema("door_opened")[6:]
    assert {column.name: column.field_type for column in columns} == {
        "text": "STRING",
        "count": "INTEGER",
        "share": "FLOAT",
        "open": "BOOLEAN",
        "at": "TIMESTAMP",
        "on": "DATE",
        "id": "STRING",
    }


WITH_KEY = {"door": {"type": "string"}, "key": {"type": "string"}}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "has no events"),
        ([{k: v for k, v in file().items() if k != "owner"}], "door_opened.v1.yaml: owner: Field required"),
        ([file() | {"owner": "the doors team"}], "door_opened.v1.yaml: owner: String should match pattern"),
        ([file() | {"ower": "doors@example.com"}], "door_opened.v1.yaml: ower: Extra inputs are not permitted"),
        ([file() | {"version": "1"}], "door_opened.v1.yaml: version: Input should be a valid integer"),
        ([file("Door")], "Door.v1.yaml: name: String should match pattern"),
        ([file("dead_letters")], "dead_letters.v1.yaml: name: dead_letters is the table of what does not fit"),
        ([file(version=2)], "door_opened: version 1 is missing"),
        ([file(version=1), file(version=4)], "door_opened: version 2, 3 is missing"),
        ([file(door={"type": "text"})], "door_opened.v1.yaml: schema.properties.door.type: 'text' is not valid"),
        ([file(door={"type": "object"})], "door_opened.v1.yaml: schema.properties.door: must have one type of"),
        ([file(door={"type": ["string", "integer"]})], "schema.properties.door: must have one type of"),
        ([file(door={"enum": ["front"]})], "schema.properties.door: must have one type of"),
        (
            [file(door={"type": "string", "format": "dore"})],
            "schema.properties.door: format dore is not one that is checked",
        ),
        ([file(door={"type": "string", "description": ""})], "schema.properties.door: has no description"),
        ([file(required=(), Door={"type": "string"})], "schema.properties.Door: is no column name"),
        (
            [file(required=(), user_id={"type": "string"})],
            "schema.properties.user_id: is a column of every event's table",
        ),
        ([file(required=("handle",))], "door_opened.v1.yaml: schema.required: handle is not among the properties"),
        ([file() | {"schema": {"type": "object"}}], "must have `type: object` and `additionalProperties: false`"),
        (
            [file(), file(version=2, door={"type": "integer"})],
            "door_opened.v2.yaml: schema.properties.door: is INTEGER, and was STRING in version 1",
        ),
        ([file(), file(version=2, required=(), key={"type": "string"})], "schema.properties.door: is in version 1"),
        (
            [file(), file(version=2, required=("door", "key"), **WITH_KEY)],
            "door_opened.v2.yaml: schema.required: key is new, and rows of version 1 lack it",
        ),
    ],
)
def test_a_wrong_file_is_told_by_its_name_and_field(tmp_path: Path, files: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(RegistryError) as raised:
        load(written(tmp_path, *files))
    assert said in str(raised.value)


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    written(tmp_path, file() | {"owner": ""}, file("gate_opened", door={"type": "array"}))
    (tmp_path / "bell_rung.v1.yaml").write_text("name: [")
    (tmp_path / "other.v1.yaml").write_text(yaml.safe_dump(file("bell_rung")))
    with pytest.raises(RegistryError) as raised:
        load(tmp_path)
    assert [line.partition(":")[0] for line in str(raised.value).splitlines() if ".yaml:" in line] == [
        "bell_rung.v1.yaml",
        "door_opened.v1.yaml",
        "gate_opened.v1.yaml",
        "other.v1.yaml",
    ]


def test_a_new_version_may_add_properties_that_rows_may_lack(tmp_path: Path) -> None:
    events = load(written(tmp_path, file(), file(version=2, **WITH_KEY)))
    assert [column.name for column in events.schema("door_opened")[6:]] == ["door", "key"]


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> registry.Version:
    folder = tmp_path_factory.mktemp("dated")
    version = (
        load(written(folder, file(door={"type": "string", "format": "date-time"}))).events["door_opened"].version(1)
    )
    assert version is not None
    return version


@given(moment=st.datetimes(timezones=st.timezones()))
def test_every_moment_is_a_date_time(dated: registry.Version, moment: datetime) -> None:
    offset = moment.utcoffset() or timedelta()
    if offset.seconds % 60 == 0:
        assert dated.problems({"door": moment.isoformat()}) == []
    assert dated.problems({"door": moment.replace(tzinfo=None).isoformat()})


@pytest.mark.parametrize(
    "text", ["", "2026-03-02", "2026-02-30T10:00:00Z", "2026-W10-1T10:00:00Z", "noon", "2026-03-02T10:00Z"]
)
def test_what_is_no_date_time_is_told(dated: registry.Version, text: str) -> None:
    assert dated.problems({"door": text}) == [f"door: {text!r} is not a 'date-time'"]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.datetimes()
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=6,
)
PROPERTIES = st.fixed_dictionaries(
    {"status_page_id": st.text(st.characters(), max_size=3) | ANYTHING, "visitor_id": st.text(min_size=1)},
    optional={"component": st.none() | st.text(), "referrer": st.none() | st.text(), "other": ANYTHING},
)


@given(
    properties=PROPERTIES | ANYTHING,
    organisation=st.sampled_from(["org_1", "", None]) | ANYTHING,
    version=st.sampled_from([1, 2, 3]) | ANYTHING,
)
def test_whatever_is_published_becomes_a_row_that_bigquery_can_read(
    properties: Any, organisation: Any, version: Any
) -> None:
    submission = Submission("id_1", "status_page_viewed", version, properties, organisation, None, NOW)
    columns = {column.name for column in expected_schema("status_page_viewed")}
    try:
        row = submission.row(registry.registry(), NOW)
    except Malformed as error:
        row = submission.dead_letter(str(error))
        columns = {column.name for column in DEAD_LETTER}
        json.loads(row["payload"])
        assert 0 < len(row["reason"]) <= MAX_REASON * 6
    else:
        assert row["status_page_id"] == properties["status_page_id"]
    assert row.keys() <= columns
    json.dumps(row, ensure_ascii=False, allow_nan=False).encode()


def test_what_cannot_be_shown_is_a_dead_letter_all_the_same() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    endless: dict[str, Any] = {}
    endless["self"] = endless
    for payload in (deep, endless, {(1, 2): object()}, "x" * 5_000_000):
        row = dead_letter("id_1", "e", 2**70, payload, "r" * 5_000)
        assert 2 <= len(row["payload"]) <= 2_000_000
        assert isinstance(json.loads(row["payload"]), str)
        assert row["event_version"] is None
