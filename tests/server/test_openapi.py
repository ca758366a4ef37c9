"""What is declared, what is routed and what is documented are the same; the OpenAPI document is a valid one."""

import asyncio
import json
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic_core import to_json
from starlette.routing import Route

from sync_core.domain.catalog import DOMAIN
from sync_core.events import EventInput
from sync_core.filters import ENTITY_KEYS
from sync_server.app import open_application
from sync_server.asgi import Application
from tests.access.credentials import ACCESS, bearer
from tests.server.shop import Shop, new_id
from tests.serving import sqlite_settings

UNDOCUMENTED = {("GET", "/"), ("GET", "/assets/{digest}/{path}"), ("GET", "/docs/{asset}")}
"""Pages, and what they are made of, are no part of the API."""


class Api(NamedTuple):
    """What is served: the *document*, and method and path of every route, as OpenAPI writes paths."""

    document: dict[str, Any]
    routed: set[tuple[str, str]]


async def read_api(directory: Path, **sections: dict[str, Any]) -> Api:
    async with open_application(sqlite_settings(directory, **sections)) as application:
        transport = httpx2.ASGITransport(application)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            reply = await client.get("/openapi.json", headers=bearer("viewer"))
        assert reply.headers["content-type"] == "application/json"
        return Api(reply.json(), routed(application) - UNDOCUMENTED)


def routed(application: Application) -> set[tuple[str, str]]:
    found = set()
    for route in application.routes:
        assert isinstance(route, Route), f"{route} is not a Route: how is it documented?"
        path = route.path.replace(":path}", "}")
        found |= {(method, path) for method in route.methods or () if method != "HEAD"}
    return found


@pytest.fixture(scope="module", params=["open", "required"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Api:
    """Without access control, and with it."""
    sections = {"access": ACCESS} if request.param == "required" else {}
    return asyncio.run(read_api(tmp_path_factory.mktemp("api"), **sections))


@pytest.fixture
def openapi(api: Api) -> dict[str, Any]:
    return api.document


def documented(openapi: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in openapi["paths"].items() for method in methods}


def operations(openapi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Operations by their ids."""
    return {operation["operationId"]: operation for path in openapi["paths"].values() for operation in path.values()}


def test_the_document_is_valid_openapi(openapi: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(openapi).validate()  # type: ignore[arg-type]


def test_every_route_is_documented_and_the_other_way(api: Api) -> None:
    assert documented(api.document) == api.routed


def test_every_command_is_routed_and_documented_as_declared(api: Api, openapi: dict[str, Any]) -> None:
    for command in DOMAIN.commands:
        path = "/api/v1" + command.path
        assert (command.method, path) in api.routed
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


def test_every_kind_has_its_list_and_its_single_document(openapi: dict[str, Any]) -> None:
    found = operations(openapi)
    for kind in DOMAIN.kinds.values():
        lists, single = found[f"{kind.plural}_list"], found[f"{kind.plural}_get"]
        assert {p["name"] for p in lists["parameters"]} >= {*ENTITY_KEYS, "updatedSince", "limit", "pageToken"}
        assert set(single["responses"]) >= {"200", "304", "404"}


def test_a_body_shows_the_fields_of_its_input_without_those_of_the_path(openapi: dict[str, Any]) -> None:
    for command in DOMAIN.commands:
        operation = operations(openapi)[f"{command.target.plural}_{command.name}"]
        if command.body_fields:
            content = operation["requestBody"]["content"]["application/json"]
            schema = openapi["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
            assert set(schema["properties"]) == set(command.body_fields)
            assert schema["additionalProperties"] is False


def test_every_example_of_a_request_is_accepted(openapi: dict[str, Any]) -> None:
    for command in DOMAIN.commands:
        operation = operations(openapi)[f"{command.target.plural}_{command.name}"]
        example = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example", {})
        path = {p["name"]: p["schema"]["examples"][0] for p in operation["parameters"] if p["in"] == "path"}
        command.input.model_validate_json(to_json(example | path), strict=True)
    publish = operations(openapi)["feed_publish"]["requestBody"]["content"]["application/json"]["example"]
    EventInput.model_validate_json(to_json(publish), strict=True)


def test_every_example_of_a_document_is_one(openapi: dict[str, Any]) -> None:
    found = operations(openapi)
    for kind in DOMAIN.kinds.values():
        example = found[f"{kind.plural}_get"]["responses"]["200"]["content"]["application/json"]["example"]
        document = kind.model_validate_json(to_json(example[kind.kind]))
        assert json.loads(document.render()) == example[kind.kind]


def test_problems_are_problem_documents(openapi: dict[str, Any]) -> None:
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


async def test_the_document_names_the_path_below_which_the_server_is(tmp_path: Path) -> None:
    async with open_application(sqlite_settings(tmp_path)) as application:
        transport = httpx2.ASGITransport(application, root_path="/shop")
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/shop/openapi.json")).json()["servers"] == [{"url": "/shop"}]


def test_where_callers_have_to_say_who_they_are_the_document_says_how(openapi: dict[str, Any]) -> None:
    found = operations(openapi)
    if "security" not in openapi:
        assert "accounts_login" not in found
        return
    assert openapi["security"] == [{"bearer": []}, {"session": []}]
    public = {name for name, operation in found.items() if operation.get("security") == []}
    assert public == {"accounts_login", "feed_webhook", "service_alive", "service_ready"}
    assert {"ticket": []} in found["feed_stream"]["security"]
