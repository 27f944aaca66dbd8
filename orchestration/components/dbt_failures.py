"""What failed in an invocation of dbt, by model: its own error, what its tests found, and what was not built because of it. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from orchestration.lineage import keys
from orchestration.lineage.failures import FailedUnit

BAD = {"error", "fail", "runtime error", "partial success"}
PERMANENT = re.compile(
    "compilation error|parsing error|contract|parser error|binder error|catalog error|syntax error|unrecognized name|no matching signature|"
    "not found|does not exist|does not have a column|duplicate column|access denied|permission denied|does not have .*permission|invalid project",
    re.IGNORECASE,
)
"""Words of errors that the same SQL gets again: it cannot be compiled, or may not do what it does. Others are tried again."""


def failed_units(manifest: Mapping[str, Any], results: list[dict[str, Any]]) -> list[FailedUnit]:
    """What failed in an invocation, by model: its own error, or those of the tests on it.

    `results` are dbt's run results (https://docs.getdbt.com/reference/artifacts/run-results-json). A failed test
    counts against the model that it is attached to, or that its `meta.dagster.ref` names, else the first that it reads; one on a source against the models that read the source,
    which dbt does not build while it fails; and what is neither, such as a hook, against all that was skipped.
    """
    kinds = ("nodes", "sources", "unit_tests", "exposures")
    nodes: dict[str, Any] = {id_: node for kind in kinds for id_, node in manifest.get(kind, {}).items()}
    errors: defaultdict[str, list[str]] = defaultdict(list)
    passing: set[str] = set()
    for result in results:
        if result["status"] in BAD:
            node = nodes.get(result["unique_id"])
            about = _about(node, nodes) if node else result["unique_id"]
            errors[about].append(_text(node, result))
            if not permanent(result):
                passing.add(about)
    skipped = {result["unique_id"] for result in results if result["status"] == "skipped"}

    def assets(ids: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(_key(nodes[id_]) for id_ in ids if id_ in nodes and _is_asset(nodes[id_])))

    failed: list[FailedUnit] = []
    for about, messages in errors.items():
        node, error = nodes.get(about), " ".join(messages)
        if node and _is_asset(node):
            held_up = assets(_downstream(manifest, about) & skipped)
            failed.append(FailedUnit(f"dbt/{_key(node)}", (_key(node),), error, None, held_up, about not in passing))
        elif node and node["resource_type"] == "source":
            failed.append(
                FailedUnit(
                    f"dbt/{_key(node)}",
                    assets(manifest["child_map"].get(about, [])),
                    error,
                    permanent=about not in passing,
                )
            )
        else:
            failed.append(FailedUnit(f"dbt/{about}", assets(skipped), error, permanent=about not in passing))
    return failed


def failed_node(manifest: Mapping[str, Any], result: Mapping[str, Any], selected: Collection[str]) -> FailedUnit | None:
    """What one node's end in failure means, before the invocation has ended; None where that is only known at its end.

    `result` is a run result, or the like from dbt's log. `selected` are the assets of this run: of what is downstream, they are not built.
    """
    nodes = manifest["nodes"]
    node = nodes.get(result["unique_id"])
    about = nodes.get(_about(node, nodes)) if node else None
    if about is None or not _is_asset(about):
        return None
    below = {id_ for id_ in _downstream(manifest, about["unique_id"]) if id_ in nodes and _is_asset(nodes[id_])}
    held_up = tuple(sorted(key for id_ in below if (key := _key(nodes[id_])) in selected))
    return FailedUnit(f"dbt/{_key(about)}", (_key(about),), _text(node, result), None, held_up, permanent(result))


def permanent(result: Mapping[str, Any]) -> bool:
    """Whether the same invocation fails in the same way. A test's finding is not: its rows may be others by then."""
    return result["status"] != "fail" and PERMANENT.search(str(result.get("message"))) is not None


def _about(node: Mapping[str, Any], nodes: Mapping[str, Any]) -> str:
    if _is_asset(node):
        return node["unique_id"]
    named = node.get("config", {}).get("meta", {}).get("dagster", {}).get("ref")
    if named:
        wanted = (named["name"], named.get("version"))
        meant = (
            id_ for id_, other in nodes.items() if _is_asset(other) and wanted == (other["name"], other.get("version"))
        )
        found = next(meant, None)
    else:
        found = node.get("attached_node")
    return found or next(iter(node.get("depends_on", {}).get("nodes", [])), node["unique_id"])


def _is_asset(node: Mapping[str, Any]) -> bool:
    return node["resource_type"] in {"model", "seed", "snapshot"}


def _test(node: Mapping[str, Any]) -> str:
    kind = "unit test" if node["resource_type"] == "unit_test" else "test"
    return f"{kind} {node['name']}"


def _text(node: Mapping[str, Any] | None, result: Mapping[str, Any]) -> str:
    text = str(result.get("message") or "dbt gives no message").strip()
    return f"{_test(node)} {result['status']}: {text}" if node and not _is_asset(node) else text


def _key(node: Mapping[str, Any]) -> str:
    return keys.dbt_node(node).to_user_string()


def _downstream(manifest: Mapping[str, Any], unique_id: str) -> set[str]:
    seen: set[str] = set()
    waiting = [unique_id]
    while waiting:
        children = manifest["child_map"].get(waiting.pop(), [])
        waiting += [child for child in children if child not in seen]
        seen.update(children)
    return seen
