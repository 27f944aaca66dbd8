"""Where a fault of compiled SQL is in the files that people edit. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any, cast

import yaml

WORD = re.compile(r"\w+|\S")
ALIKE = 0.5
"""From this similarity on, a line that Jinja has changed is taken for the same line."""


def source_position(source: str, compiled: str, line: int, column: int) -> tuple[int, int]:
    """Return line and column in the file for a position in what dbt has compiled from it, as exactly as the text allows.

    A position in what a macro has written is the line that calls the macro.
    """
    before, after = source.splitlines(), compiled.splitlines()
    if not before or not 1 <= line <= len(after):
        return 1, 1
    place = line - 1
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if not j1 <= place < j2:
            continue
        if tag == "equal":
            return i1 + place - j1 + 1, column
        if i1 == i2:
            # Nothing in the file stands for these lines: they belong to what is before.
            return max(i1, 1), 1
        found = _most_alike(before[i1:i2], after[place], min(place - j1, i2 - i1 - 1))
        return i1 + found + 1, _column(before[i1 + found], after[place], column)
    return 1, 1


def yaml_line(text: str, *names: str) -> int:
    """Return the line of the item whose name is the last of `names`, within those named before: source, table and column, for example.

    Where one is not found, it is the line of the last that is.
    """
    node = cast("yaml.Node | None", cast("Any", yaml).compose(text, yaml.SafeLoader))
    line = 1
    for name in names:
        found = _named(node, name)
        if found is None:
            return line
        node, line = found, found.start_mark.line + 1
    return line


def _named(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """The first mapping below a node whose `name` is this; those of outer levels first."""
    level: list[yaml.Node] = [node] if node is not None else []
    while level:
        inner: list[yaml.Node] = []
        for one in level:
            if isinstance(one, yaml.MappingNode):
                pairs = cast("list[tuple[yaml.Node, yaml.Node]]", one.value)
                if one is not node and any(
                    key.value == "name" and isinstance(value, yaml.ScalarNode) and value.value == name
                    for key, value in pairs
                ):
                    return one
                inner += [value for _, value in pairs]
            elif isinstance(one, yaml.SequenceNode):
                inner += cast("list[yaml.Node]", one.value)
        level = inner
    return None


def _most_alike(lines: Sequence[str], wanted: str, expected: int) -> int:
    ratios = [SequenceMatcher(None, one.strip(), wanted.strip(), autojunk=False).ratio() for one in lines]
    best = max(range(len(lines)), key=lambda place: (ratios[place], -abs(place - expected)))
    return best if ratios[best] >= ALIKE else expected


def _column(line: str, compiled: str, column: int) -> int:
    """The column of the same word: the one before which the word stands as often."""
    word = WORD.match(compiled, column - 1)
    if word is None:
        return 1

    def places(text: str) -> list[int]:
        return [found.start() for found in WORD.finditer(text) if found[0] == word[0]]

    earlier = sum(place < column - 1 for place in places(compiled))
    found = places(line)
    return (found[min(earlier, len(found) - 1)] + 1) if found else 1
