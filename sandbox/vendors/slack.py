"""Slack's Web API, as far as messages and user groups need it; its people are those of the on-call rota.

Errors come as Slack's do: HTTP 200 with `ok` false and a code. A message may be posted anywhere; of channels those of the sandbox's
environment can be looked at. The app may do everything.
`/_inspect/messages` and `/_inspect/groups` are the stand-in's own.

Unverified against the real service: the length of all blocks together from which on a message is refused, which Slack does not document
(13,200 characters, each block counting 100 more than its text: measured by others, https://github.com/slackapi/bolt-js/issues/2509 and
https://github.com/slackapi/bolt-js/issues/2867; 75 % sure), and how large a burst above a tier it accepts (here none).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from sandbox.vendors.context import VendorContext
from sandbox.vendors.incident_io.rota import PEOPLE, Person
from sandbox.vendors.rate_limits import RateLimit, RateLimited, RateLimits

TOKEN = "local-slack-token"
TEAM, BOT = "T00000001", "U99999999"
LONGEST_TEXT, MOST_BLOCKS = 40_000, 50
LONGEST_BLOCKS, LENGTH_OF_A_BLOCK = 13_200, 100
LONGEST_IN_BLOCK = {"section": 3000, "header": 150}
START_HANDLE = "data-responder"
CHANNELS = {"C00000001": "data-alerts", "C00000002": "data-warnings"}
SCOPES = "chat:write,channels:read,groups:read,usergroups:read,usergroups:write,users:read,users:read.email"

# Requests a minute for each method: the guaranteed minimum of its tier (https://docs.slack.dev/apis/web-api/rate-limits). The tier is on
# the page of each method, such as https://docs.slack.dev/reference/methods/usergroups.users.update.
TIER_2, TIER_3, TIER_4 = 20, 50, 100
TIERS = {
    "conversations.info": TIER_3,
    "usergroups.list": TIER_2,
    "usergroups.create": TIER_2,
    "usergroups.disable": TIER_2,
    "usergroups.enable": TIER_2,
    "usergroups.users.list": TIER_2,
    "usergroups.users.update": TIER_2,
    "users.info": TIER_4,
    "users.lookupByEmail": TIER_3,
    # "Hundreds of requests per minute" (https://docs.slack.dev/reference/methods/auth.test).
    "auth.test": 200,
}
POST = "chat.postMessage"
LIMITS = (
    # One message a second in a channel, https://docs.slack.dev/reference/methods/chat.postMessage; that a workspace has a limit of its
    # own is documented, the number is not.
    RateLimit(POST, 1, 1),
    *(RateLimit(method, requests, 60) for method, requests in TIERS.items()),
)

SCHEMA = """
create table if not exists slack_message (
    id integer primary key, ts text not null, channel text not null, text text not null, blocks text not null,
    thread_ts text, posted_at text not null
);
create table if not exists slack_usergroup (
    id integer primary key, handle text not null unique, name text not null unique, description text not null,
    users text not null default '[]', created_at integer not null, updated_at integer not null,
    deleted_at integer not null default 0
);
"""

Arguments = dict[str, Any]
Answer = dict[str, Any]


class SlackError(Exception):
    """A call that Slack refuses: its code, and the details where it gives any."""

    def __init__(self, code: str, *messages: str) -> None:
        super().__init__(code)
        self.answer: Answer = {"ok": False, "error": code}
        if messages:
            self.answer["response_metadata"] = {"messages": [f"[ERROR] {message}" for message in messages]}


def build(context: VendorContext) -> FastAPI:
    app = FastAPI(title="Slack", openapi_url=None)
    workspace = Workspace(context)
    limits = RateLimits(context.store, "slack", *LIMITS)

    @app.exception_handler(RateLimited)
    def limited(_request: Request, error: RateLimited) -> JSONResponse:
        return JSONResponse({"ok": False, "error": "ratelimited"}, 429, error.headers)

    @app.exception_handler(SlackError)
    def failed(_request: Request, error: SlackError) -> JSONResponse:
        return JSONResponse(error.answer)

    @app.api_route("/api/{method}", methods=["GET", "POST"])
    async def call(method: str, request: Request, response: Response) -> Answer:
        response.headers["X-OAuth-Scopes"] = SCOPES
        arguments = await _arguments(request)
        given = request.headers.get("authorization", "").removeprefix("Bearer ") or arguments.pop("token", "")
        if given != TOKEN:
            raise SlackError("invalid_auth" if given else "not_authed")
        if method not in workspace.methods:
            raise SlackError("unknown_method")
        limits.take(method, key=str(arguments.get("channel") or "") if method == POST else "")
        return {"ok": True} | await run_in_threadpool(workspace.methods[method], arguments)

    @app.get("/_inspect/messages")
    def messages() -> list[Answer]:
        return workspace.messages()

    @app.get("/_inspect/groups")
    def groups() -> list[Answer]:
        return workspace.groups()

    return app


async def _arguments(request: Request) -> Arguments:
    """The arguments of a call from its query and its body, which is a form or JSON."""
    arguments: Arguments = dict(request.query_params)
    body = await request.body()
    # For a call without arguments the SDK announces JSON, and sends nothing.
    if body and request.headers.get("content-type", "").startswith("application/json"):
        try:
            given = json.loads(body)
        except ValueError as error:
            raise SlackError("invalid_json") from error
        if not isinstance(given, dict):
            raise SlackError("json_not_object")
        return arguments | given
    try:
        form = parse_qsl(body.decode(), keep_blank_values=True)
    except UnicodeDecodeError as error:
        raise SlackError("invalid_form_data") from error
    return arguments | dict(form)


class Workspace:
    def __init__(self, context: VendorContext) -> None:
        self._store, self._clock, self._config = context.store, context.clock, context.config
        self._store.script(SCHEMA)
        now = self._seconds()
        self._store.execute(
            "insert or ignore into slack_usergroup (handle, name, description, created_at, updated_at) values (?, ?, ?, ?, ?)",
            (START_HANDLE, "Data responder", "Who is on call for data in working hours", now, now),
        )
        self.methods: dict[str, Callable[[Arguments], Answer]] = {
            "auth.test": self._auth_test,
            POST: self._post,
            "conversations.info": self._channel,
            "usergroups.list": self._list,
            "usergroups.create": self._create,
            "usergroups.disable": lambda given: self._enable(given, deleted_at=self._seconds()),
            "usergroups.enable": lambda given: self._enable(given, deleted_at=0),
            "usergroups.users.list": self._members,
            "usergroups.users.update": self._replace_members,
            "users.info": self._info,
            "users.lookupByEmail": self._lookup,
        }

    def messages(self) -> list[Answer]:
        """Every message, oldest first."""
        rows = self._store.execute("select * from slack_message order by id")
        fields = ("ts", "channel", "text", "thread_ts", "posted_at")
        return [{field: row[field] for field in fields} | {"blocks": json.loads(row["blocks"])} for row in rows]

    def groups(self) -> list[Answer]:
        """Every user group with the names of its people."""
        names = {person.slack_user_id: person.name for person in PEOPLE.values()}
        rows = self._store.execute("select * from slack_usergroup order by id")
        return [
            {
                "handle": row["handle"],
                "users": (users := json.loads(row["users"])),
                "names": [names[user] for user in users],
                "updated_at": datetime.fromtimestamp(row["updated_at"], UTC).isoformat(),
            }
            for row in rows
        ]

    def _auth_test(self, _given: Arguments) -> Answer:
        return {
            "url": f"{self._config.url('slack')}/", "team": "Local", "user": "dataplatform", "team_id": TEAM, "user_id": BOT,
            "bot_id": "B99999999", "is_enterprise_install": False,
        }  # fmt: skip

    def _channel(self, given: Arguments) -> Answer:
        channel = str(given.get("channel") or "")
        if channel not in CHANNELS:
            raise SlackError("channel_not_found")
        kind = {"is_channel": True, "is_private": False, "is_archived": False, "is_member": True}
        return {"channel": {"id": channel, "name": CHANNELS[channel], **kind}}

    def _post(self, given: Arguments) -> Answer:
        channel, text = str(given.get("channel") or ""), str(given.get("text") or "")
        blocks = _blocks(given.get("blocks"))
        if not channel:
            raise SlackError("channel_not_found")
        if not text and not blocks:
            raise SlackError("no_text")
        if len(text) > LONGEST_TEXT:
            raise SlackError("msg_too_long")
        now = self._clock.now()
        with self._store.transaction():
            [row] = self._store.execute(
                "insert into slack_message (ts, channel, text, blocks, thread_ts, posted_at) values ('', ?, ?, ?, ?, ?)"
                " returning id",
                (channel, text, json.dumps(blocks), given.get("thread_ts"), now.isoformat()),
            )
            # A message's id is its time; the fraction keeps messages of one second apart.
            ts = f"{int(now.timestamp())}.{row['id']:06}"
            self._store.execute("update slack_message set ts = ? where id = ?", (ts, row["id"]))
        message = {"type": "message", "ts": ts, "text": text, "user": BOT, "team": TEAM, "blocks": blocks}
        return {"channel": channel, "ts": ts, "message": message}

    def _list(self, given: Arguments) -> Answer:
        where = "" if _true(given, "include_disabled") else " where deleted_at = 0"
        rows = self._store.execute(f"select * from slack_usergroup{where} order by id")
        return {"usergroups": [_group(row, users=_true(given, "include_users")) for row in rows]}

    def _create(self, given: Arguments) -> Answer:
        name = given.get("name")
        if not name:
            raise SlackError("no_name")
        handle = given.get("handle") or re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        with self._store.transaction():
            for column, value in (("name", name), ("handle", handle)):
                if self._store.execute(f"select 1 from slack_usergroup where {column} = ?", (value,)):
                    raise SlackError(f"{column}_already_exists")
            now = self._seconds()
            [row] = self._store.execute(
                "insert into slack_usergroup (handle, name, description, created_at, updated_at) values (?, ?, ?, ?, ?) returning *",
                (handle, name, given.get("description") or "", now, now),
            )
        return {"usergroup": _group(row, users=True)}

    def _enable(self, given: Arguments, *, deleted_at: int) -> Answer:
        row = self._find(given)
        code = "already_disabled" if deleted_at else "already_enabled"
        if bool(row["deleted_at"]) == bool(deleted_at):
            raise SlackError(code)
        return {"usergroup": self._change(row, "deleted_at", deleted_at)}

    def _members(self, given: Arguments) -> Answer:
        row = self._find(given)
        return {"users": [] if row["deleted_at"] and not _true(given, "include_disabled") else json.loads(row["users"])}

    def _replace_members(self, given: Arguments) -> Answer:
        row = self._find(given)
        users = given.get("users") or ""
        members = users if isinstance(users, list) else [user for user in users.split(",") if user]
        if not members:
            raise SlackError("no_users_provided")
        known = {person.slack_user_id for person in PEOPLE.values()}
        if not known.issuperset(members):
            raise SlackError("invalid_users")
        return {"usergroup": self._change(row, "users", json.dumps(list(dict.fromkeys(members))))}

    def _lookup(self, given: Arguments) -> Answer:
        person = next((p for p in PEOPLE.values() if p.email == given.get("email")), None)
        if person is None:
            raise SlackError("users_not_found")
        return {"user": _user(person)}

    def _info(self, given: Arguments) -> Answer:
        person = next((p for p in PEOPLE.values() if p.slack_user_id == given.get("user")), None)
        if person is None:
            raise SlackError("user_not_found")
        return {"user": _user(person)}

    def _find(self, given: Arguments) -> sqlite3.Row:
        name = str(given.get("usergroup") or "")
        rows = self._store.execute("select * from slack_usergroup where printf('S%08d', id) = ?", (name,))
        if not rows:
            raise SlackError("no_such_subteam")
        return rows[0]

    def _change(self, row: sqlite3.Row, column: str, value: Any) -> Answer:
        [changed] = self._store.execute(
            f"update slack_usergroup set {column} = ?, updated_at = ? where id = ? returning *",
            (value, self._seconds(), row["id"]),
        )
        return _group(changed, users=True)

    def _seconds(self) -> int:
        return int(self._clock.now().timestamp())


def _blocks(given: Any) -> list[dict[str, Any]]:
    """The blocks of a message, checked against Slack's limits; a form carries them as a JSON text."""
    if isinstance(given, str):
        try:
            given = json.loads(given or "[]")
        except ValueError as error:
            raise SlackError("invalid_blocks_format") from error
    blocks = given or []
    if not isinstance(blocks, list) or not all(isinstance(block, dict) and "type" in block for block in blocks):
        raise SlackError("invalid_blocks_format")
    if len(blocks) > MOST_BLOCKS:
        raise SlackError("invalid_blocks", f"no more than {MOST_BLOCKS} items allowed [json-pointer:/blocks]")
    for index, block in enumerate(blocks):
        longest = LONGEST_IN_BLOCK.get(block["type"])
        if longest is None:
            continue
        place = f"[json-pointer:/blocks/{index}/text/text]"
        if len(_content(block)) > longest:
            raise SlackError("invalid_blocks", f"must be less than {longest + 1} characters {place}")
        if block.get("text") and not _content(block):
            raise SlackError("invalid_blocks", f"must be more than 0 characters {place}")
    if sum(LENGTH_OF_A_BLOCK + _length(block) for block in blocks) > LONGEST_BLOCKS:
        raise SlackError("msg_blocks_too_long")
    return blocks


