"""Which tokens are believed: those that were signed for this server with a key of its configuration, and no others."""

import asyncio
import base64
import hashlib
import hmac
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sync_core.problems import Unauthorized, Unavailable
from sync_server.access import tokens
from sync_server.access.tokens import (
    MAX_JWKS_BYTES,
    JWKSKeys,
    JWKSTimes,
    Key,
    StaticKeys,
    TokenIssuer,
    TokenVerifier,
    is_own,
    public_key,
)
from tests.access.credentials import AUDIENCE, ISSUER, PROVIDER_SECRET, claims, token
from tests.streams import eventually

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_PEM = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def verifier(*keys: Key, leeway_s: float = 0) -> TokenVerifier:
    source = StaticKeys(keys or [Key("HS256", PROVIDER_SECRET)])
    return TokenVerifier(source, issuer=ISSUER, audience=AUDIENCE, leeway_s=leeway_s)


async def refused(text: str, *keys: Key, leeway_s: float = 0) -> str:
    """Why; and nothing of the token or the key is in it."""
    with pytest.raises(Unauthorized) as caught:
        await verifier(*keys, leeway_s=leeway_s).verify(text)
    assert PROVIDER_SECRET not in caught.value.detail
    assert len(caught.value.detail) < 200
    return caught.value.detail


def part(content: Any) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_good_token_says_who_it_is() -> None:
    found = await verifier().verify(token("cashier", "bay", tenant="shop-1", bound=["bayID=B1"]))
    assert (found.sub, found.tenant, found.roles, found.bound) == ("ann", "shop-1", ("cashier", "bay"), ("bayID=B1",))


async def test_without_claims_of_its_own_a_token_gives_the_default_tenant_and_no_role() -> None:
    found = await verifier().verify(token(roles=None))
    assert (found.tenant, found.roles, found.bound) == ("default", (), ())


@pytest.mark.parametrize(("algorithm", "private"), [("RS256", RSA_KEY), ("ES256", EC_KEY)])
async def test_public_keys_verify(algorithm: str, private: Any) -> None:
    key = Key(algorithm, private.public_key())
    assert (await verifier(key).verify(token(key=private, algorithm=algorithm))).sub == "ann"


# -- forged -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", None, "HS512", "RS512", "hs256", ["HS256"], 7])
async def test_other_algorithms_than_ours_are_refused(name: Any) -> None:
    header = {"typ": "JWT"} if name is None else {"alg": name, "typ": "JWT"}
    for signature in ("", part(b"x" * 32)):
        await refused(f"{part(header)}.{part(claims('admin'))}.{signature}")


async def test_a_public_key_is_no_secret() -> None:
    """The classic confusion: a token signed by HMAC with the public key's text."""
    head = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims('admin'))}"
    for material in (RSA_PEM, RSA_PEM.strip(), RSA_PEM.replace(b"\n", b"\r\n")):
        mac = hmac.new(material, head.encode(), hashlib.sha256).digest()
        await refused(f"{head}.{part(mac)}", Key("RS256", RSA_KEY.public_key()))


async def test_a_key_is_only_used_with_its_own_algorithm() -> None:
    rs, hs = Key("RS256", RSA_KEY.public_key()), Key("HS256", PROVIDER_SECRET)
    await refused(token(key=EC_KEY, algorithm="ES256"), rs, hs)
    await refused(token(key=OTHER_RSA_KEY, algorithm="RS256"), rs, hs)
    assert await verifier(rs, hs).verify(token(key=RSA_KEY, algorithm="RS256"))
    assert await verifier(rs, hs).verify(token())


async def test_whatever_is_changed_in_a_token_it_does_not_count() -> None:
    good = token("viewer", sub="ann")
    head, body, signature = good.split(".")
    assert await verifier().verify(good)
    for forged in (
        f"{head}.{part(claims('admin'))}.{signature}",
        f"{part({'alg': 'HS256', 'typ': 'JWT', 'x': 1})}.{body}.{signature}",
        f"{head}.{body}.{part(b'x' * 32)}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{good}.{signature}",
        f"{head}.{body}.{signature[:-4]}",
        good.replace(".", ".."),
        "",
        ".",
        "..",
        "ä.ö.ü",
        "a.b.c",
        "\x00",
    ):
        await refused(forged)
    flipped = bytearray(signature.encode())
    flipped[5] = ord("A") if flipped[5] != ord("A") else ord("B")
    await refused(f"{head}.{body}.{flipped.decode()}")


