"""Rules that find the values of rows in errors of databases, vendors and Python. Pure.

Where it is not clear what a text means, it is taken for a value: an alert goes to more people than the warehouse.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import partial

from orchestration.core.secret_rules import VALUE, Rule, rule

LONGEST_LINE_END = 2000
DONE = r"(?!\s?[\"']?«)"
"""What is redacted already stays as it is: what follows it may be of the next line, which somebody has joined to it."""
LINE_END = rf"{DONE}[^\n]{{1,{LONGEST_LINE_END}}}+"
TO_STOP = (
    DONE
    + rf"(?:[{{\[<](?:(?!; (?:reason|location|message|error)\b)[^\n]){{1,{LONGEST_LINE_END}}}+|"
    + r"(?:(?!; (?:reason|location|message|debuginfo|field|error|errors|value|row|line)\b|, error message|\. [A-Z][a-z]+ [a-z]| \((?:max length|error code|position|column|field|row|line)| for (?:column|field|type)"
    rf"| at (?:row|\[)| in (?:column|field|row|line)\b|['\"][,)\]}}])[^\n]){{1,{LONGEST_LINE_END}}}+)"
)
"""The rest of a line, as far as it is the value."""
IN_SINGLE = r"(?:[^'\\\n]|''|\\.|(?<=\w)'(?=\w)){0,2000}+"
SINGLE, DOUBLE = rf"'{IN_SINGLE}'?", r'"(?:[^"\\\n]|""|\\.|(?<=\w)"(?=\w)){0,2000}+"?'
"""A text in quotes. An apostrophe inside of a word does not end it, nor does a doubled one; a text that was cut may have no end."""
READABLE_KEYS = frozenset({
    "code", "status", "status_code", "statuscode", "message", "reason", "location", "locationtype", "location_type", "domain", "error",
    "errors", "error_code", "errorcode", "type", "title", "detail", "details", "debuginfo", "index", "request_id", "requestid", "field",
    "fields", "path", "pointer", "table", "column", "dataset", "model", "job", "job_id", "jobid", "state", "kind", "run_id", "runid",
    "severity", "source", "documentation_url", "ok", "doc_url", "decline_code", "param", "needed", "provided", "connection_id",
    "connector_id", "sync_id", "schema", "group_id", "http_status", "retry_after", "attempt", "rejected", "rows", "row_count",
})  # fmt: skip
"""Keys of JSON, of Python's dictionaries and of logfmt that describe an error, and no row."""
READABLE_FIELDS = READABLE_KEYS | {
    "host", "hostaddr", "port", "user", "dbname", "database", "sslmode", "project", "region", "attempts", "retries", "retry", "duration",
    "elapsed", "seconds", "timeout", "max", "min", "limit", "offset", "position", "line", "row", "threads", "level", "total", "pass",
    "warn", "skip", "no-op", "reused", "partial", "count", "bytes", "exit_code", "exitcode", "signal", "pid", "version", "method", "url",
    "latency", "took", "target", "select", "exclude", "profile", "adapter", "asset", "check", "step", "unit", "sync", "connection",
    "accountname", "defaultendpointsprotocol", "endpointsuffix", "driver", "server", "length", "max_length", "min_length", "input_type", "scale", "precision", "expected", "queue", "worker", "partition",
}  # fmt: skip
"""Fields of key=value that describe a connection, a run or a number of things."""

