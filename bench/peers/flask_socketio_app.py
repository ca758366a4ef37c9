"""Flask-SocketIO with eventlet and Redis as the message queue, in one process. Readers come by WebSocket."""

import eventlet

eventlet.monkey_patch()

import sys  # noqa: E402

import eventlet.wsgi  # noqa: E402
from flask import Flask, request  # noqa: E402
from flask_socketio import SocketIO  # noqa: E402

app = Flask(__name__)
socketio = SocketIO(
    app, async_mode="eventlet", message_queue=f"redis://127.0.0.1:{sys.argv[2]}/0", cors_allowed_origins="*"
)


@socketio.on("connect")
def connected(auth: object = None) -> None:
    """Everybody may."""


@app.post("/publish")
def publish() -> tuple[dict[str, str], int]:
    socketio.emit("stage_change", request.get_json())
    return {}, 201


listener = eventlet.listen(("127.0.0.1", int(sys.argv[1])), backlog=4096)
eventlet.wsgi.server(listener, app, log_output=False, max_size=20_000)
