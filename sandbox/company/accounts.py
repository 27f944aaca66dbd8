"""How the company's sales team sees its customers: the records that the Salesforce stand-in starts with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

OWNERS = ("Rosa Lind", "Tom Okafor", "Mina Sato")
PROSPECTS = 6
STAGES = ("Prospecting", "Proposal", "Negotiation", "Closed Won", "Closed Lost")

Record = dict[str, Any]


def users() -> list[Record]:
    return [
        {
            "Id": f"005{index:012}AAA",
            "Name": name,
            "Email": f"{name.split()[0].lower()}@example.com",
            "IsActive": True,
        }
        for index, name in enumerate(OWNERS, 1)
    ]


def accounts(dsn: str) -> list[Record]:
    """An account for six organisations in seven, and a few prospects that have no organisation yet."""
    organisations = _organisations(dsn)
    owners = [user["Id"] for user in users()]
    records = [
        {
            "Id": f"001{index:012}AAA",
            "Name": organisation["name"],
            "Industry": organisation["industry"].title(),
            "OwnerId": owners[index % len(owners)],
            "Organisation_Id__c": organisation["id"],
            "CreatedDate": organisation["created_at"],
        }
        for index, organisation in enumerate(organisations, 1)
        if index % 7
    ]
    prospects = [
        {
            "Id": f"001{index + 900000:012}AAA",
            "Name": f"Prospect {index}",
            "Industry": "Retail",
            "OwnerId": owners[index % len(owners)],
            "Organisation_Id__c": None,
            "CreatedDate": datetime(2026, 1, index, tzinfo=UTC),
        }
        for index in range(1, PROSPECTS + 1)
    ]
    return records + prospects


def opportunities(dsn: str) -> list[Record]:
    """An opportunity for every second account."""
    return [
        {
            "Id": f"006{index:012}AAA",
            "AccountId": account["Id"],
            "Name": f"{account['Name']}: renewal",
            "StageName": STAGES[index % len(STAGES)],
            "Amount": float(5000 + 1700 * (index % 13)),
            "CloseDate": f"2026-{index % 12 + 1:02}-15",
            "CreatedDate": account["CreatedDate"],
        }
        for index, account in enumerate(accounts(dsn)[::2], 1)
    ]


def _organisations(dsn: str) -> list[Record]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute("select id, name, industry, created_at from organisations order by id").fetchall()