NOUNS = (
    r"tables?|views?|models?|columns?|fields?|nodes?|sources?|relations?|schemas?|datasets?|jobs?|connections?|connectors?|syncs?|databases?|modules?|attributes?|objects?"
    r"|functions?|macros?|tests?|seeds?|snapshots?|exposures?|metrics?|types?|parameters?|params?|arguments?|variables?|options?|packages?|constraints?|indexe?s?|files?"
    r"|(?:failed|denied) for user|roles?|groups?|dashboards?|documents?|projects?|checks?|assets?|sensors?|schedules?|steps?|runs?|units?|classe?s?|enum|extension|keyword|operator|macro named|named|called"
    r"|property|properties|op|graph|resource|config entry|event|stream|bucket|service|profile|target|adapter|plugin|partition(?:ed by)?|run for|entity|entities|strategy|image|slot|channel|branch|environment|cluster|namespace|pod|container|repository|code location|cursor|region|scope|scopes|permission|method|codec|encoding|KeyError|NameError|AttributeError|import name|import"
)
NOUN_BEFORE = re.compile(
    rf"\b(?:{NOUNS})(?: (?:name|id|key|path|is|of type|with name|with id))?:?\s{{0,2}}[\[(]?$", re.IGNORECASE
)
LIST_OF_NAMES = re.compile(r"(?:AssetKey\(|\bCommand |\bSteps failed: )\[[^\]\n]{0,300}$")
"""An asset's key, a command line and a list of steps, up to one of their words."""
ONE_WORD = re.compile(r"(?:Error: |\b(?:users?|roles?|objects?|groups?|import) )$")
"""What stands before names that have no blank in them."""
NAME_FOLLOWS = re.compile(
    r"\s(?:objects?|codec|column|field|table|model|relation|schema|of relation|is not defined|has no|got an|takes|missing \d|as INT|and PCRE|operator)\b"
)
PLAIN_NAME = re.compile(r"[A-Za-z](?:[\w $./:()&+#-]|(?<=\w)'(?=\w)){0,199}")
"""What a name can be where a word says that it is one: no number, no address."""
OWN_NAME = re.compile(
    r"[a-z_][a-z0-9]{0,99}(?:[_./:$-]{1,2}[a-z0-9*]{1,99}){1,20}"  # snake_case, a.dotted.path, a/file.sql, kebab-case
    r"|[A-Za-z_][A-Za-z0-9_]{0,99}(?:[./][A-Za-z0-9_-]{1,99}){1,20}__?[A-Za-z0-9_]{0,99}"
    r"|(?:[A-Z][a-z0-9]{1,40}){2,8}(?<!\d)"  # CamelCase, as classes have
    r"|[A-Z][A-Z0-9]{0,40}(?:_[A-Z0-9]{1,40}){0,8}(?:<[A-Z0-9_<>, ]{1,100}>)?"  # types and keywords of SQL
    r"|[A-Za-z]\w{0,60}__[crs]"  # Salesforce's custom fields
    r"|[/~.][\w./~-]{1,500}|[A-Z]:\\[\w\\. -]{1,300}|%[\w%:./, T-]{1,60}|[$<{*«][^\s@]{0,200}|--?[a-z][a-z-]{1,40}|__\w{1,60}__|[=!<>]{1,2}"
    r"|https?(?::|\[:\])//\S{1,2000}|[\w.-]{1,100}\.(?:py|sql|ya?ml|json|csv|parquet|avro|toml|internal|com|net|io)(?::\d{1,5})?"
    r"|int|str|float|bool|list|dict|tuple|set|bytes|type|object|function|method|module|property|generator|coroutine|date|time|datetime"
    r"|[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}(?::\d{1,5})?(?:/[\w.-]{1,100}){1,5}(?::[\w.-]{1,100})?(?:@sha256:[0-9a-f]{64})?"  # an image
    r"|[1-5]\d\d [A-Za-z ]{1,40}|HTTP/\d(?:\.\d)?|(?:utf|latin|ascii|cp)[\w-]{0,10}"
)
"""What is a name by how it is written, and the status of an HTTP answer, a format, an option and an operator."""
HAS_DIGITS = re.compile(r"\d{5}|\d{3}(?!\d)(?<!\d{4})")
TELLS = re.compile(
    r"['\"](\w{1,30})\\?['\"]\s{0,3}:\s{0,3}$|(?:Error|Exception|Failure|Warning)\($|\b(?:message|reason|error):?\s$"
)
"""What stands before a quoted text that is about the error, and no value."""
SQL_PARTS = re.compile(
    r"\b(?:insert\s{1,9}into|delete\s{1,9}from|merge\s{1,9}into|create\s{1,9}(?:or\s{1,9}replace\s{1,9})?(?:table|view)|values\s{0,9}\()"
    r"|\bwhere\s{1,9}\S{1,200}+\s{0,9}(?:=|<|>|!=|in\b|like\b)|\bupdate\s{1,9}\S{1,200}+\s{1,9}set\b|\bcase\s{1,9}when\b|\bLINE \d{1,9}: ",
    re.IGNORECASE,
)
SELECT, FROM = re.compile(r"\bselect\s", re.IGNORECASE), re.compile(r"\bfrom\s", re.IGNORECASE)


