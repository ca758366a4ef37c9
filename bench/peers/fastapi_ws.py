"""The ConnectionManager of FastAPI's documentation: a loop of awaited sends."""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()


class ConnectionManager:
    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        self.active_connections.remove(websocket)

    async def broadcast(self, message: Any) -> None:
        for connection in self.active_connections:
            await connection.send_json(message)


manager = ConnectionManager()


@app.websocket("/events")
async def events(websocket: WebSocket) -> None:
    await manager.connect(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        manager.disconnect(websocket)


@app.post("/publish", status_code=201)
async def publish(event: dict[str, Any]) -> dict[str, str]:
    await manager.broadcast(event)
    return {}


uvicorn.run(
    app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", backlog=4096, ws_per_message_deflate=False
)
