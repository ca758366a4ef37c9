"""JSON Web Tokens: verified with the keys that are configured, and signed for who logs in here.

A key belongs to one algorithm, whatever the token says: a public RSA key can never be taken for an HMAC secret,
and ``none`` is no algorithm of anybody. What is too large or too deep is refused before it is parsed.
"""

import asyncio
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jwt
import structlog

from sync_core.problems import Unauthorized, Unavailable
from sync_server.access.claims import Claims

__all__ = [
    "JWKS_LIFETIME_S",
    "OWN_ISSUER",
    "Issued",
    "JWKSKeys",
    "Key",
    "KeySource",
    "StaticKeys",
    "TokenIssuer",
    "TokenVerifier",
]

MAX_TOKEN_BYTES = 8 * 1024
JWKS_LIFETIME_S = 300.0
JWKS_PAUSE_S = 10.0
"""An unknown key id asks the issuer again, but not more often than this: anybody can send unknown ids."""
JWKS_TIMEOUT_S = 5
OWN_ISSUER = "order-sync"
ALGORITHMS = ("HS256", "RS256", "ES256")

log = structlog.get_logger("sync_server.access")


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the only algorithm that it is used with. *kid* None fits tokens that name no key."""

    algorithm: str
    material: Any
    kid: str | None = None


class KeySource(Protocol):
    """Where the keys are."""

    async def keys(self, *, kid: str | None, algorithm: str) -> Sequence[Key]:
        """The keys that a token with this header may have been signed with. Raises Unavailable."""


class StaticKeys:
    """Keys out of the configuration."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys

    async def keys(self, *, kid: str | None, algorithm: str) -> Sequence[Key]:
        return [key for key in self._keys if key.algorithm == algorithm and (key.kid is None or key.kid == kid)]


class JWKSKeys:
    """Keys that an identity provider publishes at *url*, kept for five minutes and fetched off the event loop."""

    def __init__(self, url: str, *, algorithms: Sequence[str] = ("RS256", "ES256")) -> None:
        self._client = jwt.PyJWKClient(url, cache_keys=False, cache_jwk_set=False, timeout=JWKS_TIMEOUT_S)
        self._algorithms = algorithms
        self._keys: list[Key] = []
        self._fetched_s = float("-inf")
        self._tried_s = float("-inf")
        self._lock = asyncio.Lock()

    async def keys(self, *, kid: str | None, algorithm: str) -> Sequence[Key]:
        if time.monotonic() - self._fetched_s > JWKS_LIFETIME_S or not self._matching(kid, algorithm):
            await self._refresh()
        if self._fetched_s == float("-inf"):
            raise Unavailable("The identity provider's keys cannot be read now.", retry_after_s=2)
        return self._matching(kid, algorithm)

    def _matching(self, kid: str | None, algorithm: str) -> list[Key]:
        return [key for key in self._keys if key.algorithm == algorithm and key.kid == kid]

    async def _refresh(self) -> None:
        async with self._lock:
            if time.monotonic() - self._tried_s < JWKS_PAUSE_S:
                return
            self._tried_s = time.monotonic()
            try:
                found = await asyncio.to_thread(self._client.get_signing_keys)
            except jwt.PyJWTError as exc:
                log.warning("jwks_unavailable", error=str(exc))
                return
            # A key that names no algorithm is used with its type's own, never with HMAC.
            self._keys = [Key(k.algorithm_name, k.key, k.key_id) for k in found if k.algorithm_name in self._algorithms]
            self._fetched_s = time.monotonic()


class TokenVerifier:
    """Claims out of a token. *issuer* and *audience* None: not asked for."""

    def __init__(
        self, source: KeySource, *, issuer: str | None = None, audience: str | None = None, leeway_s: float = 30.0
    ) -> None:
        self._source = source
        self._issuer = issuer
        self._audience = audience
        self.leeway_s = leeway_s

    async def verify(self, token: str) -> Claims:
        """Raises Unauthorized, which says what to do but nothing of the key."""
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthorized("The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError, ValueError):
            raise Unauthorized("The token is no JSON Web Token.") from None
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS or not (kid is None or isinstance(kid, str)) or "crit" in header:
            raise Unauthorized("The token is signed in a way that is not accepted here.")
        for key in await self._source.keys(kid=kid, algorithm=algorithm):
            content = self._decode(token, key)
            if content is not None:
                return Claims.read(content)
        raise Unauthorized("The token's signature does not fit.")

    def _decode(self, token: str, key: Key) -> dict[str, Any] | None:
        """The verified content; None if it was not signed with *key*."""
        required = ["exp", "sub", *(["iss"] if self._issuer else []), *(["aud"] if self._audience else [])]
        try:
            content: dict[str, Any] = jwt.decode(
                token,
                key.material,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=self.leeway_s,
                options={"require": required, "verify_aud": self._audience is not None},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized("The token has expired; get another one.") from None
        except jwt.ImmatureSignatureError:
            raise Unauthorized("The token is not valid yet; check the clocks.") from None
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError, jwt.MissingRequiredClaimError) as exc:
            raise Unauthorized(f"The token is not for this server: {exc}.") from None
        except jwt.InvalidSignatureError:
            return None
        except (jwt.PyJWTError, RecursionError, ValueError):
            raise Unauthorized("The token cannot be read.") from None
        return content


class Issued(NamedTuple):
    """A token that was signed here, its id, and when it expires (Unix time)."""

    token: str
    id: str
    expires_s: float


class TokenIssuer:
    """Signs the tokens of those who log in here, with the server's own secret (32 bytes or more)."""

    def __init__(self, secret: bytes, *, lifetime_s: float) -> None:
        # Of its own purpose: what is signed for tickets with the same secret is no token.
        self._secret = hmac.digest(secret, b"session", "sha256")
        self.lifetime_s = lifetime_s

    def issue(self, *, tenant: str, subject: str, generation: int, now_s: float) -> Issued:
        """*generation* is the user's; a newer one ends older tokens. Roles are not in it: they are looked up."""
        expires_s = int(now_s + self.lifetime_s)
        token_id = secrets.token_hex(12)
        content = {
            "iss": OWN_ISSUER, "sub": subject, "tenant": tenant, "iat": int(now_s), "exp": expires_s,
            "jti": token_id, "gen": generation,
        }  # fmt: skip
        return Issued(jwt.encode(content, self._secret, algorithm="HS256"), token_id, expires_s)

    def verifier(self) -> TokenVerifier:
        """Accepts what this issuer signs."""
        return TokenVerifier(StaticKeys([Key("HS256", self._secret)]), issuer=OWN_ISSUER, leeway_s=0)