def has_sql(text: str) -> bool:
    """Return whether a text has a statement in it: then quoted texts are literals."""
    begin = SELECT.search(text)
    return bool((begin and FROM.search(text, begin.end())) or SQL_PARTS.search(text))


def _json_value(match: re.Match[str]) -> str:
    return match[0] if match["name"].lower() in READABLE_KEYS else f"{match['key']}{VALUE}"


def _quoted(match: re.Match[str], names: Collection[str]) -> str:
    """Keep a text in quotes where it is a name, or where it is the error itself."""
    text = match[0]
    if len(text) < 2 or (text[-1] != text[0] and match.end() < len(match.string)):
        return text  # an apostrophe
    inner = text.strip("'\"")
    before = match.string[max(0, match.start() - 300) : match.start()]
    after = match.string[match.end() : match.end() + 50]
    if not inner or inner in names or OWN_NAME.fullmatch(inner) or _is_about_the_error(inner, before):
        return text
    if inner.startswith('{\\"') and "\\\\" not in inner:
        return text  # JSON in a text, whose values are replaced already
    return text if _is_named(inner, before, after) else VALUE


def _is_about_the_error(inner: str, before: str) -> bool:
    before = before[-50:]
    tells = TELLS.search(before)
    if re.search(r"\(-?\d{1,5}, $", before) and inner.count(" ") >= 3:
        return True
    return tells is not None and (tells[1] is None or tells[1].lower() in READABLE_KEYS)


def _is_named(inner: str, before: str, after: str) -> bool:
    """Return whether the words around a quoted text say that it is a name."""
    if not PLAIN_NAME.fullmatch(inner):
        return False
    if re.match(r"\\?\s{0,3}:(?!:)", after):
        return True  # the key of a dictionary
    if re.search(r"\w\[$", before[-2:]) and re.fullmatch(r"\w{1,100}", inner):
        return True  # the name of a field, in code
    if HAS_DIGITS.search(inner) or (" " in inner and ONE_WORD.search(before[-50:])):
        return False
    return bool(NOUN_BEFORE.search(before[-60:]) or LIST_OF_NAMES.search(before) or NAME_FOLLOWS.match(after))


def _literal(match: re.Match[str]) -> str:
    """Replace a literal of SQL, unless it is the key of a dictionary next to the statement."""
    is_key = re.match(r"\s{0,3}:(?!:)", match.string[match.end() : match.end() + 5])
    return match[0] if is_key else match["before"] + VALUE


def _sql_double(match: re.Match[str]) -> str:
    """Replace a text in double quotes unless it is written as a name: PostgreSQL has names in double quotes, BigQuery literals."""
    inner = match[0].strip('"')
    is_name = not inner or OWN_NAME.fullmatch(inner) or re.fullmatch(r"[a-z][a-z0-9_]{0,62}", inner)
    follows = match.string[match.end() : match.end() + 1]
    return match[0] if is_name or follows in {".", ":"} else VALUE


def _listed(match: re.Match[str]) -> str:
    return re.sub(r'"[^"]*"|(?<![\w.])-?\d[\d.]*(?![\w.])', VALUE, match[0])


