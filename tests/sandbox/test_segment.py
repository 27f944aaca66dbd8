"""Segment's stand-in over HTTP and by the official client: what it takes, and how that lands in the warehouse."""

from __future__ import annotations

import base64
import gzip
import json
import signal
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from google.cloud import bigquery
from segment.analytics import Client

from product_events.registry import registry
from sandbox.company import activity, behaviour, product, product_events
from sandbox.company.product_events import seed_product_events
from sandbox.company.tracking_plan import TRACKING_PLAN
from sandbox.config import PROJECT, SandboxConfig
from sandbox.services import postgres
from sandbox.vendors.context import VendorContext
from sandbox.vendors.segment.destination import Destination
from sandbox.vendors.segment.history import seed_history
from sandbox.vendors.segment.inbox import Inbox
from sandbox.vendors.segment.loader import Loader, by_table
from sandbox.vendors.segment.messages import STANDARD, snake_case
from sandbox.vendors.segment.sources import write_key
from tests.stand_ins import Vendors, wait_for

LATE = timedelta(days=2)


@pytest.fixture
def sources(vendors: Vendors) -> Vendors:
    """The stand-in with nothing in the datasets of its sources."""
    vendors.load()
    client = bigquery.Client(project=PROJECT)
    for source in TRACKING_PLAN:
        client.delete_dataset(source, delete_contents=True, not_found_ok=True)
        client.create_dataset(source)
    return vendors


def client_of(vendors: Vendors, source: str, **options: Any) -> Client:
    return Client(write_key(source), host=vendors.config.url("segment"), **({"upload_interval": 0.1} | options))


def track(message_id: str, **fields: Any) -> dict[str, Any]:
    return {"type": "track", "userId": "usr_1", "event": "Feature Used", "messageId": message_id} | fields


def send(vendors: Vendors, *messages: dict[str, Any], source: str = "web_app", **fields: Any) -> httpx.Response:
    body = {"batch": list(messages), "writeKey": write_key(source)} | fields
    # The standard library writes what httpx refuses: half of a surrogate pair.
    return vendors.segment.post("/v1/batch", content=json.dumps(body), headers={"Content-Type": "application/json"})


def ids(vendors: Vendors, table: str) -> Counter[str]:
    return Counter(row for (row,) in vendors.query(f"select id from {table}"))


def columns(vendors: Vendors, source: str) -> dict[str, dict[str, str]]:
    """Types by table and column, without the views."""
    found: dict[str, dict[str, str]] = {}
    statement = (
        f"select table_name, column_name, data_type from {source}.INFORMATION_SCHEMA.COLUMNS"
        " where not ends_with(table_name, '_view')"
    )
    for table, column, kind in vendors.query(statement):
        found.setdefault(table, {})[column] = kind
    return found


def test_every_call_of_the_official_client_lands_in_its_tables(sources):
    client = client_of(sources, "web_app", gzip=True)
    at = datetime.now(UTC) - timedelta(minutes=7)
    client.identify("usr_1", {"email": "ada@example.com", "role": "admin", "address": {"city": "Rome"}}, timestamp=at)
    client.track("usr_1", "Feature Used", {"feature": "insights", "count": 2, "tags": ["a", "b"]}, anonymous_id="dev_1")
    client.page("usr_1", "docs", "Home", {"path": "/", "url": "https://app.example.com/"}, context={"ip": "192.0.2.1"})
    client.screen("usr_1", name="Home", properties={"dark": True, "ratio": 0.5})
    client.group("usr_1", "org_1", {"employees": 12})
    client.alias("dev_1", "usr_1")
    client.shutdown()
    sources.load()
    assert sources.query("select event, event_text, user_id, anonymous_id from web_app.tracks") == [
        ("feature_used", "Feature Used", "usr_1", "dev_1")
    ]
    assert sources.query("select feature, count, tags, context_library_name from web_app.feature_used") == [
        ("insights", 2, '["a", "b"]', "analytics-python")
    ]
    assert sources.query("select name, category, path, context_ip from web_app.pages") == [("Home", "docs", "/", "192.0.2.1")]  # fmt: skip
    assert sources.query("select name, dark, ratio from web_app.screens") == [("Home", True, 0.5)]
    assert sources.query("select group_id, employees from web_app.groups") == [("org_1", 12)]
    assert sources.query("select previous_id, user_id from web_app.aliases") == [("dev_1", "usr_1")]
    [(identified, email, city)] = sources.query("select timestamp, email, address_city from web_app.identifies")
    assert abs(identified - at) < timedelta(seconds=5)
    assert (email, city) == ("ada@example.com", "Rome")
    assert sources.query("select id, email, role from web_app.users") == [("usr_1", "ada@example.com", "admin")]
    found = columns(sources, "web_app")
    assert set(found) == {"aliases", "feature_used", "groups", "identifies", "pages", "screens", "tracks", "users"}
    assert all(STANDARD.items() <= found[table].items() for table in found if table != "users")
    assert "anonymous_id" not in found["users"]
    partitioned = bigquery.Client(project=PROJECT).get_table("web_app.tracks").time_partitioning
    assert (partitioned.type_, partitioned.field) == ("DAY", None)
    [(loaded_on,)] = sources.query("select _partitiontime from web_app.tracks")
    assert loaded_on.date() == datetime.now(UTC).date()


