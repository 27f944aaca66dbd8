"""What people do on the company's website, in its web app and its mobile app, as messages of Segment's API.

A pure function of a seed, the product database's rows and an hour. Each organisation is drawn from its own random numbers, the
visitors of the website as its prospects. There are no bots.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sandbox.company.history import DAYS, HOUR_WEIGHTS, Row, Rows

Body = dict[str, Any]
Step = tuple[str, str, dict[str, Any]]
"""A call's type, the name of the page, screen or event, and its properties."""

SITE, APP = "https://www.example.com", "https://app.example.com"
WEBSITE = (
    ("Home", "/"), ("Pricing", "/pricing"), ("On-call", "/on-call"), ("Docs", "/docs"), ("Changelog", "/changelog"),
    ("Customers", "/customers"), ("Demo", "/demo"), ("Blog", "/blog/incident-response"),
)  # fmt: skip
REFERRERS = ("https://www.google.com/", "https://news.ycombinator.com/", "https://www.linkedin.com/", "")
FEATURES = (
    ("incidents", "/incidents", 30), ("alerts", "/alerts", 18), ("on_call_schedules", "/on-call", 14),
    ("insights", "/insights", 10), ("post_mortems", "/post-mortems", 8), ("status_pages", "/status-pages", 8),
    ("workflows", "/workflows", 7), ("catalogue", "/catalogue", 5),
)  # fmt: skip
INTEGRATIONS = ("slack", "datadog", "github", "jira", "grafana", "zoom", "sentry")
SCREENS = ("Home", "On-call", "Incidents", "Incident", "Schedule", "Settings")
ACTIVE = {"owner": 0.21, "admin": 0.19, "responder": 0.12, "viewer": 0.07}
"""How likely a user opens the web app on a working day."""
LOCALES = {"emea": "en-GB", "amer": "en-US", "apac": "en-AU"}
BROWSERS = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
)
PHONES = (
    ("analytics-ios", "4.1.8", "OnCall/5.2 (iPhone; iOS 19.1)"),
    ("analytics-kotlin", "1.19.2", "OnCall/5.2 (Android 16; Pixel 9)"),
)
WEEKEND = 0.15
OFFLINE = 0.06
DUPLICATED = 0.02
VISITORS_A_DAY = 0.8
"""New visitors of the website that an organisation stands for."""


@dataclass(frozen=True)
class Delivered:
    """A message as its source's library sent it, and when Segment received it."""

    source: str
    body: Body
    received_at: datetime


@dataclass(frozen=True)
class _Device:
    """A browser or a phone: what is the same in all of its messages."""

    anonymous_id: str
    context: dict[str, Any]
    skew: timedelta
    """How far its clock is ahead."""


@dataclass
class _Person:
    user: Row
    browser: _Device
    phone: _Device
    joined: datetime
    """When the user signed up; before the history for most."""
    identified: set[str] = field(default_factory=set)


def history(seed: int, rows: Rows, until: datetime) -> list[Delivered]:
    """Every message that Segment had received by `until`, over the 90 days before it, in the order of receipt.

    About two in a hundred were delivered twice, with the same `messageId`; some of a phone's come a day or two late.
    `rows` are the product's `organisations`, `users`, `subscriptions`, `escalations` and `pages`.
    """
    delivered = []
    for organisation in _organisations(seed, rows, until):
        rng = organisation.rng
        for message in organisation.messages():
            delivered.append(message)
            if rng.random() < DUPLICATED:
                delivered.append(_again(rng, message))
    return sorted((m for m in delivered if m.received_at <= until), key=lambda m: (m.received_at, m.body["messageId"]))


def hour(seed: int, rows: Rows, organisations: set[str], now: datetime) -> list[Delivered]:
    """What some people of these organisations, and some of their prospects, did in the hour before `now`.

    `seed` is the history's, whose people have the same devices here.
    """
    wanted: Rows = rows | {"organisations": [row for row in rows["organisations"] if row["id"] in organisations]}
    messages: list[Delivered] = []
    for organisation in _organisations(seed, wanted, now):
        organisation.rng.seed(f"{seed}:hour:{organisation.row['id']}:{now.isoformat()}")
        messages += organisation.hour()
    # A session that began late in the hour would go on after it.
    return [message for message in messages if message.received_at <= now]


