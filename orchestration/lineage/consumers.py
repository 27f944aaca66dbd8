"""Who reads what is made here: what vendors report of it, what dbt's exposures declare of it, and where the two disagree. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import dagster as dg

from orchestration.lineage.graph import Audience


@dataclass(frozen=True)
class Consumer:
    """A sync, document, dashboard or project, as its vendor reports it.

    `reads` are the tables that it reads. `unknown` says in words what could not be found out of what it reads.
    """

    key: dg.AssetKey
    name: str
    reads: tuple[dg.AssetKey, ...]
    unknown: tuple[str, ...] = ()
    url: str | None = None
    owner: str | None = None
    """An e-mail address."""


@dataclass(frozen=True)
class Exposure:
    """What dbt's project declares of a consumer."""

    name: str
    file: str
    key: dg.AssetKey
    reads: tuple[dg.AssetKey, ...]
    audience: Audience
    description: str | None = None
    url: str | None = None
    owner: str | tuple[str, ...] | None = None
    """One owner or several: addresses, or `team:<name>`."""
    changes: tuple[str, ...] = ()
    """What it does not say, or what Dagster cannot hold of it, with what is shown instead."""
    also_declared: tuple[str, ...] = ()
    """Other exposures of the same consumer, each as `name in file`."""


def unite(exposures: Iterable[Exposure]) -> dict[dg.AssetKey, Exposure]:
    """Return one exposure for each consumer, by its key.

    Where several declare one consumer, its audience is `customer` if one says so, since a page too many is better than one that is
    missing. It reads what any of them reads. The first gives the rest.
    """
    found: dict[dg.AssetKey, Exposure] = {}
    for exposure in exposures:
        first = found.get(exposure.key)
        if first is None:
            found[exposure.key] = exposure
            continue
        found[exposure.key] = replace(
            first,
            reads=tuple(dict.fromkeys((*first.reads, *exposure.reads))),
            audience="customer" if "customer" in (first.audience, exposure.audience) else first.audience,
            description=first.description or exposure.description,
            url=first.url or exposure.url,
            owner=first.owner or exposure.owner,
            changes=(*first.changes, *exposure.changes),
            also_declared=(*first.also_declared, f"`{exposure.name}` in {exposure.file}"),
        )
    return found


def reads(consumer: Consumer, exposure: Exposure | None) -> tuple[dg.AssetKey, ...]:
    """What is upstream of a consumer: what its vendor reports and, where that is not all, what its exposure declares."""
    declared = exposure.reads if exposure and (consumer.unknown or not consumer.reads) else ()
    return tuple(sorted({*consumer.reads, *declared}, key=lambda key: key.to_user_string()))


Kind = Literal[
    "gone", "repeated", "undeclared", "unjoined", "different", "unlanded", "shared", "collision", "setting", "changed"
]
KINDS: dict[Kind, str] = {
    "gone": "Exposures whose dashboard is gone",
    "repeated": "Declared by more than one exposure",
    "unjoined": "Not joined to the graph",
    "unlanded": "Reads what nothing lands, and is not built when that changes",
    "different": "Exposures that declare something else than is read",
    "collision": "Landed by more than one connection",
    "setting": "Settings that name what does not exist",
    "shared": "One asset key, or one name of a check, for several of dbt's resources",
    "changed": "Shown in Dagster otherwise than it is written",
    "undeclared": "Read by people, and no exposure declares it",
}
"""What `dataplatform lineage check` lists, in this order."""


@dataclass(frozen=True)
class Finding:
    kind: Kind
    key: str
    why: str

    @property
    def wrong(self) -> bool:
        """Whether a person has to do something. A dashboard that no exposure declares, a table that a seed and a source share, and a
        value that Dagster cannot hold are in the graph all the same."""
        return self.kind not in {"undeclared", "shared", "changed"}


def reconcile(
    consumers: Iterable[Consumer],
    exposures: Iterable[Exposure],
    vendors: Collection[str],
    known: Collection[dg.AssetKey],
) -> list[Finding]:
    """Where vendors and exposures disagree, and what could not be joined to the graph.

    `vendors` are those whose consumers have been read, by the first part of their keys; `known` are the assets that exist.
    """
    found = {consumer.key: consumer for consumer in consumers}
    declared = unite(exposures)
    findings = [_gone(one) for key, one in declared.items() if key.path[0] in vendors and key not in found]
    findings += [_repeated(one) for one in declared.values() if one.also_declared]
    for key, consumer in found.items():
        findings += _unjoined(consumer, declared.get(key), known)
        findings += _different(consumer, declared.get(key))
    return in_order(findings)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by kind, in the order of `KINDS`, and by key."""
    order = list(KINDS)
    return sorted(findings, key=lambda finding: (order.index(finding.kind), finding.key, finding.why))


def _gone(exposure: Exposure) -> Finding:
    vendor, slug = exposure.key.path[0], exposure.key.path[-1]
    return Finding(
        "gone",
        exposure.key.to_user_string(),
        f"{vendor} has no `{slug}`, which the exposure `{exposure.name}` in {exposure.file} declares. Take the exposure away, or "
        f"give it the slug that it has now.",
    )


def _repeated(exposure: Exposure) -> Finding:
    others = ", ".join(exposure.also_declared)
    return Finding(
        "repeated",
        exposure.key.to_user_string(),
        f"`{exposure.name}` in {exposure.file} and {others} declare the same consumer. They count as one, with the audience "
        f"`{exposure.audience}`. Keep one of them, or correct the slug.",
    )


def _unjoined(consumer: Consumer, exposure: Exposure | None, known: Collection[dg.AssetKey]) -> Iterator[Finding]:
    key = consumer.key.to_user_string()
    for why in consumer.unknown:
        yield Finding("unjoined", key, why)
    for table in consumer.reads:
        if table not in known:
            yield Finding("unjoined", key, f"It reads {table.to_user_string()}, which nothing in the graph makes.")
    if not reads(consumer, exposure) and not consumer.unknown:
        yield Finding("unjoined", key, "Its vendor reports no table that it reads.")


def _different(consumer: Consumer, exposure: Exposure | None) -> Iterator[Finding]:
    key = consumer.key.to_user_string()
    if exposure is None:
        yield Finding("undeclared", key, f"`{consumer.name}` is in the graph as its vendor reports it.")
        return
    if consumer.unknown or not consumer.reads:
        return
    for table in sorted({*exposure.reads} - {*consumer.reads}, key=lambda table: table.to_user_string()):
        yield Finding(
            "different",
            key,
            f"The exposure `{exposure.name}` declares {table.to_user_string()}, which it does not read.",
        )
    for table in sorted({*consumer.reads} - {*exposure.reads}, key=lambda table: table.to_user_string()):
        yield Finding(
            "different",
            key,
            f"It reads {table.to_user_string()}, which the exposure `{exposure.name}` does not declare.",
        )
