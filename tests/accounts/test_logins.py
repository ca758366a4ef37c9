"""Logging in: who has the password gets in, and guessing costs more and more time, whoever guesses."""

import asyncio
from pathlib import Path

import pytest

from sync_core.problems import TooManyRequests, Unauthorized
from sync_server.accounts.records import FREE_ATTEMPTS, MAX_PAUSE_MS, user_id
from tests.accounts.office import PASSWORD, Office, office

FREE = FREE_ATTEMPTS["user"]


async def login(desk: Office, password: str = PASSWORD, *, name: str = "ann", address: str = "address:a") -> str:
    """``in``, ``wrong`` or ``wait``."""
    try:
        await desk.logins.check(tenant="default", name=name, password=password, address=address)
    except Unauthorized:
        return "wrong"
    except TooManyRequests:
        return "wait"
    return "in"


async def test_the_right_password_lets_in(desk: Office) -> None:
    user = await desk.add_user()
    assert await desk.logins.check(tenant="default", name="ann", password=PASSWORD, address="a") == user


async def test_who_was_just_added_elsewhere_gets_in_at_once(desk: Office, tmp_path: Path) -> None:
    """`sync-server user add` is another process; its user does not wait for the next look."""
    async with office(tmp_path, exclusive=False, clock=desk.clock) as elsewhere:
        await elsewhere.add_user()
    assert desk.directory.user(user_id("default", "ann")) is None
    assert await login(desk) == "in"


async def test_a_wrong_name_is_refused_in_the_very_words_of_a_wrong_password(desk: Office) -> None:
    await desk.add_user()
    details = set()
    for name, password in (("ann", "wrong"), ("bob", PASSWORD), ("ann", ""), ("ann", "x" * 1000), ("", "")):
        with pytest.raises(Unauthorized) as caught:
            await desk.logins.check(tenant="default", name=name, password=password, address=f"address:{name}")
        details.add((caught.value.detail, caught.value.retry_after_s))
    assert len(details) == 1


async def test_a_user_of_another_tenant_is_another_one(desk: Office) -> None:
    await desk.add_user("ann", tenant="other")
    assert await login(desk) == "wrong"


@pytest.mark.parametrize("name", ["ann", "nobody"])
async def test_after_some_wrong_passwords_comes_a_pause_that_grows(desk: Office, name: str) -> None:
    await desk.add_user()
    pauses_ms = []
    for _ in range(9):
        while (answer := await login(desk, "wrong", name=name)) == "wrong":
            pass
        assert answer == "wait"
        assert await login(desk, name=name) == "wait"  # the right one neither
        with pytest.raises(TooManyRequests) as caught:
            await desk.logins.check(tenant="default", name=name, password="", address="address:b")
        pauses_ms.append((caught.value.retry_after_s or 0) * 1000)
        desk.clock.ms += pauses_ms[-1]
    assert pauses_ms[:4] == pytest.approx([15_000, 30_000, 60_000, 120_000], abs=1001)
    assert pauses_ms[-1] == pytest.approx(MAX_PAUSE_MS, abs=1001)
    assert await login(desk, address="address:c") == "in"


async def test_a_right_password_forgives_the_wrong_ones(desk: Office) -> None:
    await desk.add_user()
    for _ in range(5):
        for _ in range(FREE - 1):
            assert await login(desk, "wrong", address=f"address:{desk.clock.ms}") == "wrong"
        assert await login(desk) == "in"
        desk.clock.ms += 1


async def test_attempts_are_forgotten_after_an_hour(desk: Office) -> None:
    for _ in range(FREE):
        await login(desk, "wrong")
    desk.clock.ms += 3_600_000
    for _ in range(FREE):
        assert await login(desk, "wrong") == "wrong"


async def test_many_attempts_at_once_are_no_more_than_one_by_one(desk: Office) -> None:
    await desk.add_user()
    guesses = [login(desk, f"wrong-{n}", address=f"address:{n}") for n in range(40)]
    answers = await asyncio.gather(*guesses)
    assert answers.count("wrong") <= FREE + 1
    assert answers.count("wait") >= 40 - FREE - 1


async def test_guessing_many_names_from_one_address_is_slowed_down(desk: Office) -> None:
    answers = [await login(desk, "wrong", name=f"name-{n}") for n in range(FREE_ATTEMPTS["address"] + 5)]
    assert answers.count("wait") >= 3
    assert await login(desk, "wrong", name="other", address="address:b") == "wrong"


async def test_a_busy_address_where_all_know_their_passwords_is_not_locked(desk: Office) -> None:
    await desk.add_user()
    for _ in range(2 * FREE_ATTEMPTS["address"]):
        assert await login(desk) == "in"


async def test_one_good_login_does_not_clear_an_address_from_which_names_are_guessed(desk: Office) -> None:
    await desk.add_user()
    answers = []
    for n in range(3 * FREE_ATTEMPTS["address"]):
        answers.append(await login(desk, "wrong", name=f"name-{n}"))
        if n % 3 == 0:
            await login(desk)
    assert "wait" in answers


async def test_all_processes_count_together(desk: Office, tmp_path: object) -> None:
    async with office(desk.log._path.parent, exclusive=False, clock=desk.clock) as other:  # type: ignore[attr-defined]
        answers = [await login(place, "wrong") for _ in range(4) for place in (desk, other)]
    assert answers == ["wrong"] * (FREE + 1) + ["wait"] * 2


@pytest.mark.alone
async def test_ten_thousand_wrong_logins_are_refused(desk: Office, caplog: pytest.LogCaptureFixture) -> None:
    """By then an attacker has had a handful of guesses; and what was tried stands nowhere."""
    await desk.add_user()
    answers: list[str] = []
    for begin in range(0, 10_000, 2000):
        answers += await asyncio.gather(*(login(desk, f"guess-{n}") for n in range(begin, begin + 2000)))
        desk.clock.ms += 1000
    assert len(answers) == 10_000
    assert answers.count("in") == 0
    assert answers.count("wrong") <= FREE + 2
    assert "guess-" not in caplog.text
    assert await login(desk) == "wait"
    desk.clock.ms += MAX_PAUSE_MS
    assert await login(desk) == "in"