def _organisations(seed: int, rows: Rows, until: datetime) -> Iterator[_Organisation]:
    users, plans, pages = {}, {}, {}
    for user in rows["users"]:
        users.setdefault(user["organisation_id"], []).append(user)
    for subscription in rows["subscriptions"]:
        plans[subscription["organisation_id"]] = subscription["plan"]
    of_escalation = {row["id"]: row["organisation_id"] for row in rows["escalations"]}
    for page in rows["pages"]:
        pages.setdefault(of_escalation[page["escalation_id"]], []).append(page)
    for row in rows["organisations"]:
        yield _Organisation(seed, row, users.get(row["id"], []), plans.get(row["id"], "team"), pages.get(row["id"], []), until)  # fmt: skip


class _Organisation:
    """One organisation's people and what they do."""

    def __init__(self, seed: int, row: Row, users: list[Row], plan: str, pages: list[Row], until: datetime) -> None:
        self.rng = random.Random(f"{seed}:behaviour:{row['id']}")
        self.row, self._plan, self._pages, self._until = row, plan, pages, until
        self._start = until - timedelta(days=DAYS)
        self._zone = ZoneInfo(row["timezone"])
        # Use grows in some organisations and fades in others.
        self._level, self._trend = self.rng.uniform(0.7, 1.3), self.rng.uniform(-0.5, 0.5)
        self._features = self.rng.sample(FEATURES, self.rng.randint(3, len(FEATURES)))
        self._people = {user["id"]: self._person(user) for user in users}
        self._integrations = self._integration_days()

    def messages(self) -> Iterator[Delivered]:
        for person in self._people.values():
            if person.joined > self._start:
                yield from self._sign_up(person, person.joined)
        day = self._start
        while day <= self._until:
            yield from self._visitors(day)
            for person in self._people.values():
                yield from self._day(person, day)
            day += timedelta(days=1)
        yield from self._paged()

    def hour(self) -> Iterator[Delivered]:
        rng, people = self.rng, list(self._people.values())
        for person in rng.sample(people, min(len(people), rng.randint(2, 4))):
            # This machine's clock is the client's, and it is right.
            person.phone = replace(person.phone, skew=timedelta())
            person.identified = {"web_app", "mobile"}
            begins = self._until - timedelta(minutes=rng.uniform(20, 58))
            yield from self._web(person, begins)
            if rng.random() < 0.5:
                yield from self._mobile(person, begins + timedelta(minutes=3), "incident_update", late=False)
        yield from self._visit(self._until - timedelta(minutes=rng.uniform(20, 58)))

    def _person(self, user: Row) -> _Person:
        rng = self.rng
        joined = user["created_at"]
        if user["role"] not in {"owner"} and rng.random() < 0.35:
            joined = self._start + timedelta(days=rng.uniform(1, DAYS - 1))
        name, version, agent = rng.choice(PHONES)
        phone = self._device({"name": name, "version": version}, agent, rng.choice((0, 0, 0, 0, 0, 0, 45, -70, 160)))
        return _Person(user, self._browser(), phone, joined)

    def _browser(self) -> _Device:
        return self._device({"name": "analytics.js", "version": "npm:next-1.81.1"}, self.rng.choice(BROWSERS), 0)

    def _device(self, library: dict[str, str], agent: str, skew: float) -> _Device:
        rng = self.rng
        address = f"{rng.choice(('192.0.2', '198.51.100', '203.0.113'))}.{rng.randint(1, 254)}"
        context = {"ip": address, "userAgent": agent, "locale": LOCALES[self.row["region"]], "library": library}
        return _Device(_identifier(rng), context, timedelta(seconds=skew))

    def _integration_days(self) -> dict[int, str]:
        chosen = self.rng.sample(INTEGRATIONS, self.rng.randint(1, 4))
        return {self.rng.randint(1, DAYS - 1): integration for integration in chosen}

    def _activity(self, day: datetime) -> float:
        """How much goes on, against an average working day."""
        age = (day - self._start) / timedelta(days=DAYS)
        weekend = WEEKEND if day.astimezone(self._zone).weekday() >= 5 else 1.0
        return self._level * (1 + self._trend * (age - 0.5)) * weekend

    def _moment(self, day: datetime) -> datetime:
        """A time of that day, most often in the organisation's working hours."""
        rng = self.rng
        clock = time(
            rng.choices(range(24), HOUR_WEIGHTS)[0], rng.randint(0, 59), rng.randint(0, 59), rng.randrange(10**6)
        )
        return datetime.combine(day.astimezone(self._zone).date(), clock, self._zone).astimezone(UTC)

    def _day(self, person: _Person, day: datetime) -> Iterator[Delivered]:
        rng, activity = self.rng, self._activity(day)
        number = (day - self._start).days
        if number in self._integrations and person.user["role"] == "owner":
            at = self._moment(day)
            yield from self._web(person, at, self._integrations[number])
        elif rng.random() < ACTIVE[person.user["role"]] * activity:
            at = self._moment(day)
            if at > person.joined:
                yield from self._web(person, at)
                if rng.random() < 0.15:
                    yield from self._web(person, at + timedelta(hours=rng.uniform(1.5, 4)))
        # The phone is used on weekends too.
        if rng.random() < 0.025 * self._level:
            at = self._moment(day)
            if at > person.joined:
                kind = rng.choice(("shift_reminder", "incident_update", ""))
                yield from self._mobile(person, at, kind, late=rng.random() < OFFLINE)

    def _visitors(self, day: datetime) -> Iterator[Delivered]:
        for _ in range(self.rng.binomialvariate(4, VISITORS_A_DAY / 4 * (WEEKEND * 2 if day.weekday() >= 5 else 1.0))):
            yield from self._visit(self._moment(day))

    def _visit(self, begins: datetime) -> Iterator[Delivered]:
        """A stranger reads the website, comes back in a few days now and then, and may ask for a demo."""
        rng, device = self.rng, self._browser()
        steps = [self._site(*rng.choice(WEBSITE), first=not n) for n in range(1 + rng.binomialvariate(3, 0.3))]
        if rng.random() < 0.05:
            steps.append(self._site("Demo", "/demo"))
            company = f"{rng.choice(('Acme', 'Globex', 'Initech', 'Umbrella', 'Hooli'))} {rng.randint(1, 99)}"
            steps.append(
                ("track", "Demo Requested", {"company": company, "team_size": rng.choice((5, 12, 30, 80, 250))})
            )
        yield from self._session("website", device, None, begins, steps)
        if rng.random() < 0.2:
            steps = [self._site(*rng.choice(WEBSITE), first=True), self._site("Pricing", "/pricing")]
            yield from self._session("website", device, None, begins + timedelta(days=rng.uniform(0.2, 6)), steps)

    def _sign_up(self, person: _Person, at: datetime) -> Iterator[Delivered]:
        """An invited user finds the website, signs up, and goes on into the web app in the same browser."""
        before = [self._site("Home", "/", first=True), self._site("Sign up", "/sign-up")]
        yield from self._session("website", person.browser, None, at - timedelta(minutes=4), before)
        properties = {"plan": self._plan, "organisation_id": self.row["id"]}
        after: list[Step] = [self._identify(person), ("track", "Signed Up", properties)]
        yield from self._session("website", person.browser, person.user["id"], at, after)
        yield from self._web(person, at + timedelta(minutes=2))

    def _web(self, person: _Person, begins: datetime, integration: str | None = None) -> Iterator[Delivered]:
        rng, organisation = self.rng, {"organisation_id": self.row["id"]}
        steps: list[Step] = []
        if "web_app" not in person.identified or rng.random() < 0.12:
            steps.append(self._identify(person))
            person.identified.add("web_app")
        weights = [weight for _name, _path, weight in self._features]
        for index in range(2 + rng.binomialvariate(8, 0.3)):
            feature, path, _weight = rng.choices(self._features, weights)[0]
            title = feature.replace("_", " ").capitalize()
            steps.append(("page", title, _page(APP, path, title, "" if index else f"{APP}/login") | organisation))
            if rng.random() < 0.33:
                steps.append(("track", "Feature Used", {"feature": feature} | organisation))
        if integration:
            steps.append(("page", "Integrations", _page(APP, "/settings/integrations", "Integrations") | organisation))
            steps.append(("track", "Integration Connected", {"integration": integration} | organisation))
        yield from self._session("web_app", person.browser, person.user["id"], begins, steps)

    def _mobile(self, person: _Person, begins: datetime, kind: str, *, late: bool, page: Row | None = None) -> Iterator[Delivered]:  # fmt: skip
        rng, organisation = self.rng, {"organisation_id": self.row["id"]}
        steps: list[Step] = []
        if "mobile" not in person.identified:
            steps.append(self._identify(person))
            person.identified.add("mobile")
        if kind:
            steps.append(("track", "Push Notification Opened", {"kind": kind} | organisation))
        if page:
            wait = round((page["acked_at"] - page["paged_at"]).total_seconds())
            acknowledged = {"page_id": page["id"], "seconds_to_acknowledge": wait} | organisation
            steps.append(("track", "Page Acknowledged", acknowledged))
        screens = ["Incident"] if page else rng.choices(SCREENS, k=1 + rng.binomialvariate(4, 0.3))
        steps += [("screen", screen, organisation) for screen in screens]
        yield from self._session("mobile", person.phone, person.user["id"], begins, steps, late=late)

    def _paged(self) -> Iterator[Delivered]:
        """Pages that were pushed to a phone and acknowledged there."""
        for page in self._pages:
            person = self._people.get(page["user_id"])
            if person and page["channel"] == "push" and page["acked_at"] and page["acked_at"] > person.joined:
                yield from self._mobile(
                    person, page["acked_at"], "page", late=self.rng.random() < OFFLINE / 3, page=page
                )

    def _site(self, name: str, path: str, *, first: bool = False) -> Step:
        referrer = self.rng.choice(REFERRERS) if first else SITE
        search = "?utm_source=newsletter" if first and self.rng.random() < 0.2 else ""
        return "page", name, _page(SITE, path, name, referrer, search)

    def _identify(self, person: _Person) -> Step:
        user = person.user
        return "identify", "", {name: user[name] for name in ("email", "name", "role")} | {"organisation_id": self.row["id"]}  # fmt: skip

    def _session(
        self, source: str, device: _Device, user_id: str | None, begins: datetime, steps: list[Step], *, late: bool = False
    ) -> Iterator[Delivered]:  # fmt: skip
        """The steps with the pauses that a person makes, none of them as long as half an hour."""
        rng, at, context = self.rng, begins, device.context
        # A phone without a network keeps its messages, and sends them together a day or two later.
        connected = begins + timedelta(hours=rng.uniform(20, 46)) if late else None
        for step in steps:
            sent = (connected or at) + timedelta(milliseconds=rng.randint(200, 4000))
            received = sent + timedelta(milliseconds=rng.randint(30, 400))
            # A browser sends with every call the page that it is on.
            if source != "mobile":
                context = context | {"page": {"path": step[2].get("path") or context.get("page", {}).get("path", "/")}}
            body = _body(rng, step, device, user_id, at, sent) | {"context": context}
            yield Delivered(source, body, received)
            at += timedelta(seconds=min(rng.lognormvariate(math.log(40), 1.1), 1500), milliseconds=rng.randint(1, 999))


def _body(rng: random.Random, step: Step, device: _Device, user_id: str | None, at: datetime, sent: datetime) -> Body:
    kind, name, properties = step
    body: Body = {
        "type": kind, "messageId": _identifier(rng), "anonymousId": device.anonymous_id,
        "timestamp": (at + device.skew).isoformat(), "sentAt": (sent + device.skew).isoformat(),
    }  # fmt: skip
    if user_id:
        body["userId"] = user_id
    if kind == "identify":
        return body | {"traits": properties}
    return body | {"event" if kind == "track" else "name": name, "properties": properties}


def _again(rng: random.Random, message: Delivered) -> Delivered:
    """The same message, sent once more by a library that saw no answer."""
    wait = timedelta(hours=rng.uniform(1, 20)) if rng.random() < 0.1 else timedelta(seconds=rng.uniform(1, 90))
    sent = datetime.fromisoformat(message.body["sentAt"]) + wait
    return Delivered(message.source, message.body | {"sentAt": sent.isoformat()}, message.received_at + wait)


def _page(site: str, path: str, title: str, referrer: str = "", search: str = "") -> dict[str, Any]:
    return {"path": path, "url": f"{site}{path}{search}", "referrer": referrer, "title": title, "search": search}


def _identifier(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
