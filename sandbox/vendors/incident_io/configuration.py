"""The endpoints that read and write the organisation's settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from starlette.datastructures import QueryParams

from sandbox.vendors.context import VendorContext
from sandbox.vendors.incident_io import show
from sandbox.vendors.incident_io.names import Problem
from sandbox.vendors.incident_io.settings import (
    ATTRIBUTE,
    PATH,
    ROUTE,
    SCHEDULE,
    SOURCE,
    SYNC_RULE,
    SYNC_TARGET,
    Kind,
    Setting,
    Settings,
)
from sandbox.vendors.incident_io.shown import SettingsView, members

LARGEST_PAGE = 250
Json = Annotated[Any, Body()]
Shown = dict[str, Any]


def router(context: VendorContext, settings: Settings) -> APIRouter:
    view, clock = SettingsView(settings, context.config.url("incident_io")), context.clock
    routes = APIRouter()
    # The statuses are the SDK's own: each endpoint has one for what succeeds.
    _crud(routes, settings, "/v2/alert_attributes", ATTRIBUTE, view.attribute)
    _crud(routes, settings, "/v2/alert_sources", SOURCE, view.source, created=200)
    _crud(routes, settings, "/v3/alert_routes", ROUTE, view.route, listed=view.route_slim, paged=True)
    _crud(routes, settings, "/v2/escalation_paths", PATH, lambda one: view.path(one, clock.now()), paged=True)
    _crud(
        routes,
        settings,
        "/v2/schedules",
        SCHEDULE,
        lambda one: view.schedule(one, clock.now()),
        paged=True,
        deleted=202,
    )
    _crud(routes, settings, "/v2/schedule_sync_targets", SYNC_TARGET, view.sync_target, paged=True)
    _sync_rules(routes, settings, view)

    @routes.post("/v2/managed_resources")
    def manage(body: Json) -> Shown:
        return {"managed_resource": settings.manage(body)}

    @routes.get("/v2/users")
    def users(request: Request) -> Shown:
        shown, email = members(), request.query_params.get("email")
        return _page("users", [one for one in shown if email in {None, one["email"]}], request.query_params)

    @routes.get("/v1/severities")
    def severities() -> Shown:
        return {"severities": show.severities()}

    @routes.get("/v2/custom_fields")
    def custom_fields() -> Shown:
        return {"custom_fields": show.custom_fields()}

    return routes


def _crud(
    routes: APIRouter, settings: Settings, url: str, kind: Kind, shown: Callable[[Setting], Shown], *,
    listed: Callable[[Setting], Shown] | None = None, paged: bool = False, created: int = 201, deleted: int = 204,
) -> None:  # fmt: skip
    """List, show, create, update and delete settings of one kind."""
    many, see = f"{kind.name}s", listed or shown

    @routes.get(url)
    def every(request: Request) -> Shown:
        found = [see(one) for one in settings.all(kind)]
        return _page(many, found, request.query_params) if paged else {many: found}

    @routes.post(url, status_code=created)
    def create(body: Json) -> Shown:
        return {kind.name: shown(settings.create(kind, body))}

    @routes.get(f"{url}/{{name}}")
    def one(name: str) -> Shown:
        return {kind.name: shown(settings.get(kind, name))}

    @routes.put(f"{url}/{{name}}")
    def update(name: str, body: Json) -> Shown:
        return {kind.name: shown(settings.update(kind, name, body))}

    @routes.delete(f"{url}/{{name}}", status_code=deleted)
    def delete(name: str) -> Response:
        settings.delete(kind, name)
        return Response(status_code=deleted)


def _sync_rules(routes: APIRouter, settings: Settings, view: SettingsView) -> None:
    url = "/v2/schedules/{schedule}/sync_rules"

    def rule(schedule: str, name: str) -> Setting:
        found = settings.get(SYNC_RULE, name)
        if found.body["schedule_id"] != schedule:
            raise Problem(404, "not_found", f"the schedule has no sync rule {name!r}")
        return found

    @routes.get(url)
    def every(schedule: str, request: Request) -> Shown:
        settings.get(SCHEDULE, schedule)
        found = [view.sync_rule(one) for one in settings.all(SYNC_RULE) if one.body["schedule_id"] == schedule]
        return _page("schedule_sync_rules", found, request.query_params)

    @routes.post(url, status_code=201)
    def create(schedule: str, body: Json) -> Shown:
        settings.get(SCHEDULE, schedule)
        return {SYNC_RULE.name: view.sync_rule(settings.create(SYNC_RULE, body, schedule_id=schedule))}

    @routes.get(f"{url}/{{name}}")
    def one(schedule: str, name: str) -> Shown:
        return {SYNC_RULE.name: view.sync_rule(rule(schedule, name))}

    @routes.put(f"{url}/{{name}}")
    def update(schedule: str, name: str, body: Json) -> Shown:
        rule(schedule, name)
        return {SYNC_RULE.name: view.sync_rule(settings.update(SYNC_RULE, name, body))}

    @routes.delete(f"{url}/{{name}}", status_code=204)
    def delete(schedule: str, name: str) -> Response:
        rule(schedule, name)
        settings.delete(SYNC_RULE, name)
        return Response(status_code=204)


def _page(name: str, found: Sequence[Shown], params: QueryParams) -> Shown:
    text = params.get("page_size", "25")
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST_PAGE:
        raise Problem(422, "invalid_value", f"page_size is a number from 1 to {LARGEST_PAGE}", "page_size")
    ids = [one["id"] for one in found]
    start = ids.index(params["after"]) + 1 if params.get("after") in ids else 0
    shown = found[start : start + int(text)]
    meta: Shown = {"page_size": int(text)}
    if start + int(text) < len(found):
        meta["after"] = shown[-1]["id"]
    return {name: shown, "pagination_meta": meta}
