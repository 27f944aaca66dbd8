"""The corpus over every way out of the platform: no credential and no value leaves, and what helps to fix a failure does."""

import html
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, time

import dagster as dg
import httpx
import pytest
from rich.console import Console

from orchestration.components import dagster_history
from orchestration.components.steps import Failures
from orchestration.core.channel_text import markdown_to_mrkdwn, markdown_to_plain
from orchestration.core.hidden_characters import HIDDEN
from orchestration.core.redaction import redact
from orchestration.incidents import report
from orchestration.incidents.digest_message import message
from orchestration.incidents.fallback import words
from orchestration.incidents.render import firing
from orchestration.incidents.sizes import bounded
from orchestration.incidents.warned import Warned
from orchestration.lineage.failures import FailedUnit, from_metadata
from orchestration.vendors.bigquery_marts import IncidentResponse
from orchestration.vendors.http import VendorError, describe_error, excerpt, reason
from orchestration.vendors.incident_io import AlertEvent
from orchestration.vendors.waiting import SyncFailed
from tests.core.corpus import Sample, read_corpus
from tests.orchestration.incidents.failures import DBT, URL

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
CORPUS = read_corpus()

Exit = Callable[[Sequence[Sample]], list[str]]


def _event(text: str) -> AlertEvent:
    failed = FailedUnit("dbt/insights/time", ("insights/time",), text)
    background = replace(DBT.background, changes=(f"commit 1a2b3c4 {text}",), problems=(text,))
    return bounded(firing(replace(DBT, units=(failed,), background=background), URL))


def alert_metadata(samples: Sequence[Sample]) -> list[str]:
    """What incident.io stores next to an alert's text."""
    return ["\n".join(map(str, _event(sample.text).metadata.values())) for sample in samples]


def alert_markdown(samples: Sequence[Sample]) -> list[str]:
    """The text of an alert, as its markdown is shown."""
    return [_shown(_event(sample.text).description) for sample in samples]


def fallback_slack(samples: Sequence[Sample]) -> list[str]:
    """The message of the fallback channel Slack, as it is shown."""
    return [html.unescape(markdown_to_mrkdwn(words(_event(one.text), f"incident.io: {one.text}"))) for one in samples]


def fallback_mail(samples: Sequence[Sample]) -> list[str]:
    """The mail of the fallback channel."""
    return [markdown_to_plain(words(_event(one.text), f"incident.io: {one.text}")) for one in samples]


def digest(samples: Sequence[Sample]) -> list[str]:
    """The morning's message with all warnings, one warning a message."""
    found = [message([Warned("insights/time", "volume", one.text, NOW)], "@here", URL, NOW) for one in samples]
    return [html.unescape(one.blocks[2]["text"]["text"]) for one in found if one]


def vendor_errors(samples: Sequence[Sample]) -> list[str]:
    """What an error says of a vendor's answer or of a library's error, wherever it is logged or printed."""
    return [
        f"{_answered(one.text)} {describe_error(RuntimeError(one.text))} {SyncFailed(one.text)} {excerpt(one.text)}"
        for one in samples
    ]


def _answered(text: str) -> str:
    # A response of httpx: json.dumps writes halves of characters as escapes, which JSON may have.
    content = json.dumps({"message": text}).encode()
    return str(VendorError(f"Fivetran: {reason(httpx.Response(400, content=content))}"))


def test_names_in_the_words_of_the_platform_stay() -> None:
    words = 'incident.io: there is no schedule "Nobody\'s 4711". See INCIDENT_IO_SCHEDULE'
    assert str(VendorError(words)) == words


