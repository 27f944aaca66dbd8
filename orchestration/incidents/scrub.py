"""Error text without what it must not tell: credentials, and the values of rows. Names of tables, columns and models stay. Pure.

Where it is not clear what a text means, it is taken for a value: an alert goes to more people than the warehouse.

Every pattern is linear: it begins at a literal, or where a word begins, and what it has passed over it does not pass over again
(possessive quantifiers), or it looks at a bounded piece only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

SECRET, VALUE = "«secret»", "«value»"
LONGEST = 100_000
"""Characters. Of a longer text the beginning and the end are kept: the cause, and the last line of a traceback."""
LONGEST_LINE_END = 2000

Replacement = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Rule:
    pattern: re.Pattern[str]
    replacement: Replacement

    def apply(self, text: str) -> str:
        return self.pattern.sub(self.replacement, text)


def scrub(text: str) -> str:
    """The text with credentials as `«secret»` and values of rows as `«value»`. What is scrubbed already stays as it is."""
    text = _cut(text)
    for rule in SECRETS:
        text = rule.apply(text)
    for rule in ROWS:
        text = rule.apply(text)
    for rule in (*(SQL_LITERALS if _has_sql(text) else PROSE_LITERALS), *LOOKS):
        text = rule.apply(text)
    return text


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    # At a blank: half a key would not be known as one.
    head, tail = text[: LONGEST // 2], text[-LONGEST // 2 :]
    head = head[: len(head) - _length_of_word(head[::-1])]
    tail = tail[_length_of_word(tail) :]
    return f"{head}\n…\n{tail}"


def _length_of_word(text: str) -> int:
    match = re.match(r"\S{0,5000}", text)
    return match.end() if match else 0


def _rule(pattern: str, replacement: Replacement, flags: re.RegexFlag = re.IGNORECASE) -> Rule:
    return Rule(re.compile(pattern, flags), replacement)


URL = r"://([^\s'\"<>`]{1,4000}+)"
OPEN_SCHEMES = ("http", "https", "ftp", "gs", "s3")
"""Of other schemes, all of them databases and queues, everything up to the last @ is a login: passwords are often not encoded."""
SECRET_PARAMETER = re.compile(
    r"((?:^|[?&;#])[^=&;#\s]{0,60}?(?:token|key|secret|sig|signature|credential|password|passwd|pwd|auth|code|jwt|session)[^=&;#\s]{0,20}=)"
    r"[^&;#\s]{1,4000}+",
    re.IGNORECASE,
)
WEBHOOK = re.compile(
    r"^(hooks\.slack\.com/\w{1,20}|discord(?:app)?\.com/api/webhooks|[\w.-]{1,80}\.webhook\.office\.com)/\S+",
    re.IGNORECASE,
)


def _url(match: re.Match[str]) -> str:
    scheme = re.search(r"[a-z][a-z0-9+.-]*$", match.string[max(0, match.start() - 30) : match.start()], re.IGNORECASE)
    rest = match[1]
    end = re.search(r"[/?#]", rest) if scheme is None or scheme[0].lower() in OPEN_SCHEMES else None
    authority, path = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    if "@" in authority:
        authority = f"{SECRET}@{authority.rpartition('@')[2]}"
    whole = WEBHOOK.sub(rf"\1/{SECRET}", authority + path)
    return "://" + SECRET_PARAMETER.sub(rf"\1{SECRET}", whole)


TYPE_OR_WORDS = (
    r"(?!(?:string|bytes|int(?:eger|64)?|bigint|numeric|bignumeric|float(?:64)?|bool(?:ean)?|date(?:time)?|timestamp|json|text|varchar"
    r"|null|none|true|false|missing|required|invalid|not|is|was|has|expired|select|from)\b)"
    r"(?!(?:password|authentication|authorization|login|access|could|cannot|unable|failed|denied|rejected|revoked|wrong|incorrect|no|the|user|your|please) [a-z])"
)
"""What follows the name of a column, or an explanation (`Invalid credentials: password authentication failed`): no secret."""
NAMED = (
    r"(?:password|passwd|passphrase|pwd|secret|(?<!unexpected )token|api[_-]?key|access[_-]?key|private[_-]?key(?:_id)?|account[_-]?key"
    r"|shared[_-]?key|credentials?|(?<!supported )signature|webhook_url)"
)
QUOTED_OR_WORD = r"""(?:\\?"(?:[^"\\\n]|\\.){0,4000}+"?|\\?'(?:[^'\\\n]|\\.){0,4000}+'?|[^\s"',;&)}\]]{1,4000}+)"""
WORD = r"(?<![A-Za-z0-9_-])"
TOKENS = "|".join((
    r"eyJ[A-Za-z0-9_-]{5,}+\.[A-Za-z0-9_-]{5,}+(?:\.[A-Za-z0-9_-]*+)?",  # JWT
    r"(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}+",  # AWS
    r"AIza[A-Za-z0-9_-]{20,}+|ya29\.[A-Za-z0-9_.-]{10,}+|1//0[A-Za-z0-9_-]{20,}+|GOCSPX-[A-Za-z0-9_-]{10,}+",  # Google
    r"xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{6,}+|xapp-[A-Za-z0-9-]{6,}+",  # Slack
    r"gh[pousr]_[A-Za-z0-9]{16,}+|github_pat_[A-Za-z0-9_]{16,}+|glpat-[A-Za-z0-9_-]{10,}+|npm_[A-Za-z0-9]{20,}+|pypi-[A-Za-z0-9_-]{20,}+",
    r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{8,}+|whsec_[A-Za-z0-9+/=]{8,}+",  # Stripe
    r"sk-[A-Za-z0-9_-]{16,}+|SG\.[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+|dapi[a-f0-9]{32}|hxt[a-z]_[A-Za-z0-9]{16,}+|inc_[A-Za-z0-9_]{16,}+",
))  # fmt: skip

