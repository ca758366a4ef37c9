"""What the tests of access share: secrets, tokens as identity providers make them, and a configuration that fits."""

import time
from typing import Any

import jwt

SECRET = "of-the-server-0123456789abcdefghijkl"
PROVIDER_SECRET = "of-the-provider-0123456789abcdefghij"
AUDIENCE = "order-sync"
ISSUER = "https://id.example/"

CONFIG = f"""
[access]
mode = "required"
secret = "{SECRET}"
tenants = ["default", "other"]
[[access.jwt]]
secret = "{PROVIDER_SECRET}"
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
leeway_s = 0
"""

ACCESS: dict[str, Any] = {
    "mode": "required",
    "secret": SECRET,
    "tenants": ["default", "other"],
    "jwt": [{"secret": PROVIDER_SECRET, "issuer": ISSUER, "audience": AUDIENCE, "leeway_s": 0}],
}
"""The same for Settings.model_validate."""


def claims(*roles: str, sub: str = "ann", lifetime_s: float = 3600, **more: Any) -> dict[str, Any]:
    """The content of a token that is good, also for who makes it long before its test; None in *more* leaves out."""
    content: dict[str, Any] = {
        "sub": sub, "roles": list(roles), "exp": time.time() + lifetime_s, "iss": ISSUER, "aud": AUDIENCE,
    }  # fmt: skip
    return {name: value for name, value in (content | more).items() if value is not None}


def token(*roles: str, key: Any = PROVIDER_SECRET, algorithm: str = "HS256", **more: Any) -> str:
    """A token with ``claims(*roles, **more)``."""
    return jwt.encode(claims(*roles, **more), key, algorithm=algorithm)


def bearer(*roles: str, **more: Any) -> dict[str, str]:
    """The header that shows such a token."""
    return {"Authorization": f"Bearer {token(*roles, **more)}"}
