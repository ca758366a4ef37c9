"""Routes that share a path are one; a method that two of them answer to is a mistake of ours."""

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from sync_server.api.routing import merged


async def endpoint(http: Request) -> Response:
    return Response()


def test_each_path_is_one_route_in_the_order_of_the_first() -> None:
    mount = Mount("/files", routes=[])
    routes: list[BaseRoute] = [
        Route("/a", endpoint), mount, Route("/b", endpoint, methods=["POST"]), Route("/a", endpoint, methods=["POST"]),
    ]  # fmt: skip
    assert [getattr(route, "path", None) for route in merged(routes)] == ["/a", "/files", "/b"]
    assert merged(routes)[1] is mount


def test_a_method_that_is_declared_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="POST /a is declared twice"):
        merged([Route("/a", endpoint, methods=["POST"]), Route("/a", endpoint, methods=["POST"])])
