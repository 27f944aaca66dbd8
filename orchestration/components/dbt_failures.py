"""What failed in an invocation of dbt, by model: its own error, what its tests found, and what was not built because of it. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from orchestration.core.causes import Cause
from orchestration.lineage import keys
from orchestration.lineage.failures import FailedUnit

TESTS = {"test", "unit_test"}
BATCHES_NAMED = 5

BatchErrors = Mapping[str, Sequence[str]]
"""Id of a microbatch model to the errors of its batches."""

CauseOf = Callable[[str, str], Cause | None]
"""By a node's id and the text of its error: why dbt's connection to BigQuery failed; None where the error is about the node."""

BAD = {"error", "fail", "runtime error", "partial success"}
HEADER = re.compile(r"^\s*(?P<kind>[A-Z]\w+ Error)(?: in (?:[\w ]+?) \S+ \([^)\n]*\))?[ \t]*$", re.MULTILINE)
"""dbt's first line of an error, as in `Database Error in model contracts (models/contracts.sql)`: dbt_common.exceptions.base."""
COMPILED_AT = re.compile(r"^\s*compiled code at .*$", re.MULTILINE)
NAMES = re.compile(r"`[^`]*`|'[^'\n]*'|\"[^\"\n]*\"|\b[\w-]+(?:[.:][\w$-]+)+|\b\w*_\w*\b")
"""Names of models, files, tables and columns, which may contain any word: quoted, dotted or with an underscore."""
TEMPORARY_TABLE = "__dbt_tmp"
"""A table that dbt makes for the time of one statement. Where it is lost, the next try makes another."""
CANNOT_COMPILE = {"Compilation Error", "Parsing Error", "Dbt Project Error", "Contract Error"}
RETRYABLE = re.compile(
    r"not found: job|backend ?error|internal ?error|rate ?limit|too many|\b5\d\d\b|retrying|try(?:ing)? again|timed? ?out|"
    r"connection|concurrent update|could not serialize|resources exceeded",
    re.IGNORECASE,
)
"""Words of errors that a later try may not get. They count before those of `PERMANENT`.

BigQuery's reasons backendError, internalError, rateLimitExceeded and jobRateLimitExceeded are to be tried again:
https://cloud.google.com/bigquery/docs/error-messages.
"""
PERMANENT = re.compile(
    r"^\s*(?:this model has an enforced contract that failed|syntax error:|unrecognized name:?|no matching signature for|function not found:?|"
    r"type not found:?|access denied:|permission denied|not found: (?:table|dataset|project|model|routine|view)|duplicate column names?|"
    r"column .{0,80}(?:not present in|not found)|name .{0,80} not found inside|query column \d+ has type|select list expression|"
    r"invalid project|cannot access field|aggregate function|user does not have|.{0,160}does not have .{0,40}permission)",
    re.IGNORECASE | re.MULTILINE,
)
"""How errors begin that the same SQL gets again: GoogleSQL cannot compile it, or it may not do what it does. Others are tried again."""


def no_cause(_id: str, _text: str) -> Cause | None:
    """Know of no cause in the platform: without dbt's log, the text of an error says nothing of it."""
    return None


def failed_units(
    manifest: Mapping[str, Any],
    results: list[dict[str, Any]],
    batch_errors: BatchErrors | None = None,
    cause_of: CauseOf = no_cause,
) -> list[FailedUnit]:
    """Return what failed in an invocation, by model: its own error, or those of the tests on it.

    A failed test counts against the model that it is attached to, or that its `meta.dagster.ref` names, else the first that it reads.
    A test on a source counts against the models that read the source, which dbt does not build while the test fails. A test on an
    ephemeral model, and a function, count against the nearest assets below. What is no node of the graph, such as a hook, counts
    against what was skipped and is below no other failure.

    Args:
        manifest: The invocation's own manifest.
        results: dbt's run results (https://docs.getdbt.com/reference/artifacts/run-results-json).
        batch_errors: The errors of a microbatch model's batches, by the model's id; run results do not have them.
        cause_of: Why dbt's connection failed at a node.
    """
    nodes = _nodes(manifest)
    errors: defaultdict[str, list[str]] = defaultdict(list)
    retryable: set[str] = set()
    causes: defaultdict[str, set[Cause | None]] = defaultdict(set)
    for result in results:
        if result["status"] in BAD:
            node = nodes.get(result["unique_id"])
            about = _about(node, nodes) if node else result["unique_id"]
            said = (batch_errors or {}).get(result["unique_id"], ())
            errors[about].append(_text(node, result, said))
            causes[about].add(_cause(result, said, cause_of))
            if not permanent(result, said):
                retryable.add(about)
    skipped = {result["unique_id"] for result in results if result["status"] == "skipped"}

    def assets(ids: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(_key(nodes[id_]) for id_ in ids if id_ in nodes and _is_asset(nodes[id_])))

    explained = {below for about in errors if about in nodes for below in _downstream(manifest, about)}
    failed: list[FailedUnit] = []
    for about, messages in errors.items():
        node, error, final = nodes.get(about), " ".join(messages), about not in retryable
        # A model that also has an error of its own keeps an alert of its own.
        cause = causes[about].pop() if len(causes[about]) == 1 else None
        if node is None:
            held_up = assets(skipped - explained)
            failed.append(FailedUnit(f"dbt/{about}", held_up, error, permanent=final, cause=cause))
            continue
        own = _own_assets(manifest, nodes, about)
        held_up = assets((_downstream(manifest, about) & skipped) - own)
        failed.append(FailedUnit(_unit(node), assets(own), error, None, held_up, final, cause=cause))
    return failed


