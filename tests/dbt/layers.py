"""The rules between the layers of the dbt project, checked on a manifest: what each finding says is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Node = dict[str, Any]

KEY_TESTS = {"unique", "unique_grain", "event_key"}


@dataclass(frozen=True)
class Finding:
    file: str
    fault: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.fault}: {self.remedy}"


@dataclass(frozen=True)
class Project:
    """A manifest of the project, as `dbt parse` writes it."""

    manifest: Node

    @cached_property
    def models(self) -> list[Node]:
        return [node for node in self.manifest["nodes"].values() if node["resource_type"] == "model"]

    @cached_property
    def sources(self) -> dict[str, Node]:
        return self.manifest["sources"]

    def parents(self, node: Node) -> Iterator[Node]:
        for parent in node["depends_on"]["nodes"]:
            yield self.sources.get(parent) or self.manifest["nodes"][parent]

    def tests_of(self, model: Node) -> Iterator[Node]:
        """The generic tests of a model and of its columns."""
        for node in self.manifest["nodes"].values():
            if node["resource_type"] == "test" and node.get("attached_node") == model["unique_id"]:
                yield node

    def findings(self) -> list[Finding]:
        return [
            *self.around_staging(),
            *self.sources_read(),
            *self.reading_up(),
            *self.reading_across(),
            *self.undescribed(),
            *self.marts_without_a_key(),
            *self.marts_without_a_contract(),
            *self.tests_of_no_model(),
        ]

    def around_staging(self) -> Iterator[Finding]:
        """Only staging reads sources, and it reads nothing else."""
        for model in self.models:
            for parent in self.parents(model):
                of_source = parent["resource_type"] == "source"
                if layer(model) == "staging" and not of_source:
                    yield Finding(model["original_file_path"], f"reads {parent['name']}", "staging reads only sources")
                if layer(model) != "staging" and of_source:
                    name = f"{parent['source_name']}.{parent['name']}"
                    yield Finding(
                        model["original_file_path"], f"reads the source {name}", "read its staging model instead"
                    )

    def sources_read(self) -> Iterator[Finding]:
        """Every source table has exactly one staging model."""
        readers: dict[str, list[str]] = {source: [] for source in self.sources}
        for model in self.models:
            for parent in set(model["depends_on"]["nodes"]) & readers.keys():
                if layer(model) == "staging":
                    readers[parent].append(model["name"])
        for source, names in readers.items():
            file, table = self.sources[source]["original_file_path"], self.sources[source]["name"]
            if not names:
                yield Finding(file, f"no model reads {table}", "give it a staging model, or take the table out")
            if len(names) > 1:
                yield Finding(file, f"{' and '.join(sorted(names))} both read {table}", "keep one of them")

    def reading_up(self) -> Iterator[Finding]:
        """Intermediate models read staging, intermediate models and snapshots, never a mart."""
        for model in self.models:
            for parent in self.parents(model):
                if layer(model) == "intermediate" and layer(parent) == "marts":
                    yield Finding(
                        model["original_file_path"],
                        f"reads the mart {parent['name']}",
                        "read what that one reads, or move this model to the marts",
                    )

    def reading_across(self) -> Iterator[Finding]:
        """A mart reads a mart of another folder only where that one is public."""
        for model in self.models:
            if layer(model) != "marts":
                continue
            for parent in self.parents(model):
                if layer(parent) == "marts" and domain(parent) != domain(model) and parent["access"] != "public":
                    yield Finding(
                        model["original_file_path"],
                        f"reads {parent['name']}, which is {domain(parent)}'s own",
                        "read what that one reads, or have its owner give it `access: public`",
                    )

    def undescribed(self) -> Iterator[Finding]:
        for node in [*self.models, *self.sources.values()]:
            file = str(node.get("patch_path") or node["original_file_path"]).removeprefix("dataplatform://")
            if not node["description"]:
                yield Finding(file, f"{node['name']} has no description", "say what a row of it is")
            if not node["columns"]:
                yield Finding(file, f"{node['name']} has no columns", "list and describe them")
            for column in node["columns"].values():
                if not column["description"]:
                    yield Finding(file, f"{node['name']}.{column['name']} has no description", "describe it")

    def marts_without_a_key(self) -> Iterator[Finding]:
        for model in self.models:
            if layer(model) != "marts":
                continue
            columns = [columns for test in self.tests_of(model) if (columns := key_of(test))]
            if not columns:
                yield Finding(
                    model["patch_path"].removeprefix("dataplatform://"),
                    f"nothing tests the primary key of {model['name']}",
                    f"add one of {', '.join(sorted(KEY_TESTS))}",
                )
            elif not any(self._filled(model, key) for key in columns):
                yield Finding(
                    model["patch_path"].removeprefix("dataplatform://"),
                    f"the primary key of {model['name']} may be null",
                    "add the constraint not_null to each of its columns",
                )

    def _filled(self, model: Node, key: list[str]) -> bool:
        """Whether no column of the key can be null, by a constraint or by a test."""
        tested = {
            test["column_name"]
            for test in self.tests_of(model)
            if test["test_metadata"]["name"] in {"not_null", "event_key"}
        }
        constrained = {
            column["name"]
            for column in model["columns"].values()
            if any(rule["type"] == "not_null" for rule in column["constraints"])
        }
        return set(key) <= tested | constrained

    def marts_without_a_contract(self) -> Iterator[Finding]:
        for model in self.models:
            if layer(model) == "marts" and not model["config"]["contract"]["enforced"]:
                yield Finding(
                    model["original_file_path"], f"{model['name']} has no contract", "take `contract` out of its config"
                )

    def tests_of_no_model(self) -> Iterator[Finding]:
        """Dagster shows a test as a check of one asset; of a test that reads several it has to be told which."""
        for node in self.manifest["nodes"].values():
            if node["resource_type"] != "test" or node.get("attached_node"):
                continue
            if len(node["depends_on"]["nodes"]) > 1 and not node["config"]["meta"].get("dagster", {}).get("ref"):
                yield Finding(
                    node["original_file_path"],
                    f"`{node['name']}` reads several nodes and is a check of none",
                    "name the model with config(meta={'dagster': {'ref': {'name': …}}})",
                )


def layer(node: Node) -> str:
    """staging, intermediate or marts; a snapshot's and a source's own kind."""
    return node["fqn"][1] if node["resource_type"] == "model" else node["resource_type"]


def domain(node: Node) -> str:
    """The folder of a mart, such as `sales`."""
    return node["fqn"][2]


def key_of(test: Node) -> list[str]:
    """The columns that a test holds for unique; none for a test of another kind."""
    metadata = test["test_metadata"]
    if metadata["name"] not in KEY_TESTS or test["config"]["severity"].lower() != "error":
        return []
    return metadata["kwargs"].get("columns") or [test["column_name"]]
