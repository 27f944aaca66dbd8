"""deploy/: that its files agree with each other and with what reads them. `make lint-deploy` holds them against their schemas."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._core.instance import InstanceRef
from dagster._core.instance.config import dagster_instance_config
from dagster_k8s.job import get_user_defined_k8s_config

from orchestration.defs.schedules.schedules import downstream
from orchestration.settings import Settings
from sandbox.config import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
INSTANCE = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
VALUES = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())
OURS = "${DATAPLATFORM_IMAGE:?set it in stack.env}"
ONE_OFF = {"migrate"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_comes_back_and_has_limits(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("no" if name in ONE_OFF else "unless-stopped")
    assert service["logging"]["options"].keys() >= {"max-size", "max-file"}, "else its log fills the disk"
    assert service["cap_drop"] == ["ALL"]
    if name not in ONE_OFF:
        assert "mem_limit" in service


def test_nothing_is_reached_from_outside_but_by_the_front() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["caddy"]
    assert {name for name, service in SERVICES.items() if "docker.sock" in str(service.get("volumes"))} == {
        "docker-socket"
    }
    routes = re.findall(
        r"^\{\$(\w+)\} \{\n\timport signed_in (\S+) (\S+)\n\}$", (DEPLOY / "Caddyfile").read_text(), re.M
    )
    assert routes == [
        ("DATAPLATFORM_HOST", '"/oauth2/auth?allowed_emails={$DATAPLATFORM_OPERATORS}"', "webserver:3000"),
        ("DATAPLATFORM_VIEWER_HOST", "/oauth2/auth", "webserver-read-only:3000"),
    ]
    assert "--read-only" in SERVICES["webserver-read-only"]["command"]


def test_each_variable_of_the_stack_is_explained() -> None:
    read = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    explained = set(re.findall(r"^#? ?([A-Z0-9_]+)=", (DEPLOY / "stack.env.example").read_text(), re.M))
    assert read == explained


def test_runs_have_what_the_services_have() -> None:
    launcher = INSTANCE["run_launcher"]["config"]
    for name in ("daemon", "webserver"):
        assert set(launcher["env_vars"]) <= SERVICES[name]["environment"].keys(), "the launcher takes them from there"
        assert "platform.env" not in str(SERVICES[name]), "neither needs a vendor's key"
    assert launcher["container_kwargs"]["volumes"] == SERVICES["code-location"]["volumes"]
    assert launcher["networks"] == [COMPOSE["networks"]["dataplatform"]["name"]]
    assert (
        SERVICES["code-location"]["environment"]["DAGSTER_CURRENT_IMAGE"] == OURS == SERVICES["code-location"]["image"]
    )


def test_runs_and_services_find_the_code_location() -> None:
    [server] = [entry["grpc_server"] for entry in yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert server["host"] in SERVICES
    for said in (f'"--port", "{server["port"]}"', f'"--location-name", "{server["location_name"]}"', "EXPOSE 4000"):
        assert said in dockerfile


def test_dagster_takes_the_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in INSTANCE["run_launcher"]["config"]["env_vars"]:
        monkeypatch.setenv(name, "set")
    (tmp_path / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    dagster_instance_config(str(tmp_path))
    launcher = InstanceRef.from_dir(str(tmp_path)).run_launcher
    assert launcher is not None
    assert launcher.supports_check_run_worker_health, "else a container that dies leaves its run under way"


def test_a_broken_instance_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(
        (DEPLOY / "dagster.yaml").read_text().replace("max_concurrent_runs", "max_concurent_runs")
    )
    with pytest.raises(Exception, match="max_concurent_runs"):
        dagster_instance_config(str(tmp_path))


def test_kubernetes_has_the_same_instance(tmp_path: Path) -> None:
    made = instance_of(VALUES)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(made))
    dagster_instance_config(str(tmp_path))
    # How storage and run launcher are said differs; the bucket is an installation's own.
    made["compute_logs"]["config"]["bucket"] = INSTANCE["compute_logs"]["config"]["bucket"]
    assert made == {part: said for part, said in INSTANCE.items() if part not in {"storage", "run_launcher"}}


def instance_of(values: dict[str, Any]) -> dict[str, Any]:
    """The dagster.yaml that the chart makes of values, but for storage and run launcher (its templates/configmap-instance.yaml, 1.13)."""
    daemon = values["dagsterDaemon"]
    queue = snake(daemon["runCoordinator"]["config"]["queuedRunCoordinator"])
    return {
        "compute_logs": {
            "module": "dagster_gcp.gcs.compute_log_manager",
            "class": values["computeLogManager"]["type"],
            "config": snake(values["computeLogManager"]["config"]["gcsComputeLogManager"]),
        },
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": daemon["runCoordinator"]["type"],
            "config": {name: value for name, value in queue.items() if value not in (None, [])},
        },
        "run_monitoring": snake(daemon["runMonitoring"]),
        "run_retries": snake(daemon["runRetries"]),
        **{part: snake(daemon[part]) for part in ("schedules", "sensors", "backfills")},
        "concurrency": {part: snake(values["concurrency"][part]) for part in ("runs", "pools")},
        "retention": {
            part: snake(values["retention"][name])
            for part, name in (("schedule", "schedule"), ("sensor", "sensor"), ("auto_materialize", "autoMaterialize"))
        },
        "telemetry": values["telemetry"],
        **values["additionalInstanceConfig"],
    }


def snake(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    return {re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower(): snake(value) for name, value in values.items()}


def test_every_pod_is_the_image_and_its_user() -> None:
    pods = [VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], *VALUES["dagster-user-deployments"]["deployments"]]
    [user] = re.findall(r"^USER (\d+):\d+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    for pod in pods:
        assert pod["image"] == VALUES["dagsterWebserver"]["image"]
        assert pod["podSecurityContext"]["runAsUser"] == int(user)
    assert VALUES["dagsterWebserver"]["enableReadOnly"]
    assert VALUES["global"]["dagsterHome"] == "/opt/dagster"


def test_runs_of_dbt_have_more_room_than_the_others() -> None:
    usual = VALUES["runLauncher"]["config"]["k8sRunLauncher"]["resources"]
    asked = get_user_defined_k8s_config(downstream.run_tags).container_config["resources"]
    assert asked["limits"]["memory"] > usual["limits"]["memory"]


def test_values_fit_the_schema_of_the_chart() -> None:
    """`HELM_SCHEMA` names values.schema.json of Dagster's chart, which is not in this repository: helm pull --untar dagster/dagster."""
    schema = os.environ.get("HELM_SCHEMA")
    if schema is None:
        pytest.skip("HELM_SCHEMA is not set")
    from jsonschema import validators

    parsed = json.loads(Path(schema).read_text())
    # The chart's own values fill in what these leave out, as helm does.
    defaults = yaml.safe_load(Path(schema).with_name("values.yaml").read_text())
    validators.validator_for(parsed)(parsed).validate(merged(defaults, VALUES))


