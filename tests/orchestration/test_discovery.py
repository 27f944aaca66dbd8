"""What vendors run and who reads what, from the vendors' answers to the graph: by the commands that people type."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestration.doctor import state_checks
from sandbox.env_file import environment
from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from sandbox.vendors.control.content import Wanted, add
from tests.orchestration.processes import python
from tests.orchestration.wire import refused_port
from tests.stand_ins import Vendors

# Of the projects some are archived, or in the trash.
WANTED = Wanted(hightouch=40, omni=300, explo=25, hex=40)

LOADED = """
import json, sys

def closed(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise ConnectionError(f"the network is closed: {arguments}")

sys.addaudithook(closed)
import dagster as dg
from orchestration.definitions import defs
loaded = defs()
dg.Definitions.validate_loadable(loaded)
graph = loaded.resolve_asset_graph()
made = {key for key in graph.get_all_asset_keys() if graph.get(key).group_name != "default"}
print(json.dumps({key.to_user_string(): sorted(up.to_user_string() for up in graph.get(key).parent_keys) for key in made}))
"""


@dataclass
class Commands:
    """The commands in an empty directory, with nothing of the platform in their environment but what is given."""

    folder: Path
    variables: Mapping[str, str]

    def dataplatform(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "orchestration.cli", *arguments, **changed)

    def python(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return python(self.folder, {**self.variables, **changed}, *arguments)

    def graph(self) -> dict[str, list[str]]:
        """The assets of the code location by key, each with those upstream, loaded where no connection can be made."""
        loaded = self.python("-c", LOADED)
        assert loaded.returncode == 0, loaded.stderr
        return json.loads(loaded.stdout)


@pytest.fixture(scope="module")
def commands(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    folder = tmp_path_factory.mktemp("discovery")
    variables = environment(vendors.config) | {
        "DATAPLATFORM_STATE_DIR": str(folder / "state"),
        # 300 documents at Omni's 60 requests a minute would take five minutes.
        "OMNI_REQUESTS_PER_MINUTE": "100000",
    }
    rate_limits.override(VendorContext.of(vendors.config).store, "omni", "requests", 100_000)
    del variables["DATAPLATFORM_STATE_BUCKET"]  # Cloud Storage's stand-in does not run here
    made = Commands(folder, variables)
    first = made.dataplatform("refresh")
    assert first.returncode == 0, first.stderr
    return made


NAMES = {
    "hightouch": lambda state: {sync["slug"]: sync["slug"] for sync in state["syncs"]},
    "omni": lambda state: {one["identifier"]: one["slug"] for one in state["documents"]},
    "explo": lambda state: {one["dashboard"]["embed_id"]: one["slug"] for one in state["dashboards"]},
    "hex": lambda state: {one["project"]["id"]: one["slug"] for one in state["projects"]},
}
"""The slug of each piece of content by the vendor's own name for it, of a vendor's saved state."""


def slugs(commands: Commands, vendor: str) -> dict[str, str]:
    return NAMES[vendor](json.loads((commands.folder / "state" / f"{vendor}.json").read_text())["state"])


def test_what_the_company_declares_and_what_its_vendors_have_agree(commands: Commands) -> None:
    listed = commands.dataplatform("lineage", "check", "--json")
    findings = json.loads(listed.stdout)
    assert (listed.returncode, {finding["kind"] for finding in findings}) == (0, {"undeclared"}), findings
    shown = commands.dataplatform("lineage", "check")
    assert "Read by people, and no exposure declares it (" in shown.stdout


def test_everything_that_vendors_have_is_joined_to_what_it_reads_with_the_network_closed(
    commands: Commands, vendors: Vendors
) -> None:
    truth = add(VendorContext.of(vendors.config).store, WANTED)
    assert [len(truth[vendor]) for vendor in ("hightouch", "omni", "explo")] == [40, 300, 25]
    assert 30 <= len(truth["hex"]) < 40
    refreshed = commands.dataplatform("refresh")
    assert refreshed.returncode == 0, refreshed.stderr
    graph = commands.graph()
    for vendor, pieces in truth.items():
        slug_of = slugs(commands, vendor)
        found = {piece: graph.get(f"{vendor}/{slug_of[piece]}") for piece in pieces}
        assert found == {piece: [table.replace(".", "/") for table in read] for piece, read in pieces.items()}, vendor
        for read in found.values():
            assert read is not None
            assert graph.keys() >= set(read), "each is a model of dbt"


def test_a_sync_that_is_added_appears_after_a_refresh_and_a_vendor_that_is_down_keeps_its_own(
    commands: Commands, vendors: Vendors
) -> None:
    before = commands.graph()
    [(slug, tables)] = add(VendorContext.of(vendors.config).store, Wanted(hightouch=1, seed=2))["hightouch"].items()
    down = {name: f"http://127.0.0.1:{refused_port()}" for name in ("OMNI_API_URL", "FIVETRAN_API_URL")}
    refreshed = commands.dataplatform("refresh", **down)
    assert refreshed.returncode == 1
    said = " ".join(refreshed.stderr.split())
    assert f"; new: hightouch/{slug} (" in said
    for name in ("omni.json", "fivetran.json"):
        assert re.search(rf"{name}: not refreshed, its last state, [^,]+ old, is kept\. .* could not connect", said), (
            said
        )
    after = commands.graph()
    assert after == before | {f"hightouch/{slug}": [table.replace(".", "/") for table in tables]}


def test_the_doctor_reads_every_state_that_a_refresh_has_saved(commands: Commands) -> None:
    states = state_checks.read(commands.folder / "state")
    assert states.wrong == {}
    assert {path.name for path in (commands.folder / "state").iterdir()} == {*state_checks.STATES, "dbt"}
    datasets = states.datasets
    assert datasets is not None
    assert {"product_public", "salesforce", "web_app", "product_events", "dataplatform"} <= datasets.landed.keys()
    assert {"insights", "core", "staging"} <= datasets.built


def test_what_is_there_is_not_read_again_where_only_the_stale_is_wanted(commands: Commands) -> None:
    again = commands.dataplatform("refresh", "--if-stale")
    assert (again.returncode, again.stderr.count("up to date")) == (0, 7)


def test_a_missing_variable_stops_the_command_and_the_code_location_by_name(commands: Commands) -> None:
    # An empty variable also keeps a `.env` of this checkout from filling it in.
    for arguments in (
        ["-m", "orchestration.cli", "refresh"],
        ["-m", "orchestration.cli", "lineage", "check"],
        ["-c", "from orchestration.definitions import defs; defs()"],
    ):
        result = commands.python(*arguments, HIGHTOUCH_API_KEY="")
        assert result.returncode == 1
        assert "HIGHTOUCH_API_KEY is malformed" in result.stderr
        assert "Hightouch: Settings, API keys" in result.stderr


@pytest.mark.parametrize(
    ("left_out", "warned"),
    [
        pytest.param((), 0, id="Slack", marks=pytest.mark.long),
        pytest.param(
            ("SLACK_BOT_TOKEN", "SLACK_ALERTS_CHANNEL", "SLACK_DIGEST_CHANNEL", "ROTA_SYNC"),
            1,
            id="neither Slack nor mail",
        ),
        pytest.param(("SLACK_ALERTS_CHANNEL",), 1, id="Slack without a channel for alerts", marks=pytest.mark.long),
    ],
)
def test_a_load_warns_once_where_alerts_have_no_second_channel(
    commands: Commands, left_out: tuple[str, ...], warned: int
) -> None:
    given = Commands(commands.folder, {name: one for name, one in commands.variables.items() if name not in left_out})
    result = given.python("-c", "from orchestration.definitions import defs; defs()")
    assert result.returncode == 0, result.stderr
    said = (
        "Alerts have no second channel: when incident.io accepts none, no one is notified of a failure. Set SLACK_BOT"
    )
    assert result.stderr.count(said) == warned, result.stderr
