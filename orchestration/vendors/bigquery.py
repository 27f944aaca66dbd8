"""What loaders have written into BigQuery: tables with their columns, and counts of their rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import batched
from typing import Any, cast

from google.api_core.exceptions import NotFound

from orchestration.vendors.bigquery_project import CALL_SECONDS, BigQueryProject

SYNCED = "_fivetran_synced"
PARTITION_TIME = "_PARTITIONTIME"
TABLES_A_QUERY = 100
"""BigQuery takes 1,000 tables, those below views included, and 1 MB of text in a query (https://cloud.google.com/bigquery/quotas#query_jobs,
"Maximum number of tables referenced per query"). A look may name its table twice, in up to 2 KB."""
RECENT_DAYS = 40
"""How many days up to a table's newest are counted one by one."""


@dataclass(frozen=True)
class Schema:
    """A table's columns with their types, in order. `by_load` says that it is partitioned by when its rows were loaded."""

    columns: Mapping[str, str]
    by_load: bool = False


@dataclass(frozen=True)
class Look:
    """What to count in one table.

    `written` is the column with the time at which the loader wrote a row; `day`, if any, the one whose date in UTC is the row's day.
    Rows written after `since` count as moved. With `after`, rows written before it are only numbered, and not read.
    """

    table: str
    written: str
    day: str | None = None
    keys: Sequence[str] = ()
    since: datetime | None = None
    after: datetime | None = None
    by_load: bool = False


@dataclass(frozen=True)
class Counted:
    """A table's rows: all, and those which were written since the last look; those without a key, by column; those of each recent day."""

    rows: int = 0
    moved: int = 0
    newest: datetime | None = None
    nulls: Mapping[str, int] = field(default_factory=dict[str, int])
    days: Mapping[date, int] = field(default_factory=dict[date, int])


class Warehouse(BigQueryProject):
    """What loaders have written into a project. Every call raises google.api_core's exceptions."""

    raw = True

    def newest(self, dataset: str, tables: Collection[str]) -> dict[str, datetime]:
        """When the newest row of each table was written; tables that do not exist or are empty are left out."""
        found: dict[str, datetime] = {}
        for part in batched(sorted(self.tables(dataset) & set(tables)), TABLES_A_QUERY, strict=False):
            found |= self.newest_of(dataset, part)
        return found

    def newest_of(self, dataset: str, tables: Sequence[str]) -> dict[str, datetime]:
        """Return the same of at most `TABLES_A_QUERY` tables that exist, by one query."""
        looks = (f"select '{table}' as name, max({SYNCED}) as newest from `{dataset}.{table}`" for table in tables)
        rows = self._rows(" union all ".join(looks))
        return {row["name"]: row["newest"] for row in rows if row["newest"] is not None}

    def tables(self, dataset: str) -> set[str]:
        """The names of the dataset's tables and views; none where it does not exist."""
        try:
            found = cast(Any, self._client.list_tables(dataset, retry=self._retry, timeout=CALL_SECONDS))
            return {table.table_id for table in found}
        except NotFound:
            return set()

    def schemas(self, dataset: str) -> dict[str, Schema]:
        """The dataset's tables and views with their columns; none where it does not exist."""
        query = (
            f"select table_name, column_name, data_type from `{dataset}`.INFORMATION_SCHEMA.COLUMNS"
            " order by table_name, ordinal_position"
        )
        try:
            rows = self._rows(query)
        except NotFound:
            return {}
        found: dict[str, dict[str, str]] = {}
        for row in rows:
            found.setdefault(row["table_name"], {})[row["column_name"]] = row["data_type"]
        # Columns of BigQuery's own, which a `select *` does not give, have names that no table may use.
        return {
            table: Schema({name: kind for name, kind in columns.items() if not name.startswith("_PARTITION")}, PARTITION_TIME in columns)
            for table, columns in found.items()
        }  # fmt: skip

    def counted(self, dataset: str, looks: Sequence[Look]) -> dict[str, Counted]:
        """What tables hold, by few queries. Times of the loader are compared with each other, never with this machine's clock."""
        rows: dict[str, list[Any]] = {look.table: [] for look in looks}
        for part in batched(looks, TABLES_A_QUERY, strict=False):
            parameters = {
                f"{name}_{number}": moment
                for number, look in enumerate(part)
                for name, moment in (("since", look.since), ("after", look.after))
                if moment
            }
            query = "\nunion all\n".join(query_of(dataset, look, number) for number, look in enumerate(part))
            for row in self._rows(query, parameters):
                rows[row["name"]].append(row)
        return {look.table: _counted(look, rows[look.table]) for look in looks}


def query_of(dataset: str, look: Look, number: int) -> str:
    """One row a recent day, with the sums of all days beside it; `number` tells the parameters of the looks of a query apart."""
    table, written = f"`{dataset}.{look.table}`", f"`{look.written}`"
    day = f"cast(`{look.day}` as date)" if look.day else "cast(null as date)"
    moved = f"countif({written} > @since_{number})" if look.since else "count(*)"
    nulls = [f"null_{place}" for place in range(len(look.keys))]
    counts = [f"countif(`{key}` is null) as {name}" for key, name in zip(look.keys, nulls, strict=True)]
    where, total = "true", "sum(number) over ()"
    if look.after:
        # Numbering all rows reads none of them.
        where, total = f"{written} >= @after_{number}", f"(select count(*) from {table})"
    if look.after and look.by_load:
        # A row may be loaded on a later day than it was written, never on an earlier one; while it streams it is in no partition.
        first = f"timestamp_sub(@after_{number}, interval 1 day)"
        where += f" and (_partitiontime >= {first} or _partitiontime is null)"
    by_day = ", ".join(
        [f"{day} as day", "count(*) as number", f"{moved} as moved", f"max({written}) as newest", *counts]
    )
    # A row of no day is always there, so that a table without recent rows has its total.
    nothing = ", ".join(["cast(null as date)", "0", "0", "cast(null as timestamp)", *("0" for _ in nulls)])
    sums = ", ".join(f"sum({name}) over ()" for name in nulls) or "0"
    last = "max(if(day <= current_date(), day, null)) over ()"
    return (
        f"select '{look.table}' as name, day, number, {total} as total, sum(moved) over () as moved,"
        f" max(newest) over () as newest, [{sums}] as null_counts"
        f" from (select {by_day} from {table} where {where} group by 1 union all select {nothing}) where true"
        f" qualify day is null or day >= date_sub({last}, interval {RECENT_DAYS} day)"
    )


def _counted(look: Look, rows: Sequence[Any]) -> Counted:
    any_row = rows[0]
    return Counted(
        rows=any_row["total"],
        moved=any_row["moved"],
        newest=any_row["newest"],
        nulls=dict(zip(look.keys, any_row["null_counts"], strict=False)),
        days={row["day"]: row["number"] for row in rows if row["day"] is not None},
    )
