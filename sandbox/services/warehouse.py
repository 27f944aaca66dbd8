"""BigQuery's stand-in as a supervised process."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import httpx

from sandbox.config import HOST, PROJECT, REPOSITORY, SandboxConfig

FOLDER = REPOSITORY / "sandbox" / "warehouse"
PYTHON = FOLDER / ".venv" / "bin" / "python"

# google-auth uses `token` until `expiry`, so that nothing is ever exchanged over the network.
CREDENTIALS = {
    "type": "authorized_user",
    "client_id": "local",
    "client_secret": "local",
    "refresh_token": "local",
    "token": "local-emulator",
    "expiry": "2099-01-01T00:00:00Z",
    "quota_project_id": PROJECT,
}


class EnvironmentMissing(RuntimeError):
    """The warehouse's own environment is not installed, and uv is not there to install it."""


def credentials_file(config: SandboxConfig) -> Path:
    return config.root / "google-credentials.json"


def command(config: SandboxConfig) -> list[str]:
    return [
        str(PYTHON), str(FOLDER / "launcher.py"), "--host", HOST, "--project", PROJECT,
        "--data-dir", str(config.root / "warehouse"),
        "--port", str(config.port("bigquery")), "--grpc-port", str(config.port("bigquery_grpc")),
    ]  # fmt: skip


def environment(config: SandboxConfig) -> dict[str, str]:
    return {"STORAGE_EMULATOR_HOST": config.url("storage")}


def prepare(config: SandboxConfig) -> None:
    """Write the credentials file, and install the warehouse's environment where `make install` has not."""
    credentials_file(config).write_text(json.dumps(CREDENTIALS))
    if PYTHON.exists():
        return
    uv = shutil.which("uv")
    if uv is None:
        raise EnvironmentMissing(f"{FOLDER / '.venv'} is missing and uv is not on the path: run `make install`")
    subprocess.run([uv, "sync", "--frozen", "--quiet", "--compile-bytecode", "--project", str(FOLDER)], check=True)


def healthy(config: SandboxConfig) -> None:
    """Raise unless a real query works: a broken warehouse still answers HTTP."""
    answer = httpx.post(
        f"{config.url('bigquery')}/bigquery/v2/projects/{PROJECT}/queries",
        json={"query": "select 1", "useLegacySql": False},
        timeout=5,
    )
    answer.raise_for_status()
    if not answer.json().get("jobComplete"):
        raise RuntimeError("the warehouse did not finish SELECT 1")


def statements_analyzed(config: SandboxConfig) -> str:
    """Return a summary of the statements that the analyzer has judged since the warehouse started, and of those that it could not judge."""
    report = httpx.get(f"{config.url('bigquery')}/_strict", timeout=5).raise_for_status().json()
    if "analyzed" not in report:
        return "SQL analysis is off (SANDBOX_STRICT=off)"
    entries = report["not_judged"]
    listed = f": {', '.join(f'{name} {count}' for name, count in entries.items())}" if entries else ""
    lines = [
        f"SQL statements analyzed by GoogleSQL {report['analyzed']:,}, rejected {report['rejected']}, "
        f"not judged {sum(entries.values())}{listed}",
        *(
            f"  rejected: {each['message']}: {' '.join(each['statement'].split())[:200]}"
            for each in report["rejections"]
        ),
    ]
    return "\n".join(lines)
