"""The warnings as one message in Slack. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestration.core.channel_text import escape_mrkdwn
from orchestration.core.redaction import redact_line
from orchestration.incidents.content import asset_url
from orchestration.incidents.sizes import shortened
from orchestration.incidents.warned import AUTOMATION, FRESHNESS, Warned
from orchestration.lineage.ages import age
from orchestration.vendors.slack import LONGEST_MESSAGE, MOST_BLOCKS, length

LONGEST_WARNING, LONGEST_NAME, LONGEST_OWNERS = 300, 120, 120
"""Characters: a warning is read on a phone, and its page has all of it."""
FRAME = 3
"""Blocks around the warnings: header, introduction, and what is left out."""
LONGEST_END = 300
"""What the last of them may count."""

Block = dict[str, Any]


@dataclass(frozen=True)
class Message:
    text: str
    """What notifications show."""
    blocks: tuple[Block, ...]


def message(
    warnings: Sequence[Warned], mention: str, dagster_url: str, now: datetime, muted: int = 0
) -> Message | None:
    """One message of all warnings, in their order: what has warned longest comes first. None where there are none.

    `mention` calls the data responder, in mrkdwn; `muted` warnings were left out before.
    """
    if not warnings:
        return None
    count, oldest = _count(len(warnings), "warning"), age(now - min(warned.since for warned in warnings))
    words = f"{count}, ignored for up to {oldest}"
    intro = (
        f"{mention} These page nobody. They come again each working morning until they are mended, accepted or muted."
    )
    header = {"type": "header", "text": {"type": "plain_text", "text": words}}
    blocks = [header, _section(intro)]
    room = LONGEST_MESSAGE - LONGEST_END - sum(map(length, blocks))
    shown: list[Block] = []
    for warned in warnings[: MOST_BLOCKS - FRAME]:
        item = _section(_item(warned, dagster_url, now))
        if (room := room - length(item)) < 0:
            break
        shown.append(item)
    left = [f"and {more} more" for more in (len(warnings) - len(shown),) if more]
    left += [f"{_count(muted, 'warning')} of muted assets left out"] if muted else []
    end = [{"type": "context", "elements": [_text("; ".join(left))]}] if left else []
    return Message(words, (*blocks, *shown, *end))


def _item(warned: Warned, dagster_url: str, now: datetime) -> str:
    """One warning in mrkdwn. What people have written cannot mention anybody: it is escaped."""
    tab = {} if warned.check in {FRESHNESS, AUTOMATION} else {"view": "checks", "checkDetail": warned.check}
    link = asset_url(dagster_url, warned.asset, **tab)
    name = escape_mrkdwn(shortened(warned.asset, LONGEST_NAME)).replace("|", "¦")
    check = escape_mrkdwn(shortened(warned.check, LONGEST_NAME)).replace("`", "'")
    text = escape_mrkdwn(shortened(redact_line(warned.text, {warned.asset, warned.check}), LONGEST_WARNING))
    owners = escape_mrkdwn(shortened(", ".join(warned.owners), LONGEST_OWNERS)) or "nobody"
    return f"*<{link.replace('&', '&amp;')}|{name}>* `{check}`\nignored for *{age(now - warned.since)}*, owned by {owners}\n{text}"


def _section(text: str) -> Block:
    return {"type": "section", "text": _text(text)}


def _text(text: str) -> Block:
    return {"type": "mrkdwn", "text": text}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
