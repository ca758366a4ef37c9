"""Short-lived signed texts: tickets for EventSource, CSRF tokens, webhook bodies. HMAC-SHA256, constant time."""

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any

from pydantic_core import from_json, to_json

__all__ = ["Signer", "webhook_signature"]

MAX_BYTES = 16 * 1024
"""A ticket for a caller who is bound to 200 entities fits."""


class Signer:
    """Signs for one *purpose*: what was signed for another one never fits, though the secret is the same."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._key = hmac.digest(secret, purpose.encode(), sha256)

    def sign(self, content: dict[str, Any], *, expires_s: float) -> str:
        """A text for URLs and cookies that holds *content* (readable by everybody) until *expires_s* (Unix time)."""
        payload = {**content, "n": secrets.token_hex(12), "exp": expires_s}
        body = urlsafe_b64encode(to_json(payload)).rstrip(b"=")
        return f"{body.decode()}.{self._mac(body)}"

    def read(self, text: str, *, now_s: float) -> dict[str, Any] | None:
        """The content; None if it was not signed here for this purpose, or has expired."""
        body, _, mac = text.partition(".")
        if not text.isascii() or len(text) > MAX_BYTES or not hmac.compare_digest(self._mac(body.encode()), mac):
            return None
        content: dict[str, Any] = from_json(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return content if content["exp"] > now_s else None

    def _mac(self, body: bytes) -> str:
        return hmac.digest(self._key, body, sha256).hex()


def webhook_signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Hex HMAC-SHA256 over ``<timestamp>.<body>``."""
    return hmac.digest(secret, timestamp.encode() + b"." + body, sha256).hex()
