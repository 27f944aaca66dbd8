"""Text from outside in the markup of a channel: shown as it is, and never a link, a mention or a terminal escape.

Every text goes through `redact` first, which removes credentials, values and hidden characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from orchestration.core.hidden_characters import remove_hidden_characters

MENTION = re.compile(r"(?<![\w.])@(?=\w)")
SLACK_MENTION = re.compile(r"<(?=[!@#])")
SCHEME = re.compile(r"://|(?<=\bmailto):|(?<=\bjavascript):|(?<=\btel):(?=\+?\d)", re.IGNORECASE)
WWW = re.compile(r"\b(www)\.(?=\w)", re.IGNORECASE)
MARKDOWN_SPECIAL = re.compile(r"[\\\[\]<*]|~~|^[#>]|&(?=[\w#])|(?<!\w)_|_(?!\w)", re.MULTILINE)
CODE_SPAN = re.compile(r"(?<!`)`[^`\n]{1,500}`(?!`)")
LINK_URL = re.compile(
    r"https?://[\w.:-]{1,255}(?:/[\w./~%:@!$&*+,;=-]*)?(?:\?[\w./~%:@!$&*+,;=?-]*)?(?:#[\w./~%:@!$&*+,;=?-]*)?"
)
"""Without brackets, quotes and blanks, which would end a link in one markup or another, and without a login."""


def remove_links(text: str) -> str:
    """Return the text with addresses as `https[:]//host` and another sign for @, which no channel makes a link or a mention of."""
    text = SLACK_MENTION.sub("< ", MENTION.sub("\N{FULLWIDTH COMMERCIAL AT}", text))
    text = SCHEME.sub(lambda match: f"[:]{match[0][1:]}", text)
    return WWW.sub(r"\1[.]", text)


def escape_markdown(text: str) -> str:
    """Return a text that markdown shows as it is. Names in `backticks` stay code."""
    text, parts, end = remove_links(remove_hidden_characters(text)), list[str](), 0
    for span in CODE_SPAN.finditer(text):
        parts += [_escape(text[end : span.start()]), span[0]]
        end = span.end()
    return "".join([*parts, _escape(text[end:])])


def markdown_code(text: str) -> str:
    """Return a name as code inside of a line of markdown."""
    return f"`{remove_links(remove_hidden_characters(text)).replace('`', "'").replace(chr(10), ' ')}`"


def markdown_code_block(lines: Iterable[str]) -> str:
    """Return lines as a block of code in markdown."""
    shown = [remove_links(remove_hidden_characters(line)).replace("```", "'''") for line in lines]
    return "\n".join(["```", *shown, "```"])


def escape_mrkdwn(text: str) -> str:
    """Return a text that Slack's mrkdwn shows as it is (https://docs.slack.dev/messaging/formatting-message-text)."""
    return _escape_mrkdwn(remove_links(remove_hidden_characters(text)))


def escape_terminal(text: str) -> str:
    """Return a text that a terminal shows as it is, on as many lines as it has. Print it without Rich's markup."""
    return remove_hidden_characters(text)


def link_url(url: str | None) -> str | None:
    """Return the address if it can stand in a link of every channel, else None."""
    return url if url and len(url) <= 2000 and LINK_URL.fullmatch(url) else None


MARKDOWN = re.compile(
    r"(?P<block>```[\s\S]*?(?:```|\Z))"
    r"|(?P<code>`[^`\n]{1,500}`)"
    r"|\\(?P<escaped>[!-/:-@\[-`{-~])"
    r"|\[(?P<text>(?:[^\[\]\\\n`]|\\.){1,200})\]\((?P<url>https?://[^\s()<>|]{1,2000})\)"
    r"|(?P<bold>\*\*)"
)
"""The markdown that alerts are written in, and nothing else of markdown."""


def markdown_to_mrkdwn(text: str) -> str:
    """Return an alert's markdown as Slack's mrkdwn. Only links and bold of the markdown itself are links and bold in Slack."""

    def convert(match: re.Match[str]) -> str:
        if match["url"]:
            shown = _escape_mrkdwn(_unescape(match["text"])).replace("|", "¦")
            return f"<{_escape_mrkdwn(match['url'])}|{shown}>"
        if match["bold"]:
            return "*"
        return _escape_mrkdwn(match["escaped"] or match[0])

    return _convert(text, convert, _escape_mrkdwn)


def markdown_to_plain(text: str) -> str:
    """Return an alert's markdown for a mail of plain text: readable as it is, without the backslashes."""
    return _convert(text, lambda match: match["escaped"] or match[0], lambda text: text)


def _convert(text: str, convert: Callable[[re.Match[str]], str], rest: Callable[[str], str]) -> str:
    parts, end = list[str](), 0
    for match in MARKDOWN.finditer(text):
        parts += [rest(text[end : match.start()]), convert(match)]
        end = match.end()
    return "".join([*parts, rest(text[end:])])


def _escape(text: str) -> str:
    return MARKDOWN_SPECIAL.sub(r"\\\g<0>", text.replace("`", "'"))


def _unescape(text: str) -> str:
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


def _escape_mrkdwn(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
