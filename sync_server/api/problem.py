"""A refusal as an HTTP response. Source: protocol.md 5."""

from collections.abc import Mapping

from pydantic_core import to_json
from starlette.responses import Response

from sync_core.problems import MEDIA_TYPE, Problem, Unauthorized

__all__ = ["problem_response"]


def problem_response(problem: Problem, *, headers: Mapping[str, str] | None = None) -> Response:
    """The problem document, with further *headers*."""
    all_headers = {"Cache-Control": "no-store", **(headers or {})}
    if problem.retry_after_s is not None:
        all_headers["Retry-After"] = str(problem.retry_after_s)
    if isinstance(problem, Unauthorized):
        all_headers["WWW-Authenticate"] = 'Bearer realm="order-sync"'
    return Response(
        to_json(problem.document()), status_code=problem.status, media_type=MEDIA_TYPE, headers=all_headers
    )  # fmt: skip
