"""Fivetran, Hightouch, Omni, Explo and Hex: one cheap read with the platform's own credentials, and what it shows at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from orchestration.doctor.model import Check, Once, Outcome, failed, ok, warning
from orchestration.doctor.usage import Usage, find_unused
from orchestration.settings import (
    ExploSettings,
    FivetranSettings,
    HexSettings,
    HightouchSettings,
    OmniSettings,
    Settings,
    VendorSettings,
)
from orchestration.vendors.explo import Explo
from orchestration.vendors.fivetran import Connection, Fivetran
from orchestration.vendors.hex import Hex
from orchestration.vendors.hightouch import Hightouch
from orchestration.vendors.http import VendorError
from orchestration.vendors.omni import Omni

NAMED = 5
"""So many are named in a line; of more, the number is given."""


@dataclass(frozen=True)
class Access:
    """The variables by which a vendor is spoken to: that of its address, and those of its credentials, with what these have to allow."""

    url: str
    credentials: Sequence[str]
    permission: str

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.url, *self.credentials)

    def explained(self, error: VendorError) -> Outcome:
        """A refusal or a silence, with the variable or the permission to look at."""
        names, described = " and ".join(name.upper() for name in self.credentials), Settings.model_fields
        match error.status:
            case 401:
                where = described[self.credentials[0]].description
                return failed(str(error), f"The credentials are refused: set {names}. {where}")
            case 403:
                return failed(str(error), f"The key of {names} has to be allowed to {self.permission}")
            case 429:
                return failed(str(error), "It was asked too often: try again later, and see who else uses this key")
            case status if status is not None and status >= 500:
                return failed(
                    str(error), f"The vendor has trouble (see its status page), or {self.url.upper()} is not its API"
                )
            case _:
                return failed(
                    str(error), f"See {self.url.upper()}, and whether this machine may connect there (proxy, firewall)"
                )


FIVETRAN = Access("fivetran_api_url", ("fivetran_api_key", "fivetran_api_secret"), "read connections and their schemas")
HIGHTOUCH = Access("hightouch_api_url", ("hightouch_api_key",), "read syncs and models, and to trigger syncs")
OMNI = Access("omni_api_url", ("omni_api_key",), "read documents, users and models, and to refresh models")
EXPLO = Access("explo_api_url", ("explo_api_token",), "read dashboards and customers")
HEX = Access("hex_api_url", ("hex_api_token",), "read projects and run them")


def checks(values: Settings, usage: Usage | None = None) -> Iterator[Check]:
    """Vendors that are not used are left out; `usage` as in `catalogue.all_checks`."""

    def fivetran() -> list[Connection]:
        secret = values.fivetran_api_secret.get_secret_value()
        url = str(values.fivetran_api_url)
        return Fivetran(url, values.fivetran_api_key, secret, patience_seconds=0).connections()

    def hightouch() -> str:
        key = values.hightouch_api_key.get_secret_value()
        client = Hightouch(str(values.hightouch_api_url), key, patience_seconds=0)
        return f"{len(client.syncs())} syncs"

    def omni() -> str:
        client = Omni(str(values.omni_api_url), values.omni_api_key.get_secret_value(), patience_seconds=0)
        return f"{len(client.models())} models"

    def explo() -> str:
        client = Explo(str(values.explo_api_url), values.explo_api_token.get_secret_value(), patience_seconds=0)
        return f"{len(client.dashboards())} dashboards"

    def hex_() -> str:
        client = Hex(str(values.hex_api_url), values.hex_api_token.get_secret_value(), patience_seconds=0)
        return f"{len(client.projects())} projects"

    def credentials(vendor: str, access: Access, settings: type[VendorSettings], read: Callable[[], str]) -> Check:
        unused = find_unused(values, usage, settings)
        return Check(f"{vendor}: credentials", lambda: unused) if unused else _credentials(vendor, access, read)

    connections = Once(fivetran)
    yield credentials("fivetran", FIVETRAN, FivetranSettings, lambda: f"{len(connections())} connections")
    yield Check("fivetran: connections", lambda: connected(connections()), after=("fivetran: credentials",))
    yield credentials("hightouch", HIGHTOUCH, HightouchSettings, hightouch)
    yield credentials("omni", OMNI, OmniSettings, omni)
    yield credentials("explo", EXPLO, ExploSettings, explo)
    yield credentials("hex", HEX, HexSettings, hex_)


def connected(connections: Sequence[Connection]) -> Outcome:
    """Whether each connection can sync; one that cannot fails its assets, and so is only warned of here."""
    broken = [one for one in connections if not one.paused and one.status.setup_state != "connected"]
    troubles = [f"{one.name} is paused" for one in connections if one.paused]
    troubles += [f"{one.name} is {one.status.setup_state}" for one in broken]
    if not troubles:
        return ok("none is broken or paused")
    more = f" and {len(troubles) - NAMED} more" if len(troubles) > NAMED else ""
    first = next(one for one in connections if one.paused or one in broken)
    return warning(f"{'; '.join(troubles[:NAMED])}{more}", f"Resume or reconnect it in Fivetran: {first.url}")


def _credentials(vendor: str, access: Access, read: Callable[[], str]) -> Check:
    def look() -> Outcome:
        try:
            return ok(f"accepted; {read()}")
        except VendorError as error:
            return access.explained(error)

    return Check(f"{vendor}: credentials", look, needs=access.needs)
