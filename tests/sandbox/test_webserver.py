"""The sandbox's webserver: Dagster's own, as a real process, with the requests that another web page can make a browser send."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.foreign_requests import ACCEPTED, FOREIGN, FORM, REFUSED, Sent, send
from tests.stand_ins import wait_for

LOCATION = """
import dagster as dg

@dg.sensor(default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=600, job_name="no_job")
def incident_alerts(context):
    return dg.SkipReason("nothing")

@dg.job
def no_job():
    pass

defs = dg.Definitions(jobs=[no_job], sensors=[incident_alerts])
"""
SELECTOR = {"repositoryName": "__repository__", "repositoryLocationName": "location", "sensorName": "incident_alerts"}
STATE = """query ($s: SensorSelector!) {sensorOrError(sensorSelector: $s) {... on Sensor {id sensorState {status}}}}"""
STOP = """mutation ($id: String!) {stopSensor(id: $id) {__typename ... on StopSensorMutationResult {instigationState {status}}}}"""


@dataclass(frozen=True)
class Webserver:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send(self, sent: Sent, host: str = "") -> int:
        return send(self.port, host or f"127.0.0.1:{self.port}", self.url, sent)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60)
        return answer.json()["data"]

    def sensor(self) -> dict[str, Any]:
        return self.ask(STATE, s=SELECTOR)["sensorOrError"]


@pytest.fixture(scope="module")
def webserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webserver]:
    home = tmp_path_factory.mktemp("webserver")
    (home / "location.py").write_text(LOCATION)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    made = Webserver(_free_port())
    command = [sys.executable, "-m", "sandbox.services.webserver", "-h", "127.0.0.1", "-p", str(made.port)]
    command += ["-m", "location", "-d", str(home)]
    process = subprocess.Popen(
        command, env=os.environ | {"DAGSTER_HOME": str(home), "PYTHONPATH": f"{home}:{os.getcwd()}"}
    )
    try:
        wait_for(lambda: _serves(made), 120, "the webserver serves the code location")
        yield made
    finally:
        process.terminate()
        process.wait(30)


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _serves(webserver: Webserver) -> bool:
    try:
        return "id" in webserver.sensor()
    except (httpx.TransportError, KeyError, TypeError):
        return False


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED.keys())
def test_what_another_page_sends_is_refused(webserver: Webserver, sent: Sent) -> None:
    assert webserver.send(sent) in {403, 405, 415}


@pytest.mark.parametrize("sent", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_the_ui_links_and_programs_send_is_answered(webserver: Webserver, sent: Sent) -> None:
    assert webserver.send(sent) in {101, 200}


@pytest.mark.parametrize(
    "host", ["foreign.example", "foreign.example:3000", "127.0.0.1.foreign.example", "", "10.0.0.1"]
)
def test_a_foreign_name_that_leads_to_this_machine_is_refused(webserver: Webserver, host: str) -> None:
    own = f"http://{host}"
    sent = Sent(headers={"Content-Type": "application/json", "Origin": own}, body='{"query": "{version}"}')
    assert send(webserver.port, host, own, sent) == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_sandbox_has_the_names_of_this_machine(webserver: Webserver, host: str) -> None:
    assert webserver.send(ACCEPTED["a program"], f"{host}:{webserver.port}") == 200


def test_another_page_cannot_stop_the_alerts_and_a_program_can(webserver: Webserver) -> None:
    sensor = webserver.sensor()
    assert sensor["sensorState"]["status"] == "RUNNING"
    address = "/graphql?" + urlencode({"query": STOP, "variables": json.dumps({"id": sensor["id"]})})
    for headers in ({"Origin": FOREIGN, "Content-Type": FORM}, {"Content-Type": FORM}, {}):
        assert webserver.send(Sent(path=address, headers=headers)) in {403, 415}
        assert webserver.send(Sent("GET", address, headers)) in {403, 405}
    assert webserver.sensor()["sensorState"]["status"] == "RUNNING"
    webserver.ask(STOP, id=sensor["id"])
    assert webserver.sensor()["sensorState"]["status"] == "STOPPED"
