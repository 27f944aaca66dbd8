"""Slack, by its official SDK (`slack-sdk`): messages, and who is in a user group."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry import HttpRequest, HttpResponse, RateLimitErrorRetryHandler, RetryState
from slack_sdk.web import SlackResponse

from orchestration.core.redaction import redact
from orchestration.settings import PlatformSettings
from orchestration.vendors.http import NOT_STARTED, VendorError, describe_error, excerpt, retry_after

TIMEOUT_SECONDS = 8
LONGEST_WAIT = 5.0
"""Seconds. Whoever waits is mostly a sensor, which has a minute for all that it does: a longer `Retry-After` is reported."""

# https://docs.slack.dev/reference/block-kit/blocks and https://docs.slack.dev/reference/methods/chat.postMessage
MOST_BLOCKS = 50
LONGEST_IN_BLOCK = {"section": 3000, "header": 150}
LONGEST_MESSAGE, LENGTH_OF_A_BLOCK = 9_000, 100
"""Characters of a message's text, and of all its blocks, each of which counts `LENGTH_OF_A_BLOCK` more than its text.

Slack refuses longer ones with `msg_blocks_too_long`, and documents no number. Others have measured about 13,200
(https://github.com/slackapi/bolt-js/issues/2509, https://github.com/slackapi/bolt-js/issues/2867).
"""

APP = "api.slack.com/apps, the app, OAuth & Permissions"
TOKEN = f"See SLACK_BOT_TOKEN: {APP}"
CHANNEL = (
    "See SLACK_ALERTS_CHANNEL and SLACK_DIGEST_CHANNEL: a channel's id, of one into which the app is invited (/invite)"
)
GROUP = "See SLACK_RESPONDER_GROUP: the handle of a user group, which a person makes in Slack"
GROUP_PERMISSION = (
    "An app's token changes user groups only where everyone may: Slack, Tools & settings, Workspace settings, Permissions, "
    "User Groups, set to Everyone"
)
"""https://docs.slack.dev/reference/methods/usergroups.users.update: "A bot token can be used only if permissions are set to everyone"."""
REMEDIES = {
    **dict.fromkeys(("invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"), TOKEN),
    **dict.fromkeys(("channel_not_found", "not_in_channel", "is_archived"), CHANNEL),
    **dict.fromkeys(("no_such_subteam", "subteam_not_found"), GROUP),
    "permission_denied": GROUP_PERMISSION,
    "plan_upgrade_required": "User groups need a paid plan of Slack",
    "paid_teams_only": "User groups need a paid plan of Slack",
}
PASSING = {
    "ratelimited",
    "internal_error",
    "fatal_error",
    "request_timeout",
    "service_unavailable",
    "team_added_to_org",
}
"""Errors of Slack's own that another try may not meet."""
OF_THE_MESSAGE = {
    "invalid_arguments",
    "invalid_blocks",
    "invalid_blocks_format",
    "msg_blocks_too_long",
    "msg_too_long",
    "no_text",
}
"""Errors of chat.postMessage that another message may not meet (https://docs.slack.dev/reference/methods/chat.postMessage)."""
SCOPES = {
    "chat.postMessage": "chat:write",
    "usergroups.list": "usergroups:read",
    "usergroups.users.list": "usergroups:read",
    "usergroups.users.update": "usergroups:write",
    "users.info": "users:read",
    "users.lookupByEmail": "users:read.email",
    "conversations.info": "channels:read (of a private channel: groups:read)",
}


@dataclass(frozen=True)
class Identity:
    """Whom a token is of. `scopes` is None where Slack does not say."""

    team: str
    user: str
    scopes: frozenset[str] | None


@dataclass(frozen=True)
class Channel:
    """`member`: the app is in it."""

    name: str
    member: bool
    archived: bool


class Slack:
    """Every call raises VendorError, with what to do about it where that is known. Nothing but a rate limit is waited for."""

    def __init__(self, base_url: str, token: str) -> None:
        self._client = WebClient(
            token=token,
            base_url=base_url.rstrip("/") + "/",
            timeout=TIMEOUT_SECONDS,
            # In place of the SDK's own, which sends a message again after a broken connection: it may have been posted.
            retry_handlers=[_ShortRateLimits(max_retry_count=1)],
        )

    def identity(self) -> Identity:
        """Who this is, and what it may do: Slack names the scopes of a token with each answer (https://docs.slack.dev/authentication)."""
        heard: list[Mapping[str, str]] = []

        def call() -> SlackResponse:
            answer = self._client.auth_test()
            heard.append(cast("Mapping[str, str]", answer.headers))
            return answer

        answer = self._call("auth.test", call)
        headers = {name.lower(): value for name, value in heard[0].items()}
        given = headers.get("x-oauth-scopes")
        scopes = None if given is None else frozenset(scope.strip() for scope in given.split(",") if scope.strip())
        return Identity(str(answer["team"]), str(answer["user"]), scopes)

    def channel(self, channel_id: str) -> Channel:
        """A channel that the app may see: a private one only where it is in it."""
        found = self._call("conversations.info", lambda: self._client.conversations_info(channel=channel_id))["channel"]
        return Channel(
            str(found.get("name") or channel_id), bool(found.get("is_member")), bool(found.get("is_archived"))
        )

    def post_message(
        self,
        channel: str,
        text: str,
        blocks: Sequence[Mapping[str, Any]] | None = None,
        *,
        thread: str | None = None,
    ) -> str:
        """Post one message, shortened to what Slack takes; returns its `ts`, by which Slack knows it.

        `text` is mrkdwn; with `blocks` it is what notifications show. Blocks that do not fit are left out whole, and counted.
        With `thread`, the `ts` of another message, it is a reply to that one.
        """
        answer = self._call(
            "chat.postMessage",
            lambda: self._client.chat_postMessage(
                channel=channel,
                text=_cut(text, LONGEST_MESSAGE),
                blocks=_within([_fitting(block) for block in blocks or ()]) or None,
                thread_ts=thread,
                unfurl_links=False,
                unfurl_media=False,
            ),
        )
        return str(answer["ts"])

    def group_id(self, handle: str) -> str:
        """The id of the user group that people mention as @handle."""
        answer = self._call("usergroups.list", lambda: self._client.usergroups_list(include_disabled=True))
        found = [group for group in answer["usergroups"] if group["handle"] == handle]
        if not found:
            raise VendorError(f"Slack: there is no user group @{handle}. {GROUP}", status=404, started=False)
        if found[0].get("date_delete"):
            raise VendorError(
                f"Slack: the user group @{handle} is disabled. Enable it in Slack, People, User groups",
                status=404,
                started=False,
            )
        return str(found[0]["id"])

    def members(self, group_id: str) -> tuple[str, ...]:
        """The ids of the people in a group."""
        answer = self._call("usergroups.users.list", lambda: self._client.usergroups_users_list(usergroup=group_id))
        return tuple(map(str, answer["users"]))

    def set_members(self, group_id: str, users: Sequence[str]) -> None:
        """Let a group have these people and no others. Raises ValueError for none: Slack has no empty groups."""
        if not users:
            raise ValueError("a user group of Slack cannot be empty")
        self._call(
            "usergroups.users.update",
            lambda: self._client.usergroups_users_update(usergroup=group_id, users=list(users)),
        )

    def user_by_email(self, email: str) -> str | None:
        """The id of whoever has this address; None for nobody."""
        try:
            answer = self._call("users.lookupByEmail", lambda: self._client.users_lookupByEmail(email=email))
        except _Refused as refusal:
            if refusal.code == "users_not_found":
                return None
            raise
        return str(answer["user"]["id"])

    def name_of(self, user_id: str) -> str:
        """What people call somebody."""
        user = self._call("users.info", lambda: self._client.users_info(user=user_id))["user"]
        return str(user.get("real_name") or user["name"])

    def _call(self, method: str, call: Callable[[], SlackResponse]) -> Mapping[str, Any]:
        try:
            answer = _object(call())
        except SlackApiError as error:
            raise _explained(method, cast("SlackResponse", error.response)) from error
        except ConnectionRefusedError as error:
            raise VendorError(f"Slack: {method} could not connect: {describe_error(error)}", started=False) from error
        except OSError as error:
            # urllib wraps what happened before there was an answer.
            cause = getattr(error, "reason", error)
            refused = isinstance(cause, ConnectionRefusedError)
            words = f"Slack: {method} {'could not connect' if refused else 'got no answer'}: {describe_error(cause)}"
            raise VendorError(words, started=not refused) from error
        except (SlackClientError, http.client.HTTPException, AttributeError, TypeError, ValueError) as error:
            raise VendorError(
                f"Slack: {method} got an answer that is none of Slack's: {excerpt(str(error))}"
            ) from error
        return _Answer(method, answer)


class _Answer(dict[str, Any]):
    """What Slack says, in which what is documented is there."""

    def __init__(self, method: str, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self._method = method

    def __missing__(self, name: str) -> Any:
        raise VendorError(f"Slack: {self._method} answered without `{name}`: {excerpt(str(dict(self)))}")


class _Refused(VendorError):
    """Slack answered with ok false: `code` says why."""

    def __init__(self, message: str, code: str) -> None:
        # Of the 400s: the same request gets the same answer until somebody has changed something.
        super().__init__(message, status=400, started=False)
        self.code = code


class _ShortRateLimits(RateLimitErrorRetryHandler):
    """Waits as long as a 429 asks for, if that is not long; the SDK's own would sleep for an hour, and fails on a date."""

    def _can_retry(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> bool:
        if response is None or response.status_code != 429:
            return False
        given = {name.lower(): values[0] for name, values in response.headers.items() if values}
        wait = retry_after(given)
        return given.get("retry-after", "").isdigit() and wait is not None and wait <= LONGEST_WAIT


def client(settings: PlatformSettings) -> Slack | None:
    """Slack as the settings name it; None where they have no token."""
    if settings.slack_bot_token is None:
        return None
    return Slack(str(settings.slack_api_url), settings.slack_bot_token.get_secret_value())


def is_about_the_message(error: VendorError) -> bool:
    """Return whether Slack refuses one message, and may take the next. Else it is the token, the channel, or the app's scopes."""
    return isinstance(error, _Refused) and error.code in OF_THE_MESSAGE


def escaped(text: str) -> str:
    """A text that mrkdwn shows as it is (https://docs.slack.dev/messaging/formatting-message-text)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _explained(method: str, answer: SlackResponse) -> VendorError:
    """An answer that is an error: one of Slack's own, with its code, or one of a proxy, of which only the status says something."""
    said, status = _object(answer), cast("int", answer.status_code)
    code = str(said.get("error") or "")
    if status >= 400:
        headers = cast("Mapping[str, str]", answer.headers)
        return VendorError(
            f"Slack: {method} answered {status}: {excerpt(code)}",
            status=status,
            retry_after=retry_after({name.lower(): value for name, value in headers.items()}),
            started=status not in NOT_STARTED,
        )
    if not code or " " in code:
        # The SDK's own words for what is not Slack's JSON.
        return VendorError(f"Slack: {method} got an answer that is none of Slack's: {excerpt(code)}")
    if code in PASSING:
        limited = code == "ratelimited"
        return VendorError(f"Slack: {method} answered {code}", status=429 if limited else None, started=not limited)
    return _Refused(
        ". ".join((f"Slack: {method} refused: {code}", *_details(said), *_remedy(method, code, said))), code
    )


def _details(said: Mapping[str, Any]) -> list[str]:
    metadata: Mapping[str, Any] = said.get("response_metadata") or {}
    return [redact(str(message)) for message in metadata.get("messages") or ()]


def _remedy(method: str, code: str, said: Mapping[str, Any]) -> list[str]:
    if code == "missing_scope":
        needed = said.get("needed") or SCOPES.get(method, "")
        return [f"The app needs the scope {needed}: {APP}, Scopes; then install it anew"]
    return [REMEDIES[code]] if code in REMEDIES else []


def _object(answer: SlackResponse) -> dict[str, Any]:
    data = cast("object", answer.data)  # pyright: ignore[reportUnknownMemberType]
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def length(block: Mapping[str, Any]) -> int:
    """How much a block counts towards `LONGEST_MESSAGE`."""
    return LENGTH_OF_A_BLOCK + _length(block)


def _length(content: object) -> int:
    if isinstance(content, list):
        return sum(map(_length, cast("list[object]", content)))
    if not isinstance(content, Mapping):
        return 0
    values = cast("Mapping[str, object]", content)
    return sum(
        len(value) if name == "text" and isinstance(value, str) else _length(value) for name, value in values.items()
    )


def _within(blocks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first blocks that a message can have, with a last one that says how many are left out."""
    if len(blocks) <= MOST_BLOCKS and sum(map(length, blocks)) <= LONGEST_MESSAGE:
        return list(blocks)
    end = and_more(len(blocks))
    room, kept = LONGEST_MESSAGE - length(end), list[dict[str, Any]]()
    for block in blocks[: MOST_BLOCKS - 1]:
        if (room := room - length(block)) < 0:
            break
        kept.append(block)
    return [*kept, and_more(len(blocks) - len(kept))]


def and_more(number: int) -> dict[str, Any]:
    """The block that says how many entries a message leaves out."""
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": f"and {number} more"}]}


def _fitting(block: Mapping[str, Any]) -> dict[str, Any]:
    longest = LONGEST_IN_BLOCK.get(str(block.get("type")))
    if longest is None or "text" not in block:
        return dict(block)
    text: Mapping[str, Any] = block["text"]
    return {**block, "text": {**text, "text": _cut(str(text["text"]), longest)}}


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
