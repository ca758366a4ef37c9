"""The commands as HTTP routes, made from their declarations. Source: protocol.md 4, domain.md."""

import re
from collections.abc import Iterable, Mapping

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_core.domain.command import Command
from sync_core.domain.document import Document
from sync_core.paths import OUTCOME_PATH, PREFIX
from sync_core.problems import FieldError, InvalidRequest, Unprocessable
from sync_server.access.caller import caller_of
from sync_server.api.body import client_id_of, json_body, long_lists
from sync_server.api.canonical import fingerprint_of
from sync_server.api.problem import problem_response
from sync_server.commands.answer import Answer, Carried
from sync_server.commands.dispatch import Call, Dispatch, checked
from sync_server.commands.write import Guard

__all__ = ["command_routes"]

MAX_KEY = 128
REPLAYED = {"Idempotency-Replayed": "true"}
# Weak ones too: a proxy that compresses answers weakens their ETags, and ours name a version, not bytes.
_ETAG = re.compile(r'(?:W/)?"(\d{1,15})"')


def command_routes(dispatch: Dispatch) -> list[Route]:
    """One route for each command, and the one that tells what became of a key."""
    routes = [
        Route(PREFIX + command.path, _Endpoint(command, dispatch).answer, methods=[command.method])
        for command in dispatch.domain.commands
    ]

    async def outcome(http: Request) -> Response:
        key = _checked_key(http.path_params["key"], where="key")
        return _outcome_response(key, await dispatch.outcome(caller_of(http.scope), key), dispatch.domain.kinds)

    return [*routes, Route(OUTCOME_PATH.replace("{key}", "{key:path}"), outcome)]


class _Endpoint:
    """One command's endpoint."""

    def __init__(self, command: Command, dispatch: Dispatch) -> None:
        self._command = command
        self._dispatch = dispatch

    async def answer(self, http: Request) -> Response:
        caller = caller_of(http.scope)
        caller.rights.require(self._command.permission)  # before the body is looked at
        call = await self._call(http)
        return self._response(http, await self._dispatch(caller, call))

    async def _call(self, http: Request) -> Call:
        key, guard, client_id = _key(http), _guard(http), client_id_of(http)
        body = await json_body(http, optional=not self._command.needs_body)
        content = _object(body) if body or self._command.needs_body else {}
        faults = [FieldError(name, "stands in the path") for name in self._command.path_parameters if name in content]
        faults += long_lists(content)
        if faults:
            raise Unprocessable("The command cannot be accepted.", errors=tuple(faults))
        return Call(
            command=self._command,
            given=checked(self._command, to_json(content | http.path_params)),
            client_id=client_id,
            guard=guard,
            key=key,
            fingerprint="" if key is None else fingerprint_of(http.method, http.scope["path"], content),
            size_bytes=len(body) + 1024,
        )

    def _response(self, http: Request, answer: Answer) -> Response:
        replayed = REPLAYED if answer.repeated else {}
        if answer.refusal is not None:
            return problem_response(answer.refusal.problem(self._dispatch.domain.kinds), headers=replayed)
        headers = {"Cache-Control": "no-store", **replayed}
        kind = self._command.target
        target = next((item for item in answer.changed if item.kind == kind.kind and not item.deleted), None)
        if target is not None:
            headers["ETag"] = f'"{target.version}"'
            if self._command.creates:
                headers["Location"] = f"{http.scope.get('root_path', '')}{PREFIX}/{kind.path()}/{target.id}"
        body = _answer_body(answer, self._dispatch.domain.kinds)
        status = 201 if self._command.creates else 200
        return Response(body, status_code=status, media_type="application/json", headers=headers)


def _answer_body(answer: Answer, kinds: Mapping[str, type[Document]]) -> bytes:
    """``{"order": {...}, "bays": [{...}, {...}], "cursor": ...}`` from JSON texts as they are."""
    parts = [*_by_kind(answer.changed, kinds), f'"cursor":"{answer.cursor}"']
    return ("{" + ",".join(parts) + "}").encode()


def _by_kind(carried: Iterable[Carried], kinds: Mapping[str, type[Document]]) -> Iterable[str]:
    found: dict[str, list[str]] = {}
    for item in carried:
        found.setdefault(item.kind, []).append(item.body)
    for kind, bodies in found.items():
        yield f'"{kind}":{bodies[0]}' if len(bodies) == 1 else f'"{kinds[kind].plural}":[{",".join(bodies)}]'


def _object(body: bytes) -> dict[str, object]:
    try:
        # No NaN, no Infinity, no lone surrogates, no nesting beyond 200 levels: the parser refuses them.
        content = from_json(body, allow_inf_nan=False)
    except ValueError as exc:
        raise InvalidRequest("The body is not JSON.", errors=(FieldError("", str(exc)),)) from None
    if not isinstance(content, dict):
        raise Unprocessable("A command is a JSON object.", errors=(FieldError("", "has to be a JSON object"),))
    return content


def _key(http: Request) -> str | None:
    keys = http.headers.getlist("idempotency-key")
    if len(keys) > 1:
        raise _bad_header("Idempotency-Key", "stands there twice")
    return _checked_key(keys[0], where="Idempotency-Key") if keys else None


def _checked_key(key: str, *, where: str) -> str:
    if not (key.isascii() and key.isprintable() and 1 <= len(key) <= MAX_KEY):
        raise _bad_header(where, f"1 to {MAX_KEY} printable ASCII characters, best a UUID")
    return key


def _guard(http: Request) -> Guard | None:
    lines = http.headers.getlist("if-match")
    if not lines:
        return None
    items = [item.strip() for item in ",".join(lines).split(",")]
    if items == ["*"]:
        return Guard(frozenset())
    matches = [_ETAG.fullmatch(item) for item in items]
    if not all(matches):
        raise _bad_header("If-Match", 'a version in quotes, such as "7", or *')
    return Guard(frozenset(int(match[1]) for match in matches if match is not None))


def _bad_header(name: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{name} cannot be used.", errors=(FieldError(name, message),))


def _outcome_response(key: str, answer: Answer | None, kinds: Mapping[str, type[Document]]) -> Response:
    content: dict[str, object] = {"key": key, "state": "unknown"}
    if answer is not None and answer.refusal is not None:
        problem = answer.refusal.problem(kinds)
        content |= {"state": "rejected", "problem": problem.document(), "cursor": answer.cursor}
    elif answer is not None:
        content |= {"state": "applied"} | from_json(_answer_body(answer, kinds))
    return Response(to_json(content), media_type="application/json", headers={"Cache-Control": "no-store"})
