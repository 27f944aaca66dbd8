"""The Slack stand-in, spoken to by Slack's own SDK."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from tests.on_call import OnCall, running


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("slack"), "incident_io", "slack", "control") as started:
        started.lift_limits("slack")
        yield started


@pytest.fixture
def slack(on_call: OnCall) -> WebClient:
    return WebClient(token="local-slack-token", base_url=f"{on_call.config.url('slack')}/api/", timeout=20)


def section(length: int) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": "x" * length}}


def context(length: int) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": "x" * length}]}


def code(error: pytest.ExceptionInfo[SlackApiError]) -> str:
    return error.value.response["error"]


def test_the_token_is_checked(on_call, slack) -> None:
    assert slack.auth_test()["user"] == "dataplatform"
    with pytest.raises(SlackApiError) as wrong:
        WebClient(token="wrong", base_url=slack.base_url).auth_test()
    assert code(wrong) == "invalid_auth"
    assert wrong.value.response.status_code == 200
    answer = httpx.post(f"{slack.base_url}auth.test")
    assert (answer.status_code, answer.json()) == (200, {"ok": False, "error": "not_authed"})


def test_messages_are_kept_as_json_and_as_a_form(on_call, slack) -> None:
    sent = slack.chat_postMessage(channel="#data", text="from <JSON> & co", blocks=[section(3000)])
    reply = slack.api_call(
        "chat.postMessage", data={"channel": "#data", "text": "from a form é", "thread_ts": sent["ts"], "blocks": "[]"}
    )
    first, second = on_call.inspect("slack", "messages")[-2:]
    assert (first["channel"], first["text"], first["blocks"]) == ("#data", "from <JSON> & co", [section(3000)])
    assert (second["text"], second["thread_ts"], second["blocks"]) == ("from a form é", sent["ts"], [])
    assert (first["ts"], second["ts"]) == (sent["ts"], reply["ts"])
    assert float(reply["ts"]) > float(sent["ts"])


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"blocks": [{"type": "divider"}, section(3001)]}, "invalid_blocks"),
        ({"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]}, "invalid_blocks"),
        ({"blocks": [{"type": "divider"}] * 51}, "invalid_blocks"),
        ({"blocks": [section(0)]}, "invalid_blocks"),
        ({"blocks": [section(3000)] * 5}, "msg_blocks_too_long"),
        ({"blocks": [section(200)] * 50}, "msg_blocks_too_long"),
        ({"blocks": [section(3000)] * 4 + [context(900)]}, "msg_blocks_too_long"),
        ({"blocks": "{"}, "invalid_blocks_format"),
        ({"blocks": [{"text": "no type"}]}, "invalid_blocks_format"),
        ({"text": "x" * 40_001}, "msg_too_long"),
        ({"text": ""}, "no_text"),
        ({"channel": ""}, "channel_not_found"),
    ],
)
def test_a_message_beyond_the_limits_is_refused_and_not_kept(on_call, slack, message, error) -> None:
    before = on_call.inspect("slack", "messages")
    with pytest.raises(SlackApiError) as refused:
        slack.api_call("chat.postMessage", json={"channel": "#data", "text": "x"} | message)
    assert code(refused) == error
    assert on_call.inspect("slack", "messages") == before


def test_the_longest_message_is_taken(slack) -> None:
    assert slack.chat_postMessage(channel="#data", text="x" * 40_000)["ok"]
    assert slack.chat_postMessage(channel="#data", text="x", blocks=[section(3000)] * 4 + [context(700)])["ok"]


def test_each_method_has_slacks_own_rate_limit(on_call, slack) -> None:
    store = VendorContext.of(on_call.config).store
    rate_limits.reset(store, "slack")
    try:

        def ask_more_than_a_minute_allows() -> None:
            for _ in range(21):
                slack.usergroups_list()

        with pytest.raises(SlackApiError) as limited:
            ask_more_than_a_minute_allows()
        assert (limited.value.response.status_code, code(limited)) == (429, "ratelimited")
        assert 1 <= int(limited.value.response.headers["Retry-After"]) <= 60
        assert slack.auth_test()["ok"]
        slack.chat_postMessage(channel="#one", text="first")
        with pytest.raises(SlackApiError) as posted:
            slack.chat_postMessage(channel="#one", text="too soon")
        assert posted.value.response.headers["Retry-After"] == "1"
        assert slack.chat_postMessage(channel="#two", text="another channel")["ok"]
    finally:
        on_call.lift_limits("slack")


def test_updating_a_group_replaces_its_whole_list(slack) -> None:
    [group] = [g for g in slack.usergroups_list()["usergroups"] if g["handle"] == "data-responder"]
    people = [
        slack.users_lookupByEmail(email=f"{name}@example.com")["user"]["id"] for name in ("priya", "jonas", "maeve")
    ]
    assert slack.usergroups_users_update(usergroup=group["id"], users=people[:2])["usergroup"]["users"] == people[:2]
    slack.usergroups_users_update(usergroup=group["id"], users=people[2])
    assert slack.usergroups_users_list(usergroup=group["id"])["users"] == people[2:]
    listed = slack.usergroups_list(include_users=True)["usergroups"]
    assert [g["users"] for g in listed if g["id"] == group["id"]] == [people[2:]]

    for users, error in (([], "no_users_provided"), (["U404"], "invalid_users")):
        with pytest.raises(SlackApiError) as refused:
            slack.usergroups_users_update(usergroup=group["id"], users=users)
        assert code(refused) == error
    assert slack.usergroups_users_list(usergroup=group["id"])["users"] == people[2:]


def test_who_is_in_a_group_is_shown_by_name(on_call, slack) -> None:
    [group] = [g for g in slack.usergroups_list()["usergroups"] if g["handle"] == "data-responder"]
    priya = slack.users_lookupByEmail(email="priya@example.com")["user"]
    assert slack.users_info(user=priya["id"])["user"] == priya
    slack.usergroups_users_update(usergroup=group["id"], users=[priya["id"]])
    [shown] = [one for one in on_call.inspect("slack", "groups") if one["handle"] == "data-responder"]
    assert (shown["users"], shown["names"]) == ([priya["id"]], ["Priya Nair"])
    page = httpx.get(on_call.config.url("control"), timeout=20).text
    assert "@data-responder" in page
    assert "Priya Nair" in page
    with pytest.raises(SlackApiError) as nobody:
        slack.users_info(user="U404")
    assert code(nobody) == "user_not_found"


def test_a_rate_limit_says_how_long_to_wait(on_call, slack) -> None:
    faults = VendorContext.of(on_call.config).faults
    faults.add("slack", "chat.postMessage", "http_429", {"retry_after": 3}, times=1)
    with pytest.raises(SlackApiError) as limited:
        slack.chat_postMessage(channel="#data", text="too soon")
    assert (limited.value.response.status_code, limited.value.response.headers["Retry-After"]) == (429, "3")
    assert slack.chat_postMessage(channel="#data", text="later")["ok"]


def test_a_group_is_made_disabled_and_enabled(slack) -> None:
    made = slack.usergroups_create(name="Night watch", handle="night-watch")["usergroup"]
    with pytest.raises(SlackApiError) as twice:
        slack.usergroups_create(name="Night watch")
    assert code(twice) == "name_already_exists"
    with pytest.raises(SlackApiError) as same_handle:
        slack.usergroups_create(name="Another", handle="night-watch")
    assert code(same_handle) == "handle_already_exists"

    assert slack.usergroups_disable(usergroup=made["id"])["usergroup"]["date_delete"] > 0
    assert made["id"] not in [g["id"] for g in slack.usergroups_list()["usergroups"]]
    assert made["id"] in [g["id"] for g in slack.usergroups_list(include_disabled=True)["usergroups"]]
    assert slack.usergroups_enable(usergroup=made["id"])["usergroup"]["date_delete"] == 0
    with pytest.raises(SlackApiError) as unknown:
        slack.usergroups_disable(usergroup="S404")
    assert code(unknown) == "no_such_subteam"


def test_unknown_people_and_methods_are_refused(slack) -> None:
    with pytest.raises(SlackApiError) as nobody:
        slack.users_lookupByEmail(email="nobody@example.com")
    assert code(nobody) == "users_not_found"
    with pytest.raises(SlackApiError) as method:
        slack.api_call("chat.nothing")
    assert code(method) == "unknown_method"


def test_the_people_on_call_are_found_by_email(on_call, slack) -> None:
    headers = {"Authorization": "Bearer local-incident_io-key"}
    schedules = httpx.get(f"{on_call.config.url('incident_io')}/v2/schedules", headers=headers).json()["schedules"]
    users = [user for s in schedules for rotation in s["config"]["rotations"] for user in rotation["users"]]
    assert len(users) == 7
    for user in users:
        assert slack.users_lookupByEmail(email=user["email"])["user"]["id"] == user["slack_user_id"]


def test_a_killed_server_comes_back_with_its_messages_and_groups(on_call, slack) -> None:
    slack.chat_postMessage(channel="#data", text="before")
    before = on_call.inspect("slack", "messages"), slack.usergroups_list(include_users=True)["usergroups"]
    on_call.end(signal.SIGKILL)
    on_call.start()
    assert (on_call.inspect("slack", "messages"), slack.usergroups_list(include_users=True)["usergroups"]) == before
