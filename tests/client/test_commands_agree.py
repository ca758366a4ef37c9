"""The clients' commands are the server's: every documented one is a method, which asks for what is documented, and
there are no others.

That routes and documents agree is shown in tests/server/test_openapi.py, the browser's commands beside their
declarations in tests/js/test_commands.py, and what one more command takes in tests/test_one_more_command.py.
"""

import asyncio
import inspect
from typing import Any

import pytest

from sync_client import SyncClient
from sync_client.blocking import SyncClient as BlockingClient
from sync_client.collections import Collection
from sync_client.pending import PendingCommand
from sync_core.domain.catalog import DOMAIN
from sync_core.domain.command import Command
from tests.server.test_openapi import read_api

KINDS = tuple(kind.plural for kind in DOMAIN.kinds.values())
NO_COMMANDS = {("POST", "/vehicles/{vehicleID}/location")}
"""Positions are no documents."""
COMMANDS = [pytest.param(command, id=f"{command.target.kind}.{command.name}") for command in DOMAIN.commands]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The server's OpenAPI document."""
    return asyncio.run(read_api(tmp_path_factory.mktemp("api"))).document


@pytest.fixture(scope="module", params=[SyncClient, BlockingClient], ids=["asyncio", "blocking"])
def client(request: pytest.FixtureRequest) -> Any:
    """A client of all kinds there are, not started."""
    return request.param("http://shop", replica=KINDS, cache=False)


def body_of(operation: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """The schema of the request's body."""
    if "requestBody" not in operation:
        return {"properties": {}}
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found: dict[str, Any] = schema
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_method_that_takes_what_is_documented(
    command: Command, document: dict[str, Any], client: Any
) -> None:
    operation = document["paths"]["/api/v1" + command.path][command.method.lower()]
    path = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
    body = body_of(operation, document)
    method = getattr(getattr(client, command.target.plural), command.name)
    parameters = inspect.signature(method).parameters
    assert list(parameters)[: len(path)] == path
    assert set(parameters) == {*path, *body["properties"], "if_match"}
    needed = {name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
    assert needed == {*path, *body.get("required", ())}


@pytest.mark.parametrize("plural", KINDS)
def test_no_method_is_there_that_is_no_command(client: Any, plural: str) -> None:
    collection = getattr(client, plural)
    methods = {name for name in dir(collection) if not name.startswith("_")} - set(dir(Collection))
    assert methods == {command.name for command in DOMAIN.commands if command.target.plural == plural}


def test_every_documented_way_to_change_a_document_is_a_command(document: dict[str, Any]) -> None:
    paths = {kind.path() for kind in DOMAIN.kinds.values()}
    changing = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, operations in document["paths"].items()
        for method in operations
        if method in ("post", "put", "patch", "delete") and path.split("/")[3] in paths
    }
    assert changing - NO_COMMANDS == {(command.method, command.path) for command in DOMAIN.commands}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_sent_goes_to_the_route_with_what_stands_in_no_path(command: Command) -> None:
    values = {name: f"id-{name}" for name in command.path_parameters}
    given = command.input.model_construct(_fields_set=set(values), **values)
    pending = PendingCommand("key", command, given, 0)
    assert pending.path == command.path.format(**values)
    assert pending.body() in (None, b"{}")
