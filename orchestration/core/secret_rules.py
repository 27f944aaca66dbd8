"""Rules that find credentials in a text. Pure.

Every pattern is linear: it begins at a literal, or where a word begins, and what it has passed over it does not pass over again
(possessive quantifiers), or it looks at a bounded piece only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

SECRET, VALUE = "«secret»", "«value»"

Replacement = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Rule:
    pattern: re.Pattern[str]
    replacement: Replacement

    def apply(self, text: str) -> str:
        return self.pattern.sub(self.replacement, text)


def rule(pattern: str, replacement: Replacement, flags: re.RegexFlag = re.IGNORECASE) -> Rule:
    return Rule(re.compile(pattern, flags), replacement)


URL = r"://([^\s'\"<>`]{1,4000}+)"
OPEN_SCHEMES = ("http", "https", "ftp", "gs", "s3")
"""In other schemes, all of them of databases and queues, everything up to the last @ is a login: passwords are often not encoded."""
SECRET_PARAMETER = re.compile(
    r"((?:^|[?&;#])[^=&;#\s]{0,60}?(?:token|key|secret|sig|signature|credential|password|passwd|pwd|auth|code|jwt|session)[^=&;#\s]{0,20}=)"
    r"[^&;#\s]{1,4000}+",
    re.IGNORECASE,
)
PARAMETER = re.compile(r"([?&])([\w.\[\]%-]{1,80})=([^&#\s«»]{1,4000}+)")
READABLE_PARAMETERS = frozenset({
    "alt", "connect_timeout", "dataset", "datasetid", "fields", "format", "include", "interval", "job", "limit", "location", "logs",
    "maxresults", "offset", "page", "page_size", "pagesize", "per_page", "prettyprint", "project", "projectid", "region", "search_path",
    "selection", "sort", "sslmode", "status", "table", "tableid", "timeout", "timeoutms", "type", "version", "view", "x-goog-expires",
})  # fmt: skip
"""Parameters of an address that say which page or which object is meant. All others may carry the value of a row."""
WEBHOOK = re.compile(
    r"^(hooks\.slack\.com/\w{1,20}|discord(?:app)?\.com/api/webhooks|[\w.-]{1,80}\.webhook\.office\.com"
    r"|[\w.-]{1,80}/webhooks?(?:-\w{1,20})?|hooks\.zapier\.com|events\.pagerduty\.com/integration|hc-ping\.com|api\.incident\.io/v2/heartbeat)/\S+",
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
    whole = SECRET_PARAMETER.sub(rf"\1{SECRET}", whole)
    return "://" + PARAMETER.sub(_parameter, whole)


def _query(match: re.Match[str]) -> str:
    """Replace the values of a path's parameters: some clients leave out the host."""
    return PARAMETER.sub(_parameter, SECRET_PARAMETER.sub(rf"\1{SECRET}", match[0]))


UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
"""The id of a run, a project, a job or a document. Where it is a key, it has the name of one before it."""


def _parameter(match: re.Match[str]) -> str:
    is_readable = match[2].lower() in READABLE_PARAMETERS or re.fullmatch(UUID, match[3], re.IGNORECASE)
    return match[0] if is_readable else f"{match[1]}{match[2]}={VALUE}"


