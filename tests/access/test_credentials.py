"""Roles, API keys, signatures, passwords: the small parts."""

import asyncio
from typing import Literal

import pytest
from argon2 import PasswordHasher

from sync_core.domain.catalog import DOMAIN
from sync_core.problems import Unavailable
from sync_server.access import keyring
from sync_server.access.passwords import MAX_WAITING, Passwords
from sync_server.access.roles import Roles
from sync_server.access.signatures import Signer, webhook_signature
from sync_server.permissions import DEFAULT_ROLES, known_permissions

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ROLES = Roles.of(DOMAIN)


# -- roles --------------------------------------------------------------------------------------------------


def test_roles_add_up_and_name_their_holder() -> None:
    rights = ROLES.rights("ann", ("bay", "cashier"))
    assert rights.permissions == DEFAULT_ROLES["bay"] | DEFAULT_ROLES["cashier"]
    assert rights.labels == {"user:ann", "role:bay", "role:cashier"}


def test_who_holds_the_same_roles_shares_what_they_give() -> None:
    """There is a Rights for every person, and thousands of those."""
    ann, bob = ROLES.rights("ann", ("bay", "cashier")), ROLES.rights("bob", ("bay", "cashier"))
    assert ann.permissions is bob.permissions
    assert ann.shared == bob.shared != ann
    assert ROLES.rights("ann", ("bay", "cashier")) is ann


def test_a_role_that_is_not_in_the_table_gives_nothing_and_no_label() -> None:
    rights = ROLES.rights("ann", ("root",))
    assert (rights.permissions, rights.labels) == (frozenset(), {"user:ann"})


def test_an_admin_may_do_all_there_is_by_name() -> None:
    permissions = ROLES.rights("ann", ("admin",)).permissions
    assert permissions == known_permissions(DOMAIN) - {"*"}
    assert all(command.permission in permissions for command in DOMAIN.commands)


def test_the_configuration_replaces_single_roles() -> None:
    roles = Roles.of(DOMAIN, {"viewer": ["view_bays"], "washer": ["run_bays"]})
    assert roles.rights("ann", ("viewer", "washer")).permissions == {"view_bays", "run_bays"}
    assert roles.rights("ann", ("bay",)).permissions == DEFAULT_ROLES["bay"]


def test_only_an_admin_manages_access_and_sees_metrics() -> None:
    for role, permissions in DEFAULT_ROLES.items():
        assert role == "admin" or not permissions & {"manage_access", "view_metrics", "*"}


# -- API keys -----------------------------------------------------------------------------------------------


def test_a_key_fits_its_own_digest_only() -> None:
    one, other = keyring.new_api_key(), keyring.new_api_key()
    key_id, secret = keyring.split(one.text) or ("", "")
    assert key_id == one.id
    assert keyring.fits(secret, one.digest)
    assert not keyring.fits(secret, other.digest)
    assert secret not in one.digest
    assert len({keyring.new_api_key().text for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["osk_", "osk_a_b", "osk_abcdefghij_short", "osk_ABCDEFGHIJ_" + "a" * 43, "x" * 58])
def test_what_is_no_key_is_not_looked_up(text: str) -> None:
    assert keyring.split(text) is None


# -- signatures ---------------------------------------------------------------------------------------------


def test_a_signed_text_is_read_until_it_expires_and_for_its_purpose_only() -> None:
    signer = Signer(b"s" * 32, "ticket")
    text = signer.sign({"a": 1}, expires_s=100)
    assert (signer.read(text, now_s=99.9) or {})["a"] == 1
    assert signer.read(text, now_s=100) is None
    assert Signer(b"s" * 32, "csrf").read(text, now_s=0) is None
    assert Signer(b"t" * 32, "ticket").read(text, now_s=0) is None


def test_no_two_signed_texts_are_the_same() -> None:
    signer = Signer(b"s" * 32, "ticket")
    assert signer.sign({}, expires_s=1) != signer.sign({}, expires_s=1)


def test_whatever_is_changed_in_a_signed_text_it_is_not_read() -> None:
    signer = Signer(b"s" * 32, "ticket")
    text = signer.sign({"a": 1}, expires_s=100)
    body, _, mac = text.partition(".")
    for forged in (
        "",
        ".",
        body,
        f"{body}.",
        f"{body}x.{mac}",
        f"{body}.{mac[:-1]}",
        f"{body}.{mac}.",
        "ä.ö",
        "x" * 99999,
    ):
        assert signer.read(forged, now_s=0) is None
    for position in range(0, len(body), 7):
        changed = body[:position] + ("A" if body[position] != "A" else "B") + body[position + 1 :]
        assert signer.read(f"{changed}.{mac}", now_s=0) is None


def test_a_webhooks_signature_is_what_openssl_makes() -> None:
    signature = webhook_signature(b"key", "1", b"{}")  # printf '1.{}' | openssl dgst -sha256 -hmac key
    assert signature == "1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224"


# -- passwords ----------------------------------------------------------------------------------------------


async def test_a_password_fits_its_own_hash_only() -> None:
    passwords = Passwords(CHEAP)
    stored = await passwords.hash("correct horse")
    assert "correct" not in stored
    assert await passwords.fits(stored, "correct horse")
    assert not await passwords.fits(stored, "Correct horse")
    assert not await passwords.fits("garbage", "correct horse")
    passwords.close()


class CountingHasher(PasswordHasher):
    """Keeps what it was asked to compare a password with."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=16, parallelism=1)
        self.verified: list[str] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        self.verified.append(str(hash))
        return super().verify(hash, password)


async def test_nobody_has_no_password_and_takes_as_long() -> None:
    """The same work, by the same parameters, whether there is such a user or not."""
    hasher = CountingHasher()
    passwords = Passwords(hasher)
    stored = await passwords.hash("correct horse")
    for known in (stored, None):
        assert not await passwords.fits(known, "wrong")
    assert not await passwords.fits(None, "nobody has this password")
    parameters = [text.rpartition("$")[0].rpartition("$")[0] for text in hasher.verified]
    assert parameters == ["$argon2id$v=19$m=16,t=1,p=1"] * 3
    passwords.close()


async def test_a_flood_of_logins_is_refused_and_the_loop_goes_on() -> None:
    passwords = Passwords(PasswordHasher(time_cost=2, memory_cost=16 * 1024, parallelism=1))
    waiting = [asyncio.ensure_future(passwords.fits(None, "x")) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await passwords.fits(None, "x")
    for task in waiting[1:]:
        task.cancel()
    await asyncio.wait(waiting)
    passwords.close()
