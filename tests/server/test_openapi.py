"""What is declared, what is routed and what is documented are the same; the OpenAPI document is a valid one."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic_core import to_json
from starlette.routing import Route

from sync_core.domain.catalog import DOMAIN
from sync_core.events import EventInput
from sync_core.filters import ENTITY_KEYS
from sync_server.app import Application, open_application
from tests.server.shop import Shop, new_id
from tests.serving import sqlite_settings

UNDOCUMENTED = {("GET", "/docs/{asset}")}
"""What a page is made of is no part of the API."""


@pytest.fixture
async def application(tmp_path: Path) -> AsyncIterator[Application]:
    async with open_application(sqlite_settings(tmp_path)) as application:
        yield application


@pytest.fixture
async def openapi(application: Application) -> dict[str, Any]:
    """The document as it is served."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(application), base_url="http://test") as client:
        reply = await client.get("/openapi.json")
    assert reply.headers["content-type"] == "application/json"
    document: dict[str, Any] = reply.json()
    return document


def routed(application: Application) -> set[tuple[str, str]]:
    """Method and path of every route, as OpenAPI writes paths."""
    found = set()
    for route in application.routes:
        assert isinstance(route, Route), f"{route} is not a Route: how is it documented?"
        path = route.path.replace(":path}", "}")
        found |= {(method, path) for method in route.methods or () if method != "HEAD"}
    return found - UNDOCUMENTED


def documented(openapi: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in openapi["paths"].items() for method in methods}


def operations(openapi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Operations by their ids."""
    return {operation["operationId"]: operation for path in openapi["paths"].values() for operation in path.values()}


async def test_the_document_is_valid_openapi(openapi: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(openapi).validate()  # type: ignore[arg-type]


async def test_every_route_is_documented_and_the_other_way(application: Application, openapi: dict[str, Any]) -> None:
    assert documented(openapi) == routed(application)


async def test_every_command_is_routed_and_documented_as_declared(
    application: Application, openapi: dict[str, Any]
) -> None:
    for command in DOMAIN.commands:
        path = "/api/v1" + command.path
        assert (command.method, path) in routed(application)
        operation = openapi["paths"][path][command.method.lower()]
        assert operation["operationId"] == f"{command.target.plural}_{command.name}"
        assert operation["summary"] == command.summary
        assert operation["x-permission"] == command.permission
        assert operation["x-emits"] == list(command.emits)
        assert ("201" in operation["responses"]) == command.creates
        parameters = {(p["in"], p["name"]) for p in operation["parameters"]}
        assert {name for place, name in parameters if place == "path"} == set(command.path_parameters)
        assert {("header", "Idempotency-Key"), ("header", "If-Match"), ("header", "X-Client-ID")} <= parameters
        assert ("requestBody" in operation) == bool(command.body_fields)


async def test_every_kind_has_its_list_and_its_single_document(openapi: dict[str, Any]) -> None:
    found = operations(openapi)
    for kind in DOMAIN.kinds.values():
        lists, single = found[f"{kind.plural}_list"], found[f"{kind.plural}_get"]
        assert {p["name"] for p in lists["parameters"]} >= {*ENTITY_KEYS, "updatedSince", "limit", "pageToken"}
        assert set(single["responses"]) >= {"200", "304", "404"}


async def test_a_body_shows_the_fields_of_its_input_without_those_of_the_path(openapi: dict[str, Any]) -> None:
    for command in DOMAIN.commands:
        operation = operations(openapi)[f"{command.target.plural}_{command.name}"]
        if command.body_fields:
            content = operation["requestBody"]["content"]["application/json"]
            schema = openapi["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
            assert set(schema["properties"]) == set(command.body_fields)
            assert schema["additionalProperties"] is False


async def test_every_example_of_a_request_is_accepted(openapi: dict[str, Any]) -> None:
    for command in DOMAIN.commands:
        operation = operations(openapi)[f"{command.target.plural}_{command.name}"]
        example = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example", {})
        path = {p["name"]: p["schema"]["examples"][0] for p in operation["parameters"] if p["in"] == "path"}
        command.input.model_validate_json(to_json(example | path), strict=True)
    publish = operations(openapi)["feed_publish"]["requestBody"]["content"]["application/json"]["example"]
    EventInput.model_validate_json(to_json(publish), strict=True)


async def test_every_example_of_a_document_is_one(openapi: dict[str, Any]) -> None:
    found = operations(openapi)
    for kind in DOMAIN.kinds.values():
        example = found[f"{kind.plural}_get"]["responses"]["200"]["content"]["application/json"]["example"]
        document = kind.model_validate_json(to_json(example[kind.kind]))
        assert json.loads(document.render()) == example[kind.kind]


async def test_problems_are_problem_documents(openapi: dict[str, Any]) -> None:
    for status, answer in openapi["components"]["responses"].items():
        assert set(answer["content"]) == {"application/problem+json"}
        assert ("Retry-After" in answer["headers"]) == (status in ("429", "503"))
    for operation in operations(openapi).values():
        assert "500" not in operation["responses"]


def test_amounts_are_text_in_the_document(shop: Shop) -> None:
    schemas = shop.http.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Item"]["properties"]["unitPrice"]["type"] == "string"
    assert schemas["Payment"]["properties"]["amount"]["type"] == "string"
    assert "number" not in json.dumps({name: schemas[name] for name in ("Item", "Payment", "SetPayment", "Order")})


def test_head_and_post_of_the_document(shop: Shop) -> None:
    head = shop.http.head("/openapi.json")
    assert (head.status_code, head.content) == (200, b"")
    assert shop.http.post("/openapi.json").status_code == 405
    assert shop.http.get(f"/docs/{new_id('nothing')}.js").status_code == 404
    assert shop.http.get("/docs/%2e%2e%2fopenapi.py").status_code == 404


async def test_the_document_names_the_path_below_which_the_server_is(application: Application) -> None:
    transport = httpx2.ASGITransport(application, root_path="/shop")
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/shop/openapi.json")).json()["servers"] == [{"url": "/shop"}]
