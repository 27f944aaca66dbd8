"""Characters that people do not see, or that a terminal obeys."""

from __future__ import annotations

import re

ESCAPE_SEQUENCES = re.compile(
    r"(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]{0,4000}+(?:\x07|\x1b\\|\x9c)?"  # OSC: titles, links, the clipboard
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c\n]{0,4000}+(?:\x1b\\|\x9c)?"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]{0,100}+[ -/]{0,10}+[@-~]?"  # CSI: colours, the cursor
    r"|\x1b[ -/]{0,10}+[0-~]?"
)
"""ECMA-48, 5.4 and 5.6."""
LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f"  # controls
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Controls without line feed and tab, and Default_Ignorable_Code_Point of Unicode: zero-width and bidirectional marks are among them."""
HALVES = re.compile("[\ud800-\udfff]")
"""Halves of characters, which no storage takes."""


def remove_hidden_characters(text: str) -> str:
    """Return the text without terminal escapes, controls, zero-width and bidirectional marks. Lines end with a line feed."""
    if text.isascii() and text.isprintable():
        return text
    text = LINE_ENDS.sub("\n", ESCAPE_SEQUENCES.sub("", text))
    return HALVES.sub("?", HIDDEN.sub("", text))