def _content(block: dict[str, Any]) -> str:
    text = block.get("text")
    return str(text.get("text", "")) if isinstance(text, dict) else ""


def _length(content: Any) -> int:
    """The characters of all texts of a block, in its fields and elements, too."""
    if isinstance(content, list):
        return sum(map(_length, content))
    if not isinstance(content, dict):
        return 0
    own = content.get("text")
    rest = [value for name, value in content.items() if name != "text" or not isinstance(value, str)]
    return (len(own) if isinstance(own, str) else 0) + _length(rest)


def _user(person: Person) -> Answer:
    profile = {"email": person.email, "real_name": person.name, "display_name": person.name.split()[0]}
    return {
        "id": person.slack_user_id, "team_id": TEAM, "name": person.email.split("@")[0], "real_name": person.name,
        "deleted": False, "is_bot": False, "profile": profile,
    }  # fmt: skip


def _group(row: sqlite3.Row, *, users: bool) -> Answer:
    members = json.loads(row["users"])
    group = {
        "id": f"S{row['id']:08}", "team_id": TEAM, "is_usergroup": True, "is_subteam": True, "is_external": False,
        "name": row["name"], "handle": row["handle"], "description": row["description"], "auto_type": None,
        "date_create": row["created_at"], "date_update": row["updated_at"], "date_delete": row["deleted_at"],
        "created_by": BOT, "updated_by": BOT, "deleted_by": BOT if row["deleted_at"] else None,
        "prefs": {"channels": [], "groups": []}, "user_count": len(members),
    }  # fmt: skip
    return group | ({"users": members} if users else {})


def _true(given: Arguments, name: str) -> bool:
    return str(given.get(name, "")).lower() in {"1", "true"}