async def test_a_token_may_not_bring_its_own_key() -> None:
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OTHER_RSA_KEY.public_key()))
    for header in (
        {"jwk": jwk},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/"},
        {"kid": "../x"},
    ):
        forged = jwt.encode(claims("admin"), OTHER_RSA_KEY, algorithm="RS256", headers=header)
        await refused(forged, Key("RS256", RSA_KEY.public_key()))


async def test_extensions_that_have_to_be_understood_are_refused() -> None:
    forged = jwt.encode(claims(), PROVIDER_SECRET, algorithm="HS256", headers={"crit": ["b64"], "b64": True})
    await refused(forged)


# -- too large ----------------------------------------------------------------------------------------------


async def test_an_oversized_token_is_refused_however_valid() -> None:
    await refused(token(filler="x" * 9000))


@pytest.mark.parametrize("nested", ["[" * 6000, '{"a":' * 1200, "[" * 3000 + "]" * 3000])
async def test_deep_nesting_is_refused(nested: str) -> None:
    deep = part(nested.encode())
    await refused(f"{deep}.e30.x")
    head = part({"alg": "HS256", "typ": "JWT"})
    signed = jwt.api_jws.PyJWS().encode(nested.encode(), PROVIDER_SECRET, algorithm="HS256")
    if len(signed) <= tokens.MAX_TOKEN_BYTES:
        await refused(signed)
    await refused(f"{head}.{deep}.x")


# -- claims -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"exp": 1_000_000_000}, {"exp": None}, {"exp": "soon"}, {"exp": 1e400}, {"exp": float("nan")}, {"exp": 1e15},
        {"nbf": 4_000_000_000}, {"iat": 4_000_000_000}, {"aud": "elsewhere"}, {"aud": ["a", "b"]}, {"aud": None},
        {"iss": "https://evil.example/"}, {"iss": None}, {"sub": None}, {"sub": ""}, {"sub": 5}, {"sub": "a,b"},
        {"sub": "a\nb"}, {"sub": " a"}, {"sub": "a\u2028b"}, {"sub": "x" * 129}, {"sub": "key:abcdefghij"},
        {"sub": "a\x85b"}, {"sub": "\xa0ann"},  # no assignee, no owner of a session can be called that
        {"tenant": "_access"}, {"tenant": "Shop"}, {"tenant": ""}, {"tenant": "a/b"}, {"tenant": 5}, {"roles": "admin"},
        {"roles": [5]}, {"roles": ["r"] * 33}, {"bound": "bayID=B1"}, {"bound": ["shoe=1"]}, {"bound": ["bayID="]},
    ],
    ids=str,
)  # fmt: skip
async def test_claims_of_another_form_are_refused(wrong: dict[str, Any]) -> None:
    await refused(token("admin", **wrong))


async def test_leeway_bears_with_clocks_that_differ() -> None:
    late, early = token(exp=time.time() - 5), token(nbf=time.time() + 5)
    for text in (late, early):
        await refused(text)
        assert await verifier(leeway_s=30).verify(text)


# -- our own ------------------------------------------------------------------------------------------------


async def test_our_own_tokens_are_told_by_their_key_and_believed_by_their_signature() -> None:
    issuer = TokenIssuer(b"s" * 32, lifetime_s=60)
    issued = issuer.issue(tenant="default", subject="ann", generation=3, now_s=time.time())
    found = await issuer.verifier().verify(issued.token)
    assert (found.sub, found.gen, found.jti, found.exp) == ("ann", 3, issued.id, issued.expires_s)
    assert is_own(issued.token)
    assert not is_own(token())
    with pytest.raises(Unauthorized):
        await TokenIssuer(b"t" * 32, lifetime_s=60).verifier().verify(issued.token)
    await refused(issued.token, Key("HS256", b"s" * 32))  # the secret itself signs nothing


# -- files and JWKS -----------------------------------------------------------------------------------------