def cli_report(samples: Sequence[Sample]) -> list[str]:
    """`dataplatform incidents report` in a terminal and as JSON."""
    shown: list[str] = []
    for sample in samples:
        one = IncidentResponse(
            incident_id="1", reference="INC-1", incident_name=sample.text, unit=None, cause=sample.text, team=None, is_customer_facing=False,
            is_transient=False, is_flapping=False, alerted_at=NOW, paged_at=NOW, acknowledged_at=None, resolved_at=None,
            minutes_to_acknowledge=None, minutes_to_resolve=None,
        )  # fmt: skip
        built = report.build([one], [], [], NOW, NOW, report.Hours("UTC", time(9), time(10), ("monday",)))
        with io.StringIO() as file:
            Console(file=file, width=2000, force_terminal=False).print(report.as_table(built))
            text = file.getvalue()
        plain = report.as_json(built)
        shown.append(f"{text}\n{plain['by_cause'][0]['cause']}\n{json.dumps(plain)}")
    return shown


@pytest.fixture(scope="module")
def instance() -> dg.DagsterInstance:
    """A run in which every text of the corpus is the error of one unit, as components report it."""

    @dg.asset(name="insights")
    def fail(context: dg.AssetExecutionContext) -> None:
        failed = Failures(context)
        errors = (lambda text: SyncFailed(text, permanent=True), VendorError, RuntimeError)
        for number, sample in enumerate(CORPUS):
            failed.add(f"sync/{number}", [context.asset_key], errors[number % 3](sample.text), URL)
        failed.raise_any()

    instance = dg.DagsterInstance.ephemeral()
    dg.materialize([fail], instance=instance, raise_on_error=False)
    return instance


def _by_number(instance: dg.DagsterInstance) -> list[str]:
    """Everything in the event log of the run about each unit: log lines, observations, and the report of the step."""
    [run] = instance.get_runs()
    found: Mapping[int, list[str]] = {number: [] for number in range(len(CORPUS))}
    for entry in instance.all_logs(run.run_id):
        event = entry.dagster_event
        if begin := re.match(r"sync/(\d+) failed: ", entry.user_message):
            found[int(begin[1])].append(entry.user_message)
        elif event and event.is_asset_observation:
            observed = event.asset_observation_data.asset_observation
            [unit] = from_metadata({name: value.value for name, value in observed.metadata.items()}) or []
            found[int(unit.unit.removeprefix("sync/"))] += [str(observed.description), str(observed.metadata)]
        elif event and event.is_step_failure:
            data = event.step_failure_data.user_failure_data
            assert data is not None
            lines = re.split(r"^sync/(\d+): ", str(data.description), flags=re.MULTILINE)
            for number, text in zip(lines[1::2], lines[2::2], strict=True):
                found[int(number)].append(text)
            [raw] = (value.value for name, value in data.metadata.items() if name.endswith("failed_units"))
            for unit in json.loads(raw) if isinstance(raw, str) else raw:
                found[int(unit["unit"].removeprefix("sync/"))].append(unit["error"])
    return ["\n".join(texts) for texts in found.values()]


def _exported(instance: dg.DagsterInstance) -> list[str]:
    """The errors that the export of history loads into BigQuery."""
    found = {one.unit: one.error or "" for batch in dagster_history.failures(instance, None) for one in batch}
    return [found[f"sync/{number}"] for number in range(len(CORPUS))]


EXITS: Mapping[str, Exit] = {
    "alert, metadata": alert_metadata,
    "alert, markdown": alert_markdown,
    "fallback, Slack": fallback_slack,
    "fallback, mail": fallback_mail,
    "digest, Slack": digest,
    "errors of vendors": vendor_errors,
    "report, CLI": cli_report,
}


@pytest.mark.parametrize("name", EXITS)
def test_no_value_leaves_and_no_name_is_lost(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    _judge(name, CORPUS, EXITS[name](CORPUS), capsys)


def test_event_log_of_components(instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]) -> None:
    _judge("event log", CORPUS, _by_number(instance), capsys)


def test_export_of_history(instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]) -> None:
    _judge("export, BigQuery", CORPUS, _exported(instance), capsys)


