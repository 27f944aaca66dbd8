"""What Omni answers, as far as it is of interest here. Its spec leaves parts of it open, and content comes in every shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from orchestration.vendors.http import VendorError, describe_error, excerpt


def _text(value: object) -> object:
    """Names are sometimes missing, and sometimes null: what has none is shown without."""
    return value if isinstance(value, str) else ""


Name = Annotated[str, BeforeValidator(_text)]


class _Payload(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Owner(_Payload):
    id: str | None = None


class Document(_Payload):
    """A workbook, with a dashboard or without. `updated_at` is as Omni writes it: it is only compared with that of another day."""

    identifier: str
    name: Name = ""
    connection_id: str | None = None
    deleted: bool | None = False
    has_dashboard: bool | None = None
    owner: Owner | None = None
    updated_at: str | None = None
    url: str | None = None

    @property
    def title(self) -> str:
        return self.name.strip() or "Untitled"


class Query(BaseModel):
    """What one query of a document reads: `views` of Omni's model by name, or tables in `sql` of its own."""

    name: str
    views: list[str] = Field(default_factory=list[str])
    sql: str | None = None

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Query:
        """Take what is there: Omni's spec leaves the shape of a query open, and one odd query must not hide the others."""
        given = item.get("query")
        query = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
        table, fields, sql = query.get("table"), query.get("fields"), query.get("userEditedSQL")
        names = cast("list[Any]", fields) if isinstance(fields, list) else []
        # A query of a topic reads more than its `table`: the fields of a joined view are called `<view>.<field>`.
        views = [table] if isinstance(table, str) else []
        views += [name.partition(".")[0] for name in names if isinstance(name, str) and "." in name]
        return cls(
            name=str(item.get("name") or "unnamed"),
            views=list(dict.fromkeys(view.strip() for view in views if view.strip())),
            sql=sql if isinstance(sql, str) and sql.strip() else None,
        )


class Model(_Payload):
    """A model: of kind SCHEMA, as the warehouse is, or SHARED, which people build on it; others are of no interest here."""

    id: str
    name: str | None = None
    model_kind: str | None = None
    connection_id: str | None = None
    deleted_at: str | None = None


class Broken(BaseModel):
    """A document that refers to what its model does not have, in Omni's words."""

    identifier: str
    name: str
    issues: list[str]

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Broken | None:
        """From one document of the content validator; None where nothing is wrong with it, or it is a draft, which only its author sees.

        Omni's spec leaves this shape open: it is that of the example in docs.omni.co.
        """
        issues = [] if str(item.get("type")).lower() == "draft" else list(_issues(item))
        if not issues:
            return None
        identifier = str(item.get("identifier") or item.get("document_id"))
        return cls(identifier=identifier, name=str(item.get("name") or "Untitled"), issues=issues)


class Job(BaseModel):
    status: str


def _issues(item: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with it, in Omni's words."""
    for query in _listed(item, "queries_and_issues"):
        if isinstance(query, dict):
            fields = cast("dict[str, Any]", query)
            for issue in _listed(fields, "issues"):
                yield f"{fields.get('query_name') or 'a query'}: {_words(issue)}"
    for issue in _listed(item, "dashboard_filter_issues"):
        yield f"a filter: {_words(issue)}"
    # The spec tells of errors of a document as a whole, and does not name their field. [unverified]
    for name, value in item.items():
        if "error" in name.lower() and value:
            yield f"{name}: {_words(value)}"


def _words(issue: object) -> str:
    """An issue is a text by Omni's documentation; where it comes as an object, its message."""
    if isinstance(issue, dict):
        fields = cast("dict[str, Any]", issue)
        return excerpt(str(fields.get("message") or fields))
    return excerpt(str(issue))


def objects(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a list of an answer. Raises VendorError where there is no such list."""
    found = answer.get(name)
    if not isinstance(found, list):
        raise VendorError(f"Omni: an answer has no list `{name}`: {excerpt(repr(answer))}")
    return [cast("dict[str, Any]", item) for item in cast("list[Any]", found) if isinstance(item, dict)]


def valid[P: BaseModel](kind: type[P], item: Mapping[str, Any]) -> P:
    """Raises VendorError for what is not as documented."""
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        raise VendorError(f"Omni: an answer is not as documented: {describe_error(error)}") from error


def _listed(item: Mapping[str, Any], name: str) -> list[Any]:
    found = item.get(name)
    return cast("list[Any]", found) if isinstance(found, list) else []
