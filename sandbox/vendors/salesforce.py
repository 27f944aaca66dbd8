"""Salesforce's REST API, as far as `simple-salesforce` and a loader need it: SOQL reads, upsert by external id, describe.

A query reads one object: no sub-queries, no relationship fields, no aggregates but COUNT(). Others are refused as MALFORMED_QUERY.
"""

from __future__ import annotations

import json
import random
import sqlite3
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sandbox.company import accounts as company
from sandbox.services import postgres
from sandbox.vendors import soql
from sandbox.vendors.context import VendorContext

TOKEN = "local-salesforce-token"
PAGE = 2000
FIELDS = {
    "Account": {
        "Id": "id", "Name": "string", "Industry": "picklist", "OwnerId": "reference", "Organisation_Id__c": "string",
        "Health_Score__c": "double", "Health_Band__c": "picklist", "Incidents_28d__c": "double", "Open_Tasks__c": "double",
        "Mrr__c": "double",
    },
    "User": {"Id": "id", "Name": "string", "Email": "email", "IsActive": "boolean"},
    "Contact": {
        "Id": "id", "AccountId": "reference", "OwnerId": "reference", "Name": "string", "FirstName": "string",
        "LastName": "string", "Email": "email", "Title": "string",
    },
    "Opportunity": {
        "Id": "id", "AccountId": "reference", "Name": "string", "StageName": "picklist", "Amount": "double", "CloseDate": "date",
    },
}  # fmt: skip
SYSTEM = {
    "IsDeleted": "boolean",
    "CreatedDate": "datetime",
    "LastModifiedDate": "datetime",
    "SystemModstamp": "datetime",
}
WITHOUT = {"User": {"IsDeleted"}}
"""System fields that an object lacks: a user is deactivated, never deleted (Salesforce's object reference, User)."""
EXTERNAL_IDS = {
    ("Account", "Organisation_Id__c"),
    ("Account", "Id"),
    ("User", "Id"),
    ("Contact", "Id"),
    ("Opportunity", "Id"),
}
PREFIX = {"Account": "001", "Contact": "003", "User": "005", "Opportunity": "006"}
READ_ONLY = {"Id", *SYSTEM}
TYPES = {"double": (int, float), "boolean": bool}
"""What a value has to be in JSON; text for every other type."""


class SalesforceError(Exception):
    def __init__(self, status: int, code: str, message: str, fields: list[str] | None = None) -> None:
        super().__init__(message)
        self.status, self.body = status, {"message": message, "errorCode": code, "fields": fields or []}