def test_a_key_file_holds_a_public_key_of_its_algorithm(tmp_path: Path) -> None:
    def written(data: bytes) -> Path:
        (tmp_path / "key.pem").write_bytes(data)
        return tmp_path / "key.pem"

    def pem(key: Any) -> bytes:
        return bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    assert public_key("RS256", written(RSA_PEM)).algorithm == "RS256"
    assert public_key("ES256", written(pem(EC_KEY.public_key()))).algorithm == "ES256"
    private = RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    for algorithm, data in (
        ("ES256", RSA_PEM),
        ("RS256", pem(EC_KEY.public_key())),
        ("ES256", pem(ec.generate_private_key(ec.SECP384R1()).public_key())),
        ("RS256", private),
        ("RS256", b"garbage"),
        ("RS256", b""),
        ("RS256", pem(short)),
    ):
        with pytest.raises(ValueError, match=r"key|PEM"):
            public_key(algorithm, written(data))


class Provider:
    """An identity provider's key set on a real socket."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.body: bytes | None = None
        """In place of the keys."""
        self.pause_s = 0.0
        """Between two bytes."""
        self.status = 200
        self.asked = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                body = json.dumps({"keys": provider.keys}).encode() if provider.body is None else provider.body
                self.send_response(provider.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                with suppress(OSError):
                    for at in range(0, len(body), 1 if provider.pause_s else len(body) or 1):
                        self.wfile.write(body[at : at + (1 if provider.pause_s else len(body))])
                        time.sleep(provider.pause_s)

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"

    def publish(self, kid: str, key: Any, **more: Any) -> None:
        name = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
        self.keys.append(json.loads(name.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"} | more)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


def jwks_verifier(provider: Provider, **times: float) -> TokenVerifier:
    return TokenVerifier(JWKSKeys(provider.url, times=JWKSTimes(**times)), issuer=ISSUER, audience=AUDIENCE)


async def fetched() -> None:
    """Wait until nothing is asked for in the background."""
    await eventually(lambda: "jwks" not in {task.get_name() for task in asyncio.all_tasks()})


def signed(kid: str | None, key: Any, algorithm: str) -> str:
    return jwt.encode(claims(), key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})


async def test_published_keys_verify_each_with_its_own_algorithm(provider: Provider) -> None:
    provider.publish("r", RSA_KEY)
    provider.publish("e", EC_KEY, alg="ES256")
    provider.keys.append({"kty": "oct", "kid": "s", "k": part(b"s" * 32), "alg": "HS256"})
    jwks = jwks_verifier(provider)
    assert await jwks.verify(signed("r", RSA_KEY, "RS256"))
    assert await jwks.verify(signed("e", EC_KEY, "ES256"))
    for forged in (
        signed("e", RSA_KEY, "RS256"),
        signed("s", "s" * 32, "HS256"),
        signed(None, RSA_KEY, "RS256"),
        signed("r", OTHER_RSA_KEY, "RS256"),
    ):
        with pytest.raises(Unauthorized):
            await jwks.verify(forged)
    assert provider.asked == 1


@pytest.mark.parametrize("proxy", ["foo://bar", "http://[::1", "socks5://127.0.0.1:1", "http://127.0.0.1:99999"])
async def test_a_proxy_that_is_none_is_a_provider_that_cannot_be_read(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    provider.publish("r", RSA_KEY)
    with pytest.raises(Unavailable):
        await jwks_verifier(provider).verify(signed("r", RSA_KEY, "RS256"))


async def test_a_rotated_key_is_found_by_its_name(provider: Provider) -> None:
    provider.publish("old", RSA_KEY)
    jwks = jwks_verifier(provider, pause_s=0)
    assert await jwks.verify(signed("old", RSA_KEY, "RS256"))
    provider.publish("new", OTHER_RSA_KEY)
    assert await jwks.verify(signed("new", OTHER_RSA_KEY, "RS256"))
    assert provider.asked == 2


async def test_unknown_key_names_do_not_make_us_flood_the_provider(provider: Provider) -> None:
    provider.publish("r", RSA_KEY)
    jwks = jwks_verifier(provider)
    for number in range(20):
        with pytest.raises(Unauthorized):
            await jwks.verify(signed(str(number), OTHER_RSA_KEY, "RS256"))
    assert provider.asked == 1


async def test_a_provider_that_is_away_locks_nobody_out_whose_key_is_known(provider: Provider) -> None:
    provider.publish("r", RSA_KEY)
    jwks = jwks_verifier(provider, pause_s=0, fresh_s=0)
    assert await jwks.verify(signed("r", RSA_KEY, "RS256"))
    provider.status = 500
    assert await jwks.verify(signed("r", RSA_KEY, "RS256"))
    await eventually(lambda: provider.asked == 2)
    assert await jwks.verify(signed("r", RSA_KEY, "RS256"))
    await fetched()


async def test_but_not_for_ever(provider: Provider) -> None:
    provider.publish("r", RSA_KEY)
    jwks = jwks_verifier(provider, pause_s=0, fresh_s=0, stale_s=0.05)
    assert await jwks.verify(signed("r", RSA_KEY, "RS256"))
    provider.status = 500
    await asyncio.sleep(0.06)
    with pytest.raises(Unavailable):
        await jwks.verify(signed("r", RSA_KEY, "RS256"))


async def test_a_redirect_is_not_followed(provider: Provider) -> None:
    provider.status = 302
    jwks = jwks_verifier(provider)
    with pytest.raises(Unavailable):
        await jwks.verify(signed("r", RSA_KEY, "RS256"))
    assert provider.asked == 1


@pytest.mark.parametrize(
    "body",
    [
        b"", b"garbage", b"[]", b"null", b'"keys"', b"{}", b'{"keys": null}', b'{"keys": {}}', b'{"keys": [5, null]}',
        b'{"keys": [{"kty": "RSA", "kid": "r"}]}', b'{"keys": [{"kty": ["RSA"], "alg": {"a": 1}, "kid": "r"}]}',
        b'{"keys": [{"kty": "RSA", "kid": "r", "n": 5, "e": null}]}',
        b'{"keys": [{"kty": "EC", "kid": "r", "crv": 5}]}',
        b'{"keys":' + b"[" * 100_000, b'{"a": ' * 100_000, b"\xff\xfe", b" " * (MAX_JWKS_BYTES + 1),
    ],
    ids=lambda body: body[:30].decode("latin-1"),
)  # fmt: skip
async def test_whatever_a_provider_answers_it_is_no_fault_of_ours(provider: Provider, body: bytes) -> None:
    """And what is known of it goes on to count."""
    provider.publish("r", RSA_KEY)
    jwks = jwks_verifier(provider, pause_s=0)
    assert await jwks.verify(signed("r", RSA_KEY, "RS256"))
    provider.body = body
    with pytest.raises(Unauthorized):
        await jwks.verify(signed("new", OTHER_RSA_KEY, "RS256"))
    assert await jwks.verify(signed("r", RSA_KEY, "RS256"))
    with pytest.raises(Unavailable):
        await jwks_verifier(provider).verify(signed("r", RSA_KEY, "RS256"))


async def test_keys_of_other_kinds_beside_good_ones_do_no_harm(provider: Provider) -> None:
    provider.publish("r", RSA_KEY)
    provider.keys += [{"kty": "OKP", "kid": "o", "crv": "X25519"}, {"kid": "n"}, {"kty": "RSA", "kid": ["r"]}]
    assert await jwks_verifier(provider).verify(signed("r", RSA_KEY, "RS256"))


async def test_a_provider_that_drips_is_given_up_and_holds_nobody_up(provider: Provider) -> None:
    provider.publish("r", RSA_KEY)
    jwks = jwks_verifier(provider, pause_s=0, patience_s=2)  # enough for an answer on a machine that has other work
    assert await jwks.verify(signed("r", RSA_KEY, "RS256"))
    provider.body, provider.pause_s = b" " * 1000, 0.02
    started_s = time.monotonic()
    waiting = asyncio.create_task(jwks.verify(signed("new", OTHER_RSA_KEY, "RS256")))
    await eventually(lambda: provider.asked == 2)
    assert await jwks.verify(signed("r", RSA_KEY, "RS256"))
    assert not waiting.done()
    with pytest.raises(Unauthorized):
        await waiting
    assert time.monotonic() - started_s < 10
    provider.body = b""
