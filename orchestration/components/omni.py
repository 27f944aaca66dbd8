"""Omni documents as assets, joined to the tables that their queries read, and the schema model that they are built on."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, override

import dagster as dg
from pydantic import BaseModel
from sqlglot.errors import SqlglotError

from orchestration.components.consumers import ConsumerState
from orchestration.components.omni_schema import KEY, SchemaModel
from orchestration.lineage import keys
from orchestration.lineage.consumers import Consumer
from orchestration.settings import OmniSettings, VendorSettings, omni_settings
from orchestration.vendors.http import VendorError
from orchestration.vendors.omni import Omni
from orchestration.vendors.omni_payloads import Document, Query

NOT_TOLD = (403, 422)
"""How Omni answers where it does not say what one document reads, which is no reason to lose the others."""
VIRTUAL = "omni_dbt"
"""What views of Omni's virtual schemas begin with: `omni_dbt_<schema>__<table>`, without the schema where that is the default one."""
log = logging.getLogger(__name__)


class KnownDocument(Document):
    """A document with what its queries read. It has a slug once it has had a query, or may have one: others are no assets."""

    slug: str | None = None
    queries: list[Query]
    email: str | None = None
    """The owner's e-mail address."""
    problem: str | None = None
    """Why Omni did not say what it reads."""

    @property
    def shown(self) -> bool:
        return bool(self.queries or self.problem)


class OmniState(BaseModel):
    documents: list[KnownDocument]


def omni() -> Omni:
    values = omni_settings()
    return Omni(str(values.omni_api_url), values.omni_api_key.get_secret_value(), values.omni_requests_per_minute)


@dataclass
class OmniDocuments(ConsumerState, dg.Resolvable):
    """Every document of an Omni organisation that has queries, and its schema model, which is refreshed when a table has other columns.

    What there is, is read from Omni by `dataplatform refresh`.
    """

    refresh_timeout_minutes: int = 30
    branch_of: dict[str, str] = field(default_factory=dict[str, str])
    """The id of the branch into which the schema is read, by the id of a schema model: Omni requires it where branch-based schema refresh
    is on for the model's connection, and refuses it elsewhere."""

    state_name: ClassVar[str] = "omni.json"
    vendor: ClassVar[str] = "omni"
    vendor_settings: ClassVar[tuple[type[VendorSettings], ...]] = (OmniSettings,)

    @property
    @override
    def source(self) -> str:
        return str(omni_settings().omni_api_url)

    @override
    def read(self, last: str | None) -> str:
        api = omni()
        before = {known.identifier: known for known in _documents(last)} if last else {}
        found = [_read(api, document, before.get(document.identifier)) for document in api.documents()]
        emails = _emails(api)
        # A document whose queries somebody has taken out keeps its slug for when it has some again; no document gets the schema model's.
        kept = {"": KEY.path[-1]} | {id_: known.slug for id_, known in before.items() if known.slug}
        named = {one.identifier: one.title for one in found if one.shown or one.identifier in kept}
        slugs = keys.slugs({"": KEY.path[-1]} | named, kept)
        documents = [
            one.model_copy(
                update={"slug": slugs.get(one.identifier), "email": _email(one, emails, before.get(one.identifier))}
            )
            for one in found
        ]
        documents.sort(key=lambda one: (one.slug or "", one.identifier))
        return OmniState(documents=documents).model_dump_json()

    @override
    def read_consumers(self, state: str) -> list[Consumer]:
        return [self._consumer(one) for one in _documents(state) if one.shown]

    @override
    def definitions(self, state: str) -> dg.Definitions:
        consumers = self.consumers(state)
        # Without a document there is no schema model either: it must not hide that Omni lists nothing any more.
        if not consumers:
            return dg.Definitions()
        read = sorted({table for one in consumers for table in one.reads}, key=lambda key: key.to_user_string())
        connections = {one.connection_id for one in _documents(state) if one.shown} - {None}
        schema = SchemaModel(
            read, connections, self.owners, self.source, self.refresh_timeout_minutes * 60, self.branch_of, omni
        )
        return dg.Definitions(
            assets=[schema.asset(), *(self.spec(one) for one in consumers)], sensors=[schema.sensor()]
        )

    def _consumer(self, one: KnownDocument) -> Consumer:
        assert one.slug is not None
        reads: set[dg.AssetKey] = set()
        unknown = {one.problem: None} if one.problem else dict[str, None]()
        for query in one.queries:
            for table in tables_of(query):
                if isinstance(table, str):
                    unknown[table] = None
                else:
                    reads.add(table)
        return Consumer(
            keys.consumer(self.vendor, one.slug),
            one.title,
            tuple(sorted(reads, key=lambda key: key.to_user_string())),
            tuple(unknown),
            url=one.url or f"{self.source.rstrip('/')}/dashboards/{one.identifier}",
            owner=one.email,
        )


def tables_of(query: Query) -> Iterator[dg.AssetKey | str]:
    """The tables that a query reads, and for each that cannot be told the reason in words."""
    if query.sql:
        try:
            yield from keys.tables_read(query.sql)
        except SqlglotError as error:
            yield f"The SQL of its query `{query.name}` cannot be read: {error}"
    for view in query.views:
        try:
            yield table_of(view)
        except ValueError as why:
            # A query of SQL has its result for a view, which is called anything.
            if not query.sql:
                yield str(why)
    if not query.views and not query.sql:
        yield f"Omni does not say what its query `{query.name}` reads."


def table_of(view: str) -> dg.AssetKey:
    """The table of a view of Omni's schema model, whose name is `<schema>__<table>`. Raises ValueError, with the reason, for another."""
    schema, separator, table = view.partition("__")
    if not separator or not schema or not table:
        raise ValueError(f"It reads the view `{view}`, whose name has no schema in it.")
    if schema == VIRTUAL:
        raise ValueError(f"It reads the view `{view}` of a virtual schema, whose name does not say where the table is.")
    return keys.table(schema.removeprefix(f"{VIRTUAL}_"), table)


def _documents(state: str) -> list[KnownDocument]:
    return OmniState.model_validate_json(state).documents


def _read(api: Omni, document: Document, before: KnownDocument | None) -> KnownDocument:
    """A document with its queries: those of the last state, where nobody has changed it since."""
    changed = before is None or before.updated_at != document.updated_at
    if before is not None and not changed and document.updated_at and before.problem is None:
        return _known(document, before.queries)
    try:
        return _known(document, api.queries(document.identifier))
    except VendorError as error:
        if error.status not in NOT_TOLD:
            raise
        known = before.queries if before else []
        return _known(document, known, f"Omni does not say what it reads: {error}")


def _known(document: Document, queries: list[Query], problem: str | None = None) -> KnownDocument:
    return KnownDocument(**document.model_dump(), queries=queries, problem=problem)


def _emails(api: Omni) -> Mapping[str, str] | None:
    """The users' e-mail addresses by their ids; None where the key may not read users."""
    try:
        return api.emails()
    except VendorError as error:
        if not error.permanent:
            raise
        log.warning("Omni's users cannot be read, so that new documents have no owner: %s", error)
        return None


def _email(document: Document, emails: Mapping[str, str] | None, before: KnownDocument | None) -> str | None:
    if emails is None:
        return before.email if before else None
    email = emails.get((document.owner and document.owner.id) or "", "")
    return email or None