def build(context: VendorContext) -> FastAPI:
    app = FastAPI(title="Salesforce", openapi_url=None)
    org = Org(context)

    @app.exception_handler(SalesforceError)
    def failed(_request: Request, error: SalesforceError) -> JSONResponse:
        return JSONResponse([error.body], error.status)

    @app.exception_handler(HTTPException)
    def unknown(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse([{"errorCode": "NOT_FOUND", "message": error.detail}], error.status_code)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse([{"errorCode": "JSON_PARSER_ERROR", "message": str(error.errors()[0]["msg"])}], 400)

    def authorise(request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            raise SalesforceError(401, "INVALID_SESSION_ID", "Session expired or invalid")

    @app.post("/services/oauth2/token")
    def token() -> dict[str, str]:
        return {"access_token": TOKEN, "instance_url": context.config.url("salesforce"), "token_type": "Bearer"}

    app.include_router(_routes(org), prefix="/services/data/{version}", dependencies=[Depends(authorise)])
    return app


def _routes(org: Org) -> APIRouter:
    router = APIRouter()

    @router.get("/sobjects/{name}/describe")
    def describe(name: str) -> dict[str, Any]:
        fields = org.fields(name)
        return {
            "name": name,
            "fields": [
                {"name": field, "type": kind, "externalId": (name, field) in EXTERNAL_IDS and field != "Id"}
                for field, kind in fields.items()
            ],
        }

    @router.get("/query")
    def query(version: str, q: str) -> dict[str, Any]:
        return org.query(version, q)

    @router.get("/queryAll")
    def query_all(version: str, q: str) -> dict[str, Any]:
        return org.query(version, q)

    @router.get("/query/{locator}")
    def more(version: str, locator: str) -> dict[str, Any]:
        return org.more(version, locator)

    @router.get("/sobjects/{name}/{record}")
    def read(name: str, record: str) -> dict[str, Any]:
        return org.read(name, "Id", record)

    @router.get("/sobjects/{name}/{field}/{value}")
    def read_by(name: str, field: str, value: str) -> dict[str, Any]:
        return org.read(name, field, value)

    @router.post("/sobjects/{name}")
    def create(name: str, body: Annotated[dict[str, Any], Body()]) -> Response:
        return JSONResponse({"id": org.write(name, None, body), "success": True, "errors": []}, 201)

    @router.patch("/sobjects/{name}/{record}")
    def update(name: str, record: str, body: Annotated[dict[str, Any], Body()]) -> Response:
        org.read(name, "Id", record)
        org.write(name, record, body)
        return Response(status_code=204)

    @router.patch("/sobjects/{name}/{field}/{value}")
    def upsert(name: str, field: str, value: str, body: Annotated[dict[str, Any], Body()]) -> Response:
        record, created = org.upsert(name, field, body | {field: value})
        return JSONResponse({"id": record, "success": True, "created": created, "errors": []}, 201 if created else 200)

    @router.patch("/composite/sobjects/{name}/{field}")
    def collection(name: str, field: str, body: Annotated[dict[str, Any], Body()]) -> list[dict[str, Any]]:
        records = body["records"]
        if len(records) > 200:
            raise SalesforceError(400, "LIMIT_EXCEEDED", "a collection has at most 200 records")
        return [org.upsert_one(name, field, {k: v for k, v in r.items() if k != "attributes"}) for r in records]

    return router


class Org:
    """The records. Every write moves a record's SystemModstamp, also one that changes no value, as in Salesforce."""

    def __init__(self, context: VendorContext) -> None:
        self._store = context.store
        for name in FIELDS:
            columns = ", ".join(f'"{field}"' + (" primary key" if field == "Id" else "") for field in self.fields(name))
            self._store.script(f"create table if not exists salesforce_{name.lower()} ({columns});")
        self._store.script("create table if not exists salesforce_locator (id text primary key, records text)")
        self._seed(context)

    def fields(self, name: str) -> dict[str, str]:
        if name not in FIELDS:
            raise SalesforceError(404, "NOT_FOUND", f"The requested resource does not exist: {name}")
        return _fields(name)

    def read(self, name: str, field: str, value: str) -> dict[str, Any]:
        self._external(name, field)
        rows = self._store.execute(f'select * from salesforce_{name.lower()} where "{field}" = ?', (value,))
        if not rows:
            raise SalesforceError(404, "NOT_FOUND", "The requested resource does not exist")
        return _record(name, rows[0], list(self.fields(name)))

    def upsert_one(self, name: str, field: str, values: dict[str, Any]) -> dict[str, Any]:
        """One record of a collection: its error is in its own result."""
        try:
            record, created = self.upsert(name, field, values)
        except SalesforceError as error:
            problem = {
                "statusCode": error.body["errorCode"],
                "message": error.body["message"],
                "fields": error.body["fields"],
            }
            return {"success": False, "errors": [problem]}
        return {"id": record, "success": True, "created": created, "errors": []}

    def upsert(self, name: str, field: str, values: dict[str, Any]) -> tuple[str, bool]:
        self._external(name, field)
        if not values.get(field):
            raise SalesforceError(400, "MISSING_ARGUMENT", f"{field} not specified", [field])
        with self._store.transaction():
            rows = self._store.execute(
                f'select "Id" from salesforce_{name.lower()} where "{field}" = ?', (values[field],)
            )
            if field == "Id" and not rows:
                raise SalesforceError(404, "NOT_FOUND", "The requested resource does not exist")
            record = rows[0]["Id"] if rows else None
            return self.write(name, record, values), record is None

    def write(self, name: str, record: str | None, values: dict[str, Any]) -> str:
        """Create (`record` None) or update a record, and return its id."""
        known = self.fields(name)
        values = {field: value for field, value in values.items() if field != "Id"}
        for field in values:
            if field not in known or field in READ_ONLY:
                raise SalesforceError(
                    400, "INVALID_FIELD", f"No such column '{field}' on sobject of type {name}", [field]
                )
        self._validate(name, record, values)
        now = soql.instant(datetime.now(UTC))
        stamps = {"LastModifiedDate": now, "SystemModstamp": now}
        if record is None:
            record = f"{PREFIX[name]}{random.randrange(10**12):012}AAA"
            self._insert(name, {"Id": record, "IsDeleted": False, "CreatedDate": now} | stamps | values)
            return record
        changes = values | stamps
        assignments = ", ".join(f'"{field}" = ?' for field in changes)
        self._store.execute(
            f'update salesforce_{name.lower()} set {assignments} where "Id" = ?', (*changes.values(), record)
        )
        return record

    def query(self, version: str, text: str) -> dict[str, Any]:
        try:
            query = soql.translate(text, {name: self.fields(name) for name in FIELDS})
            rows = self._store.execute(query.statement)
        except soql.SoqlError as error:
            raise SalesforceError(400, error.code, str(error), error.fields) from error
        except sqlite3.Error as error:
            raise SalesforceError(400, "MALFORMED_QUERY", f"{error}: {text}") from error
        if not query.fields:
            return {"totalSize": rows[0][0], "done": True, "records": []}
        records = [_record(query.object, row, query.fields) for row in rows]
        if len(records) <= PAGE:
            return {"totalSize": len(records), "done": True, "records": records}
        cursor = f"01g{random.getrandbits(60):015x}"
        self._store.execute("insert into salesforce_locator values (?, ?)", (cursor, json.dumps(records)))
        return self.more(version, f"{cursor}-0")

    def more(self, version: str, locator: str) -> dict[str, Any]:
        """The page of a query's answer at a locator, `<cursor>-<records before it>`."""
        cursor, _, offset = locator.partition("-")
        rows = self._store.execute("select records from salesforce_locator where id = ?", (cursor,))
        if not rows or not offset.isdigit():
            raise SalesforceError(400, "INVALID_QUERY_LOCATOR", f"invalid query locator {locator}")
        records = json.loads(rows[0]["records"])
        end = int(offset) + PAGE
        answer = {"totalSize": len(records), "done": end >= len(records), "records": records[int(offset) : end]}
        return (
            answer if answer["done"] else answer | {"nextRecordsUrl": f"/services/data/{version}/query/{cursor}-{end}"}
        )

    def _validate(self, name: str, record: str | None, values: dict[str, Any]) -> None:
        for field, value in values.items():
            kind = self.fields(name)[field]
            if value is not None and not isinstance(value, TYPES.get(kind, str)):
                message = f"{field}: value not of required type: {value}"
                raise SalesforceError(400, "INVALID_TYPE_ON_FIELD_IN_RECORD", message, [field])
        score = values.get("Health_Score__c")
        if score is not None and not 0 <= score <= 100:
            message = "Health Score: a score is between 0 and 100"
            raise SalesforceError(400, "FIELD_CUSTOM_VALIDATION_EXCEPTION", message, ["Health_Score__c"])
        if record is None and "Name" in self.fields(name) and not values.get("Name"):
            raise SalesforceError(400, "REQUIRED_FIELD_MISSING", "Required fields are missing: [Name]", ["Name"])

    def _external(self, name: str, field: str) -> None:
        self.fields(name)
        if (name, field) not in EXTERNAL_IDS:
            raise SalesforceError(
                404, "NOT_FOUND", f"Provided external ID field does not exist or is not accessible: {field}"
            )

    def _insert(self, name: str, values: dict[str, Any]) -> None:
        values = {field: value for field, value in values.items() if field in self.fields(name)}
        columns = ", ".join(f'"{field}"' for field in values)
        marks = ", ".join("?" * len(values))
        self._store.execute(
            f"insert into salesforce_{name.lower()} ({columns}) values ({marks})", tuple(values.values())
        )

    def _seed(self, context: VendorContext) -> None:
        dsn = postgres.dsn(context.config)
        records = {
            "Account": company.accounts(dsn), "Opportunity": company.opportunities(dsn), "User": company.users(),
            "Contact": company.contacts(dsn),
        }  # fmt: skip
        now = soql.instant(datetime.now(UTC))
        with self._store.transaction():
            for name, rows in records.items():
                if self._store.execute(f"select 1 from salesforce_{name.lower()} limit 1"):
                    continue
                for row in rows:
                    made = row.get("CreatedDate")
                    stamps = {"IsDeleted": False, "CreatedDate": soql.instant(made) if made else now}
                    self._insert(name, row | stamps | {"LastModifiedDate": now, "SystemModstamp": now})


def _fields(name: str) -> dict[str, str]:
    """The fields of an object, with their types."""
    return {field: kind for field, kind in (FIELDS[name] | SYSTEM).items() if field not in WITHOUT.get(name, set())}


def _record(name: str, row: sqlite3.Row, fields: list[str]) -> dict[str, Any]:
    kinds = _fields(name)
    attributes = {"type": name}
    if "Id" in set(row.keys()):
        attributes["url"] = f"/services/data/v59.0/sobjects/{name}/{row['Id']}"
    values = {field: bool(row[field]) if kinds[field] == "boolean" else row[field] for field in fields}
    return {"attributes": attributes} | values