def test_a_client_in_sync_mode_sends_before_it_returns(sources):
    client_of(sources, "mobile", sync_mode=True).screen("usr_2", name="Home", message_id="s1")
    sources.load()
    assert ids(sources, "mobile.screens") == {"s1": 1}


def test_a_message_that_is_sent_twice_is_there_twice(sources):
    for _ in range(2):
        assert send(sources, track("t1"), track("t2")).json() == {"success": True}
        sources.load()
    send(sources, track("t2"), track("t2"))
    sources.load()
    assert ids(sources, "web_app.tracks") == ids(sources, "web_app.feature_used") == {"t1": 2, "t2": 4}
    [(loads,)] = sources.query("select count(distinct loaded_at) from web_app.tracks")
    assert loads == 3


def test_new_properties_add_columns_and_values_of_another_type_are_fitted_or_null(sources):
    send(sources, track("t1", properties={"count": 1}))
    sources.load()
    send(
        sources,
        track("t2", properties={"count": "7", "plan": "pro"}),
        track("t3", properties={"count": "many", "plan": 3}),
    )
    send(sources, track("t4", properties={"count": 2**70, "plan": "half \ud83d", "none": None, "!": 1}))
    sources.load()
    assert sources.query("select id, count, plan from web_app.feature_used order by id") == [
        ("t1", 1, None), ("t2", 7, "pro"), ("t3", None, "3"), ("t4", None, "half ?"),
    ]  # fmt: skip
    assert "none" not in columns(sources, "web_app")["feature_used"]
    assert "plan" not in columns(sources, "web_app")["tracks"]


def test_users_has_a_row_for_each_call_and_its_view_has_the_newest(sources):
    for traits in ({"email": "a@example.com", "role": "viewer"}, {"role": "owner"}):
        client = client_of(sources, "website", sync_mode=True)
        client.identify("usr_1", traits)
        client.identify("usr_2", {"role": "viewer"})
        sources.load()
    assert ids(sources, "website.users") == {"usr_1": 2, "usr_2": 2}
    assert sources.query("select id, role from website.users_view order by id") == [
        ("usr_1", "owner"), ("usr_2", "viewer"),
    ]  # fmt: skip
    assert sum(ids(sources, "website.identifies").values()) == 4


def test_a_table_comes_with_its_first_event_and_a_column_with_its_first_value(sources):
    send(sources, track("t1", properties={"feature": None}, userId=None, anonymousId="device"))
    sources.load()
    first = columns(sources, "web_app")
    assert set(first) == {"tracks", "feature_used"}
    assert "feature" not in first["feature_used"]

    send(sources, track("t2", properties={"feature": "insights"}), track("t3", event="Integration Connected"))
    sources.load()
    then = columns(sources, "web_app")
    assert set(then) - set(first) == {"integration_connected"}
    assert set(then["feature_used"]) - set(first["feature_used"]) == {"feature"}
    assert sources.query("select id, feature from web_app.feature_used_view order by id") == [
        ("t1", None), ("t2", "insights"),
    ]  # fmt: skip