CHANNELS = ("alert, metadata", "alert, markdown", "fallback, Slack", "fallback, mail", "digest, Slack")
"""What shows links and mentions. A terminal, a log and a table in BigQuery show text."""


def _judge(name: str, samples: Sequence[Sample], shown: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    leaks, losses = list[str](), list[str]()
    for sample, text in zip(samples, shown, strict=True):
        gone = sample.gone if not sample.is_markup or name in CHANNELS else ()
        leaks += [f"{one!r} of {sample.text!r} in {text!r}" for one in gone if one in text]
        losses += [f"{one!r} of {sample.text!r} in {text!r}" for one in sample.stays if _flat(one) not in _flat(text)]
        leaks += [f"{char!r} of {sample.text!r}" for char in HIDDEN.findall(text)]
    with capsys.disabled():
        print(f"\n{name}: {len(samples)} texts, {len(leaks)} leaks, {len(losses)} losses")
    assert leaks == []
    assert losses == []


def _shown(markdown: str) -> str:
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)


def _flat(text: str) -> str:
    return " ".join(text.split())


def test_corpus_is_large_and_each_text_has_something_to_check() -> None:
    assert len(CORPUS) >= 200
    assert len({sample.text for sample in CORPUS}) == len(CORPUS)
    assert all(sample.gone or sample.stays for sample in CORPUS)
    assert {one.system for one in CORPUS} >= {"postgresql", "bigquery", "fivetran", "dbt", "hightouch", "salesforce", "stripe", "zendesk", "python",
                                              "http", "slack", "segment", "rows"}  # fmt: skip


def test_corpus_would_show_a_leak_and_a_loss() -> None:
    """The check itself: the raw texts leak, and texts of which nothing is left have lost something."""
    raw = [one for one in CORPUS if not one.is_markup and one.system != "hidden"]
    assert all(one in sample.text for sample in raw for one in sample.gone)
    assert sum(len(one.gone) for one in raw) > 300
    assert all(_flat(one) in _flat(sample.text) for sample in raw for one in sample.stays)
    assert all(redact(one.text) != one.text for one in raw if one.gone)


def test_texts_of_an_alert_are_no_links_and_no_mentions() -> None:
    hostile = "[x](https://evil.example.com) <https://evil.example.com|x> <!here> <@U1> @here ![i](https://evil.example.com/i.png) www.evil.example.com"
    event = _event(hostile)
    markdown, slack = words(event, hostile), markdown_to_mrkdwn(words(event, hostile))
    links = re.findall(r"<(?!https://dagster\.example\.com)[^>]*>", slack)
    assert links == []
    assert "evil.example.com" in slack
    assert "://evil" not in slack + markdown + json.dumps(asdict(event))
    outside = re.sub(r"```[\s\S]*?```|`[^`\n]*`", "", markdown)
    assert re.findall(r"(?<!\\)\]\((?!https://dagster\.example\.com)", outside) == []
    assert re.findall(r"(?<!\\)<", outside) == []


def test_link_of_a_vendor_is_an_address_or_nothing() -> None:
    for url in (
        "javascript:alert(1)",
        "https://a.example.com/x) [y](https://evil.example.com",
        "https://a@evil.example.com",
        "https://a.example.com/<b>",
    ):
        failed = FailedUnit("dbt/x", ("insights/time",), "x", vendor_url=url)
        assert url not in firing(replace(DBT, units=(failed,)), URL).description
    good = "https://app.hightouch.com/acme/syncs/12?tab=runs"
    failed = FailedUnit("dbt/x", ("insights/time",), "x", vendor_url=good)
    assert f"[vendor]({good})" in firing(replace(DBT, units=(failed,)), URL).description


def test_the_table_of_a_terminal_has_no_markup_of_rich() -> None:
    [shown] = cli_report([Sample("markup", "[link=https://evil.example.com]x[/link] \x1b[31mred", (), ())])
    assert "[/link] red" in shown
    assert "\x1b" not in shown