TYPE_OR_WORDS = (
    r"(?!(?:string|bytes|int(?:eger|64)?|bigint|numeric|bignumeric|float(?:64)?|bool(?:ean)?|date(?:time)?|timestamp|json|text|varchar"
    r"|null|none|true|false|missing|required|invalid|not|is|was|has|expired|select|from)\b)"
    r"(?![a-z-]{1,40}(?:\.[a-z-]{1,40}){1,3}\.?(?:com|io|net|dev)/)"
    r"(?!(?:password|authentication|authorization|login|access|could|cannot|unable|wrong|incorrect|no|the|user|your|please|it|its|this|that|must|should|may|can|does|did|are|were) [a-z])"
    r"(?!(?:[a-z]{2,20}(?:ed|ied)|denied|unknown|unauthorized|forbidden|wrong|incorrect|revoked|unset|empty|absent)(?:[.;)]|\s|$))"
)
"""What follows the name of a column, or an explanation (`Invalid credentials: password authentication failed`): no secret."""
NAMED = (
    r"(?:password|passwd|passphrase|pwd|secret|(?<!unexpected )token|api[_-]?key|access[_-]?key|private[_-]?key(?:_id)?|account[_-]?key"
    r"|shared[_-]?key|write[_-]?key|signing[_-]?key|encryption[_-]?key|master[_-]?key|storage[_-]?key|consumer[_-]?key|license[_-]?key|ssh[_-]?key"
    r"|service[_-]?role[_-]?key|connection[_-]?string|credentials?|(?<!supported )(?<!matching )signature|webhook_url|session[_-]?id|sessionid|sid_token"
    r"|one[_-]?time[_-]?code|otp_code|otp|2fa_code|client[_-]?assertion|\bjwt|\bdsn)"
)
QUOTED_OR_WORD = r"""(?:\\?"(?:[^"\\\n]|\\.){0,4000}+"?|\\?'(?:[^'\\\n]|\\.){0,4000}+'?|[^\s"',;&)}\]]{1,4000}+)"""
WORD = r"(?<![A-Za-z0-9_-])"
TOKENS = "|".join((
    r"eyJ[A-Za-z0-9_-]{5,}+\.[A-Za-z0-9_-]{5,}+(?:\.[A-Za-z0-9_-]*+)?",  # JWT
    r"(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}+",  # AWS
    r"AIza[A-Za-z0-9_-]{20,}+|ya29\.[A-Za-z0-9_.-]{10,}+|1//0[A-Za-z0-9_-]{20,}+|GOCSPX-[A-Za-z0-9_-]{10,}+",  # Google
    r"xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{6,}+|xapp-[A-Za-z0-9-]{6,}+",  # Slack
    r"gh[pousr]_[A-Za-z0-9]{16,}+|github_pat_[A-Za-z0-9_]{16,}+|gl(?:pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{10,}+|npm_[A-Za-z0-9]{20,}+",
    r"pypi-[A-Za-z0-9_-]{20,}+|rubygems_[a-f0-9]{32,}+|ATATT3x[A-Za-z0-9_=-]{20,}+|ATBB[A-Za-z0-9]{20,}+",
    r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{8,}+|whsec_[A-Za-z0-9+/=]{8,}+",  # Stripe
    r"sk-[A-Za-z0-9_-]{16,}+|SG\.[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+|dapi[a-f0-9]{32}|hxt[a-z]_[A-Za-z0-9]{16,}+|inc_[A-Za-z0-9_]{16,}+",
    r"omni_osk_[A-Za-z0-9]{8,}+|dbt[cu]_[A-Za-z0-9_-]{16,}+|SK[a-f0-9]{32}|key-[a-f0-9]{32}|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{16,}+",
    r"lin_api_[A-Za-z0-9]{16,}+|ntn_[A-Za-z0-9]{20,}+|figd_[A-Za-z0-9_-]{16,}+|sntry[su]_[A-Za-z0-9_=+/-]{16,}+|dp\.[a-z]{2,5}\.[A-Za-z0-9]{20,}+",
    r"hv[sbr]\.[A-Za-z0-9_-]{16,}+|dop_v1_[a-f0-9]{32,}+|pat-(?:na|eu)\d-[a-f0-9-]{20,}+|\d{8,10}:AA[A-Za-z0-9_-]{30,}+|ph[cx]_[A-Za-z0-9]{20,}+",
    r"NRAK-[A-Z0-9]{16,}+|gl(?:sa|c)_[A-Za-z0-9_=]{20,}+|AGE-SECRET-KEY-1[A-Z0-9]{20,}+|pul-[a-f0-9]{32,}+|[A-Za-z0-9]{10,20}\.atlasv1\.[A-Za-z0-9]{20,}+",
    r"00D[A-Za-z0-9]{12,15}![A-Za-z0-9._]{16,}+|[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{20,}+|pat[A-Za-z0-9]{14}\.[a-f0-9]{32,}+",
))  # fmt: skip
"""Tokens that are known by how they begin; the last line has Salesforce sessions, Azure client secrets and Airtable."""
FLAG = r"(?:^|(?<=[\s'\"\[(,]))"

