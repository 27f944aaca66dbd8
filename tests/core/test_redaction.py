from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.core.hidden_characters import HALVES, HIDDEN
from orchestration.core.redaction import LONGEST, SECRET, VALUE, redact, redact_lines
from tests.core.corpus import read_corpus

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7x\n3VS5JJcds3xf\n-----END RSA PRIVATE KEY-----"
GOOGLE_KEY = json.dumps(
    {
        "type": "service_account",
        "private_key_id": "0a1b2c3d4e5f",
        "private_key": PEM,
        "client_email": "dbt@p.iam.gserviceaccount.com",
    }
)

CREDENTIALS = {
    "bearer": ("Authorization: Bearer abc.def-ghi_123", "abc"),
    "basic": ("curl -H 'Authorization: Basic ZGF0YTpzM2NyM3Q='", "ZGF0"),
    "headers": ("headers={'authorization': 'Bearer s3cr3t-key', 'accept': 'application/json'}", "s3cr3t"),
    "bytes headers": ("Headers([(b'Authorization', b'Bearer s3cr3t-key')])", "s3cr3t"),
    "explo": ("Explo-Authorization: Token 0123456789abcdef", "0123"),
    "api key header": ("X-Api-Key: s3cr3t", "s3cr3t"),
    "cookie": ("Set-Cookie: session=s3cr3t; Path=/", "s3cr3t"),
    "httpx": ("Client error '401 Unauthorized' for url 'https://api.hightouch.com/api/v1/syncs?token=s3cr3t&limit=5'", "s3cr3t"),
    "requests": ("HTTPSConnectionPool(host='api.fivetran.com', port=443): Max retries exceeded with url: /v1/x?api_key=s3cr3t (Caused by", "s3cr3t"),
    "login in a url": ("https://key:s3cr3t@api.fivetran.com/v1/connections", "s3cr3t"),
    "token in a url": ("fatal: could not read from https://ghp_0123456789012345678901234567890123456@github.com/acme/x.git", "ghp_"),
    "signed gcs": ("https://storage.googleapis.com/b/o?X-Goog-Credential=a%40b&X-Goog-Signature=5a5a5a5a&X-Goog-Expires=900", "5a5a"),
    "signed s3": ("https://b.s3.amazonaws.com/o?X-Amz-Signature=5a5a5a&X-Amz-Security-Token=FwoGZXIvYXdz", "FwoG"),
    "azure": ("DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=s3cr3t+abc==;EndpointSuffix=core.windows.net", "s3cr3t"),
    "postgres": ("could not connect: postgresql://dbt:s3cr/e@t#1@db.internal:5432/prod?sslmode=require", "s3cr"),
    "dsn": ("connection failed: host=db.internal port=5432 user=dbt password='s3 cr3t' dbname=prod", "s3 cr"),
    "odbc": ("Driver={ODBC};Server=db;Uid=sa;Pwd=s3cr3t;", "s3cr3t"),
    "redis": ("Error 111 connecting to redis://:s3cr3t@cache:6379/0", "s3cr3t"),
    "env": ("FIVETRAN_API_SECRET=s3cr3t FIVETRAN_API_KEY=abc", "s3cr3t"),
    "json": ('{"client_secret": "s3cr3t", "refresh_token":"abc"}', "s3cr3t"),
    "escaped json": (r'"{\"api_key\": \"s3cr3t\", \"x\": 1}"', "s3cr3t"),
    "yaml": ("    password: s3cr3t\n    threads: 4", "s3cr3t"),
    "jwt": (f"token is {JWT}.", "eyJ"),
    "aws id": ("The AWS Access Key Id AKIAIOSFODNN7EXAMPLE does not exist", "AKIA"),
    "aws secret": ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalr"),
    "aws secret with no name": ("signature of wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalr"),
    "google api key": ("API key not valid: AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY", "AIza"),
    "google oauth": ("ya29.a0AfH6SMBx-abc_def", "ya29"),
    "pem": (f"Could not deserialize key data: {PEM}", "MIIE"),
    "pem that was cut": (PEM[:60], "MIIE"),
    "pem on one line": (PEM.replace("\n", "\\n"), "3VS5"),
    "key file": (GOOGLE_KEY, "MIIE"),
    "slack": ("invalid_auth: xoxb-1234567890-abcdefGHIJ", "xoxb"),
    "slack webhook": ("POST https://hooks.slack.com/services/T00/B00/s3cr3tXX 403", "s3cr3t"),
    "github": ("remote: ghs_16C7e42F292c6912E7710c838347Ae178B4a", "ghs_"),
    "stripe": ("Invalid API Key provided: sk_live_abcdef1234567890", "sk_live"),
    "random": ("key q8Zk2LwP0sVb7XyT4mNcR1dHf6Gj3Ka9 was revoked", "q8Zk"),
    "hex": ("key 9f86d081884c7d659a2feaa0c55ad015 was revoked", "9f86"),
}  # fmt: skip