def test_the_time_of_a_late_message_is_corrected_for_the_senders_clock(sources):
    ahead, offline = timedelta(minutes=50), timedelta(hours=30)
    now = datetime.now(UTC)
    happened = now - offline
    message = track("t1", timestamp=(happened + ahead).isoformat())
    send(sources, message, sentAt=(now + ahead).isoformat())
    sources.load()
    [(timestamp, original, sent, received)] = sources.query(
        "select timestamp, original_timestamp, sent_at, received_at from web_app.tracks"
    )
    assert (original, sent) == (happened + ahead, now + ahead)
    assert abs(received - now) < timedelta(seconds=10)
    assert timestamp == received - (sent - original)
    assert abs(timestamp - happened) < timedelta(seconds=10)


def test_a_write_key_is_taken_from_basic_authentication_or_the_body(sources):
    encoded = base64.b64encode(b"local-website-write-key:").decode()
    body = {"userId": "usr_1", "event": "Signed Up", "messageId": "t1"}
    basic = sources.segment.post("/v1/track", json=body, headers={"Authorization": f"Basic {encoded}"})
    own = sources.segment.post("/v1/track", json=body | {"messageId": "t2", "writeKey": write_key("website")})
    assert basic.json() == own.json() == {"success": True}
    sources.load()
    assert ids(sources, "website.signed_up") == {"t1": 1, "t2": 1}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (track("bad", writeKey="wrong"), "no source has the write key 'wrong'"),
        ({"type": "track", "event": "Feature Used"}, "neither userId nor anonymousId is given"),
        (track("bad", event=None), "track has no event"),
        (track("bad", event="Tracks"), "event 'Tracks' cannot have a table of its own"),
        (track("bad", timestamp="yesterday"), "timestamp or sentAt is no ISO 8601 time"),
        (track("bad", timestamp="0001-01-01T00:00:00+14:00"), "timestamp or sentAt is no ISO 8601 time"),
        (track("bad", properties=[1]), "properties is no object"),
    ],
)
def test_what_segment_drops_is_answered_with_200_and_shown_with_its_reason(vendors, message, reason):
    answer = vendors.segment.post("/v1/track", json={"writeKey": write_key("web_app")} | message)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert reason in vendors.segment.get("/_inspect/rejected").json()[-1]["reason"]


def test_a_type_that_is_none_is_dropped_from_a_batch_and_no_address(vendors):
    assert send(vendors, track("bad", type="shout")).status_code == 200
    assert "type 'shout' is none of" in vendors.segment.get("/_inspect/rejected").json()[-1]["reason"]
    assert vendors.segment.post("/v1/shout", json={}).status_code == 404


def test_limits_and_broken_json_are_refused_and_nothing_of_the_batch_is_kept(sources):
    large = track("t2", properties={"text": "x" * 32 * 1024})
    whole = {
        "writeKey": write_key("web_app"),
        "batch": [track(str(n), properties={"text": "x" * 30_000}) for n in range(18)],
    }
    refused = [
        send(sources, track("t1"), large),
        sources.segment.post("/v1/track", json=large),
        sources.segment.post("/v1/batch", json=whole),
        sources.segment.post("/v1/batch", content=b'{"batch": ['),
        sources.segment.post("/v1/batch", content=b"no gzip", headers={"Content-Encoding": "gzip"}),
        sources.segment.post("/v1/batch", json={"batch": 1}),
        sources.segment.post("/v1/batch", json=[]),
    ]
    assert [answer.status_code for answer in refused] == [400] * len(refused)
    content = gzip.compress(json.dumps(whole | {"batch": whole["batch"][:15]}).encode())
    assert sources.segment.post("/v1/batch", content=content, headers={"Content-Encoding": "gzip"}).is_success
    sources.load()
    assert set(ids(sources, "web_app.tracks")) == {str(n) for n in range(15)}


@pytest.mark.parametrize(("kind", "params"), [("http_500", {}), ("http_429", {"retry_after": 1}), ("reset", {}), ("truncated", {})])  # fmt: skip
def test_the_official_client_sends_again_and_nothing_is_lost(sources, kind, params):
    sources.faults.add("segment", kind=kind, params=params, times=1)
    errors: list[Exception] = []
    client = client_of(sources, "web_app", on_error=lambda error, _batch: errors.append(error))
    for number in range(20):
        client.track("usr_1", "Feature Used", message_id=f"t{number}")
    client.shutdown()
    sources.load()
    landed = ids(sources, "web_app.feature_used")
    assert set(landed) == {f"t{number}" for number in range(20)}
    assert errors == []
    # Half an answer is one with status 200 all the same.
    assert set(landed.values()) == {1}


