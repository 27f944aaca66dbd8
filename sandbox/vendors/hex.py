"""Hex's REST API."""

from __future__ import annotations

from fastapi import FastAPI

from sandbox.vendors.context import VendorContext


def build(context: VendorContext) -> FastAPI:
    return FastAPI(title="Hex", openapi_url=None)
