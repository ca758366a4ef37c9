"""How the commands talk to a running server."""

import ssl
from typing import Any

import httpx2

from sync_core.problems import SyncError
from sync_server.settings import Settings

__all__ = ["Refused", "checked", "client", "is_served", "own_certificate", "server_url"]

TIMEOUT_S = 10.0
MAX_PORT = 65535
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Refused(SyncError):
    """The server's answer is an error; the message tells it with every fault, *errors* are (path, message)."""

    def __init__(self, status: int, detail: str, errors: list[tuple[str, str]]) -> None:
        faults = [f"{path}: {message}" if path else message for path, message in errors]
        super().__init__("\n  - ".join([f"{detail} ({status})", *faults]))
        self.status = status
        self.detail = detail
        self.errors = errors


def server_url(settings: Settings) -> str:
    """Where the configured server is to be reached from this machine."""
    host = _ANY_ADDRESS.get(settings.server.host, settings.server.host)
    scheme = "http" if settings.server.tls_certificate is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.server.port}"


def own_certificate(settings: Settings) -> ssl.SSLContext | bool:
    """What the configured server is known by, whatever name this machine reaches it under."""
    if settings.server.tls_certificate is None:
        return True
    context = ssl.create_default_context(cafile=settings.server.tls_certificate)
    context.check_hostname = False
    return context


def client(url: str, *, token: str | None = None, verify: ssl.SSLContext | bool = True) -> httpx2.AsyncClient:
    """A client of the server at *url*, which shows *token*. Proxies of the environment are for other machines.

    Raises httpx2.InvalidURL.
    """
    parsed = httpx2.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise httpx2.InvalidURL(f"{url!r} does not begin with http:// or https:// and a host")
    if parsed.port is not None and not 0 < parsed.port <= MAX_PORT:
        raise httpx2.InvalidURL(f"{url!r} has a port that is not from 1 to {MAX_PORT}")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx2.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False, verify=verify)


async def is_served(http: httpx2.AsyncClient) -> bool:
    """Whether a sync-server answers there."""
    try:
        reply = await http.get("/healthz")
        return reply.status_code == 200 and reply.json() == {"status": "ok"}
    except (httpx2.TransportError, ValueError):
        return False


def checked(reply: httpx2.Response) -> dict[str, Any]:
    """The JSON object of a good answer. Raises Refused."""
    try:
        document = reply.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Refused(reply.status_code, f"{reply.url} does not answer as a sync-server", [])
    if reply.status_code >= 400:
        errors = [(str(e["path"]), str(e["message"])) for e in document.get("errors", ())]
        raise Refused(reply.status_code, str(document.get("detail", "refused")), errors)
    return document
