"""Those who read what is made here, as assets: as their vendor reports them, joined to what they read."""

import logging
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import dagster as dg

from orchestration.components import dagster_values as values
from orchestration.components.dbt_exposures import dbt_models, declared, keys_of_relations
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
    def read_consumers(self, state: str) -> list[Consumer]:
        """Return the consumers of a state, in the order of the keys; `reads` has tables by dataset and name."""

    def consumers(self, state: str) -> list[Consumer]:
        """Return the consumers of a state; `reads` has the assets of what they read."""
        known = keys_of_relations()
        return [
            replace(one, reads=tuple(dict.fromkeys(known.get(table, table) for table in one.reads)))
            for one in self.read_consumers(state)
        ]

    def spec(self, consumer: Consumer) -> dg.AssetSpec:
        """The asset of a consumer."""
        for why in consumer.unknown:
            log.warning("%s: what it reads is not all known: %s", consumer.key.to_user_string(), why)
        exposure = declared().get(consumer.key)
        return consumer_spec(consumer, exposure, exposure.audience if exposure else self.audience, self.owners)


def consumer_spec(
    consumer: Consumer, exposure: Exposure | None, audience: Audience, default_owners: Sequence[str] = ()
) -> dg.AssetSpec:
    """The asset of a consumer: owned by whom its exposure names, else by its vendor's owner, else by `default_owners`."""
    owners = values.owners((exposure and exposure.owner) or consumer.owner)
    if owners.warning:
        log.warning("%s: %s", consumer.key.to_user_string(), owners.warning)
    # Whom Dagster cannot hold, it cannot select by: the default owners stand next to the text.
    names = owners.names or values.owners(default_owners).names
    url = consumer.url or (exposure and exposure.url)
    return dg.AssetSpec(
        key=consumer.key,
        deps=list(reads(consumer, exposure)),
        description=values.description((exposure and exposure.description) or consumer.name)[0],
        metadata=({"dashboard": dg.MetadataValue.url(url)} if url else {}) | owners.metadata,
        owners=list(names),
        group_name=GROUP,
        kinds=values.kinds([consumer.key.path[0]]),
        tags={AUDIENCE_TAG: audience},
    )


def unreported(reported: Iterable[dg.AssetKey]) -> list[dg.AssetSpec]:
    """An asset for each exposure that no vendor reports. One with the key of a table that dbt builds is none: that one is built."""
    known, built = set(reported), set(dbt_models().values())
    for key in declared().keys() & built:
        log.warning(
            "The exposure `%s` has the asset key of a table that dbt builds: it is not shown", declared()[key].name
        )
    known |= built
    left = {key: exposure for key, exposure in declared().items() if key not in known}
    return [
        consumer_spec(Consumer(key, exposure.name, exposure.reads), exposure, exposure.audience)
        for key, exposure in left.items()
    ]