@pytest.mark.parametrize("name", CREDENTIALS)
def test_credentials_are_removed(name: str) -> None:
    text, secret = CREDENTIALS[name]
    assert secret in text
    redacted = redact(text)
    assert secret not in redacted
    assert SECRET in redacted or VALUE in redacted


ROWS = {
    "bigquery number": ("400 Bad int64 value: Sarah O'Connor; reason: invalidQuery, location: query", "Sarah", "reason: invalidQuery"),
    "bigquery cast": ("Bad double value: 12,5\n  compiled code at target/run/x.sql", "12,5", "compiled code at target/run/x.sql"),
    "bigquery date": ("Could not parse 'Smith' as date. Required format is YYYY-MM-DD", "Smith", "Required format is YYYY-MM-DD"),
    "bigquery load": (
        "Could not parse '12x' as INT64 for field age (position 3) starting at location 17 with message 'Unable to parse'", "12x", "for field age (position 3)"
    ),
    "bigquery string": ('Failed to parse input string "2024-13-45"', "2024", "Failed to parse input string"),
    "bigquery timestamp": ('Invalid timestamp: "yesterday"', "yesterday", "Invalid timestamp"),
    "bigquery division": ("division by zero: 1417 / 0", "1417", "division by zero"),
    "bigquery load value": ("Could not convert value to integer. Field: age; Value: abc", "abc", "Field: age"),
    "bigquery insert": (
        "[{'index': 0, 'errors': [{'reason': 'invalid', 'location': 'age', 'message': 'Cannot convert value to integer (bad value): abc'}]}]",
        "abc", "'location': 'age', 'message': 'Cannot convert value to integer",
    ),
    "json row": ('row: {"id": 17, "email": "a@b.c", "name": "Sarah", "tags": ["vip"], "paid": true}', "Sarah vip 17 true a@b", '"email"'),
    "python row": ("could not insert {'id': 17, 'name': \"O'Connor\"}", "Connor 17", "'name'"),
    "postgres unique": (
        'duplicate key value violates unique constraint "users_email_key"\nDETAIL:  Key (email)=(a@b.c) already exists.', "a@b",
        'constraint "users_email_key"\nDETAIL:  Key (email)=(',
    ),
    "postgres unique of two": ("Key (org, name)=(17, Acme (UK)) already exists.\nCONTEXT: x", "17 Acme UK", ") already exists.\nCONTEXT: x"),
    "postgres unique over lines": ("Key (body)=(first\nsecond) already exists.", "first second", "already exists"),
    "postgres foreign": ('Key (user_id)=(991) is not present in table "users".', "991", 'is not present in table "users"'),
    "postgres check": ("DETAIL:  Failing row contains (17, Sarah, null, (x)).\nSQL", "17 Sarah", "Failing row contains"),
    "postgres integer": ('invalid input syntax for type integer: "Sarah "the" O"\nLINE 1: SELECT x', "Sarah", "for type integer"),
    "postgres enum": ('invalid input value for enum severity: "sev9"', "sev9", "enum severity"),
    "postgres range": ('value "99999999999" is out of range for type integer', "9999", "is out of range for type integer"),
    "postgres copy": ('CONTEXT:  COPY users, line 3, column age: "Sarah, 12"', "Sarah", "COPY users, line 3, column age"),
    "postgres json": ('DETAIL:  Token "Sarah" is invalid.\nCONTEXT:  JSON data, line 1: {"name": Sarah...', "Sarah", "JSON data, line 1"),
    "sqlalchemy": ("[SQL: UPDATE users SET name = %(name)s]\n[parameters: {'name': 'Sarah', 'id': 17}]", "Sarah 17", "UPDATE users SET name"),
    "mysql": ("(1062, \"Duplicate entry 'Sarah' for key 'users.name'\")", "Sarah", "for key 'users.name'"),
    "snowflake": ("Numeric value 'Sarah' is not recognized", "Sarah", "is not recognized"),
    "python float": ("ValueError: could not convert string to float: 'Sarah'", "Sarah", "could not convert string to float"),
    "python int": ("ValueError: invalid literal for int() with base 10: 'Sarah'", "Sarah", "with base 10"),
    "python time": ("time data 'Sarah' does not match format '%Y-%m-%d'", "Sarah", "does not match format '%Y-%m-%d'"),
    "pydantic": ("Input should be a valid integer [type=int_parsing, input_value='Sarah', input_type=str]", "Sarah", "type=int_parsing"),
    "salesforce": ("STRING_TOO_LONG: Name: data value too large: Sarah Connor (max length=80)", "Sarah", "(max length=80)"),
    "salesforce mail": ("INVALID_EMAIL_ADDRESS: Email: invalid email address: sarah at acme", "sarah at", "INVALID_EMAIL_ADDRESS"),
    "salesforce picklist": ("bad value for restricted picklist field: Very Special", "Special", "restricted picklist field"),
    "email": ("no Salesforce contact for sarah.o-connor+x@acme.co.uk, skipped", "sarah acme", "skipped"),
    "sql": (
        "select id from `p.core.users` as u where u.email = 'a@b.c' and u.name in ('Sarah', 'O''Brien') and u.note like 'x y%'", "Sarah Brien a@b y%",
        "select id from `p.core.users` as u where u.email = ",
    ),
    "sql over lines": ("insert into users (name)\nvalues (\n  'Sarah',\n  r'x\\d'\n)", "Sarah \\d", "insert into users (name)"),
    "bigquery's double quotes": ('select 1 from x where name = "Sarah J." or name in ("Ann", "Bob")', "Sarah Ann Bob", "select 1 from x where name = "),
    "a literal that was cut": ("LINE 1: select * from x where name = 'Sarah Conn", "Sarah", "where name ="),
    "words in quotes": ("Rejected: 'Sarah Connor' is no customer", "Sarah", "is no customer"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_values_of_rows_are_removed_and_the_error_stays(name: str) -> None:
    text, values, kept = ROWS[name]
    redacted = redact(text)
    assert VALUE in redacted
    assert [value for value in values.split() if value in redacted] == []
    assert kept in redacted


STAYS = [
    "Invalid credentials: password authentication failed for user fivetran. Reconnect the source.",
    "token: authentication failed",
    "Not found: Table acme-data:insights.time_spent_on_incidents_v2 was not found in location US",
    "Unrecognized name: user_emial; Did you mean user_email? at [3:5]",
    "Syntax error: Unexpected keyword SELECT at [3:1]",
    "Name org_id not found inside u at [12:9]",
    "No matching signature for operator = for argument types: INT64, STRING. Supported signature: ANY = ANY at [3:5]",
    "Value has type STRING which cannot be inserted into column created_at, which has type TIMESTAMP at [3:5]",
    "Access Denied: Table acme:core.users: User dbt@acme.iam.gserviceaccount.com does not have permission bigquery.tables.getData",
    "Quota exceeded: Your table exceeded quota for imports or query appends per table. For more information, see https://cloud.google.com/bigquery/docs/troubleshoot-quotas",
    "Got 3 results, configured to fail if != 0\n  compiled code at target/compiled/dataplatform/models/core/schema.yml/unique_users_id.sql",
    "Database Error in model on_call_load (models/insights/on_call_load.sql)",
    "Model 'model.dataplatform.x' (models/x.sql) depends on a node named 'stg_incidents' which was not found",
    "test.dataplatform.accepted_values_incidents_severity_5e1c3a9b2f5e1c3a9b2f5e1c3a9b2f55",
    'relation "public.users" does not exist',
    'column "email" of relation "users" does not exist',
    'permission denied for table users',
    'password authentication failed for user "fivetran"',
    'connection to server at "db.internal" (10.0.0.1), port 5432 failed: Connection refused',
    "KeyError: 'user_email'",
    "AttributeError: 'NoneType' object has no attribute 'rows'",
    "ModuleNotFoundError: No module named 'dbt.adapters.bigquery'",
    "Fivetran: POST https://api.fivetran.com/v1/connections/warm_cat/sync answered 500: the setup is incomplete",
    "Hightouch: sync 12 is warning: 4 of 100 rows rejected, see https://app.hightouch.com/acme/syncs/12/runs/99",
    "run 5f2c1b1e-8a44-4f5e-9c39-0d5e54c7e9f1 of job ingest, Job ID: 2f0b8f3e-6b1a-4ad5-9c1d-7a8f6b1c2d3e",
    'File "/opt/app/orchestration/components/dbt.py", line 120, in run\n    raise dg.Failure("failed")',
    "Schema change: column access_token: STRING is new in product_public.integrations",
    "the users' tables can't be read, and the groups' tables neither",
    "Unexpected token: FROM",
    "select u.id from `acme.core.users` as u join `acme.core.orgs` as o on o.id = u.org_id",
    "",
]  # fmt: skip


@pytest.mark.parametrize("text", STAYS)
def test_names_and_explanations_stay(text: str) -> None:
    assert redact(text) == text


EVERYTHING = [*(text for text, _ in CREDENTIALS.values()), *(text for text, *_ in ROWS.values()), *STAYS]


@pytest.mark.parametrize("text", EVERYTHING)
def test_redacted_text_stays_as_it_is(text: str) -> None:
    assert redact(redact(text)) == redact(text)


SECRET_TEXT = st.text("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", min_size=10, max_size=40).map(
    lambda text: f"q9{text}Z7"
)
AROUND = st.sampled_from([*STAYS, "", "\n", '"', "'", "{", "x = ", "select a from b where ", '{"error": "'])


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from([
        "password={}", "api_key: '{}'", "Authorization: Bearer {}", "postgres://u:{}@h/d", "https://h/p?token={}", '"client_secret": "{}"',
        "Key (email)=({}) already exists.", "Bad int64 value: {}", "Could not parse '{}' as date", 'invalid input syntax for type integer: "{}"',
        "Duplicate entry '{}' for key 'k'", "{}@example.com", "\nselect x from y where z = '{}'", "Failing row contains (1, {}, 2).",
    ]),
    SECRET_TEXT, AROUND, AROUND,
)  # fmt: skip
def test_secrets_are_removed_whatever_stands_around_them(form: str, secret: str, before: str, after: str) -> None:
    assert secret not in redact(f"{before} {form.format(secret)} {after}")


HIDDEN_PIECES = [
    "\x1b[31m",
    "\x1b]8;;x\x07",
    "\x1b",
    "\x00",
    "\u200b",
    "\u202e",
    "\ud800",
    "\u2028",
    "\r",
    "\x9b",
    "\U000e0041",
    "\x85",
]
CORPUS_TEXTS = st.sampled_from([sample.text for sample in read_corpus()])
PIECES = [
    *"ab1 '\"\\:=(){}[]@./\n-_?&,;",
    "password",
    "Key (",
    "value: ",
    "select ",
    "from ",
    "://",
    "eyJ",
    "in (",
    "Bearer ",
]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_text_of_the_pieces_of_rules_is_redacted(text: str) -> None:
    _check_properties(text)


@settings(max_examples=500, deadline=None)
@given(
    st.text(),
    st.lists(st.one_of(st.text(max_size=8), st.sampled_from([*PIECES, *HIDDEN_PIECES]), CORPUS_TEXTS)).map("".join),
)
def test_any_text_is_redacted(text: str, mixed: str) -> None:
    _check_properties(text)
    _check_properties(mixed)


def _check_properties(text: str) -> None:
    """Check that the redacted text is stable, has no hidden character, and is not much longer."""
    once = redact(text)
    assert redact(once) == once
    assert HIDDEN.search(once) is None
    assert HALVES.search(once) is None
    assert len(once) <= 10 * len(text) + 10
    assert all(not any(char in line for char in "\n\t") for line in redact_lines(text))


HOSTILE = [
    "a", "'", '"', "\\", " ", "(", "\n", "eyJ", "aA0", "a@", "a.b@c.", "://", "x://a:", "password=", "password='", "Key (a)=(", "Key (", '"a":', "'a':",
    "{'a': ", "select ", "select from ", "where a ", "values(", "values '", "value: ", "value '", "value \"", "bearer ", "bearer a", "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN ", "row contains (", "COPY a: ", "invalid input syntax for ", "a'a", "''", "'a ", "in(", 'in("', "=\"", "\\'", "authorization: \"", "input_value=",
    "?token", "&sig", "://a?token", "LINE 1: '", "a" * 40 + " ", "0" * 31 + "g", "[parameters: ",
    "| a | b |\n", "a|b|c\n", "a,b,c,", "1,a,", "a;1;", "1\ta\t", "<a>b", "<a b='c' ", "<![CDATA[", "k=v ", "k=v, ", "(1, ", "[1, ", "r'", "\"\"\"", "'''", "rb\"",
    "Cannot parse ", "Cannot parse a ", "invalid value ", "invalid value a ", "the value a ", "the value ", "Row(", "assert a ", "-u a:b", "--password ", "mysql -p",
    "DE89 3704 ", "4242 ", "42", "+1 ", "0171 5", "(0171) ", "phone: ", "a:b@", "/a?b=", "/", "cus_", "00D", "\x1b[", "\x1b]", "\x1b", "\u200b", "{a: ", "out of range: ",
    "Sample row: ", "row 1: ", "«value»", "= 1", "\"a\" ", "'a' ", "tel ", "- - - ", "{\\\"a\\\": ", "A b=C D", "a_", "a.", "A1", "www.", "select 'a' from ", "a, ",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_megabyte_of_hostile_text_takes_seconds_at_most(piece: str) -> None:
    for text in (piece * (1_000_000 // len(piece)), (piece * (90_000 // len(piece)))):
        # The thread's own time: what else the machine does is hardly counted. It is less than a second; what backtracks takes minutes.
        began = time.thread_time()
        redact(text)
        assert time.thread_time() - began < 10


def test_beginning_and_end_of_a_very_long_text_are_kept() -> None:
    text = "Traceback\n" + "  File x\n" * 100_000 + "password=s3cr3t\nValueError: it broke"
    redacted = redact(text)
    assert len(redacted) < LONGEST + 100
    assert redacted.startswith("Traceback\n")
    assert redacted.endswith(f"password={SECRET}\nValueError: it broke")