def test_killed_while_it_loads_it_loses_and_doubles_nothing(sources):
    sent: Counter[str] = Counter()
    for attempt in range(2):
        messages = [track(f"k{attempt}-{number}") for number in range(400)]
        assert send(sources, *messages).is_success
        sent.update(message["messageId"] for message in messages)
        asking = threading.Thread(target=_load_quietly, args=(sources,))
        asking.start()
        time.sleep(0.1 + 0.3 * attempt)
        sources.stop(signal.SIGKILL)
        asking.join()
        sources.start()
    sources.load()
    assert ids(sources, "web_app.tracks") == sent
    assert ids(sources, "web_app.feature_used") == sent


def _load_quietly(vendors: Vendors) -> None:
    url = vendors.config.url("segment")
    try:
        httpx.post(f"{url}/_inspect/load", timeout=60)
    except httpx.TransportError:
        return


def test_a_load_that_landed_but_was_not_noted_is_not_repeated(sources, tmp_path):
    inbox = Inbox(VendorContext.of(SandboxConfig(tmp_path, sources.config.ports)).store)
    inbox.accept("web_app", track("t1"), datetime.now(UTC))
    batch = inbox.claim("web_app")
    assert batch is not None
    Destination(bigquery.Client(project=PROJECT), "web_app").append("tracks", by_table(batch)["tracks"], batch.id)
    inbox.accept("web_app", track("t2"), datetime.now(UTC))
    Loader(inbox, bigquery.Client(project=PROJECT)).load()
    assert ids(sources, "web_app.tracks") == ids(sources, "web_app.feature_used") == {"t1": 1, "t2": 1}


def test_a_load_job_that_failed_is_begun_anew(sources, tmp_path):
    inbox = Inbox(VendorContext.of(SandboxConfig(tmp_path, sources.config.ports)).store)
    inbox.accept("web_app", track("t1"), datetime.now(UTC))
    batch = inbox.claim("web_app")
    assert batch is not None
    client = bigquery.Client(project=PROJECT)
    job = client.query("select 1 / 0", job_id=f"segment_{batch.id}_tracks_0", job_retry=None)
    wait_for(lambda: client.get_job(job.job_id).state == "DONE", 20, "the job fails")
    Loader(inbox, bigquery.Client(project=PROJECT)).load()
    assert ids(sources, "web_app.tracks") == {"t1": 1}


def test_the_history_lands_once_in_the_planned_layout(company, vendors):
    store = VendorContext.of(company).store
    store.execute("delete from segment_history")
    landed = seed_history(company)
    assert seed_history(company) == {}
    for source, plan in TRACKING_PLAN.items():
        found = columns(vendors, source)
        assert set(found) == {name.split(".")[1] for name in landed if name.startswith(f"{source}.")} <= set(plan)
        counts = " union all ".join(f"select '{table}', count(*) from {source}.{table}" for table in found)
        assert {f"{source}.{table}": count for table, count in vendors.query(counts)}.items() <= landed.items()
        for table, kinds in found.items():
            standard = {"id": "STRING"} | dict.fromkeys(("received_at", "uuid_ts", "loaded_at"), "TIMESTAMP")
            standard = standard if table == "users" else STANDARD
            assert standard.items() <= kinds.items() <= (plan[table] | standard).items(), table
    # The live path lands beside it.
    send(vendors, track("after the history", properties={"feature": "insights"}))
    vendors.load()
    assert sum(ids(vendors, "web_app.feature_used").values()) == landed["web_app.feature_used"] + 1

    for table, late in (("mobile.screens", True), ("web_app.pages", False)):
        rows = vendors.query(f"select id, timestamp, received_at, loaded_at from {table}")
        copies = Counter(row[0] for row in rows)
        assert 0.002 < sum(count - 1 for count in copies.values()) / len(rows) < 0.06, table
        assert all(at <= received <= loaded for _id, at, received, loaded in rows), table
        waits = [received - at for _id, at, received, _loaded in rows]
        assert (max(waits) > timedelta(hours=20)) == late or not late
        assert max(waits) < LATE + timedelta(hours=20)


