"""The environment that points the platform at the stand-ins, and the `.env` file that carries it."""

from __future__ import annotations

from pathlib import Path

from sandbox.config import PROJECT, REPOSITORY, SandboxConfig
from sandbox.services import storage

MARKER = "# Written by `sandbox up`: every vendor is a stand-in on loopback. Delete this line to keep your own changes."


def environment(config: SandboxConfig) -> dict[str, str]:
    """Every variable of `.env.example`, with loopback addresses and keys that only the stand-ins accept.

    BIGQUERY_RAW_PROJECT is there only where it differs from GOOGLE_CLOUD_PROJECT.
    """
    raw = {} if config.raw_project == PROJECT else {"BIGQUERY_RAW_PROJECT": config.raw_project}
    return raw | {
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "GOOGLE_APPLICATION_CREDENTIALS": str(config.root / "google-credentials.json"),
        "BIGQUERY_EMULATOR_HOST": config.url("bigquery"),
        "STORAGE_EMULATOR_HOST": config.url("storage"),
        "BIGQUERY_LOCATION": config.location,
        "DBT_TARGET": "prod",
        "FIVETRAN_API_URL": config.url("fivetran"),
        "FIVETRAN_API_KEY": "local-fivetran-key",
        "FIVETRAN_API_SECRET": "local-fivetran-secret",
        "FIVETRAN_ACCOUNT_ID": "local-account",
        "HIGHTOUCH_API_URL": f"{config.url('hightouch')}/api/v1",
        "HIGHTOUCH_API_KEY": "local-hightouch-key",
        "OMNI_API_URL": config.url("omni"),
        "OMNI_API_KEY": "local-omni-key",
        "EXPLO_API_URL": config.url("explo"),
        "EXPLO_API_TOKEN": "local-explo-token",
        "HEX_API_URL": f"{config.url('hex')}/api",
        "HEX_API_TOKEN": "local-hex-token",
        "INCIDENT_IO_API_URL": config.url("incident_io"),
        "INCIDENT_IO_API_KEY": "local-incident_io-key",
        "INCIDENT_IO_ALERT_SOURCE_ID": "01LOCALALERTSOURCE00000000",
        "INCIDENT_IO_ALERT_SOURCE_TOKEN": "local-alert-source-token",
        "INCIDENT_IO_HEARTBEAT_ID": "01LOCALALERTSOURCE00000001",
        "INCIDENT_IO_HEARTBEAT_TOKEN": "local-alert-source-token-1",
        "SLACK_API_URL": f"{config.url('slack')}/api/",
        "SLACK_BOT_TOKEN": "local-slack-token",
        "SLACK_ALERTS_CHANNEL": "C00000001",
        "SLACK_DIGEST_CHANNEL": "C00000002",
        # The stand-in of incident.io keeps the sync of a schedule as a setting, and moves nobody.
        "ROTA_SYNC": "true",
        "DATAPLATFORM_URL": config.url("dagster"),
        "DATAPLATFORM_STATE_DIR": str(config.root / "state"),
        "DATAPLATFORM_STATE_BUCKET": storage.BUCKET,
    }


def write(config: SandboxConfig) -> tuple[Path, bool]:
    """Write `.env` for commands typed by hand: in the repository for its own sandbox, else in the sandbox's directory.

    Returns the path, and whether it was written: a file that somebody else wrote is left as it is.
    """
    own = config.root == (REPOSITORY / ".sandbox").resolve()
    path = (REPOSITORY if own else config.root) / ".env"
    if path.exists() and not path.read_text().startswith(MARKER):
        return path, False
    lines = [f"{name}={value}" for name, value in environment(config).items()]
    path.write_text("\n".join([MARKER, *lines, ""]))
    return path, True
