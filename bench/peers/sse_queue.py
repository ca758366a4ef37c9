"""Server-Sent Events as most Starlette programs have them: sse-starlette, and a queue for each reader.

With the argument ``gzip`` behind Starlette's own middleware for that, which compresses for each reader.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import uvicorn
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

queues: set[asyncio.Queue[str]] = set()


async def events(_: Request) -> Response:
    async def follow() -> AsyncIterator[dict[str, str]]:
        queue: asyncio.Queue[str] = asyncio.Queue(1000)
        queues.add(queue)
        try:
            while True:
                yield {"event": "stage_change", "data": await queue.get()}
        finally:
            queues.discard(queue)

    return EventSourceResponse(follow())


async def publish(request: Request) -> Response:
    text = json.dumps(await request.json())
    for queue in queues:
        await queue.put(text)
    return JSONResponse({}, status_code=201)


app = Starlette(routes=[Route("/events", events), Route("/publish", publish, methods=["POST"])])
if sys.argv[2:] == ["gzip"]:
    app.add_middleware(GZipMiddleware, exclude_content_types=())
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", backlog=4096)
