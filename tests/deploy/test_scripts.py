"""The scripts that CI's jobs call, with programs in the place of Docker, helm and ssh that write down what they were asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import dagster
import pytest
import yaml

from sandbox.config import REPOSITORY
from tests.orchestration.wire import refused_port

IMAGE = "europe-docker.pkg.dev/acme/data/dataplatform"
COMPOSE = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())
CLUSTER = "projects/acme/locations/europe-west1/clusters/data"


@dataclass
class Desk:
    """A folder in which each program leaves `<name>.asked`, its arguments in a line each, and `<name>.read`, its input."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict[str, str])

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        home = {"PATH": f"{self.folder}:{os.environ['PATH']}", "HOME": str(self.folder)}
        return subprocess.run(
            [str(REPOSITORY / "scripts" / script), *arguments],
            cwd=REPOSITORY, env=home | self.variables | variables, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def asked(self, program: str) -> list[str] | None:
        path = self.folder / f"{program}.asked"
        return path.read_text().splitlines() if path.exists() else None

    def read(self, program: str) -> bytes:
        return (self.folder / f"{program}.read").read_bytes()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    for name in ("docker", "helm", "ssh"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" >"{tmp_path}/{name}.asked"\n'
            f'if [ {name} != helm ]; then cat >"{tmp_path}/{name}.read"; fi\n'
        )
        (tmp_path / name).chmod(0o755)
    return Desk(tmp_path)


class Google(BaseHTTPRequestHandler):
    """Google's security token service, and GKE's API."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = "urn:ietf:params:oauth:token-type:access_token"
        self._answer(
            200, {"access_token": "a-token", "issued_token_type": kind, "token_type": "Bearer", "expires_in": 3600}
        )

    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Bearer a-token" or self.path != f"/{CLUSTER}":
            self._answer(403, {})
        else:
            self._answer(200, {"endpoint": "192.0.2.1", "masterAuth": {"clusterCaCertificate": "Y2E="}})

    def _answer(self, status: int, body: dict[str, object]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def google(desk: Desk) -> Iterator[Desk]:
    """Credentials as scripts/ci_credentials.sh makes them, but for the addresses."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Google)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    (desk.folder / "token").write_text("of-circleci")
    (desk.folder / "credentials.json").write_text(
        json.dumps(
            {
                "type": "external_account",
                "audience": "//iam.googleapis.com/locations/global/workloadIdentityPools/ci/providers/circleci",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": address,
                "credential_source": {"file": str(desk.folder / "token")},
            }
        )
    )
    desk.variables = {
        "GOOGLE_APPLICATION_CREDENTIALS": str(desk.folder / "credentials.json"),
        "GKE_API_URL": address,
        "BASH_ENV": str(desk.folder / "env"),
    }
    (desk.folder / "env").touch()
    yield desk
    server.shutdown()
    server.server_close()


def test_a_deploy_to_kubernetes_gets_to_registry_and_cluster(google: Desk) -> None:
    done = google.run("ci_deploy_access.sh", IMAGE=IMAGE, DEPLOY_TO="kubernetes", GKE_CLUSTER=CLUSTER)
    assert done.returncode == 0, done.stderr
    expected = ["login", "--username", "oauth2accesstoken", "--password-stdin", "https://europe-docker.pkg.dev"]
    assert google.asked("docker") == expected
    assert google.read("docker") == b"a-token\n"
    shown = subprocess.run(
        ["bash", "-c", 'cat "$KUBECONFIG"'],
        env=os.environ | google.variables,
        capture_output=True,
        text=True,
        check=True,
    )
    kubeconfig = json.loads(shown.stdout)
    [cluster], [user] = kubeconfig["clusters"], kubeconfig["users"]
    assert cluster["cluster"] == {"server": "https://192.0.2.1", "certificate-authority-data": "Y2E="}
    assert user["user"] == {"token": "a-token"}
    assert "a-token" not in done.stdout + done.stderr


def test_a_cluster_that_may_not_be_seen_stops_the_deploy(google: Desk) -> None:
    other = CLUSTER.replace("acme", "other")
    done = google.run("ci_deploy_access.sh", IMAGE=IMAGE, DEPLOY_TO="kubernetes", GKE_CLUSTER=other)
    assert done.returncode != 0
    assert "403" in done.stderr


def test_a_deploy_by_ssh_knows_the_machine(google: Desk) -> None:
    key = "data.example.com ssh-ed25519 AAAA"
    done = google.run(
        "ci_deploy_access.sh", IMAGE="registry.example.com/dataplatform", DEPLOY_TO="compose", DEPLOY_HOST_KEY=key
    )
    assert done.returncode == 0, done.stderr
    assert (google.folder / ".ssh" / "known_hosts").read_text() == key + "\n"
    assert google.asked("docker") is None, "a registry that is not Google's has a login of its own"


def test_one_machine_gets_the_files_of_the_commit_and_its_image(desk: Desk) -> None:
    done = desk.run("roll_out.sh", IMAGE, "abc", DEPLOY_TO="compose", DEPLOY_HOST="data.example.com")
    assert done.returncode == 0, done.stderr
    asked = desk.asked("ssh")
    assert asked is not None
    assert asked[0] == "data.example.com"
    machine = desk.folder / "machine"
    machine.mkdir()
    (machine / "stack.env").write_text("POSTGRES_PASSWORD=x\nDATAPLATFORM_IMAGE=before:one\n")
    # What the machine would do, with its folders in that one.
    (desk.folder / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (desk.folder / "sudo").chmod(0o755)
    script = (
        "\n".join(asked[1:])
        .replace("/opt/dataplatform", str(machine / "opt"))
        .replace("/etc/dataplatform", str(machine))
    )
    subprocess.run(
        ["bash", "-c", script],
        input=desk.read("ssh"), env={"PATH": f"{desk.folder}:{os.environ['PATH']}"}, check=True, timeout=60,
    )  # fmt: skip
    assert (machine / "stack.env").read_text() == f"POSTGRES_PASSWORD=x\nDATAPLATFORM_IMAGE={IMAGE}:abc\n"
    for name in ("compose.yaml", "Caddyfile"):
        assert (machine / "opt" / "deploy" / name).read_bytes() == (REPOSITORY / "deploy" / name).read_bytes()
    assert (desk.asked("docker") or [])[-2:] == ["restart", "caddy"]
    pulled = re.search(r"compose pull (.*)$", script, re.M)
    assert pulled is not None
    ours = {name for name, service in COMPOSE["services"].items() if "DATAPLATFORM_IMAGE" in service["image"]}
    assert set(pulled[1].split()) == ours - {"migrate"}, "and by that no newer PostgreSQL"


def test_kubernetes_gets_the_chart_of_this_dagster_and_the_image_thrice(desk: Desk) -> None:
    done = desk.run("roll_out.sh", IMAGE, "abc", DEPLOY_TO="kubernetes")
    assert done.returncode == 0, done.stderr
    asked = desk.asked("helm")
    assert asked is not None
    assert asked[asked.index("--version") + 1] == dagster.__version__
    assert sum(f"image.repository={IMAGE}," in word and word.endswith("image.tag=abc") for word in asked) == 3


@pytest.mark.parametrize("script", ["ci_deploy_access.sh", "roll_out.sh"])
def test_where_to_is_asked_for(google: Desk, script: str) -> None:
    unset = google.run(script, IMAGE, "abc", IMAGE="registry.example.com/dataplatform")
    assert unset.returncode != 0
    assert "DEPLOY_TO: is not set: kubernetes or compose" in unset.stderr
    odd = google.run(script, IMAGE, "abc", IMAGE="registry.example.com/dataplatform", DEPLOY_TO="moon")
    assert (odd.returncode, odd.stderr) == (1, "DEPLOY_TO is moon: kubernetes or compose\n")


def test_lint_has_the_schema_of_the_chart_of_this_dagster(desk: Desk) -> None:
    (desk.folder / "env").touch()
    done = desk.run("ci_chart.sh", BASH_ENV=str(desk.folder / "env"))
    assert done.returncode == 0, done.stderr
    asked = desk.asked("helm")
    assert asked is not None
    assert asked[asked.index("--version") + 1] == dagster.__version__
    [line] = (desk.folder / "env").read_text().splitlines()
    assert line == f"export HELM_SCHEMA='{asked[-1]}/dagster/values.schema.json'"
    steps = yaml.safe_load((REPOSITORY / ".circleci" / "config.yml").read_text())["jobs"]["lint"]["steps"]
    commands = [step["run"]["command"] for step in steps if "run" in step]
    assert commands.index("scripts/ci_chart.sh") < commands.index("make lint")


FACTS = {"CIRCLE_JOB": "lint", "CIRCLE_BUILD_URL": "https://ci.example/1", "CIRCLE_SHA1": "0123456789ab"}


def test_a_job_whose_installation_fails_is_told_of(tmp_path: Path) -> None:
    told: list[tuple[str, dict[str, Any]]] = []

    class Dagster(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    # A checkout without an environment; what pip would bring is this Python's own.
    package = ("orchestration/__init__.py", "orchestration/ci.py", "orchestration/core", "orchestration/lineage")
    for name in ("scripts/ci_report.sh", *package):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy)(REPOSITORY / name, tmp_path / name)
    with ThreadingHTTPServer(("127.0.0.1", 0), Dagster) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        own = {"PYTHON": sys.executable, "DATAPLATFORM_URL": f"http://127.0.0.1:{server.server_address[1]}"}
        done = subprocess.run(
            ["scripts/ci_report.sh", "failed"],
            cwd=tmp_path, env=os.environ | FACTS | own | {"CIRCLE_BRANCH": "main"}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        server.shutdown()
    assert (done.returncode, "Dagster was not told" in done.stderr) == (0, False), done.stderr
    [(path, event)] = told
    assert path == "/report_asset_observation/ci/lint"
    [unit] = event["metadata"]["dataplatform/failed_units"]
    assert (unit["unit"], unit["error"]) == (
        "ci/lint",
        "The job `lint` of CI failed on main, at commit 0123456789ab.",
    )


def test_a_dagster_that_is_down_fails_no_job(desk: Desk) -> None:
    facts = FACTS | {"DATAPLATFORM_URL": f"http://127.0.0.1:{refused_port()}"}
    main = desk.run("ci_report.sh", "passed", CIRCLE_BRANCH="main", **facts)
    assert main.returncode == 0
    assert "Dagster was not told" in main.stderr
    branch = desk.run("ci_report.sh", "failed", CIRCLE_BRANCH="a-branch", **facts)
    assert (branch.returncode, branch.stdout, branch.stderr) == (0, "not on main: nobody is told\n", "")


ORGANISATION, PROJECT_ID = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"
CLAIMS = {
    "iss": f"https://oidc.circleci.com/org/{ORGANISATION}",
    "aud": ORGANISATION,
    "sub": f"org/{ORGANISATION}/project/{PROJECT_ID}/user/{ORGANISATION}/vcs-origin/github.com/acme/data/vcs-ref/refs/heads/main",
    "oidc.circleci.com/project-id": PROJECT_ID,
    "oidc.circleci.com/vcs-ref": "refs/heads/main",
}
"""What CircleCI says of a job of main (https://circleci.com/docs/openid-connect-tokens/)."""


@pytest.fixture
def identities(desk: Desk) -> dict[str, list[list[str]]]:
    """The calls of `gcloud` that scripts/ci_identity.sh makes, by their command."""
    (desk.folder / "gcloud").write_text(
        f'#!/usr/bin/env bash\nprintf "%s\\n" "$@" "" >>"{desk.folder}/gcloud.asked"\n'
        'if [ "$1 $2" = "projects describe" ]; then echo 4711; fi\n'
    )
    (desk.folder / "gcloud").chmod(0o755)
    done = desk.run(
        "ci_identity.sh", GOOGLE_CLOUD_PROJECT="acme-data", CIRCLECI_ORGANISATION_ID=ORGANISATION,
        CIRCLECI_PROJECT_ID=PROJECT_ID, DEPLOYER="deploy@acme", EVERY_BRANCH="read@acme pull-requests@acme",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    provider = "projects/4711/locations/global/workloadIdentityPools/circleci/providers/circleci"
    assert done.stdout.splitlines()[-1] == f"GOOGLE_WORKLOAD_IDENTITY_PROVIDER={provider}"
    calls: dict[str, list[list[str]]] = {}
    for call in (desk.folder / "gcloud.asked").read_text().strip().split("\n\n"):
        words = call.splitlines()
        calls.setdefault(
            next(word for word in words if word.startswith(("create", "add", "enable", "describe"))), []
        ).append(words)
    return calls


def given(call: list[str], option: str) -> str:
    return call[call.index(option) + 1]


def claims_of(expression: str) -> str:
    """The value of `assertion['<claim>']` for a job of main."""
    return CLAIMS[expression.removeprefix("assertion['").removesuffix("']")]


def test_circlecis_identity_is_mapped_to_values_that_google_takes(identities: dict[str, list[list[str]]]) -> None:
    [provider] = identities["create-oidc"]
    assert given(provider, "--issuer-uri") == CLAIMS["iss"]
    assert given(provider, "--allowed-audiences") == CLAIMS["aud"]
    mapping = dict(pair.split("=", 1) for pair in given(provider, "--attribute-mapping").split(","))
    values = {name: claims_of(expression) for name, expression in mapping.items()}
    assert values == {"google.subject": PROJECT_ID, "attribute.ref": "refs/heads/main"}
    assert len(values["google.subject"]) <= 127 < len(CLAIMS["sub"])
    claim, wanted = given(provider, "--attribute-condition").split(" == ")
    assert f"'{claims_of(claim)}'" == wanted


def test_the_deployer_is_bound_to_main_and_each_account_to_this_project(identities: dict[str, list[list[str]]]) -> None:
    pool = "iam.googleapis.com/projects/4711/locations/global/workloadIdentityPools/circleci"
    bound = {call[call.index("add-iam-policy-binding") + 1]: call for call in identities["add-iam-policy-binding"]}
    assert {given(call, "--role") for call in bound.values()} == {"roles/iam.workloadIdentityUser"}
    assert {account: given(call, "--member") for account, call in bound.items()} == {
        "deploy@acme": f"principalSet://{pool}/attribute.ref/refs/heads/main",
        "read@acme": f"principal://{pool}/subject/{PROJECT_ID}",
        "pull-requests@acme": f"principal://{pool}/subject/{PROJECT_ID}",
    }


def test_only_jobs_of_main_have_the_deployers_context() -> None:
    jobs = yaml.safe_load((REPOSITORY / ".circleci" / "config.yml").read_text())["workflows"]["change"]["jobs"]
    named = {name: job for one in jobs if isinstance(one, dict) for name, job in one.items()}
    deployers = {name for name, job in named.items() if "data-platform-production" in job.get("context", [])}
    assert deployers == {"deploy"}
    assert named["deploy"]["filters"] == {"branches": {"only": "main"}}