def test_the_history_is_the_same_for_the_same_seed_and_a_larger_company_only_adds(company):
    known = product.read(postgres.dsn(company))
    messages = behaviour.history(known.seed, known.rows, known.now)
    assert messages == behaviour.history(known.seed, known.rows, known.now)
    fewer = known.rows | {"organisations": known.rows["organisations"][:2]}
    small = {(m.body["messageId"], m.received_at) for m in behaviour.history(known.seed, fewer, known.now)}
    assert small < {(m.body["messageId"], m.received_at) for m in messages}
    assert max(message.received_at for message in messages) <= known.now
    assert {snake_case(m.body["event"]) for m in messages if m.body["type"] == "track"} <= {
        table for plan in TRACKING_PLAN.values() for table in plan
    }


def test_sessions_pause_for_less_than_half_an_hour_within_and_longer_between(company):
    known = product.read(postgres.dsn(company))
    times: dict[str, list[datetime]] = {}
    for message in behaviour.history(known.seed, known.rows, known.now):
        if message.source == "web_app":
            times.setdefault(message.body["userId"], []).append(datetime.fromisoformat(message.body["timestamp"]))
    gaps = [
        later - earlier for at in times.values() for earlier, later in zip(sorted(at), sorted(at)[1:], strict=False)
    ]
    within = [gap for gap in gaps if gap <= timedelta(minutes=30)]
    between = [gap for gap in gaps if gap > timedelta(minutes=30)]
    assert len(within) > 3 * len(between) > 0
    weekdays = Counter(at.weekday() >= 5 for moments in times.values() for at in moments)
    assert weekdays[False] / 5 > 2 * weekdays[True] / 2


def test_product_events_of_the_history_fit_the_registry_and_land_once(company):
    landed = seed_product_events(company)
    assert seed_product_events(company) == {}
    known = product.read(postgres.dsn(company))
    tables = product_events.history(known.seed, known.rows, known.now)
    assert set(tables) == set(registry().events)
    envelope = {*activity.ENVELOPE, "received_at"}
    for name, events in tables.items():
        assert landed[f"product_events.{name}"] == len(events)
        for event in events:
            version = registry().events[name].version(event["event_version"])
            assert version is not None
            assert version.problems({key: value for key, value in event.items() if key not in envelope}) == []
            assert event["occurred_at"] < event["received_at"] <= known.now
    assert {event["event_version"] for event in tables["status_page_viewed"]} == {1, 2}
    table = bigquery.Client(project=PROJECT).get_table("product_events.status_page_viewed")
    assert (table.time_partitioning.field, table.clustering_fields) == ("received_at", ["organisation_id"])


def test_an_hour_of_live_activity_lands_to_the_row_and_none_of_it_in_the_future(sources):
    seed_product_events(sources.config)
    known = product.read(postgres.dsn(sources.config))
    chosen = {row["id"] for row in known.rows["organisations"][:3]}
    began = datetime.now(UTC)
    sent = activity.live(sources.config, chosen)
    assert set(sent.messages) == set(TRACKING_PLAN)
    assert set(sent.events) == set(registry().events)
    sources.load()
    tables = {"website": ("tracks", "pages", "identifies"), "web_app": ("tracks", "pages", "identifies"), "mobile": ("tracks", "screens", "identifies")}  # fmt: skip
    for source, count in sent.messages.items():
        present = columns(sources, source)
        rows = [
            row
            for table in tables[source] if table in present
            for row in sources.query(f"select timestamp, received_at from {source}.{table}")
        ]  # fmt: skip
        assert len(rows) == count
        assert all(began - timedelta(hours=1) < at <= received for at, received in rows)
    for name, count in sent.events.items():
        statement = (
            f"select occurred_at, received_at from product_events.{name} where received_at >= timestamp '{began}'"
        )
        rows = sources.query(statement)
        assert len(rows) == count
        assert all(began - timedelta(hours=1) < at <= received for at, received in rows)