SECRETS = (
    _rule(
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[^-]{0,20000}+(?:-----END [A-Z0-9 ]{0,60}-----)?", SECRET
    ),
    _rule(URL, _url),
    _rule(
        r"((?:authorization|x-[a-z-]{0,20}(?:key|token)|set-cookie|cookie)\\?[\"']?\s{0,3}[:=]\s{0,3})"
        r"(?:b?\\?\"[^\"\r\n]{0,4000}+\"?|b?\\?'[^'\r\n]{0,4000}+'?|[^\s\"'«][^\r\n\"'}]{0,4000}+)",
        rf"\1{SECRET}",
    ),
    _rule(
        r"\b(bearer|basic|token)(\s{1,3}|%20)(?=[A-Za-z0-9._~+/-]{0,80}[0-9=_])[A-Za-z0-9._~+/=-]{8,}+",
        rf"\1\2{SECRET}",
    ),
    _rule(
        rf"({NAMED}[\w-]{{0,20}}\\?[\"']?\s{{0,3}}(?:=>|:=|[:=])\s{{0,3}}){TYPE_OR_WORDS}{QUOTED_OR_WORD}",
        rf"\1{SECRET}",
    ),
    _rule(rf"{WORD}(?:{TOKENS})", SECRET, re.NOFLAG),
)


LINE_END = rf"[^\n]{{1,{LONGEST_LINE_END}}}+"
TO_STOP = (
    r"(?:(?!; (?:reason|location|message|debuginfo|field|error)\b|, error message|\. [A-Z]| \((?:max length|error code|position)| for (?:column|field)"
    rf"| at row|['\"][,)\]}}])[^\n]){{1,{LONGEST_LINE_END}}}+"
)
"""The rest of a line, as far as it is the value."""
IN_SINGLE = r"(?:[^'\\\n]|''|\\.|(?<=\w)'(?=\w)){0,2000}+"
SINGLE, DOUBLE = rf"'{IN_SINGLE}'?", r'"(?:[^"\\\n]|""|\\.|(?<=\w)"(?=\w)){0,2000}+"?'
"""A text in quotes. An apostrophe inside of a word does not end it, nor does a doubled one; a text that was cut may have no end."""
READABLE_KEYS = frozenset({
    "code", "status", "status_code", "message", "reason", "location", "locationtype", "location_type", "domain", "error", "errors",
    "type", "title", "detail", "details", "debuginfo", "index", "request_id", "requestid", "field", "fields", "path",
    "pointer", "table", "column", "dataset", "model", "job", "job_id", "jobid", "state", "kind",
    "severity", "source", "documentation_url",
})  # fmt: skip
"""Of JSON: keys by which an error is told, and not a row."""

