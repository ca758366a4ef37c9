"""The OpenAPI 3.1 document, from the declarations."""

from collections.abc import Iterable, Mapping
from typing import Any

from sync_core.problems import MEDIA_TYPE
from sync_server.reference.examples import example
from sync_server.reference.operation import JSON, TICKET, Operation, Parameter, Reply
from sync_server.reference.schemas import Schemas, ref

__all__ = ["openapi_document"]

_TAGS = {
    "Feed": "What has happened and what is: stream, poll, snapshot, publish.",
    "Commands": "What became of a command.",
    "Accounts": "Who you are.",
    "Service": "For those who run the server.",
}
_PROBLEM_TEXTS = {
    400: "The form is wrong: parameters, headers, JSON.",
    401: "Nobody is known by these credentials.",
    403: "Not with these rights.",
    404: "There is no such thing.",
    409: "The rules or the state forbid it; `current` is how the documents in question stand.",
    410: "The cursor leads nowhere: load the snapshot and go on from there.",
    413: "Too large.",
    415: "Not JSON.",
    422: "Well-formed, but not acceptable; `errors` says where.",
    429: "Slow down.",
    503: "Not now. `type` is `outcome-unknown` where it may or may not have happened: send it again with its key.",
}
_RETRY = frozenset({429, 503})
_HEADERS: Mapping[str, Any] = {
    "ETag": {"description": "The document's version, in quotes.", "schema": {"type": "string"}},
    "Location": {"description": "Where the document is.", "schema": {"type": "string"}},
    "Retry-After": {"description": "In so many seconds.", "schema": {"type": "integer", "minimum": 0}},
    "Idempotency-Replayed": {
        "description": "`true`: the stored outcome of an earlier request with this key.",
        "schema": {"const": "true"},
    },
    "X-Poll-After-Ms": {"description": "When to ask again.", "schema": {"type": "integer"}},
    "X-Request-ID": {"description": "Names this request in the server's log.", "schema": {"type": "string"}},
}


def openapi_document(
    operations: Iterable[Operation],
    schemas: Schemas,
    *,
    version: str,
    servers: Iterable[str] = ("/",),
    security: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All of *operations*; *servers* are base URLs, *security* the schemes, one of which is needed (None: none)."""
    components = {**schemas.components, "Problem": _PROBLEM, "Conflict": _conflict(schemas)}
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, None] = {}
    statuses: set[int] = set()
    for operation in operations:
        described = paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, components)
        if security is not None and operation.takes_ticket:
            described["security"] = [{name: []} for name in security]
        tags[operation.tag] = None
        statuses |= set(operation.problems)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "order-sync",
            "version": version,
            "description": "Orders, queues and washing bays: commands change them, the feed tells of every change. "
            "The events are described in `asyncapi.json`.",
        },
        "servers": [{"url": url} for url in servers],
        "tags": [{"name": name, "description": _TAGS.get(name, f"{name} and their commands.")} for name in tags],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {str(status): _problem(status) for status in sorted(statuses)},
            "headers": _HEADERS,
        },
    }
    if security is not None:
        document["components"]["securitySchemes"] = security
        document["security"] = [{name: []} for name in security if name != TICKET]
    return document


def _operation(operation: Operation, components: Mapping[str, Any]) -> dict[str, Any]:
    answers = {str(reply.status): _reply(reply, components) for reply in operation.replies}
    problems = {str(status): {"$ref": f"#/components/responses/{status}"} for status in operation.problems}
    document: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": answers | problems,
        **(operation.extensions or {}),
    }
    if operation.description:
        document["description"] = operation.description
    if operation.parameters:
        document["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.public:
        document["security"] = []
    if operation.body is not None:
        content = {"schema": operation.body, "example": operation.body_example}
        document["requestBody"] = {"required": not operation.body_optional, "content": {JSON: content}}
    return document


def _parameter(parameter: Parameter) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "schema": parameter.schema,
    }
    if parameter.place == "path":
        document["required"] = True
    if parameter.comma_list:
        document |= {"style": "form", "explode": False}
    return document


def _reply(reply: Reply, components: Mapping[str, Any]) -> dict[str, Any]:
    names = (*reply.headers, "X-Request-ID")
    document: dict[str, Any] = {
        "description": reply.description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    if reply.schema is not None:
        content: dict[str, Any] = {"schema": reply.schema}
        if reply.media_type == JSON:
            content["example"] = example(reply.schema, components)
        document["content"] = {reply.media_type: content}
    return document


def _problem(status: int) -> dict[str, Any]:
    headers = ["X-Request-ID", *(["Retry-After"] if status in _RETRY else ())]
    return {
        "description": _PROBLEM_TEXTS[status],
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
        "content": {MEDIA_TYPE: {"schema": ref("Conflict" if status == 409 else "Problem")}},
    }


_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457.",
    "properties": {
        "type": {"type": "string", "examples": ["about:blank"]},
        "title": {"type": "string", "examples": ["Unprocessable Content"]},
        "status": {"type": "integer", "examples": [422]},
        "detail": {"type": "string", "examples": ["The command cannot be accepted."]},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "Where.", "examples": ["items[0].unitPrice"]},
                    "message": {"type": "string", "description": "What to do.", "examples": ["is missing"]},
                },
                "required": ["path", "message"],
            },
        },
    },
    "required": ["type", "title", "status", "detail"],
}


def _conflict(schemas: Schemas) -> dict[str, Any]:
    kinds = schemas.domain.kinds.values()
    current: dict[str, Any] = {}
    for kind in kinds:
        current[kind.kind] = schemas.of(kind)
        current[kind.plural] = {"type": "array", "items": schemas.of(kind)}
    return {
        "title": "Conflict",
        "allOf": [ref("Problem")],
        "properties": {"current": {"type": "object", "properties": current, "additionalProperties": False}},
    }
