"""Vendors' own OpenAPI specs, and whether what a stand-in answers is what they say.

    spec = Spec.named("hex")
    spec.check("GET", "/v1/projects", answer)  # an httpx.Response

The specs are the vendors' and not in this repository. Where they are not beside it, or in the folder that `VENDOR_SPECS` names, a test
that asks for one is skipped, and says so.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS30ReadValidator, OAS31Validator, oas30_format_checker, oas31_format_checker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from sandbox.config import REPOSITORY

FOLDER = Path(os.environ.get("VENDOR_SPECS", REPOSITORY.parent / "shared" / "specs"))
HERE = "urn:spec"
NULL_IN_WORDS = re.compile(r"`null` (if|otherwise)|Non-null only")


class Disagreement(AssertionError):
    """What was answered or sent is not what the spec says; the message has each place and what is wrong there."""


@dataclass(frozen=True, eq=False)
class Spec:
    name: str
    document: Mapping[str, Any]

    @classmethod
    def named(cls, name: str) -> Spec:
        """The spec `<name>.json`; skips the test where there is none."""
        if not (FOLDER / f"{name}.json").exists():
            pytest.skip(
                f"{name}'s OpenAPI spec is not at {FOLDER}: nothing was compared with it (VENDOR_SPECS says where)"
            )
        return _read(name)

    def check(self, method: str, template: str, answer: httpx.Response) -> Any:
        """Compare an answer with what the spec has for `template`, as `/v1/projects/{projectId}`; return the decoded body.

        Raises Disagreement, also for a status that the spec does not have there.
        """
        body = answer.json() if answer.content else None
        self.validate(method, template, answer.status_code, body)
        return body

    def validate(self, method: str, template: str, status: int, body: object) -> None:
        """The same, of a status and a decoded body. Raises Disagreement."""
        where = f"{method} {template} {status}"
        answers = self._operation(method, template)["responses"]
        code = next((code for code in (str(status), f"{status // 100}XX", "default") if code in answers), None)
        if code is None:
            raise Disagreement(f"{self.name}: {where} is no answer of this call; the spec has {', '.join(answers)}")
        content = self._found(answers[code]).get("content") or {}
        if content or status == 204:  # of an error's body, some specs say nothing
            self._compare(where, content, body)

    def validate_request(self, method: str, template: str, body: object) -> None:
        """Compare what is sent with the spec. Raises Disagreement."""
        expected = self._found(self._operation(method, template).get("requestBody") or {})
        self._compare(f"{method} {template}", expected.get("content") or {}, body)

    def _operation(self, method: str, template: str) -> Mapping[str, Any]:
        operation = self.document["paths"].get(template, {}).get(method.lower())
        if operation is None:
            raise Disagreement(f"{self.name}: the spec has no {method} {template}")
        return operation

    def _compare(self, where: str, content: Mapping[str, Any], body: object) -> None:
        media = next((value for kind, value in content.items() if "json" in kind), None)
        if media is None or "schema" not in media:
            if body is not None:
                raise Disagreement(f"{self.name}: {where} has a body, and the spec has none: {body!r:.200}")
            return
        kind, formats = (
            (OAS30ReadValidator, oas30_format_checker)
            if _is_30(self.document)
            else (OAS31Validator, oas31_format_checker)
        )
        # References in a spec are from its root, so it is the resource in which the schema is looked at.
        resource = Resource.from_contents(self.document, default_specification=DRAFT202012)
        registry = Registry().with_resource(HERE, resource)
        validator = kind(_rooted(media["schema"]), registry=registry, format_checker=formats)
        problems = [
            f"{'.'.join(map(str, error.absolute_path)) or 'the body'}: {error.message[:300]}"
            for error in validator.iter_errors(body)
        ]
        if problems:
            raise Disagreement("\n  ".join([f"{self.name}: {where}", *problems]))

    def _found(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in node:
            found: Any = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            node = found
        return node


def _rooted(schema: Any) -> Any:
    """A schema whose first references name the document that they are in; those inside it are followed from there."""
    if isinstance(schema, dict):
        return {
            key: HERE + value if key == "$ref" and str(value).startswith("#") else _rooted(value)
            for key, value in schema.items()
        }
    return [_rooted(item) for item in schema] if isinstance(schema, list) else schema


def _meant(schema: Any, null: Collection[str]) -> Any:
    """A schema that says what its writers mean, where what a generator made of it refuses what its own texts have.

    `null` are the properties which may be null by those texts.
    """
    if isinstance(schema, list):
        return [_meant(item, null) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _meant(value, null) for key, value in schema.items()}
    if isinstance(plain.get("properties"), dict):
        plain["properties"] |= {name: _or_null(one) for name, one in plain["properties"].items() if name in null}
    if plain.get("type") == "integer" and isinstance(plain.get("enum"), list):
        plain["enum"] = [int(value) for value in plain["enum"]]  # Fivetran's has them as texts
    if plain.get("additionalProperties") == {"type": "object"}:
        plain["additionalProperties"] = True  # Fivetran's settings of a connection: a map of anything
    # Strictly, `nullable` beside `allOf` and no `type`, as in Hex's, allows no null.
    return _or_null(plain) if plain.pop("nullable", None) is True else plain


def _or_null(schema: Any) -> Any:
    return {"anyOf": [schema, {"enum": [None], "nullable": True}]}


def _null_in_words(document: Any) -> set[str]:
    """The properties of which some text says that they may be null: Fivetran's spec has it in words, and not with every schema."""
    if isinstance(document, list):
        return set().union(*map(_null_in_words, document))
    if not isinstance(document, dict):
        return set()
    found = document.get("properties")
    named = {
        name
        for name, one in (found.items() if isinstance(found, dict) else ())
        if isinstance(one, dict) and NULL_IN_WORDS.search(str(one.get("description", "")))
    }
    return named.union(*map(_null_in_words, document.values()))


def _is_30(document: Mapping[str, Any]) -> bool:
    return str(document["openapi"]).startswith("3.0")


@cache
def _read(name: str) -> Spec:
    document = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return Spec(name, _meant(document, _null_in_words(document)) if _is_30(document) else document)
