"""Zendesk's Support API, as far as a connector reads it: the incremental exports; and the deletion of a ticket, which they tell of.

Tickets and users come by cursor, organisations and ticket events by time, as in Zendesk's reference of incremental exports. Unlike there, what
changed within the last minute is not held back, since the company's clock stands still between its hours, and there is no rate limit.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import psycopg
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sandbox.company import office
from sandbox.services import postgres
from sandbox.vendors.context import VendorContext

EMAIL, TOKEN = "fivetran@example.com", "local-zendesk-token"
MOST = 1000

Row = dict[str, Any]
PerPage = Annotated[int, Query(ge=1, le=MOST)]


class ZendeskError(Exception):
    def __init__(self, status: int, error: str, description: str | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error} | ({"description": description} if description else {})


@dataclass(frozen=True)
class Export:
    """What an export lists: a table of `company_state`, and how a row is shown at an address of Zendesk's."""

    name: str
    table: str
    show: Callable[[str, Row], Row]
    changed: str = "updated_at"


def build(context: VendorContext) -> FastAPI:
    dsn, url = postgres.dsn(context.config), context.config.url("zendesk")
    with office.opened(dsn) as connection:
        office.prepare(connection)
    app = FastAPI(title="Zendesk", openapi_url=None)
    app.include_router(_routes(dsn, url), prefix="/api/v2", dependencies=[Depends(_authorise)])

    @app.exception_handler(ZendeskError)
    def failed(_request: Request, error: ZendeskError) -> JSONResponse:
        return JSONResponse(error.body, error.status)

    @app.exception_handler(HTTPException)
    def unknown(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": "InvalidEndpoint", "description": "Not found"}, error.status_code)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        [problem, *_] = error.errors()
        message = f"Invalid attribute: {problem['loc'][-1]}: {problem['msg']}"
        return JSONResponse({"error": {"title": "Invalid attribute", "message": message}}, 400)

    @app.exception_handler(psycopg.Error)
    def broken(_request: Request, _error: psycopg.Error) -> JSONResponse:
        return JSONResponse({"error": "InternalError", "description": "Something went wrong"}, 500)

    return app


def _authorise(request: Request) -> None:
    expected = base64.b64encode(f"{EMAIL}/token:{TOKEN}".encode()).decode()
    if request.headers.get("authorization") != f"Basic {expected}":
        raise ZendeskError(401, "Couldn't authenticate you")


def _routes(dsn: str, url: str) -> APIRouter:
    router = APIRouter()

    @router.get("/incremental/tickets/cursor.json")
    def tickets(start_time: int | None = None, cursor: str | None = None, per_page: PerPage = MOST) -> Row:
        return _by_cursor(dsn, url, TICKETS, start_time, cursor, per_page)

    @router.get("/incremental/users/cursor.json")
    def users(start_time: int | None = None, cursor: str | None = None, per_page: PerPage = MOST) -> Row:
        return _by_cursor(dsn, url, USERS, start_time, cursor, per_page)

    @router.get("/incremental/organizations.json")
    def organizations(start_time: int, per_page: PerPage = MOST) -> Row:
        return _by_time(dsn, url, ORGANIZATIONS, start_time, per_page)

    @router.get("/incremental/ticket_events.json")
    def ticket_events(start_time: int, include: str = "", per_page: PerPage = MOST) -> Row:
        found = _by_time(dsn, url, EVENTS, start_time, per_page, f"&include={include}" if include else "")
        if include != "comment_events":
            for event in found["ticket_events"]:
                event["child_events"] = [one for one in event["child_events"] if one["event_type"] != "Comment"]
        return found

    @router.delete("/tickets/{key}.json")
    def delete(key: int) -> Response:
        with office.opened(dsn) as connection:
            done = connection.execute(
                "update company_state.support_tickets set status = 'deleted', updated_at = %s,"
                " change = nextval('company_state.support_change') where id = %s and status <> 'deleted'",
                [office.now(connection), key],
            )
        if not done.rowcount:
            raise ZendeskError(404, "RecordNotFound", "Not found")
        return Response(status_code=204)

    return router


def _by_cursor(dsn: str, url: str, export: Export, start: int | None, cursor: str | None, per_page: int) -> Row:
    """A page from a time on, or past a cursor, which stands for a change and not for a time: nothing comes twice."""
    if start is None and cursor is None:
        raise ZendeskError(400, "StartTimeMissing", "Missing parameter: start_time")
    where, value = ("change > %s", _change(cursor)) if cursor else ("updated_at >= %s", _moment(start or 0))
    with office.opened(dsn) as connection:
        statement = f"select * from {export.table} where {where} order by change limit {per_page + 1}"
        rows = connection.execute(statement.encode(), [value]).fetchall()
    page = rows[:per_page]
    after = _cursor(page[-1]["change"]) if page else cursor
    path = f"{url}/api/v2/incremental/{export.name}/cursor.json"
    return {
        export.name: [export.show(url, row) for row in page],
        "after_url": f"{path}?cursor={after}" if after else None, "after_cursor": after, "before_url": None,
        "before_cursor": None, "end_of_stream": len(rows) <= per_page,
    }  # fmt: skip


def _by_time(dsn: str, url: str, export: Export, start: int, per_page: int, more: str = "") -> Row:
    """A page from a time on. The next one begins at this one's last second, so what changed in that second comes again."""
    with office.opened(dsn) as connection:
        statement = f"select * from {export.table} where {export.changed} >= %s order by {export.changed}, id limit {per_page + 1}"
        rows = connection.execute(statement.encode(), [_moment(start)]).fetchall()
        page, last = rows[:per_page], len(rows) <= per_page
        if not last and page[-1][export.changed] == page[0][export.changed]:
            # A page of one second only would lead to itself: Zendesk then answers with the whole second.
            same = f"select * from {export.table} where {export.changed} = %s order by id"
            page = connection.execute(same.encode(), [page[0][export.changed]]).fetchall()
            begin = page[0][export.changed].timestamp() + 1
        else:
            begin = page[-1][export.changed].timestamp() if page else start
    path = f"{url}/api/v2/incremental/{export.name}.json"
    return {
        export.name: [export.show(url, row) for row in page], "count": len(page), "end_time": int(begin),
        "end_of_stream": last, "next_page": f"{path}?start_time={int(begin)}&per_page={per_page}{more}",
    }  # fmt: skip


def _cursor(change: int) -> str:
    return base64.urlsafe_b64encode(f"{change}||".encode()).decode().rstrip("=")


def _change(cursor: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().removesuffix("||"))
    except (binascii.Error, ValueError) as error:
        raise ZendeskError(400, "InvalidCursor", f"Invalid cursor: {cursor}") from error


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _times(row: Row) -> Row:
    return {"created_at": _written(row["created_at"]), "updated_at": _written(row["updated_at"])}


def _organization(url: str, row: Row) -> Row:
    return {
        "id": row["id"], "url": f"{url}/api/v2/organizations/{row['id']}.json", "name": row["name"],
        "external_id": row["external_id"], "details": None, "notes": None, "group_id": None, "domain_names": [],
        "shared_tickets": False, "shared_comments": False, "tags": [], "organization_fields": {}, "deleted_at": None,
    } | _times(row)  # fmt: skip


def _user(url: str, row: Row) -> Row:
    return {
        "id": row["id"], "url": f"{url}/api/v2/users/{row['id']}.json", "name": row["name"], "email": row["email"],
        "role": row["role"], "organization_id": row["organization_id"], "active": True, "verified": True,
        "external_id": None, "locale": "en-US", "phone": None, "suspended": False, "tags": [], "time_zone": "UTC",
    } | _times(row)  # fmt: skip


def _ticket(url: str, row: Row) -> Row:
    return {
        "id": row["id"], "url": f"{url}/api/v2/tickets/{row['id']}.json", "external_id": None,
        "via": {"channel": row["via_channel"], "source": {"from": {}, "to": {}, "rel": None}}, "type": row["type"],
        "subject": row["subject"], "raw_subject": row["subject"], "priority": row["priority"], "status": row["status"],
        "recipient": None, "requester_id": row["requester_id"], "submitter_id": row["requester_id"],
        "assignee_id": row["assignee_id"], "organization_id": row["organization_id"], "group_id": None,
        "collaborator_ids": [], "tags": [], "custom_fields": [], "is_public": True,
        "generated_timestamp": int(row["updated_at"].timestamp()),
    } | _times(row)  # fmt: skip


def _ticket_event(_url: str, row: Row) -> Row:
    """A comment or a change of a field, each as an update of its own; Zendesk puts what was saved together into one."""
    via = {"channel": "web", "source": {"from": {}, "to": {}, "rel": None}}
    child: Row = {"id": row["id"], "via": via, "via_reference_id": None}
    if row["field_name"] is None:
        child |= {
            "type": "Comment", "event_type": "Comment", "author_id": row["author_id"], "body": row["body"],
            "html_body": f"<p>{row['body']}</p>", "public": row["public"], "attachments": [],
            "audit_id": row["audit_id"], "created_at": _written(row["created_at"]),
        }  # fmt: skip
    else:
        # Unverified: Zendesk's reference says that an event has all the fields that were updated, and shows the shape of a comment only.
        # Fivetran itself reads the ticket audits (its page "How Does Fivetran Sync Zendesk Ticket Data Incrementally?").
        kind = "Create" if row["previous_value"] is None and row["field_name"] == "status" else "Change"
        child |= {"event_type": kind, row["field_name"]: row["value"], "previous_value": row["previous_value"]}
    return {
        "id": row["audit_id"], "ticket_id": row["ticket_id"], "timestamp": int(row["created_at"].timestamp()),
        "created_at": _written(row["created_at"]), "updater_id": row["author_id"], "via": "Web form", "system": {},
        "event_type": "Audit", "child_events": [child],
    }  # fmt: skip


UPDATES = """(
    select id, id * 10 as audit_id, ticket_id, author_id, created_at, body, public, null as field_name, null as value,
        null as previous_value
    from company_state.support_comments
    union all
    select id, id * 10 + 1, ticket_id, author_id, created_at, null, null, field_name, value, previous_value
    from company_state.support_changes
) as updates"""
TICKETS = Export("tickets", "company_state.support_tickets", _ticket)
USERS = Export("users", "company_state.support_users", _user)
ORGANIZATIONS = Export("organizations", "company_state.support_organizations", _organization)
EVENTS = Export("ticket_events", UPDATES, _ticket_event, "created_at")
