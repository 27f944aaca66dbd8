"""What a check has found, in the files that people edit."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from orchestration.dbt_loop.check_positions import source_position, yaml_line
from orchestration.dbt_loop.check_sql import Consumer, Node, Rejection, Verdict

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest


@dataclass(frozen=True)
class Finding:
    """A fault in a file. `compiled` is the place in compiled SQL, where that is another."""

    file: str
    line: int | None
    column: int | None
    message: str
    node: str
    compiled: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        compiled = f" (compiled: {self.compiled})" if self.compiled else ""
        # Google lists every signature that a function has; the argument types before that say enough.
        message = " ".join(self.message.partition("\n  Signature")[0].split())
        return f"{place}: {message}\n  {self.node}{compiled}"


@dataclass(frozen=True)
class Report:
    """What a check has found. `not_judged` has names with reasons."""

    statements: int
    findings: tuple[Finding, ...]
    not_judged: tuple[tuple[str, str], ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "statements": self.statements,
            "rejected": [asdict(finding) for finding in self.findings],
            "not_judged": [{"node": name, "reason": reason} for name, reason in self.not_judged],
        }


def report(
    project_dir: Path, manifest: Manifest, nodes: Iterable[Node], consumers: Iterable[Consumer], verdict: Verdict
) -> Report:
    files = _Files(project_dir, manifest)
    known = {node.id: node for node in nodes}
    readers = {consumer.id: consumer for consumer in consumers}

    def name(id_: str) -> str:
        if id_ in readers:
            return readers[id_].name
        if id_ in known:
            return f"{known[id_].kind} {known[id_].name}"
        return f"unit test {id_.rsplit('.', 1)[-1]} of {manifest.unit_tests[id_].model}"

    def finding(one: Rejection) -> Finding:
        if one.node in readers:
            # The position is of the consumer's SQL: the saved state has all of it in one line.
            place = f" at [{one.line}:{one.column}]" if one.line is not None else ""
            return Finding(readers[one.node].file, None, None, f"{one.message}{place}", readers[one.node].name)
        if one.node in known:
            return files.locate(known[one.node], one, name(one.node))
        return files.locate_unit_test(one, name(one.node))

    findings = [finding(one) for one in verdict.rejected]
    findings.sort(key=lambda found: (found.file, found.line or 0, found.column or 0, found.message))
    return Report(verdict.analyzed, tuple(findings), tuple((name(one.node), one.reason) for one in verdict.not_judged))


class _Files:
    """The files of the project, in which findings are located."""

    def __init__(self, project_dir: Path, manifest: Manifest) -> None:
        self._project_dir, self._manifest = project_dir, manifest

    def locate(self, node: Node, one: Rejection, name: str) -> Finding:
        """A finding about a source, model, snapshot or data test."""
        found = cast("Any", self._manifest.sources if node.kind == "source" else self._manifest.nodes)[node.id]
        if one.contract:
            patch = getattr(found, "patch_path", None)
            file = patch.split("://", 1)[-1] if patch else node.file
            names = [found.source_name, found.name] if node.kind == "source" else [found.name]
            line = yaml_line(self._read(file), *names, *([one.about] if one.about else []))
            return Finding(self._shown(file), line, None, one.message, name)
        sql = (node.incremental_sql if one.incremental else node.sql) or ""
        message = f"{one.message} (when its table exists)" if one.incremental else one.message
        compiled = self._shown(found.compiled_path, project=False) if getattr(found, "compiled_path", None) else None
        if compiled and one.line is not None:
            compiled = f"{compiled}:{one.line}:{one.column}"
        if not node.file.endswith(".sql"):
            return Finding(self._shown(node.file), self._yaml_line(found), None, message, name, compiled)
        if one.line is None:
            return Finding(self._shown(node.file), None, None, message, name)
        line, column = source_position(self._read(node.file), sql, one.line, one.column or 1)
        return Finding(
            self._shown(node.file),
            line,
            column,
            message,
            name,
            None if (line, column) == (one.line, one.column) else compiled,
        )

    def locate_unit_test(self, one: Rejection, name: str) -> Finding:
        """A finding about a unit test, which is where its YAML has it."""
        test = self._manifest.unit_tests[one.node]
        line = yaml_line(self._read(test.original_file_path), test.name)
        return Finding(self._shown(test.original_file_path), line, None, one.message, name)

    def _yaml_line(self, node: Any) -> int:
        """Where YAML has a test or a snapshot: at its column, or at its model or source."""
        attached = getattr(node, "attached_node", None)
        text = self._read(node.original_file_path)
        if not attached:
            return yaml_line(text, node.name)
        above = cast("Any", self._manifest.nodes.get(attached) or self._manifest.sources.get(attached))
        names = [above.source_name, above.name] if hasattr(above, "source_name") else [above.name]
        return yaml_line(text, *names, *([node.column_name] if node.column_name else []))

    def _read(self, file: str) -> str:
        return (self._project_dir / file).read_text("utf-8")

    def _shown(self, file: str, *, project: bool = True) -> str:
        """A path that a terminal opens: from the working directory."""
        return os.path.relpath(self._project_dir / file if project else file)