LITERAL = r"(?:[rbneux]{1,2}&?)?'(?:[^'\\]|''|\\.|(?<=\w)'(?=\w)){0,4000}+'?"
SQL_LITERALS = (
    # First where only a literal can be: elsewhere a quote that was left open makes the next one's end its beginning
    rule(
        rf"(?P<before>(?:[=<>(,|+\[]|\b(?:like|in|then|else|when|between|select))\s{{0,5}}){LITERAL}",
        _literal,
        re.IGNORECASE | re.DOTALL,
    ),
    rule(rf"(?P<before>(?<![\w'])){LITERAL}", _literal, re.IGNORECASE | re.DOTALL),
    rule(r'(?<![\w"])"[^"\n]{1,2000}+"(?!")', _sql_double),
    rule(
        r"((?:[=<>]|\bbetween|\band(?=\s\d))\s{0,3})(?<!\bif != )(?:-?[2-9](?:\.\d+)?|-?\d{2,}(?:\.\d+)?|-?\d+\.\d+)(?![\w.-])",
        rf"\1{VALUE}",
    ),
)


def prose_literals(names: Collection[str]) -> tuple[Rule, ...]:
    """Return the rules for quoted texts outside of SQL. `names` are known as names of this failure and stay."""
    quoted = partial(_quoted, names=names)
    return (rule(rf"(?<![\w'])'{IN_SINGLE}'?", quoted), rule(rf'(?<![\w"]){DOUBLE}', quoted))


WORD_OF_ROW = r"(?:\"[^\"\n]{0,200}\"|[^\s,;\t|\"'()\[\]{}<>=:«»]{1,80})?"
CELL_OF_ROW = r"(?:\"[^\"\n]{0,200}\"|«value»|[^\s,;\t|\"'()\[\]{}<>=«»][^,;\t|\n\"'()\[\]{}<>«»]{0,80})?"
IDENTIFIERS = re.compile(r"[a-z_][a-z0-9_.:+/-]*(?:[,;][a-z_@+][a-z0-9_.:+/-]*)*[,;]?")
TIMES = re.compile(r"[\d.:,T Z+-]+")


def _separated(match: re.Match[str]) -> str:
    """Replace a row of CSV, but not a list of names, and not a number with separators."""
    text = match[0]
    is_prose = ", " in text or not re.search(r"\d|\"|(?:^|[,;])\s*[A-Z«]", text)
    is_kept = is_prose or IDENTIFIERS.fullmatch(text) or re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", text)
    return text if is_kept else VALUE


TUPLE_ITEM = re.compile(
    r"-?\d[\d.,:TZ -]*|null|none|true|false|nan|nat|\"[^\"]*\"|'[^']*'|«(?:value|secret)»|\\N|[A-Z][a-z]+(?: [A-Z][a-z]+)*|datetime\.[^,]*|Decimal[^,]*",
    re.IGNORECASE,
)
CODE_AND_MESSAGE = re.compile(r"\(-?\d{1,5}, ['\"](?:\S{1,100} ){3,50}\S{1,100}['\"]\)")
"""How MySQL's clients print an error."""
SURE_ITEM = re.compile(
    r"-?\d[\d.:TZ -]*|null|none|true|false|nan|nat|«(?:value|secret)»|'[^']*'|\"[^\"]*\"|\\N", re.IGNORECASE
)


def _tuple(match: re.Match[str]) -> str:
    """Replace the items of a list in brackets that is a row: one of them at least is no word."""
    items = [item.strip() for item in match["items"].split(",")]
    sure = sum(SURE_ITEM.fullmatch(item) is not None for item in items)
    names = all(re.fullmatch(r"(['\"])(?:--?)?[a-z_][\w.$/:-]{0,200}\1", item) for item in items)
    plain = all(TUPLE_ITEM.fullmatch(item) or re.fullmatch(r"[\w .@«»:+/-]{0,100}", item) for item in items)
    counts = all(re.fullmatch(r"[\d.]{1,6}", item) for item in items)
    if len(items) < 2 or not sure or names or counts or not plain or CODE_AND_MESSAGE.fullmatch(match[0]):
        return match[0]
    return f"{match['open']}{VALUE}{match['close']}"


