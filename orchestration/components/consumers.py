"""Those who read what is made here, as assets: as their vendor reports them, joined to what they read."""

import logging
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import dagster as dg

from orchestration.components.dbt_exposures import declared
from orchestration.components.saved_state import VendorState
from orchestration.lineage.consumers import Consumer, Exposure, reads
from orchestration.lineage.graph import AUDIENCE_TAG, Audience

GROUP = "analytics"
log = logging.getLogger(__name__)


@dataclass
class ConsumerState(VendorState):
    """A vendor's saved state of which each item is a consumer. What dbt's exposures declare of one is added to it."""

    owners: list[str] = field(default_factory=list[str])
    """Who is asked about one that neither its exposure nor its vendor gives an owner: e-mail addresses, or `team:<name>`."""
    audience: Audience = "internal"
    """Who reads one that has no exposure: `customer` or `internal`."""

    vendor: ClassVar[str]
    """The first part of the keys."""

    @abstractmethod
    def consumers(self, state: str) -> list[Consumer]:
        """What a state has, in the order of the keys."""

    def spec(self, consumer: Consumer) -> dg.AssetSpec:
        """The asset of a consumer."""
        for why in consumer.unknown:
            log.warning("%s: what it reads is not all known: %s", consumer.key.to_user_string(), why)
        exposure = declared().get(consumer.key)
        spec = consumer_spec(consumer, exposure, exposure.audience if exposure else self.audience)
        return spec.replace_attributes(owners=list(spec.owners) or self.owners)


def consumer_spec(consumer: Consumer, exposure: Exposure | None, audience: Audience) -> dg.AssetSpec:
    """The asset of a consumer: owned by whom its exposure names, else by its vendor's owner."""
    owner = (exposure and exposure.owner) or consumer.owner
    url = consumer.url or (exposure and exposure.url)
    return dg.AssetSpec(
        key=consumer.key,
        deps=list(reads(consumer, exposure)),
        description=(exposure and exposure.description) or consumer.name,
        metadata={"dashboard": dg.MetadataValue.url(url)} if url else {},
        owners=[owner] if owner else [],
        group_name=GROUP,
        kinds={consumer.key.path[0]},
        tags={AUDIENCE_TAG: audience},
    )


def unreported(reported: Iterable[dg.AssetKey]) -> list[dg.AssetSpec]:
    """An asset for each exposure that no vendor reports."""
    known = set(reported)
    left = {key: exposure for key, exposure in declared().items() if key not in known}
    return [
        consumer_spec(Consumer(key, exposure.name, exposure.reads), exposure, exposure.audience)
        for key, exposure in left.items()
    ]