SQL_PARTS = re.compile(
    r"\b(?:insert\s{1,9}into|delete\s{1,9}from|merge\s{1,9}into|create\s{1,9}(?:or\s{1,9}replace\s{1,9})?(?:table|view)|values\s{0,9}\()"
    r"|\bwhere\s{1,9}\S{1,200}+\s{0,9}(?:=|<|>|!=|in\b|like\b)|\bupdate\s{1,9}\S{1,200}+\s{1,9}set\b|\bcase\s{1,9}when\b|\bLINE \d{1,9}: ",
    re.IGNORECASE,
)
SELECT, FROM = re.compile(r"\bselect\s", re.IGNORECASE), re.compile(r"\bfrom\s", re.IGNORECASE)


def _has_sql(text: str) -> bool:
    begin = SELECT.search(text)
    return bool((begin and FROM.search(text, begin.end())) or SQL_PARTS.search(text))


def _json_value(match: re.Match[str]) -> str:
    return match[0] if match["name"].lower() in READABLE_KEYS else f"{match['key']}{VALUE}"


NAME_LIKE = re.compile(r"'(?:[A-Za-z_$%/<{*.«-][^\s@]*|[1-5]\d\d [A-Za-z ]{1,40})?'")
"""What stays outside of SQL: nothing, a name, a path, a format, and the status of an HTTP answer."""
TELLS = re.compile(
    r"['\"](\w{1,30})\\?['\"]\s{0,3}:\s{0,3}$|(?:Error|Exception|Failure|Warning)\($|\b(?:message|reason|error):?\s$"
)
"""What stands before a quoted text that is about the error, and no value."""


def _prose(match: re.Match[str]) -> str:
    if not match[0].endswith("'") and match.end() < len(match.string):
        return match[0]  # an apostrophe
    before = TELLS.search(match.string[max(0, match.start() - 50) : match.start()])
    tells = before is not None and (before[1] is None or before[1].lower() in READABLE_KEYS)
    return match[0] if tells or NAME_LIKE.fullmatch(match[0]) else VALUE


def _literal(match: re.Match[str]) -> str:
    """A literal of SQL, unless it is the key of a dictionary that stands beside."""
    is_key = re.match(r"\s{0,3}:(?!:)", match.string[match.end() : match.end() + 5])
    return match[0] if is_key else match["before"] + VALUE


def _listed(match: re.Match[str]) -> str:
    return re.sub(r'"[^"]*"', VALUE, match[0])


LITERAL = r"(?:[rbn]{1,2})?'(?:[^'\\]|''|\\.|(?<=\w)'(?=\w)){0,4000}+'?"
SQL_LITERALS = (
    # First where only a literal can be: elsewhere a quote that was left open makes the next one's end its beginning
    _rule(
        rf"(?P<before>(?:[=<>(,|+\[]|\b(?:like|in|then|else|when|between|select))\s{{0,5}}){LITERAL}",
        _literal,
        re.IGNORECASE | re.DOTALL,
    ),
    _rule(rf"(?P<before>(?<![\w'])){LITERAL}", _literal, re.IGNORECASE | re.DOTALL),
)
PROSE_LITERALS = (_rule(rf"(?<![\w'])'{IN_SINGLE}'?", _prose),)