FIELD = re.compile(
    rf"(?P<name>(?<![\w.?&/-])[A-Za-z_][\w.-]{{0,60}})=(?P<value>{SINGLE}|{DOUBLE}|«value»|«secret»|[^\s,;&)\]}}\"'«]{{1,200}}(?: [A-Z][\w'-]{{0,40}}(?=[,;)\n]|$))*)"
)


def _fields(match: re.Match[str]) -> str:
    """Replace the values of a row that is written as key=value."""
    return FIELD.sub(
        lambda one: (
            one[0]
            if one["name"].lower() in READABLE_FIELDS or one["value"].startswith("«")
            else f"{one['name']}={VALUE}"
        ),
        match[0],
    )


READABLE_TAGS = frozenset({
    "title", "h1", "h2", "h3", "center", "code", "message", "error", "errors", "faultcode", "faultstring", "status", "reason", "requestid",
    "exceptioncode", "exceptionmessage", "statuscode", "hostid", "type", "p", "pre", "body", "div", "span", "b", "i", "head", "html", "a", "li",
    "address", "em", "strong",
})  # fmt: skip
"""Elements of a web page or of a SOAP fault."""


def _element(match: re.Match[str]) -> str:
    return match[0] if match["name"].lower() in READABLE_TAGS else f"{match['begin']}{VALUE}{match['end']}"


def _table_row(match: re.Match[str]) -> str:
    """Replace the cells of a printed table below its header. The table of a dbt contract has names only."""
    lines = match[0].split("\n")
    if "definition_type" in lines[0] or "contract_type" in lines[0]:
        return match[0]
    return "\n".join(
        line if number == 0 or re.fullmatch(r"[\s|+:=-]*", line) else _cells(line) for number, line in enumerate(lines)
    )


def _cells(line: str) -> str:
    return re.sub(r"[^|\n]*[^|\s][^|\n]*", lambda cell: f" {VALUE} ", line)


WHAT_FAILED = (
    r"value|string|literal|entry|input|number|token|data|date|time|timestamp|datetime|interval|parse|cast|convert|coerce|address|record|float|integer|double|numeric|bignumeric"
    r"|bool(?:ean)?|key value|character|byte|geography|json|uuid|base \d{1,2}|cell|content|text|id|identifier|customer|subscription|invoice|contact|account|lead|ticket|requester|organization"
)

