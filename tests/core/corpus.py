"""The corpus of texts that systems print, with credentials filled in that are no one's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("redaction_corpus.yaml")
MIXED = "fAkE0fAkE1fAkE2fAkE3fAkE4fAkE5fAkE6fAkE7"
PEM_BODY = "MIIEfake\n3VS5fake"
PEM = f"-----BEGIN RSA {'PRIVATE'} KEY-----\n{PEM_BODY}\n-----END RSA {'PRIVATE'} KEY-----"
FAKES = {
    "password": "hunter2-fake",
    "generic_token": "fake-t0ken-0123456789",
    "basic_auth": "ZmFrZTpmYWtlMTIz",
    "pem": PEM,
    "pem_on_one_line": PEM.replace("\n", "\\n"),
    # Prefix and body apart: a scanner of this repository finds no key.
    "jwt": ".".join(("ey" + "JhbGciOiJmYWtlIn0", "ey" + "JzdWIiOiJmYWtlIn0", "fakefakefakefake")),
    "aws_key_id": "AKIA" + "FAKEFAKEFAKEFAKE",
    "aws_secret": MIXED,
    "google_api_key": "AIza" + "Fake-" * 7,
    "google_oauth": "ya29." + "fake-" * 5,
    "slack_bot_token": "xoxb" + "-0000000000-" + "fake" * 4,
    "slack_app_token": "xapp" + "-1-A000-" + "fake" * 4,
    "github_token": "ghp" + "_" + "fake0" * 7,
    "gitlab_token": "glpat" + "-" + "fake0" * 4,
    "npm_token": "npm" + "_" + "fake0" * 7,
    "pypi_token": "pypi" + "-" + "fake0" * 7,
    "stripe_key": "sk" + "_live_" + "fake0" * 5,
    "stripe_webhook_secret": "whsec" + "_" + "fake0" * 5,
    "stripe_customer": "cus" + "_" + "Fake0Fake0",
    "sendgrid_key": "SG" + "." + "fake0" * 4 + "." + "fake0" * 6,
    "mailgun_key": "key" + "-" + "0fa4e" * 6 + "00",
    "databricks_token": "dapi" + "0fa4e" * 6 + "00",
    "hubspot_token": "pat" + "-na1-" + "0fa4e000-" * 4,
    "vault_token": "hvs" + "." + "fake0" * 5,
    "terraform_token": "fake0fake0fake" + ".atlas" + "v1." + "fake0" * 8,
    "omni_key": "omni" + "_osk_" + "fake0" * 4,
    "hex_token": "hxtp" + "_" + "fake0" * 5,
    "dbt_cloud_token": "dbtc" + "_" + "fake0" * 5,
    "hightouch_key": "fake0000-fake-4000-8000-fakefakefake",
    "fivetran_key": "fakeKey0",
    "segment_write_key": "fakeWriteKey000000000000",
    "salesforce_session": "00D" + "FAKE0FAKE0FAK" + "!" + "fake0" * 6,
    "salesforce_id": "0015g00000FAKE0AAB",
}
"""Structurally what each vendor issues, and issued by none of them."""


@dataclass(frozen=True)
class Sample:
    """One text of a system: what must be gone from it wherever it leaves the platform, and what must stay."""

    system: str
    text: str
    gone: tuple[str, ...]
    stays: tuple[str, ...]

    @property
    def is_markup(self) -> bool:
        """Whether it is about the markup of channels: `gone` is then of texts that a channel shows."""
        return self.system == "markup"


def read_corpus() -> list[Sample]:
    """Return every sample, with the credentials filled in."""
    found: dict[str, list[dict[str, Any]]] = yaml.safe_load(FILE.read_text())
    return [
        Sample(system, _fill(one["text"]), tuple(map(_fill, one["gone"])), tuple(map(_fill, one["stays"])))
        for system, samples in found.items()
        for one in samples
    ]


def _fill(text: str) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: FAKES[match[1]], text)
