"""API keys for machines: ``osk_<id>_<secret>``. Of the secret, which is 256 random bits, only a digest is kept.

A digest without salt or work is enough for what cannot be guessed; it is compared in constant time.
"""

import hmac
import re
import secrets
from hashlib import sha256
from typing import NamedTuple

__all__ = ["ApiKey", "fits", "is_api_key", "new_api_key", "split"]

_KEY = re.compile(r"osk_([a-z0-9]{10})_([A-Za-z0-9_-]{43})")
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class ApiKey(NamedTuple):
    """A new key: *text* is shown once, *digest* is kept under *id*."""

    id: str
    text: str
    digest: str


def new_api_key() -> ApiKey:
    """A key that nobody has had before."""
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(10))
    secret = secrets.token_urlsafe(32)
    return ApiKey(key_id, f"osk_{key_id}_{secret}", _digest(secret))


def is_api_key(credential: str) -> bool:
    return credential.startswith("osk_")


def split(credential: str) -> tuple[str, str] | None:
    """Id and secret of a key; None if it is none."""
    match = _KEY.fullmatch(credential)
    return (match[1], match[2]) if match else None


def fits(secret: str, digest: str) -> bool:
    """Whether *secret* is the one behind *digest*."""
    return hmac.compare_digest(_digest(secret), digest)


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
