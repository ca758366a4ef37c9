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
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic_core import from_json

from sync_core.problems import Unauthorized, Unavailable
from sync_server.access.claims import Claims

__all__ = [
    "OWN_ISSUER",
    "Issued",
    "JWKSKeys",
    "JWKSTimes",
    "Key",
    "KeySource",
    "StaticKeys",
    "TokenIssuer",
    "TokenVerifier",
    "is_own",
    "public_key",
]

MAX_TOKEN_BYTES = 8 * 1024
MAX_JWKS_BYTES = 512 * 1024
OWN_ISSUER = "order-sync"
PUBLIC_KEY_ALGORITHMS = ("RS256", "ES256")
ALGORITHMS = ("HS256", *PUBLIC_KEY_ALGORITHMS)
MIN_RSA_BITS = 2048

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


@dataclass(frozen=True, slots=True)
class JWKSTimes:
    """How long published keys count, in seconds."""

    fresh_s: float = 300.0
    """Then they are asked for again, beside the requests that go on with the old ones meanwhile."""
    stale_s: float = 3600.0
    """An identity provider that does not answer locks nobody out for so long."""
    pause_s: float = 10.0
    """An unknown key id asks the provider again, but not more often than this: anybody can send unknown ids."""
    patience_s: float = 5.0
    """For the provider's whole answer."""


class JWKSKeys:
    """Keys that an identity provider publishes at *url*."""

    def __init__(self, url: str, *, times: JWKSTimes | None = None) -> None:
        self._url = url
        self._times = times or JWKSTimes()
        self._keys: list[Key] = []
        self._fetched_s = float("-inf")
        self._tried_s = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None

    async def keys(self, *, kid: str | None, algorithm: str) -> Sequence[Key]:
        age_s = time.monotonic() - self._fetched_s
        matching = self._matching(kid, algorithm)
        if not matching or age_s > self._times.stale_s:
            await asyncio.shield(self._refresh())
        elif age_s > self._times.fresh_s:
            self._refresh()
        if time.monotonic() - self._fetched_s > self._times.stale_s:
            raise Unavailable("The identity provider's keys cannot be read now.", retry_after_s=2)
        return self._matching(kid, algorithm)

    def _matching(self, kid: str | None, algorithm: str) -> list[Key]:
        return [key for key in self._keys if key.algorithm == algorithm and key.kid == kid]

    def _refresh(self) -> "asyncio.Task[None]":
        """One fetch for all who wait for it."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._fetch(), name="jwks")
        return self._refreshing

    async def _fetch(self) -> None:
        if time.monotonic() - self._tried_s < self._times.pause_s:
            return
        self._tried_s = time.monotonic()
        try:
            # PyJWT's own client would do in a thread that nothing ends, and take an answer of any length.
            async with asyncio.timeout(self._times.patience_s):
                self._keys = _published(await self._read())
        except (ValueError, OSError) as exc:
            log.warning("jwks_unavailable", error=str(exc) or type(exc).__name__)
            return
        self._fetched_s = time.monotonic()

    async def _read(self) -> bytes:
        """The provider's answer. A redirect is none: it would be somewhere else that decides whose tokens count.

        Raises ValueError, OSError.
        """
        import httpx2  # takes as long as a tenth of the server's start

        body = bytearray()
        try:
            async with (
                httpx2.AsyncClient(headers={"Accept-Encoding": "identity"}) as client,
                client.stream("GET", self._url) as response,
            ):
                if response.status_code != 200:
                    raise ValueError(f"the provider answers {response.status_code}")
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > MAX_JWKS_BYTES:
                        raise ValueError("the provider's answer is too long")
        # What is no HTTPError comes of a proxy in the environment that cannot be one.
        except (httpx2.HTTPError, httpx2.InvalidURL, ImportError, ExceptionGroup) as exc:
            raise OSError(f"{type(exc).__name__}: {exc}") from None
        return bytes(body)


def _published(body: bytes) -> list[Key]:
    """The keys in a JSON Web Key Set that verify signatures. Raises ValueError where there are none."""
    try:
        # A key that names no algorithm is used with its type's own, never with HMAC.
        found = [key for key in jwt.PyJWKSet.from_dict(from_json(body)).keys if key.public_key_use in ("sig", None)]
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, LookupError, OverflowError) as exc:
        raise ValueError(f"no set of keys: {exc}") from None
    keys = [Key(k.algorithm_name, k.key, k.key_id) for k in found if k.algorithm_name in PUBLIC_KEY_ALGORITHMS]
    keys = [key for key in keys if isinstance(key.kid, str)]
    if not keys:
        raise ValueError("none of its keys can be used")
    return keys


def public_key(algorithm: str, path: Path) -> Key:
    """The key in the PEM file *path*, for that *algorithm* alone. Raises ValueError, which says what is wrong."""
    try:
        found = load_pem_public_key(path.read_bytes())
    except (ValueError, TypeError):
        raise ValueError("holds no public key in PEM form") from None
    except OSError as exc:
        raise ValueError(f"cannot be read: {exc.strerror}") from None
    if algorithm == "RS256" and isinstance(found, RSAPublicKey):
        if found.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key has at least {MIN_RSA_BITS} bits, this one {found.key_size}")
    elif not (
        algorithm == "ES256" and isinstance(found, EllipticCurvePublicKey) and isinstance(found.curve, SECP256R1)
    ):
        raise ValueError(f"the key is of another kind than {algorithm} needs")
    return Key(algorithm, found)


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
        header = _header(token)
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
        except (jwt.PyJWTError, RecursionError, ValueError, OverflowError):
            raise Unauthorized("The token cannot be read.") from None
        return content


def _header(token: str) -> dict[str, Any]:
    """The unverified header. Raises Unauthorized."""
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthorized("The token is too long.")
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, RecursionError, ValueError):
        raise Unauthorized("The token is no JSON Web Token.") from None


def is_own(token: str) -> bool:
    """Whether *token* says that it was signed here; nothing is believed by that. Raises Unauthorized."""
    return _header(token).get("kid") == OWN_ISSUER


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
        token = jwt.encode(content, self._secret, algorithm="HS256", headers={"kid": OWN_ISSUER})
        return Issued(token, token_id, expires_s)

    def verifier(self) -> TokenVerifier:
        """Accepts what this issuer signs."""
        return TokenVerifier(StaticKeys([Key("HS256", self._secret, OWN_ISSUER)]), issuer=OWN_ISSUER, leeway_s=0)