def merged(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{name: merged(base.get(name), value) for name, value in over.items()}}
    return over


def test_an_image_has_neither_stand_ins_nor_tests_nor_secrets() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().split("\n")
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    assert ignored.index("*") < ignored.index(f"!{allowed[0]}"), "all but what is named stays outside"
    assert not [path for path in allowed if path.split("/")[0] in {"sandbox", "tests", "bench", ".env", ".git"}]
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    for source in (path.rstrip("/") for paths in copied for path in paths.split()):
        assert any(source == path or source.startswith(f"{path}/") for path in allowed), (
            f"{source} is not in the context"
        )
        assert (REPOSITORY / source).exists()


def test_the_variables_of_the_image_are_those_that_the_platform_reads() -> None:
    names = set(re.findall(r"(?:^ENV |^    )([A-Z_]+)=", (DEPLOY / "Dockerfile").read_text(), re.M))
    known = {name.upper() for name in Settings.model_fields}
    others = {name for name in names - known if not name.startswith(("DAGSTER_", "DBT_", "PYTHON", "UV_", "PATH"))}
    assert not others


ENTRYPOINT = DEPLOY / "bin" / "entrypoint"


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with a `dagster` that says how it was called, and a `dataplatform` that notes it."""
    for name, body in {
        "dagster": 'echo "dagster $*"',
        "dataplatform": 'echo "$*" >> asked; exit "${FAILS:-0}"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def entered(commands: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{commands}:{os.environ['PATH']}", **variables}
    return subprocess.run(
        [str(ENTRYPOINT), *arguments], cwd=commands, env=env, capture_output=True, text=True, timeout=30
    )


def test_a_code_server_takes_newer_state_before_it_begins(commands: Path) -> None:
    done = entered(commands, "dagster", "code-server", "start", DATAPLATFORM_STATE_BUCKET="bucket")
    assert done.stdout == "dagster code-server start\n"
    assert (commands / "asked").read_text() == "refresh --from-bucket\n"


@pytest.mark.parametrize("variables", [{"FAILS": "1"}, {"DATAPLATFORM_STATE_SECONDS": "0.2", "SLOW": "1"}])
def test_a_bucket_that_cannot_be_reached_stops_no_code_server(commands: Path, variables: dict[str, str]) -> None:
    if "SLOW" in variables:
        (commands / "dataplatform").write_text("#!/bin/sh\nexec sleep 20\n")
    done = entered(commands, "dagster", "code-server", "start", DATAPLATFORM_STATE_BUCKET="bucket", **variables)
    assert (done.returncode, done.stdout) == (0, "dagster code-server start\n")
    assert "going on with the state that the image has" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [(["dagster", "api", "execute_run", "{}"], {"DATAPLATFORM_STATE_BUCKET": "b"}), (["dagster", "code-server"], {})],
)
def test_others_begin_at_once(commands: Path, arguments: list[str], variables: dict[str, str]) -> None:
    done = entered(commands, *arguments, **variables)
    assert done.stdout == " ".join(arguments) + "\n"
    assert not (commands / "asked").exists()
