"""`dataplatform incidents` as it is typed: its output and its exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from typer.testing import CliRunner

from orchestration.cli import app
from orchestration.incidents import mutes
from orchestration.incidents.cli import end_of, moment_of
from orchestration.settings import Settings, settings
from sandbox.env_file import environment
from tests.orchestration.incidents.instigators import HOURLY
from tests.orchestration.processes import python
from tests.stand_ins import Vendors

KEYS = [dg.AssetKey(["insights", name]) for name in ("pages", "time")]
UNCONFIGURED = {name.upper(): "" for name, field in Settings.model_fields.items() if field.is_required()}
"""An empty variable keeps a `.env` of this checkout from filling it in. Of those with a default an empty one may be malformed."""


class Shell:
    """A person at a terminal, whose DAGSTER_HOME is that of the instance."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder, instance

    def starts(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A process, which takes seconds to start."""
        given = UNCONFIGURED | self._home | variables
        return python(self.folder, given, "-m", "orchestration.cli", "incidents", *arguments)

    def types(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The same command in this process."""
        with pytest.MonkeyPatch.context() as patch:
            for name in os.environ.keys() & UNCONFIGURED.keys():
                patch.delenv(name)
            for name, value in (UNCONFIGURED | self._home | variables).items():
                patch.setenv(name, value)
            time.tzset()
            settings.cache_clear()
            done = CliRunner().invoke(app, ["incidents", *arguments], catch_exceptions=False)
        time.tzset()
        settings.cache_clear()
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    @property
    def _home(self) -> dict[str, str]:
        return {"DAGSTER_HOME": str(self.folder), "TZ": "UTC", "COLUMNS": "200", "USER": "ada", "LOGNAME": "ada"}

    def muted(self) -> list[dict[str, str | None]]:
        result = self.types("mutes", "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        for key in KEYS:
            instance.report_runless_asset_event(dg.AssetMaterialization(key))
        yield Shell(tmp_path, instance)


def test_an_asset_is_muted_shown_and_unmuted(shell: Shell) -> None:
    done = shell.starts("mute", "insights/*", "--for", "4h", "--reason", "the source moves")
    assert done.returncode == 0, done.stderr
    assert "2 assets muted until" in done.stderr
    assert "UTC (+0000), 4 h left." in done.stderr
    assert "insights/pages" in done.stderr

    [mute] = mutes.active(shell.instance, time.time())
    assert (mute.selection, mute.reason, mute.by) == ("insights/*", "the source moves", "ada")
    assert timedelta(hours=3.9) < mute.until - datetime.now(UTC) < timedelta(hours=4)
    for key in KEYS:
        [record] = shell.instance.fetch_observations(key, limit=5).records
        assert record.asset_observation is not None
        assert "by ada: the source moves" in (record.asset_observation.description or "")

    listed = shell.starts("mutes", "--timezone", "Europe/London")
    assert listed.stdout.startswith("insights/*: until ")
    assert "left; ada: the source moves" in listed.stdout

    again = shell.starts("unmute", "sales/*")
    assert again.returncode == 1
    assert "'sales/*' is not muted. Muted: 'insights/*'." in again.stderr
    assert shell.starts("unmute", "insights/*").returncode == 0
    assert shell.muted() == []
    assert shell.starts("mutes").stdout == "Nothing is muted.\n"


def test_a_time_is_one_of_the_zone_that_is_named(shell: Shell) -> None:
    london = ZoneInfo("Europe/London")
    day = (datetime.now(london) + timedelta(days=3)).replace(hour=9, minute=0, second=0, microsecond=0)
    for arguments in (
        (f"{day:%Y-%m-%d %H:%M}", "--timezone", "Europe/London"),
        (day.isoformat(),),
        (f"{day.astimezone(UTC):%Y-%m-%d %H:%M}",),
        (f"{day.astimezone(UTC):%Y-%m-%dT%H:%MZ}", "--timezone", "Asia/Tokyo"),
    ):
        done = shell.types("mute", "insights/time", "--reason", "x", "--until", *arguments)
        assert done.returncode == 0, done.stderr
        [mute] = shell.muted()
        assert datetime.fromisoformat(mute["until"] or "") == day


def test_maintenance_mutes_everything(shell: Shell) -> None:
    done = shell.types("maintenance", "--for", "90m", "--reason", "upgrade", "--by", "grace")
    assert done.returncode == 0, done.stderr
    assert "Everything muted until" in done.stderr
    [mute] = shell.muted()
    assert (mute["selection"], mute["by"]) == ("*", "grace")
    assert mutes.is_muted(["tick/hourly"], mutes.active(shell.instance, time.time())) is not None


def test_maintenance_is_planned_ahead_and_called_off(shell: Shell) -> None:
    begins = (datetime.now(UTC) + timedelta(days=3, minutes=1)).replace(second=0, microsecond=0)
    planned = ("--from", f"{begins:%Y-%m-%d %H:%M}", "--for", "4h", "--reason", "upgrade")
    done = shell.types("maintenance", *planned)
    assert done.returncode == 0, done.stderr
    ends = begins + timedelta(hours=4)
    words = f"from {begins:%a %Y-%m-%d %H:%M} UTC (+0000) until {ends:%a %Y-%m-%d %H:%M} UTC (+0000), begins in 3 d"
    assert f"Everything muted {words}" in done.stderr
    assert re.match(re.escape(f"*: {words}") + r"( 1 min)?; ada: upgrade", shell.types("mutes").stdout)
    [mute] = shell.muted()
    assert (mute["since"], mute["until"]) == (begins.isoformat(), ends.isoformat())
    assert mutes.active(shell.instance, time.time()) == ()
    assert mutes.is_muted(["tick/hourly"], mutes.active(shell.instance, begins.timestamp())) is not None

    assert shell.types("maintenance", "--for", "1h", "--reason", "now, too").returncode == 0
    ended = shell.types("unmute", "*")
    assert f"Still planned: {words}" in ended.stderr
    assert [mute["reason"] for mute in shell.muted()] == ["upgrade"]
    called_off = shell.types("unmute", "*")
    assert (called_off.returncode, "Still planned" in called_off.stderr) == (0, False)
    assert shell.muted() == []


def test_a_span_is_as_long_as_it_says_when_the_clocks_change() -> None:
    london = ZoneInfo("Europe/London")
    start = moment_of("--from", "2026-10-24 20:00", london)
    assert end_of(None, "12h", start, london) - start == timedelta(hours=12)
    assert end_of("2026-10-25 08:00", None, start, london) - start == timedelta(hours=13)


def test_an_alert_without_assets_is_muted_by_its_name(shell: Shell) -> None:
    shell.instance.add_instigator_state(HOURLY)
    done = shell.types("mute", "tick/hourly, queue", "--for", "1h", "--reason", "x")
    assert done.returncode == 0, done.stderr
    assert "Alerts named tick/hourly, queue muted until" in done.stderr
    assert "muted by its name only where it has no assets" in done.stderr
    found = mutes.active(shell.instance, time.time())
    assert all(mutes.is_muted([name], found) for name in ("tick/hourly", "queue"))
    assert mutes.is_muted(["tick/daily"], found) is None

    both = shell.types("mute", "insights/*, cause/*", "--for", "1h", "--reason", "x")
    assert "2 assets and alerts named cause/* muted until" in both.stderr
    assert shell.types("unmute", "insights/*, cause/*").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mute", "insights/time", "--reason", "x"), "Give one of --until and --for."),
        (("mute", "insights/time", "--reason", "x", "--from", "soon", "--for", "1h"), "--from 'soon' is no time"),
        (
            ("mute", "insights/time", "--reason", "x", "--from", "2040-01-02", "--until", "2040-01-01"),
            "It would end Sun 2040-01-01 00:00 UTC (+0000), before it begins Mon 2040-01-02 00:00 UTC (+0000).",
        ),
        (
            ("mute", "insights/time", "--reason", "x", "--from", "2040-01-01", "--until", "2040-02-02"),
            "31 days at most",
        ),
        (("maintenance", "--reason", "x", "--from", "2020-01-01", "--for", "1h"), "is in the past"),
        (
            ("maintenance", "--reason", "x", "--from", "9999-12-30T00:00Z", "--for", "30d"),
            "after the last of all years",
        ),
        (("maintenance", "--reason", "x", "--until", "0001-01-01T00:00+05:00"), "is no time"),
        (("mute", "insights/time", "--reason", "x", "--for", "1h", "--until", "2030-01-01"), "Give one of"),
        (("mute", "insights/time", "--reason", "x", "--for", "soon"), "--for 'soon' is no span: write 90m"),
        (("mute", "insights/time", "--reason", "x", "--for", ""), "is no span"),
        (("mute", "insights/time", "--reason", "x", "--for", "0h"), "is no span"),
        (("mute", "insights/time", "--reason", "x", "--for", "99999999999d"), "is no span"),
        (("mute", "insights/time", "--reason", "x", "--for", "32d"), "31 days at most"),
        (("mute", "insights/time", "--reason", "x", "--until", "tomorrow"), "--until 'tomorrow' is no time"),
        (("mute", "insights/time", "--reason", "x", "--until", "2020-01-01 09:00"), "is in the past"),
        (("mute", "insights/time", "--reason", " ", "--for", "1h"), "Say why"),
        (("mute", "insights/time", "--reason", "x", "--for", "1h", "--timezone", "Mars"), "'Mars' is no time zone"),
        (("report", "--timezone", "Mars"), "'Mars' is no time zone"),
        (("report", "--hours", "nine"), "--hours 'nine' are no hours"),
        (("report", "--hours", "18:00-09:00"), "end before they begin"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_muted(shell: Shell, arguments: tuple[str, ...], words: str) -> None:
    done = shell.types(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert mutes.active(shell.instance, time.time()) == ()


def test_an_argument_that_is_missing_is_named(shell: Shell) -> None:
    done = shell.types("mute", "insights/time", "--for", "1h")
    assert done.returncode == 2
    assert "--reason" in done.stderr


def test_without_an_instance_that_others_share_nothing_is_muted(shell: Shell) -> None:
    for arguments in (("mute", "a", "--for", "1h", "--reason", "x"), ("unmute", "a"), ("mutes",)):
        done = shell.types(*arguments, DAGSTER_HOME="")
        assert done.returncode == 1
        assert "DAGSTER_HOME is not set" in done.stderr
    gone = shell.types("mutes", DAGSTER_HOME=str(shell.folder / "nowhere"))
    assert gone.returncode == 1
    assert "cannot be opened" in gone.stderr


def test_an_asset_that_is_unknown_to_storage_needs_settings_to_be_looked_up(shell: Shell) -> None:
    done = shell.types("mute", "insights/tme", "--for", "1h", "--reason", "x")
    assert done.returncode == 1
    assert "FIVETRAN_API_KEY is malformed" in done.stderr
    assert mutes.active(shell.instance, time.time()) == ()


@pytest.fixture
def configured(vendors: Vendors, tmp_path: Path) -> dict[str, str]:
    """The variables of a platform whose definitions can be loaded."""
    variables = environment(vendors.config) | {"DATAPLATFORM_STATE_DIR": str(tmp_path / "state")}
    del variables["DATAPLATFORM_STATE_BUCKET"]  # Cloud Storage's stand-in does not run here
    refreshed = python(tmp_path, variables, "-m", "orchestration.cli", "refresh")
    assert refreshed.returncode == 0, refreshed.stderr
    return variables


@pytest.mark.long
def test_groups_owners_and_assets_that_never_ran_are_looked_up_in_the_definitions(
    shell: Shell, configured: dict[str, str]
) -> None:
    half = shell.types("mute", "explo/*, tikc/hourly", "--for", "1h", "--reason", "x", **configured)
    assert half.returncode == 1
    assert "'tikc/hourly' matches no asset and is no alert's name" in half.stderr
    schedule = shell.types("mute", "queue, tick/hourly_ingets", "--for", "1h", "--reason", "x", **configured)
    assert schedule.returncode == 1
    assert "'tick/hourly_ingets' is no schedule and no sensor; perhaps tick/hourly_ingest" in schedule.stderr
    typo = shell.types("mute", "insights/tme_spent", "--for", "1h", "--reason", "x", **configured)
    assert typo.returncode == 1
    assert "'insights/tme_spent' matches no asset and is no alert's name; perhaps " in typo.stderr
    assert "insights/time_spent_on_incidents_v2" in typo.stderr
    wrong = shell.types("mute", "group:(", "--for", "1h", "--reason", "x", **configured)
    assert wrong.returncode == 1
    assert "is no selection" in wrong.stderr
    empty = shell.types("mute", "group:nothing", "--for", "1h", "--reason", "x", **configured)
    assert (empty.returncode, "'group:nothing' selects no asset." in empty.stderr) == (1, True)
    assert shell.muted() == []

    off = shell.types("mute", "tick/hourly_ingest", "--for", "1h", "--reason", "x", **configured)
    assert off.returncode == 0, off.stderr
    assert shell.types("unmute", "tick/hourly_ingest").returncode == 0

    never_ran = shell.types("mute", "explo/*", "--for", "1h", "--reason", "x", **configured)
    assert never_ran.returncode == 0, never_ran.stderr
    assert "4 assets muted until" in never_ran.stderr
    selected = shell.types("mute", "key:salesforce/* and group:ingestion", "--for", "2h", "--reason", "x", **configured)
    assert selected.returncode == 0, selected.stderr
    kept = next(name for mute in shell.muted() if "salesforce" in (name := mute["selection"] or ""))
    assert "salesforce/account, " in kept
    assert mutes.is_muted(["salesforce/account"], mutes.active(shell.instance, time.time())) is not None
    assert shell.types("unmute", kept).returncode == 0