SECRETS = (
    rule(
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[^-]{0,20000}+(?:-----END [A-Z0-9 ]{0,60}-----)?", SECRET
    ),
    rule(r"(?<=PuTTY-User-Key-File-)\d: [\s\S]{0,20000}+", SECRET),
    rule(URL, _url),
    rule(r"(?<![\w/.:])/[\w./~%-]{0,500}\?[^\s'\"<>]{1,2000}+", _query),
    rule(
        r"((?:(?:[a-z-]{1,20}-)?authorization|x-[a-z-]{0,20}(?:key|token|secret|signature)|(?:stripe|x-hub)-signature(?:-256)?|set-cookie|cookie)\\?[\"']?\s{0,3}[:=,]\s{0,3})"
        r"(?:b?\\?\"[^\"\r\n]{0,4000}+\"?|b?\\?'[^'\r\n]{0,4000}+'?|[^\s\"'«][^\r\n\"'}]{0,4000}+)",
        rf"\1{SECRET}",
    ),
    rule(
        r"\b(bearer|basic|token|negotiate|apikey|digest)(\s{1,3}|%20)(?=[A-Za-z0-9._~+/-]{0,80}[0-9=_])[A-Za-z0-9._~+/=-]{8,}+",
        rf"\1\2{SECRET}",
    ),
    # Flags of command lines
    rule(
        rf"({FLAG}(?:-u|--user|--proxy-user)(?:\s{{1,3}}|=|', ')[\"']?)[^\s:'\"]{{1,200}}+:[^\s'\"]{{1,4000}}+",
        rf"\1{SECRET}",
    ),
    rule(
        rf"({FLAG}--?(?:[a-z]{{1,20}}-){{0,3}}(?:password|passwd|pass|pwd|token|secret|api-?key|key-id|access-?key|private-?key|passphrase|credentials)"
        rf"(?:\s{{1,3}}|=|', '))(?!{SECRET}|--?[a-z]|(?:is|was|and|or|option|flag|argument)\b){QUOTED_OR_WORD}",
        rf"\1{SECRET}",
    ),
    rule(
        rf"(\b(?:mysql|mysqldump|mysqladmin|mariadb|sshpass)\b[^\n]{{0,300}}?\s-p\s?)(?!{SECRET})[^\s-]\S{{0,200}}+",
        rf"\1{SECRET}",
    ),
    rule(
        rf"(\b(?:identified by|with (?:encrypted )?password|redis-cli -a|\bAUTH)\s{{1,3}})(?!{SECRET})(?='|\S*\d){QUOTED_OR_WORD}",
        rf"\1{SECRET}",
    ),
    rule(
        r"(\b(?:password|passphrase|passcode|pin|otp|secret) (?:is|was|=|of) )(?=['\"]|[^\s]{0,200}[\d!@#$%^&*+=_~])(?!«|['\"]«)[^\s,;«]{4,200}+",
        rf"\1{SECRET}",
    ),
    rule(
        rf"({NAMED}[\w-]{{0,20}}\\?[\"']?\s{{0,3}}(?:=>|:=|[:=])\s{{0,3}}){TYPE_OR_WORDS}{QUOTED_OR_WORD}",
        rf"\1{SECRET}",
    ),
    rule(rf"(<(?:[\w]{{1,20}}:)?[\w-]{{0,30}}{NAMED}[\w-]{{0,20}}>)[^<]{{1,4000}}+", rf"\1{SECRET}"),
    # A login without a scheme: user:password@host
    rule(r"(?<![\w/:.@-])[\w.-]{1,64}:[^\s@/:'\"«]{1,200}+@(?=(?:[\w-]{1,63}\.)+[\w-]{2,63}|localhost)", f"{SECRET}@"),
    rule(rf"{WORD}(?:{TOKENS})", SECRET, re.NOFLAG),
)


PATH_WORD = re.compile(r"v?\d{1,6}|[a-z]{2,}(?:[_-][a-z]{1,})*|[a-z]{2,}(?:[A-Z][a-z]{1,}){1,5}")
"""A part of an address that a person made up."""
INTEGRITY = ("sha256:", "sha256=", "sha256-", "sha512-", "etag: ", "md5: ")


def _hex(match: re.Match[str]) -> str:
    """Keep the id of a commit, an image or a trace, by the word before it."""
    return match[0] if ID_BEFORE.search(match.string[max(0, match.start() - 40) : match.start()]) else SECRET


ID_BEFORE = re.compile(
    r"\b(?:commit|revision|sha|sha1|sha256|md5|digest|checksum|fingerprint|etag|trace|span|request|query|run|job|batch|hash|x-request-id|image)"
    r"(?:[ _-]?id)?\\?[\"']?(?: is|:|=|@)?\s{0,2}\\?[\"']?$",
    re.IGNORECASE,
)


def _random(match: re.Match[str]) -> str:
    """A long word that no person made up: it changes between small letters, capitals and digits all the time."""
    if match.string[max(0, match.start() - 8) : match.start()].lower().endswith(INTEGRITY):
        return match[0]
    parts = re.sub(UUID, "-", match[0], flags=re.IGNORECASE).split("/")
    kinds = [_kind(char) for char in "/".join(part for part in parts if not PATH_WORD.fullmatch(part))]
    if len(kinds) < 24:
        return match[0]
    changes = sum(one != other for one, other in pairwise(kinds))
    return SECRET if changes >= 0.4 * len(kinds) and {"a", "A", "0"} <= set(kinds) else match[0]


def _kind(char: str) -> str:
    return "0" if char.isdigit() else "A" if char.isupper() else "a" if char.islower() else "-"


LOOKS = (
    rule(r"(?<![A-Za-z0-9_])[0-9a-f]{32,}+(?![A-Za-z0-9_])", _hex),
    rule(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/=_-]{32,}+", _random, re.NOFLAG),
)
"""Credentials that are known by nothing but how they look."""
