"""The commands as HTTP routes, made from their declarations. Source: protocol.md 4, domain.md."""

import re
from collections.abc import Iterable

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_core.domain.command import Command
from sync_core.domain.document import Document
from sync_core.problems import FieldError, InvalidRequest, Unprocessable
from sync_server.access.caller import caller_of
from sync_server.api.body import client_id_of, json_body
from sync_server.api.canonical import fingerprint_of
from sync_server.commands.answer import Answer, Changed
from sync_server.commands.dispatch import Call, Dispatch, checked
from sync_server.commands.write import Guard

__all__ = ["PREFIX", "answer_body", "command_routes"]

PREFIX = "/api/v1"
MAX_KEY = 128
_ETAG = re.compile(r'(?:W/)?"(\d{1,15})"')


def command_routes(dispatch: Dispatch) -> list[Route]:
    """One route per path and method, and the one that tells what became of a key."""
    routes = [
        Route(PREFIX + command.path, _Endpoint(command, dispatch).__call__, methods=[command.method])
        for command in dispatch.domain.commands
    ]

    async def outcome(http: Request) -> Response:
        key = _checked_key(http.path_params["key"])
        return _outcome_response(key, await dispatch.outcome(caller_of(http.scope), key))

    return [*routes, Route(f"{PREFIX}/commands/{{key}}", outcome)]


class _Endpoint:
    """One command's endpoint."""

    def __init__(self, command: Command, dispatch: Dispatch) -> None:
        self._command = command
        self._dispatch = dispatch

    async def __call__(self, http: Request) -> Response:
        caller = caller_of(http.scope)
        caller.rights.require(self._command.permission)  # before the body is looked at
        client_id = client_id_of(http)
        body = await json_body(http, optional=not self._command.body_fields or http.method == "DELETE")
        content = _object(body)
        self._refuse_path_parameters(content)
        given = checked(self._command, to_json(content | http.path_params))
        key = http.headers.get("idempotency-key")
        call = Call(
            command=self._command,
            given=given,
            client_id=client_id,
            guard=_guard(http.headers.get("if-match")),
            key=None if key is None else _checked_key(key),
            fingerprint="" if key is None else fingerprint_of(http.method, http.scope["path"], content),
            size_bytes=len(body) + 1024,
        )
        return self._response(http, await self._dispatch(caller, call))

    def _refuse_path_parameters(self, content: dict[str, object]) -> None:
        faults = [FieldError(name, "stands in the path") for name in self._command.path_parameters if name in content]
        if faults:
            raise Unprocessable("The command cannot be accepted.", errors=tuple(faults))

    def _response(self, http: Request, answer: Answer) -> Response:
        if answer.refusal is not None:
            raise answer.refusal
        headers = {"Cache-Control": "no-store"}
        target = next((c.document for c in answer.changed if type(c.document) is self._command.target), None)
        if target is not None:
            headers["ETag"] = f'"{target.version}"'
            if self._command.creates:
                headers["Location"] = f"{http.scope.get('root_path', '')}{PREFIX}/{target.plural}/{target.id}"
        body = answer_body(answer.changed, answer.cursor)
        status = 201 if self._command.creates else 200
        return Response(body, status_code=status, media_type="application/json", headers=headers)


def answer_body(changed: Iterable[Changed], cursor: str) -> bytes:
    """``{"order": {...}, "bays": [{...}, {...}], "cursor": ...}`` from JSON texts as they are."""
    kinds: dict[type[Document], list[str]] = {}
    for item in changed:
        kinds.setdefault(type(item.document), []).append(item.body)
    parts = [
        f'"{kind.kind}":{bodies[0]}' if len(bodies) == 1 else f'"{kind.plural}":[{",".join(bodies)}]'
        for kind, bodies in kinds.items()
    ]
    return ("{" + ",".join([*parts, f'"cursor":"{cursor}"']) + "}").encode()


def _object(body: bytes) -> dict[str, object]:
    if not body:
        return {}
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError as exc:
        raise InvalidRequest("The body is not JSON.", errors=(FieldError("", str(exc)),)) from None
    if not isinstance(content, dict):
        raise Unprocessable("A command is a JSON object.", errors=(FieldError("", "has to be a JSON object"),))
    return content


def _checked_key(key: str) -> str:
    if not (key.isascii() and key.isprintable() and 1 <= len(key) <= MAX_KEY):
        raise InvalidRequest(f"Idempotency-Key has 1 to {MAX_KEY} printable ASCII characters, best a UUID.")
    return key


def _guard(if_match: str | None) -> Guard | None:
    if if_match is None:
        return None
    if if_match.strip() == "*":
        return Guard(frozenset())
    versions: set[int] = set()
    for item in if_match.split(","):
        match = _ETAG.fullmatch(item.strip())
        if match is None:
            raise InvalidRequest('If-Match is a version in quotes, such as "7", or *.')
        versions.add(int(match[1]))
    return Guard(frozenset(versions))


def _outcome_response(key: str, answer: Answer | None) -> Response:
    content: dict[str, object] = {"key": key, "state": "unknown"}
    if answer is not None and answer.refusal is not None:
        content |= {"state": "rejected", "problem": answer.refusal.document(), "cursor": answer.cursor}
    elif answer is not None:
        content |= {"state": "applied"} | from_json(answer_body(answer.changed, answer.cursor))
    return Response(to_json(content), media_type="application/json", headers={"Cache-Control": "no-store"})
