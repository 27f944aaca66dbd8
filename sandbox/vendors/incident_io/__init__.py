"""incident.io's REST API, as its official SDK knows it: alert events, and what they become for the people on call.

A stand-in's own: `/_inspect/pages` and `/_inspect/events`, without authorisation.

Left out: every write but alert events, escalations and their acknowledgement, and of the optional fields of an incident its type,
permalink and workload. A filter that is not understood here is refused rather than ignored.

Unverified against the real service: the largest page sizes, the codes inside an error's `errors`, that a second escalation with the
same idempotency key answers with the first one, that an escalation which has ended cannot be acknowledged, who is shown to have
acknowledged with an API key, and that a `resolved` event leaves the alert's title and description as they were.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, JsonValue
from starlette.exceptions import HTTPException

from sandbox.vendors.context import VendorContext
from sandbox.vendors.incident_io import show
from sandbox.vendors.incident_io.alerting import Alerting, Event
from sandbox.vendors.incident_io.queries import Problem, Reader
from sandbox.vendors.incident_io.rota import PATHS, PEOPLE, SCHEDULES, shifts

API_KEY, ALERT_SOURCE_TOKEN = "local-incident_io-key", "local-alert-source-token"
# FastAPI's names for what is wrong with a field, as the codes that incident.io has for the common ones.
CODES = {"missing": "is_required", "string_too_short": "is_required", "literal_error": "not_in_list"}
TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found", 405: "method_not_allowed"}

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
    alerting = Alerting(context)
    reader = Reader(context)

    @app.exception_handler(Problem)
    def problem(_request: Request, error: Problem) -> JSONResponse:
        return _refusal(error.status, [{"code": error.code, "message": str(error), "source": error.source}])

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        if any(detail["type"] in {"json_invalid", "model_attributes_type"} for detail in error.errors()):
            return _refusal(400, [{"code": "invalid_json", "message": "the body is not a JSON object"}])
        return _refusal(422, [_field_error(detail) for detail in error.errors()])

    @app.exception_handler(HTTPException)
    def unknown(_request: Request, error: HTTPException) -> JSONResponse:
        return _refusal(error.status_code, [{"code": "not_found", "message": error.detail}])

    advance = Depends(alerting.advance)
    app.include_router(_events(alerting), dependencies=[advance])
    app.include_router(_reads(context, reader), dependencies=[Depends(_authorise), advance])
    app.include_router(_escalations(alerting, reader), dependencies=[Depends(_authorise), advance])

    @app.get("/_inspect/pages", dependencies=[advance])
    def pages() -> list[dict[str, Any]]:
        return alerting.pages()

    @app.get("/_inspect/events", dependencies=[advance])
    def events() -> list[dict[str, Any]]:
        return alerting.events()

    return app


def _events(alerting: Alerting) -> APIRouter:
    router = APIRouter()

    def authorise(request: Request, source: str, token: str | None = None) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ") or token
        if given != ALERT_SOURCE_TOKEN:
            raise Problem(401, "invalid_authorization_material", "the token is not this alert source's")
        if source != show.ALERT_SOURCE:
            raise Problem(404, "not_found", f"no alert source {source}")

    @router.post("/v2/alert_events/http/{source}", dependencies=[Depends(authorise)], status_code=202)
    def receive(body: AlertEvent) -> dict[str, str]:
        key = body.deduplication_key
        alerting.receive(
            Event(key, body.status == "firing", body.title, body.description, body.source_url, body.metadata)
        )
        return {"deduplication_key": key, "message": "Event accepted for processing", "status": "success"}

    return router


def _reads(context: VendorContext, reader: Reader) -> APIRouter:
    router = APIRouter()
    clock = context.clock

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

    @router.get("/v2/schedules")
    def schedules() -> Any:
        shown = [show.schedule(schedule, clock.now()) for schedule in SCHEDULES.values()]
        return {"schedules": shown, "pagination_meta": {"page_size": 25, "total_record_count": len(shown)}}

    @router.get("/v2/schedules/{schedule}")
    def schedule(schedule: str) -> Any:
        return {"schedule": show.schedule(_known(SCHEDULES, "schedule", schedule), clock.now())}

    @router.get("/v2/schedule_entries")
    def entries(request: Request) -> Any:
        schedule = _known(SCHEDULES, "schedule", request.query_params.get("schedule_id", ""))
        start, end = reader.window(request.query_params)
        shown = [show.entry(schedule, shift) for shift in shifts(schedule, start, end)]
        return {"schedule_entries": {"final": shown, "scheduled": shown, "overrides": []}}

    @router.get("/v2/escalation_paths")
    def paths() -> Any:
        shown = [show.path(path, clock.now()) for path in PATHS.values()]
        return {"escalation_paths": shown, "pagination_meta": {"page_size": 25}}

    @router.get("/v2/alert_sources")
    def sources() -> Any:
        url = f"{context.config.url('incident_io')}/v2/alert_events/http/{show.ALERT_SOURCE}"
        return {"alert_sources": [show.alert_source(url)]}

    @router.get("/v3/alert_routes")
    def routes() -> Any:
        route = {"id": show.ALERT_ROUTE, "name": "Data platform failures", "enabled": True}
        return {"alert_routes": [route], "pagination_meta": {"page_size": 25}}

    return router


def _escalations(alerting: Alerting, reader: Reader) -> APIRouter:
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
        path = _known(PATHS, "escalation path", body.escalation_path_id) if body.escalation_path_id else None
        people = [_known(PEOPLE, "user", user) for user in body.user_ids]
        incident = reader.number("INCIDENT", body.incident_id) if body.incident_id else None
        number = alerting.escalate(
            body.idempotency_key, body.title, body.description, path=path, people=people, incident=incident
        )
        return {"escalation": reader.escalation_of(number)}

    return router


def _authorise(request: Request) -> None:
    if request.headers.get("authorization") != f"Bearer {API_KEY}":
        raise Problem(401, "invalid_authorization_material", "the API key is not valid")


def _known[T](values: dict[str, T], what: str, name: str) -> T:
    if name not in values:
        raise Problem(404, "not_found", f"no {what} {name!r}")
    return values[name]


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
