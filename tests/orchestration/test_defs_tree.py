"""Which vendors the components of a `defs/` folder require, read from the folder itself."""

from __future__ import annotations

import importlib
from pathlib import Path

import dagster as dg
import pytest

from orchestration.defs_tree import load_tree, read_components, read_needs, read_state_names
from orchestration.settings import (
    REPOSITORY,
    ExploSettings,
    FivetranSettings,
    HexSettings,
    HightouchSettings,
    OmniSettings,
)

COMPANY = """
from typing import ClassVar

import dagster as dg

from orchestration.settings import FivetranSettings, HexSettings


class Uses(dg.Component, dg.Resolvable):
    vendor_settings: ClassVar = (FivetranSettings, HexSettings)
    state_name: ClassVar = "uses.json"

    def build_defs(self, context):
        return dg.Definitions()


class Inherits(Uses):
    pass


class UsesNothing(dg.Component, dg.Resolvable):
    def build_defs(self, context):
        return dg.Definitions()
"""
LOADER = """
{future}
import dagster as dg

from {package}.company import {returned}


@dg.component_instance
def load(context: dg.ComponentLoadContext) -> {returned}:
    raise RuntimeError("no component is loaded to read what it requires")
"""


def test_the_example_requires_the_vendors_of_its_folders() -> None:
    found = {(need.settings, need.component.rpartition(".")[2], need.file) for need in read_needs(load_tree())}
    folder = "orchestration/defs"
    assert found == {
        (FivetranSettings, "FivetranConnections", f"{folder}/ingestion/defs.yaml"),
        (HightouchSettings, "HightouchSyncs", f"{folder}/activation/defs.yaml"),
        (OmniSettings, "OmniDocuments", f"{folder}/analytics/defs.yaml"),
        (ExploSettings, "ExploDashboards", f"{folder}/analytics/defs.yaml"),
        (HexSettings, "HexProjects", f"{folder}/analytics/defs.yaml"),
    }
    states = {"dbt", *(f"{name}.json" for name in ("fivetran", "landed", "hightouch", "omni", "explo", "hex"))}
    assert read_state_names(load_tree()) == states


def test_the_example_of_the_variables_names_each_component_and_its_file() -> None:
    example = (REPOSITORY / ".env.example").read_text()
    for need in read_needs(load_tree()):
        assert f"needed by {need.component.rpartition('.')[2]} in {need.file}." in example


@pytest.mark.parametrize("future", ["", "from __future__ import annotations"])
def test_classes_of_an_adopters_own_count_wherever_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, future: str
) -> None:
    package = f"company_{len(future)}"
    files = {
        "__init__.py": "",
        "company.py": COMPANY,
        "defs/__init__.py": "",
        "defs/single/defs.yaml": f"type: {package}.company.Inherits\n",
        "defs/below/several/defs.yaml": f"type: {package}.company.UsesNothing\n---\ntype: {package}.company.Uses\n",
        "defs/loaders/__init__.py": "",
        "defs/loaders/uses.py": LOADER.format(package=package, returned="Uses", future=future),
        "defs/plain.py": "import dagster as dg\n\n@dg.asset\ndef plain(): ...\n",
    }
    for name, text in files.items():
        path = tmp_path / package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    tree = dg.ComponentTree.from_module(importlib.import_module(f"{package}.defs"), tmp_path)
    root = tmp_path.resolve() / package / "defs"
    assert sorted((one.name.rpartition(".")[2], one.file) for one in read_components(tree)) == [
        ("Inherits", str(root / "single" / "defs.yaml")),
        ("Uses", str(root / "below" / "several" / "defs.yaml")),
        ("Uses", str(root / "loaders" / "uses.py")),
        ("UsesNothing", str(root / "below" / "several" / "defs.yaml")),
    ]
    assert [need.settings for need in read_needs(tree)] == [FivetranSettings, HexSettings] * 3
    assert read_state_names(tree) == {"uses.json"}