ROWS = (
    # PostgreSQL: unique and foreign keys, checks, COPY
    _rule(
        r"(Key \([^)\n]{1,300}\)=\()(?:(?!\)(?:\.?\s*(?:\n|\Z)| already| is not| is still| conflicts| exists))[\s\S]){1,3000}+",
        rf"\1{VALUE}",
    ),
    _rule(r"((?:Failing )?row contains \()(?:(?!\)\.?\s*(?:\n|\Z))[\s\S]){1,3000}+", rf"\1{VALUE}"),
    _rule(rf"(\bCOPY [^\n:\"]{{1,200}}: ){LINE_END}", rf"\1{VALUE}"),
    _rule(rf"(JSON data, line \d{{1,9}}: ){LINE_END}", rf"\1{VALUE}"),
    _rule(rf"(\[parameters: ){LINE_END}", rf"\1{VALUE}]"),
    _rule(
        r"((?:invalid input (?:syntax|value) for|malformed|out of range|invalid (?:byte|text)|for encoding)[^:\n\"]{0,100}: )\"(?:[^\n]{0,2000}\"|[^\"]{0,2000}+\"?)",
        rf"\1{VALUE}",
    ),
    # Anyone's words for a value that cannot be read, with the value in quotes
    _rule(
        r"\b((?:value|string|literal|entry|input|number|token|data|date|time|timestamp|datetime|parse|cast|convert|address|record|float|integer|base \d{1,2})s?"
        rf"(?: of)?:?\s{{1,3}})(?:{SINGLE}|{DOUBLE})",
        rf"\1{VALUE}",
    ),
    _rule(rf"(\binput_value\s?=\s?)(?:{SINGLE}|{DOUBLE}|(?:(?!, input_type)[^\n]){{1,2000}}+)", rf"\1{VALUE}"),
    # and without
    _rule(
        rf"(\b(?:value|values|picklist field|too large|invalid email address)\)?: )(?!{VALUE}){TO_STOP}", rf"\1{VALUE}"
    ),
    _rule(rf"((?:rejected|bad|failing|offending|invalid) (?:row|record)s?: ){LINE_END}", rf"\1{VALUE}"),
    _rule(rf"((?:division by zero|overflow)(?: error)?: ){TO_STOP}", rf"\1{VALUE}"),
    # JSON, and the dictionaries of Python
    _rule(
        r"(?P<key>(?P<quote>\\?[\"'])(?P<name>[^\"'\\\n]{1,100}+)(?P=quote)\s{0,3}:\s{0,3})"
        r"(?:\\\"(?:[^\"\\\n]|\\\\.){0,4000}+\\\"|\"(?:[^\"\\\n]|\\.){0,4000}+\"?|'(?:[^'\\\n]|\\.|'(?=\w)){0,4000}+'?"
        r"|-?\d[\d.eE+-]{0,60}+|true\b|false\b|\[[^\[\]{}\n]{0,4000}+\])",
        _json_value,
    ),
    # BigQuery's SQL has literals in double quotes, too, which are PostgreSQL's for names: only where no name is
    _rule(r"((?:[=<>]|\blike)\s{0,3})\"[^\"\n]{0,2000}+\"(?!\.)", rf"\1{VALUE}"),
    _rule(r"\b(?:in|values)\s{0,3}\([^()]{1,4000}+", _listed),
    _rule(
        r"(?<![\w.+%-])(?![\w.+-]{1,64}@[\w.-]{1,200}\.gserviceaccount\.com)[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}+)+",
        VALUE,
    ),
)


def _random(match: re.Match[str]) -> str:
    """A long word that no person made up: it changes between small letters, capitals and digits all the time."""
    kinds = [_kind(char) for char in match[0]]
    changes = sum(one != other for one, other in pairwise(kinds))
    return SECRET if changes >= 0.4 * len(kinds) and {"a", "A", "0"} <= set(kinds) else match[0]


def _kind(char: str) -> str:
    return "0" if char.isdigit() else "A" if char.isupper() else "a" if char.islower() else "-"


LOOKS = (
    _rule(r"(?<![A-Za-z0-9_])[0-9a-f]{32,}+(?![A-Za-z0-9_])", SECRET),
    _rule(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/=_-]{32,}+", _random, re.NOFLAG),
)
"""Credentials that nothing says are any, but how they look."""