def failed_node(
    manifest: Mapping[str, Any],
    result: Mapping[str, Any],
    selected: Collection[str],
    batch_errors: Sequence[str] = (),
    cause_of: CauseOf = no_cause,
) -> FailedUnit | None:
    """Return what one node's failure means before the invocation has ended; None where only its end tells.

    Args:
        manifest: The invocation's own manifest.
        result: A run result, or the like from dbt's log.
        selected: The assets of this run. Those of them that are downstream are not built.
        batch_errors: The errors of a microbatch model's batches.
        cause_of: Why dbt's connection failed at a node.
    """
    nodes = _nodes(manifest)
    node = nodes.get(result["unique_id"])
    about = nodes.get(_about(node, nodes)) if node else None
    if about is None or about["resource_type"] == "source":
        return None
    own = _own_assets(manifest, nodes, about["unique_id"])
    below = {id_ for id_ in _downstream(manifest, about["unique_id"]) - own if id_ in nodes and _is_asset(nodes[id_])}
    held_up = tuple(sorted(key for id_ in below if (key := _key(nodes[id_])) in selected))
    keys_of_own = tuple(sorted(_key(nodes[id_]) for id_ in own))
    if not keys_of_own:
        return None
    return FailedUnit(
        _unit(about),
        keys_of_own,
        _text(node, result, batch_errors),
        None,
        held_up,
        permanent(result, batch_errors),
        cause=_cause(result, batch_errors, cause_of),
    )


def permanent(result: Mapping[str, Any], batch_errors: Sequence[str] = ()) -> bool:
    """Tell whether the same invocation fails in the same way. A test's finding does not count: its rows may be others by then.

    Of a microbatch model every failed batch has to be permanent.
    """
    if result["status"] == "fail":
        return False
    return all(_is_permanent(text) for text in batch_errors or [str(result.get("message"))])


def _cause(result: Mapping[str, Any], batch_errors: Sequence[str], cause_of: CauseOf) -> Cause | None:
    """Return why dbt's connection failed at a node, where every failed batch of it failed by that. What a test found is no such error."""
    if result["status"] == "fail":
        return None
    texts = batch_errors or [str(result.get("message"))]
    found: set[Cause | None] = {cause_of(result["unique_id"], text) for text in texts}
    return found.pop() if len(found) == 1 else None


def _is_permanent(message: str) -> bool:
    header = HEADER.search(message)
    if header and header["kind"] in CANNOT_COMPILE:
        return True
    text = COMPILED_AT.sub("", HEADER.sub("", message))
    if TEMPORARY_TABLE in text:
        return False
    # Names are taken out: a table may be called `not_found`, a model `contracts`.
    words = NAMES.sub("…", text)
    return RETRYABLE.search(words) is None and PERMANENT.search(words) is not None


def _nodes(manifest: Mapping[str, Any]) -> dict[str, Any]:
    kinds = ("nodes", "sources", "unit_tests", "exposures", "functions")
    return {id_: node for kind in kinds for id_, node in manifest.get(kind, {}).items()}


def _about(node: Mapping[str, Any], nodes: Mapping[str, Any]) -> str:
    if node["resource_type"] not in TESTS:
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


def _own_assets(manifest: Mapping[str, Any], nodes: Mapping[str, Any], about: str) -> set[str]:
    """Return the ids of the assets that a failure is about: the node itself, else the nearest assets below it."""
    if about in nodes and _is_asset(nodes[about]):
        return {about}
    found, waiting, seen = set[str](), [about], {about}
    while waiting:
        for child in manifest["child_map"].get(waiting.pop(), []):
            if child in seen or child not in nodes:
                continue
            seen.add(child)
            if _is_asset(nodes[child]):
                found.add(child)
            else:
                waiting.append(child)
    return found


def _is_asset(node: Mapping[str, Any]) -> bool:
    if node.get("config", {}).get("materialized") == "ephemeral":
        return False
    return node["resource_type"] in {"model", "seed", "snapshot"}


def _unit(node: Mapping[str, Any]) -> str:
    # A function has no key in the warehouse's graph; neither has a test on nothing.
    return f"dbt/{node['unique_id'] if node['resource_type'] in {'function', *TESTS} else _key(node)}"


def _test(node: Mapping[str, Any]) -> str:
    kind = "unit test" if node["resource_type"] == "unit_test" else "test"
    return f"{kind} {node['name']}"


def _text(node: Mapping[str, Any] | None, result: Mapping[str, Any], batch_errors: Sequence[str]) -> str:
    text = str(result.get("message") or "dbt gives no message").strip()
    batches: Mapping[str, Sequence[Sequence[Any]]] = result.get("batch_results") or {}
    if failed := batches.get("failed", ()):
        text = f"{text}. Failed batches: {', '.join(str(start) for start, _end in failed[:BATCHES_NAMED])}"
        if len(failed) > BATCHES_NAMED:
            text += f" and {len(failed) - BATCHES_NAMED} more"
    # Lines stay: the redactor needs them.
    text = "\n".join([text, *dict.fromkeys(error.strip() for error in batch_errors)])
    return f"{_test(node)} {result['status']}: {text}" if node and node["resource_type"] in TESTS else text


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
