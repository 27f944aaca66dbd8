"""The vendors' saved state in Cloud Storage: from the machine that read it to one that has an older state, or none."""

from __future__ import annotations

import json
from contextlib import chdir
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import pytest

from orchestration.components import state_bucket
from orchestration.components.refresh import Line, pull, refresh_all
from orchestration.components.saved_state import Stamped
from orchestration.settings import SettingsError, settings
from sandbox.config import SandboxConfig
from sandbox.services.storage import BUCKET
from tests.orchestration.components.shelf_location import LOCATION, Shelf
from tests.orchestration.wire import refused_port

pytestmark = pytest.mark.usefixtures("configured")


@pytest.fixture
def bucket(storage: SandboxConfig, configured: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAPLATFORM_STATE_BUCKET", BUCKET)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url("storage"))
    settings.cache_clear()


def elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Go on as another machine: with a state directory of its own."""
    monkeypatch.setenv("DATAPLATFORM_STATE_DIR", str(folder))
    settings.cache_clear()


def loaded(shelf: Shelf) -> set[str]:
    """The assets that a load of the code location has, which is this component alone."""
    with TemporaryDirectory() as folder, chdir(folder):
        # Dagster's tree for tests has the components below the working directory, and needs one.
        Path("defs.yaml").write_text("type: dagster.DefsFolderComponent\n")
        defs = shelf.build_defs(dg.ComponentTree.for_test().load_context)
    return {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()} - {"x"}


def told(lines: list[Line]) -> list[str]:
    return [line.text for line in lines]


@pytest.mark.usefixtures("bucket")
def test_a_machine_takes_the_state_that_another_has_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shelf = Shelf({"a": ["x"]})
    refresh_all([shelf], lambda _line: None, location=LOCATION)
    read = shelf.stamped()
    elsewhere(monkeypatch, tmp_path / "elsewhere")
    shelf.error = AssertionError("no vendor is asked")
    assert told(pull([shelf], lambda _line: None, location=LOCATION)) == ["shelf.json: taken from the bucket"]
    assert shelf.stamped() == read
    assert told(pull([shelf], lambda _line: None, location=LOCATION)) == ["shelf.json: up to date"]

    assert read is not None
    shelf.put(read.model_copy(update={"read_at": read.read_at + timedelta(minutes=1), "state": {"b": []}}))
    pull([shelf], lambda _line: None, location=LOCATION)
    newer = shelf.stamped()
    assert newer is not None
    assert newer.state == {"b": []}, "an older state replaces no newer one"


@pytest.mark.usefixtures("bucket")
def test_a_load_takes_what_a_refresh_elsewhere_has_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here, there = tmp_path / "state", tmp_path / "elsewhere"
    monkeypatch.setenv("DATAPLATFORM_STATE_ON_LOAD", "true")
    shelf = Shelf({"a": ["x"]})
    refresh_all([shelf], lambda _line: None, location=LOCATION)
    elsewhere(monkeypatch, there)
    shelf.books = {"b": []}
    refresh_all([shelf], lambda _line: None, location=LOCATION)
    elsewhere(monkeypatch, here)
    assert loaded(shelf) == {"b"}


@pytest.mark.usefixtures("bucket")
def test_a_load_goes_on_with_the_state_that_is_here_where_the_bucket_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf({"a": []})
    refresh_all([shelf], lambda _line: None, location=LOCATION)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{refused_port()}")
    monkeypatch.setenv("DATAPLATFORM_STATE_ON_LOAD", "true")
    settings.cache_clear()
    monkeypatch.setattr(state_bucket, "LOAD_SECONDS", 1)
    assert loaded(shelf) == {"a"}
    assert "shelf.json was not taken from the bucket" in caplog.text


@pytest.mark.usefixtures("bucket")
def test_a_state_of_another_version_of_the_code_replaces_none_that_loads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = tmp_path / "state"
    monkeypatch.setenv("DATAPLATFORM_STATE_ON_LOAD", "true")
    shelf = Shelf({"a": []})
    refresh_all([shelf], lambda _line: None, location=LOCATION)
    elsewhere(monkeypatch, tmp_path / "elsewhere")
    # A version that keeps its books as a list.
    shelf.put(Stamped(read_at=datetime.now(UTC), source=shelf.source, state=["b"]))  # pyright: ignore[reportArgumentType]
    state_bucket.StateBucket.required().push(shelf)
    elsewhere(monkeypatch, here)
    assert loaded(shelf) == {"a"}
    assert "state/shelf.json in the bucket is of another version of this code, or broken" in caplog.text
    [line] = pull([shelf], lambda _line: None, location=LOCATION)
    assert (line.failed, "its last state" in line.text) == (True, True)


@pytest.mark.usefixtures("bucket")
def test_what_a_developers_keys_see_is_not_left_for_production(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refresh_all([Shelf({"a": []})], lambda _line: None, location=LOCATION)
    elsewhere(monkeypatch, tmp_path / "elsewhere")
    monkeypatch.setenv("DBT_TARGET", "dev")
    settings.cache_clear()
    refresh_all([Shelf({"b": []})], lambda _line: None, location=LOCATION)
    monkeypatch.setenv("DBT_TARGET", "prod")
    elsewhere(monkeypatch, tmp_path / "third")
    shelf = Shelf()
    assert not pull([shelf], lambda _line: None, location=LOCATION)[0].failed
    assert json.loads(shelf.saved()) == {"a": []}


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_has_no_state_yet_says_what_makes_it() -> None:
    class Other(Shelf):
        state_name = "other.json"

    [line] = pull([Other()], lambda _line: None, location=LOCATION)
    assert line.failed
    assert "There is no state/other.json in the bucket yet: run `dataplatform refresh` once." in line.text


def test_without_a_bucket_there_is_nothing_to_take() -> None:
    with pytest.raises(SettingsError, match="DATAPLATFORM_STATE_BUCKET is not set"):
        pull([Shelf()], lambda _line: None)


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_does_not_answer_is_told_and_the_state_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{refused_port()}")
    shelf = Shelf({"a": []})
    [line] = refresh_all([shelf], lambda _line: None, location=LOCATION)
    assert line.failed
    assert "shelf.json: read, but not kept in the bucket" in line.text
    assert line.only_here
    assert shelf.stamped() is not None
