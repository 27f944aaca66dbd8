"""BigQuery's types as text (`ARRAY<STRUCT<id INT64, name STRING>>`) and as the analyzer has them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from zetasql.wasi._pb2.zetasql.public import type_pb2

# https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types, with the synonyms that BigQuery takes in DDL. FLOAT is not one:
# it exists in the API's schemas only.
SIMPLE = {
    "STRING": type_pb2.TYPE_STRING,
    "BYTES": type_pb2.TYPE_BYTES,
    "INT64": type_pb2.TYPE_INT64,
    "INT": type_pb2.TYPE_INT64,
    "SMALLINT": type_pb2.TYPE_INT64,
    "INTEGER": type_pb2.TYPE_INT64,
    "BIGINT": type_pb2.TYPE_INT64,
    "TINYINT": type_pb2.TYPE_INT64,
    "BYTEINT": type_pb2.TYPE_INT64,
    "FLOAT64": type_pb2.TYPE_DOUBLE,
    "NUMERIC": type_pb2.TYPE_NUMERIC,
    "DECIMAL": type_pb2.TYPE_NUMERIC,
    "BIGNUMERIC": type_pb2.TYPE_BIGNUMERIC,
    "BIGDECIMAL": type_pb2.TYPE_BIGNUMERIC,
    "BOOL": type_pb2.TYPE_BOOL,
    "BOOLEAN": type_pb2.TYPE_BOOL,
    "DATE": type_pb2.TYPE_DATE,
    "DATETIME": type_pb2.TYPE_DATETIME,
    "TIME": type_pb2.TYPE_TIME,
    "TIMESTAMP": type_pb2.TYPE_TIMESTAMP,
    "GEOGRAPHY": type_pb2.TYPE_GEOGRAPHY,
    "JSON": type_pb2.TYPE_JSON,
    "INTERVAL": type_pb2.TYPE_INTERVAL,
}
NAMES = {kind: name for name, kind in reversed(SIMPLE.items())}
TOKEN = re.compile(r"\s*([A-Za-z_][\w-]*|`[^`]+`|\([^)]*\)|[<>,])")


class UnknownTypeError(ValueError):
    """A text that names no BigQuery type."""


def parse_type(text: str) -> type_pb2.TypeProto:
    """Return the analyzer's type for a type as it stands in DDL. Parameters, as in `STRING(10)`, do not count.

    Raises UnknownTypeError, which names the text.
    """
    tokens = _tokens(text)
    try:
        kind = _parse(tokens, text)
        rest = next(tokens, None)
    except StopIteration:
        raise UnknownTypeError(f"{text!r} is no BigQuery type: it ends too early") from None
    if rest is not None:
        raise UnknownTypeError(f"{text!r} is no BigQuery type: {rest!r} follows it")
    return kind


def format_type(kind: type_pb2.TypeProto) -> str:
    """Return a type as it stands in DDL."""
    if kind.type_kind == type_pb2.TYPE_ARRAY:
        return f"ARRAY<{format_type(kind.array_type.element_type)}>"
    if kind.type_kind == type_pb2.TYPE_RANGE:
        return f"RANGE<{format_type(kind.range_type.element_type)}>"
    if kind.type_kind == type_pb2.TYPE_STRUCT:
        fields = (f"{field.field_name} {format_type(field.field_type)}".strip() for field in kind.struct_type.field)
        return f"STRUCT<{', '.join(fields)}>"
    return NAMES.get(kind.type_kind) or type_pb2.TypeKind.Name(kind.type_kind).removeprefix("TYPE_")


def _tokens(text: str) -> Iterator[str]:
    place = 0
    while text[place:].strip():
        found = TOKEN.match(text, place)
        if found is None:
            raise UnknownTypeError(f"{text!r} is no BigQuery type: {text[place:].strip()!r} is not understood")
        place = found.end()
        if not found[1].startswith("("):
            yield found[1].strip("`")


def _parse(tokens: Iterator[str], text: str) -> type_pb2.TypeProto:
    name = next(tokens).upper()
    result = type_pb2.TypeProto()
    if name in ("ARRAY", "RANGE"):
        _expect("<", next(tokens), text)
        element = _parse(tokens, text)
        _expect(">", next(tokens), text)
        result.type_kind = type_pb2.TypeKind.Value(f"TYPE_{name}")
        (result.array_type if name == "ARRAY" else result.range_type).element_type.CopyFrom(element)
    elif name == "STRUCT":
        _expect("<", next(tokens), text)
        result.type_kind = type_pb2.TYPE_STRUCT
        result.struct_type.SetInParent()
        separator = ","
        while separator == ",":
            field = result.struct_type.field.add(field_name=next(tokens))
            field.field_type.CopyFrom(_parse(tokens, text))
            separator = next(tokens)
        _expect(">", separator, text)
    elif name in SIMPLE:
        result.type_kind = SIMPLE[name]
    else:
        raise UnknownTypeError(f"{text!r} is no BigQuery type: {name} is unknown")
    return result


def _expect(wanted: str, found: str, text: str) -> None:
    if found != wanted:
        raise UnknownTypeError(f"{text!r} is no BigQuery type: {wanted!r} is missing before {found!r}")