VALUES = (
    # How subprocess quotes the list of words of a command: the quotes around it would end at the first word's
    rule(r"(\bCommand )'(\[[^\n]{1,2000}?\])'(?= (?:returned|died|timed out))", r"\1\2", re.NOFLAG),
    # Triple quotes and raw literals, which nothing but code and data has
    rule(
        r"(?<![\w'\"])[rbuf]{0,2}(?:'''(?:[\s\S]{0,8000}?'''|[\s\S]{0,8000}+)|\"\"\"(?:[\s\S]{0,8000}?\"\"\"|[\s\S]{0,8000}+))",
        VALUE,
    ),
    rule(r"(?<![^\s(\[{=,:+|<>])(?:r|b|rb|br)(?:'(?:[^'\n]{0,4000}+)'?|\"(?:[^\"\n]{0,4000}+)\"?)", VALUE),
    # PostgreSQL: unique and foreign keys, checks, COPY
    rule(
        r"((?:Key|key) \([^)\n]{1,300}\)=\()(?:(?!\)(?:\.?\s*(?:\n|\Z)| already| is not| is still| conflicts| exists))[\s\S]){1,3000}+",
        rf"\1{VALUE}",
        re.NOFLAG,
    ),
    rule(r"((?:Failing )?row contains \()(?:(?!\)\.?\s*(?:\n|\Z))[\s\S]){1,3000}+", rf"\1{VALUE}"),
    rule(rf"(\bCOPY [^\n:\"]{{1,200}}: ){LINE_END}", rf"\1{VALUE}"),
    rule(rf"(JSON data, line \d{{1,9}}: ){LINE_END}", rf"\1{VALUE}"),
    rule(rf"(\[parameters: |\bparameters: \$1 = |unnamed portal with parameters: ){LINE_END}", rf"\1{VALUE}"),
    rule(
        r"((?:invalid input (?:syntax|value) for|malformed|out of range|invalid (?:byte|text)|for encoding)[^:\n\"]{0,100}: )\"(?:[^\n]{0,2000}\"|[^\"]{0,2000}+\"?)",
        rf"\1{VALUE}",
    ),
    # BigQuery and others: the value without quotes
    rule(
        rf"(\b(?:bad|invalid|illegal|unrecognized|malformed|unparseable|unexpected) (?:[\w<>]{{1,20}} ){{0,3}}?(?:value|string|literal|number|date|time|datetime|timestamp|interval|numeric|bignumeric|json|uuid|geography|address|email|phone)(?: string)?:? )"
        rf"(?!(?:for|in|of|is|at|to|on|type|format|or|syntax|token|character|field|column|constraint|was|that|found|input|value|with|and|when|definition|argument|arguments|string)\b){TO_STOP}",
        rf"\1{VALUE}",
    ),
    rule(
        rf"(\b(?:out of range|out of bounds|too long|too large|overflow(?: error)?|underflow|division by zero|not a valid \w{{1,20}}|unparseable|could not parse|failed to parse(?: \w{{1,20}})?|unable to parse(?: \w{{1,20}})?|parsing error|JSON parse error|invalid JSON|invalid hex string|invalid base64 string|invalid UTF-8 string|duplicate value|duplicate key|duplicate primary key|already exists with \w{{1,40}}): )"
        rf"(?!(?:line|column|invalid|unexpected|expected|missing|no|the|not|error|row|field|parser|syntax|end)\b){TO_STOP}",
        rf"\1{VALUE}",
    ),
    rule(
        r"(\b(?:cannot|could not|can't|unable to|failed to) (?:parse|convert|coerce|cast|decode|interpret|read|return an? invalid \w{1,20} value of) (?:the )?(?:(?:value|string|literal|input|text) )?)"
        rf"(?!(?:value|string|literal|input|text|an?|the|column|field|table|file|type|from|to|as|into|JSON|expression|for|STRUCT|ARRAY|[A-Z0-9]{{3,12}} (?:to|as|from)|bytes?)\b){DONE}"
        r"(?P<what>[^\n]{1,300}?)(?= (?:as|to|into|for|in|microseconds|from|using|with)\b)",
        rf"\1{VALUE}",
    ),
    rule(
        rf"(\b(?:invalid|bad|illegal|unsupported|unexpected|rejected|unknown|duplicate|missing) (?:enum |picklist |\w{{1,20}} )?(?:values?|keys?|ids?|entry|identifiers?)(?: of)? ){DONE}"
        r"(?!(?:for|in|of|is|at|to|on|was|were|or|found|violates|constraint|error|length|type|column|field|property|set|specified|provided|given|supplied)\b)(?P<what>[^\n:;]{1,300}?)(?=(?: (?:for|in|on|of|is|was|at|found|violates)\b|[:;\n]|\.(?:\s|$)|$))",
        rf"\1{VALUE}",
    ),
    rule(
        rf"(\b(?:the )?(?:value|string|input|literal|number|timestamp|date|key|id|email|phone)s? ){DONE}"
        r"(?!(?:has|is|was|are|of|for|in|too|at|to|on|cannot|could|does|must|with|and|or|not|out|from|type|violates|exceeds|which|that|should|found|set|list|constraint|column|field|columns|fields)\b)"
        r"(?P<what>[^\s\n'\"«:;,(\[][^\n'\"«:;()]{0,200}?)(?= (?:is (?:not|invalid|too|out)|does not|cannot be|can't be|could not|has (?:an? )?invalid|already (?:exists|in use|taken)|exceeds|must be|not (?:found|in|valid)|out of range|for (?:column|field)|in (?:column|field))\b)",
        rf"\1{VALUE}",
    ),
    rule(
        rf"(\b(?:contains|holds|has|got|with|unexpected|found|received) (?:the |an? )?(?:\w{{1,20}} )?value )(?!(?:of|for|in|is|that|which|too|and|or|from|to|type|not)\b){TO_STOP}",
        rf"\1{VALUE}",
    ),
    # Anyone's words for a value that cannot be read, with the value in quotes
    rule(
        rf"\b((?:{WHAT_FAILED})s?(?: of| with| was| is| found)?:?\s{{1,3}})(?:{SINGLE}|{DOUBLE})(?!\s?:)",
        rf"\1{VALUE}",
    ),
    rule(rf"(\binput_value\s?=\s?)(?:{SINGLE}|{DOUBLE}|(?:(?!, input_type)[^\n]){{1,2000}}+)", rf"\1{VALUE}"),
    # and without
    rule(
        rf"(\b(?:value|values|picklist field|too large|invalid email address|incorrect type|got|actual|(?<!not )found|received|was given|with id|record id|primary key(?: value)?)\)?: )"
        rf"(?!(?:line|column|row) \d|(?:error|errors|none|no|null|type)\b){TO_STOP}",
        rf"\1{VALUE}",
    ),
    rule(
        rf"((?:rejected|bad|failing|failed|offending|invalid|problematic|sample|example|first|last|source|input|raw) (?:row|record|line|document|payload|event|object|message body|body|payload data)s?(?: \d{{1,12}})?: )(?!\{{\s?\\?[\"']){LINE_END}",
        rf"\1{VALUE}",
    ),
    rule(
        rf"(\b(?:row|record|payload|data|body|params|bindings|request body|response body) ?(?:#|no\.? ?|number )?\d{{0,12}}: )(?=[^\n]{{0,300}}(?:[,|\t]|[{{\[(]))(?!\s?[\[{{(]?\s?(?:\\?[\"']|«)){LINE_END}",
        rf"\1{VALUE}",
    ),
    rule(
        r"\b((?:Row|Record|OrderedDict|Series|NamedTuple|dict_values|Decimal|datetime\.\w{1,12}|UUID|Timestamp)\()(?!«)[^\n]{1,300}?(?=\)(?:[\s,;.)\]}]|$))",
        rf"\1{VALUE}",
        re.NOFLAG,
    ),
    rule(r"(\bassert )(?!«)[^\n]{1,300}? (==|!=|<=?|>=?|in|is) [^\n]{1,300}+", rf"\1{VALUE} \2 {VALUE}", re.NOFLAG),
    rule(r"(\bKeyError: )-?\d[\d.]*", rf"\1{VALUE}"),
    # Ids of Stripe's and Salesforce's records
    rule(
        r"(?<![\w/-])(?:cus|ch|py|pi|in|ii|sub|si|pm|card|acct|price|prod|txn|tok|src|seti|ba|tr|cs|cn|dp|re)_(?=[A-Za-z]{0,24}\d)[A-Za-z0-9]{8,}+",
        VALUE,
        re.NOFLAG,
    ),
    rule(
        r"(?<![\w/-])(?:00[135DGOQTUek]|500|a[0-9A-Z]{2})(?=[A-Za-z0-9]{0,11}[A-Za-z])[A-Za-z0-9]{9,12}(?:[A-Z0-5]{3})?(?![\w-])(?<=[A-Za-z0-9]{15})",
        VALUE,
        re.NOFLAG,
    ),
    # JSON, and the dictionaries of Python
    rule(
        r"(?P<key>(?P<quote>\\?[\"'])(?P<name>[^\"'\\\n]{1,100}+)(?P=quote)\s{0,3}:\s{0,3})"
        r"(?:\\\"(?:[^\"\\\n]|\\\\.){0,4000}+\\\"|\"(?:[^\"\\\n]|\\.){0,4000}+\"?|'(?:[^'\\\n]|\\.|'(?=\w)){0,4000}+'?"
        r"|-?\d[\d.eE+-]{0,60}+|true\b|false\b|\[[^\[\]{}\n]{0,4000}+\]|(?:datetime\.\w{1,12}|Decimal|UUID)\([^()\n]{0,200}\))",
        _json_value,
    ),
    rule(
        r"(?P<key>[{,]\s?(?P<name>[A-Za-z_]\w{0,40}): ?)(?:-?\d[\d.]{0,40}|[^\s,{}\[\]\"'«:][^,{}\[\]\n«:]{0,200}?)(?=\s?[,}])",
        _json_value,
    ),
    # XML: text and attributes
    rule(
        r"(?P<begin><(?:[\w.-]{1,40}:)?(?P<name>[A-Za-z_][\w.-]{0,60})(?:\s[^<>\n]{0,300})?>)(?!\s{0,50}«)[^<\n]{1,2000}+(?P<end></)",
        _element,
    ),
    rule(r"(<!\[CDATA\[)(?!«)(?:(?!\]\]>)[\s\S]){1,4000}+", rf"\1{VALUE}"),
    rule(
        r"(?<=<)[A-Za-z_][\w:.-]{0,60}(?:\s{1,5}[\w:.-]{1,60}\s?=\s?(?:\"[^\"\n]{0,500}\"|'[^'\n]{0,500}'))+",
        lambda match: re.sub(r"=\s?(?:\"[^\"]*\"|'[^']*')", f'="{VALUE}"', match[0]),
    ),
    # Rows as people and programs print them
    rule(r"^[ \t]*\|[^\n]{1,2000}\|[ \t]*(?:\n[ \t]*[|+][^\n]{1,2000}){1,200}", _table_row, re.MULTILINE),
    rule(
        r"^[^\n|]{1,200}(?:\|[^\n|]{1,200}){2,50}\n[-+= ]{5,2000}\n(?:[^\n|]{1,200}(?:\|[^\n|]{0,200}){2,50}(?:\n|\Z))+",
        _table_row,
        re.MULTILINE,
    ),
    rule(r"^(?![ \t]*File )[^\n\t]{1,300}(?:\t[^\n\t]{0,300}){2,50}$", VALUE, re.MULTILINE),
    rule(r"(?P<open>(?<![\w.])[(\[])(?P<items>[^()\[\]\n]{1,1000})(?P<close>[)\]])", _tuple),
    rule(
        rf"{FIELD.pattern}(?:[,;]? ?{FIELD.pattern.replace('?P<name>', '?:').replace('?P<value>', '?:')}){{0,50}}",
        _fields,
    ),
    rule(rf"(?:^[ \t]*|(?<=: )){CELL_OF_ROW}(?:,{CELL_OF_ROW}){{2,60}}[ \t]*$", _separated, re.MULTILINE),
    rule(
        rf"(?:^[ \t]*|(?<=: ))(?=[^\n]{{0,300}}\d){CELL_OF_ROW.replace(',;', ';')}(?:;{CELL_OF_ROW.replace(',;', ';')}){{2,60}}[ \t]*$",
        _separated,
        re.MULTILINE,
    ),
    rule(rf"(?<![\w.,;/«»\"'=(@-]){WORD_OF_ROW}(?:,{WORD_OF_ROW}){{2,60}}(?![\w\"'])", _separated, re.NOFLAG),
    # BigQuery's SQL has literals in double quotes, too, which are PostgreSQL's for names: only where no name is
    rule(r"((?:[=<>]|\blike)\s{0,3})\"[^\"\n]{0,2000}+\"(?!\.)", rf"\1{VALUE}"),
    rule(r"\b(?:in|values)\s{0,3}\([^()]{1,4000}+", _listed),
)
