"""incident.io's REST API, as its official SDK knows it: the settings that say who is told of what, alert events, and what they become.

A new organisation has people, severities and a custom field, and no settings: an alert source and the rest are written through the
API, as `dataplatform on-call apply` does, and alerts go where they say.

A stand-in's own: `/_inspect/pages`, `/_inspect/events`, `/_inspect/dropped` and `/_inspect/heartbeat`, without authorisation.

Left out: the headers `X-RateLimit-*`, every write but the settings of `settings.py`, alert events, pings, escalations and their acknowledgement, of the optional
fields of an incident its type, permalink and workload, and that the sync of a schedule moves people in Slack. A filter or a
setting that is not understood here is refused rather than ignored.

Unverified against the real service: the largest page sizes, the codes inside an error's `errors`, that a second escalation with the
same idempotency key answers with the first one, that an escalation which has ended cannot be acknowledged, who is shown to have
acknowledged with an API key, that a `resolved` event leaves the alert's title and description as they were and closes the incident,
that every route which fits takes the alert, that what is in use cannot be deleted, and from when a heartbeat is watched.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, JsonValue
from starlette.exceptions import HTTPException

from sandbox.vendors.context import VendorContext
from sandbox.vendors.incident_io import configuration, routing, show
from sandbox.vendors.incident_io.alerting import Alerting, Event
from sandbox.vendors.incident_io.heartbeat import Heartbeats
from sandbox.vendors.incident_io.names import Problem
from sandbox.vendors.incident_io.queries import Reader
from sandbox.vendors.incident_io.rota import PEOPLE, Person, shifts
from sandbox.vendors.incident_io.settings import PATH, SCHEDULE, SOURCE, Setting, Settings
from sandbox.vendors.incident_io.shown import token
from sandbox.vendors.rate_limits import RateLimit, RateLimited, RateLimits

API_KEY = "local-incident_io-key"
# FastAPI's names for what is wrong with a field, as the codes that incident.io has for the common ones.
CODES = {"missing": "is_required", "string_too_short": "is_required", "literal_error": "not_in_list"}
TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 404: "not_found", 405: "method_not_allowed", 409: "conflict",
    429: "too_many_requests",
}  # fmt: skip

ALERT_EVENTS, API_REQUESTS = "alert_events", "api_requests"
# 120 events a minute for an alert source: https://docs.incident.io/incidents/auto-create. 1,200 requests a minute for an API key, and
# that limits are token buckets which refill continuously: https://docs.incident.io/api-reference/introduction. Unverified: that an
# alert source's limit is such a bucket, too, and the name that its 429 has in `rate_limit`.
LIMITS = (RateLimit(ALERT_EVENTS, 120, 60, burst=120), RateLimit(API_REQUESTS, 1200, 60, burst=1200))

Text = Annotated[str, Field(min_length=1)]


class AlertEvent(BaseModel):
    title: Text
    status: Literal["firing", "resolved"]
    deduplication_key: Text
    description: str | None = None
    source_url: str | None = None
    metadata: dict[str, JsonValue] = {}


class NewEscalation(BaseModel):
    idempotency_key: Text
    title: Text
    description: str = ""
    escalation_path_id: str | None = None
    user_ids: list[str] = []
    incident_id: str | None = None


class Answer(BaseModel):
    response: Literal["ack"]


def build(context: VendorContext) -> FastAPI:
    app = FastAPI(title="incident.io", openapi_url=None)
    settings = Settings(context)
    alerting = Alerting(context, settings)
    heartbeats = Heartbeats(context, settings, alerting)
    reader = Reader(context, settings)
    limits = RateLimits(context.store, "incident_io", *LIMITS)

    @app.exception_handler(RateLimited)
    def limited(_request: Request, error: RateLimited) -> JSONResponse:
        return _too_many(error)

    @app.exception_handler(Problem)
    def problem(_request: Request, error: Problem) -> JSONResponse:
        return _refusal(error.status, error.errors())

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        if any(detail["type"] in {"json_invalid", "model_attributes_type"} for detail in error.errors()):
            return _refusal(400, [{"code": "invalid_json", "message": "the body is not a JSON object"}])
        return _refusal(422, [_field_error(detail) for detail in error.errors()])

    @app.exception_handler(HTTPException)
    def unknown(_request: Request, error: HTTPException) -> JSONResponse:
        return _refusal(error.status_code, [{"code": "not_found", "message": error.detail}])

    def move_on() -> None:
        alerting.advance()
        heartbeats.advance()

    def authorise(request: Request) -> None:
        _authorise(request)
        limits.take(API_REQUESTS, key=API_KEY)

    advance, known = Depends(move_on), Depends(authorise)
    app.include_router(_events(context, alerting, settings, limits), dependencies=[advance])
    app.include_router(_pings(heartbeats, settings), dependencies=[advance])
    app.include_router(_reads(reader, settings), dependencies=[known, advance])
    app.include_router(_escalations(alerting, reader, settings), dependencies=[known, advance])
    app.include_router(configuration.router(context, settings), dependencies=[known, advance])

    @app.get("/_inspect/pages", dependencies=[advance])
    def pages() -> list[dict[str, Any]]:
        return alerting.pages()

    @app.get("/_inspect/events", dependencies=[advance])
    def events() -> list[dict[str, Any]]:
        return alerting.events()

    @app.get("/_inspect/dropped", dependencies=[advance])
    def dropped() -> list[dict[str, Any]]:
        return alerting.dropped()

    @app.get("/_inspect/heartbeat", dependencies=[advance])
    def beats() -> list[dict[str, Any]]:
        return heartbeats.shown()

    return app


def _source(settings: Settings, name: str, request: Request, given: str | None, kind: str) -> Setting:
    """The alert source whose token is given. Raises Problem (401, 404)."""
    given = request.headers.get("authorization", "").removeprefix("Bearer ") or given
    sources = [one for one in settings.all(SOURCE) if one.body["source_type"] == kind]
    if given not in {token(one) for one in sources}:
        raise Problem(401, "invalid_authorization_material", "the token is not this alert source's")
    found = next((one for one in sources if one.id == name and token(one) == given), None)
    if found is None:
        raise Problem(404, "not_found", f"no alert source {name}")
    return found


def _pings(heartbeats: Heartbeats, settings: Settings) -> APIRouter:
    router = APIRouter()

    @router.api_route("/v2/heartbeat/{source}/ping", methods=["GET", "POST"], status_code=204)
    def ping(source: str, request: Request, token: str | None = None) -> None:
        heartbeats.ping(_source(settings, source, request, token, "heartbeat"))

    return router


def _events(context: VendorContext, alerting: Alerting, settings: Settings, limits: RateLimits) -> APIRouter:
    router = APIRouter()

    def authorise(source: str, request: Request, token: str | None = None) -> None:
        request.state.source = _source(settings, source, request, token, "http")
        limits.take(ALERT_EVENTS, key=source)

    @router.post("/v2/alert_events/http/{source}", dependencies=[Depends(authorise)], status_code=202)
    def receive(body: AlertEvent, request: Request) -> dict[str, str]:
        key = body.deduplication_key
        event = Event(key, body.status == "firing", body.title, body.description, body.source_url, body.metadata)
        if _is_dropped(context, event):
            alerting.drop(event)
        else:
            alerting.receive(request.state.source, event)
        return {"deduplication_key": key, "message": "Event accepted for processing", "status": "success"}

    return router


def _is_dropped(context: VendorContext, event: Event) -> bool:
    for fault in context.faults.active("incident_io", kind="drops"):
        if fault.params["status"] in {"any", event.status} and (fault.target or "") in event.deduplication_key:
            context.faults.consume(fault)
            return True
    return False


def _reads(reader: Reader, settings: Settings) -> APIRouter:
    router = APIRouter()

    @router.get("/v2/alerts")
    def alerts(request: Request) -> Any:
        return reader.alerts(request.query_params)

    @router.get("/v2/alerts/{alert}")
    def alert(alert: str) -> Any:
        return {"alert": reader.alert(alert)}

    @router.get("/v2/incidents")
    def incidents(request: Request) -> Any:
        return reader.incidents(request.query_params)

    @router.get("/v2/incident_alerts")
    def incident_alerts(request: Request) -> Any:
        return reader.incident_alerts(request.query_params)

    @router.get("/v2/incidents/{incident}")
    def incident(incident: str) -> Any:
        return {"incident": reader.incident(incident)}

    @router.get("/v2/schedule_entries")
    def entries(request: Request) -> Any:
        schedule = routing.schedule(settings.get(SCHEDULE, request.query_params.get("schedule_id", "")))
        start, end = reader.window(request.query_params)
        shown = [show.entry(schedule, shift) for shift in shifts(schedule, start, end)]
        return {"schedule_entries": {"final": shown, "scheduled": shown, "overrides": []}}

    return router


def _escalations(alerting: Alerting, reader: Reader, settings: Settings) -> APIRouter:
    router = APIRouter()

    @router.get("/v2/escalations")
    def escalations(request: Request) -> Any:
        return reader.escalations(request.query_params)

    @router.get("/v2/escalations/{escalation}")
    def escalation(escalation: str) -> Any:
        return {"escalation": reader.escalation(escalation)}

    @router.post("/v2/escalations/{escalation}/actions/respond")
    def respond(escalation: str, body: Answer) -> None:
        if not alerting.acknowledge(reader.number("ESCALATION", escalation)):
            raise Problem(422, "invalid", "the escalation has ended", "response")

    @router.post("/v2/escalations", status_code=201)
    def escalate(body: NewEscalation) -> Any:
        if bool(body.escalation_path_id) == bool(body.user_ids):
            raise Problem(422, "invalid", "give either escalation_path_id or user_ids", "escalation_path_id")
        path = settings.get(PATH, body.escalation_path_id) if body.escalation_path_id else None
        people = [_person(user) for user in body.user_ids]
        incident = reader.number("INCIDENT", body.incident_id) if body.incident_id else None
        number = alerting.escalate(
            body.idempotency_key, body.title, body.description, path=path, people=people, incident=incident
        )
        return {"escalation": reader.escalation_of(number)}

    return router


def _authorise(request: Request) -> None:
    if request.headers.get("authorization") != f"Bearer {API_KEY}":
        raise Problem(401, "invalid_authorization_material", "the API key is not valid")


def _person(name: str) -> Person:
    if name not in PEOPLE:
        raise Problem(404, "not_found", f"no user {name!r}")
    return PEOPLE[name]


def _field_error(detail: Any) -> dict[str, Any]:
    pointer = "/".join(str(part) for part in detail["loc"][1:])
    return {
        "code": CODES.get(detail["type"], "invalid_value"),
        "message": detail["msg"],
        "source": {"field": pointer, "pointer": f"/{pointer}"},
    }


def _refusal(status: int, errors: list[dict[str, Any]]) -> JSONResponse:
    kept = [{key: value for key, value in error.items() if value is not None} for error in errors]
    body = {
        "type": TYPES.get(status, "validation_error"),
        "status": status,
        "request_id": secrets.token_hex(4),
        "errors": kept,
    }
    return JSONResponse(body, status)


def _too_many(error: RateLimited) -> JSONResponse:
    """The 429 that https://docs.incident.io/api-reference/introduction shows, in its newest form: the time is in a header and the body."""
    again = datetime.now(UTC) + timedelta(seconds=error.retry_after)
    body = {
        "type": TYPES[429],
        "status": 429,
        "request_id": secrets.token_hex(4),
        "rate_limit": {
            "name": error.limit.name,
            "limit": error.limit.requests,
            "remaining": 0,
            "retry_after": again.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        "errors": [{"code": TYPES[429], "message": "Too many requests hit the API too quickly."}],
    }
    return JSONResponse(body, 429, error.headers)
