"""How the company's sales team sees its customers: the records that the Salesforce stand-in starts with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

OWNERS = ("Rosa Lind", "Tom Okafor", "Mina Sato")
PROSPECTS = 6
STAGES = ("Prospecting", "Proposal", "Negotiation", "Closed Won", "Closed Lost")

MOST_CONTACTS = 3
TITLES = {
    "owner": "VP Engineering", "admin": "Head of Reliability", "responder": "Site Reliability Engineer",
    "viewer": "Support Lead", "buyer": "Procurement Manager",
}  # fmt: skip
"""A contact's title by its role in the product."""

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


def contacts(dsn: str) -> list[Record]:
    """The first people of each customer, and one of each prospect."""
    people: dict[str, list[Record]] = {}
    for user in _rows(dsn, "select organisation_id, name, email, role, created_at from users order by id"):
        people.setdefault(user["organisation_id"], []).append(user)
    made: list[Record] = []
    for account in accounts(dsn):
        name = f"Buyer {account['Name'].split()[-1]}"
        buyer = {"name": name, "email": f"{name.replace(' ', '.').lower()}@prospect.example", "role": "buyer"}
        known = people.get(account["Organisation_Id__c"], [buyer | {"created_at": account["CreatedDate"]}])
        for person in known[:MOST_CONTACTS]:
            first, _, last = person["name"].partition(" ")
            made.append({
                "Id": f"003{len(made) + 1:012}AAA", "AccountId": account["Id"], "OwnerId": account["OwnerId"],
                "Name": person["name"], "FirstName": first, "LastName": last, "Email": person["email"],
                "Title": TITLES[person["role"]], "CreatedDate": person["created_at"],
            })  # fmt: skip
    return made


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
    return _rows(dsn, "select id, name, industry, created_at from organisations order by id")


def _rows(dsn: str, statement: str) -> list[Record]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute(statement.encode()).fetchall()
