"""``client.session`` against a real server: a cart that is saved as it changes, at any till, and never loses a line."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from e2e.client.harness import Shop, eventually, shop_before
from sync_client import State, SyncClient
from sync_client.errors import ClientError, CommandFailed, InvalidCommand
from sync_client.saving import SaveState
from sync_client.session import SESSION_KINDS, Session

COLA: dict[str, Any] = {"sku": "COLA", "name": "كولا", "unitPrice": "2.50"}


@pytest.fixture
def user() -> str:
    """Somebody whom no other test knows."""
    return f"user-{uuid.uuid4().hex[:8]}"


class Till:
    """A client with a network of its own, and the cart of *user* there."""

    def __init__(self, shop: Shop, name: str, user: str) -> None:
        self.shop, self.name, self.user = shop, name, user
        self.client: SyncClient = shop.client(name, replica=SESSION_KINDS, subject=user)

    @property
    def cart(self) -> Session:
        return self.client.session

    @property
    def names(self) -> list[str]:
        """What is in the cart."""
        return [item.name for item in self.cart.items]

    async def unplug(self) -> None:
        self.shop.proxy.plain.refused = self.shop.proxy.stream.refused = True
        self.shop.proxy.cut_all()
        await eventually(lambda: self.client.state is not State.CONNECTED)

    async def plug_in(self) -> None:
        self.shop.proxy.plain.clear()
        self.shop.proxy.stream.clear()
        self.client.connect()
        await self.client.outbox.flush(30)

    def put_in(self, *names: str) -> None:
        for name in names:
            self.cart.add(**COLA | {"name": name})

    async def becomes(self, *states: SaveState) -> None:
        await eventually(lambda: self.cart.state in states, within_s=20, what=f"{states} of {self.cart.view}")


@asynccontextmanager
async def till(shop: Shop, name: str, user: str, *, offline: bool = False) -> AsyncIterator[Till]:
    """Open, with a network of its own; connected, and it knows what there is, unless it is *offline* at first."""
    async with shop_before(shop.server, shop.directory) as own, till_before(own, name, user, offline=offline) as one:
        yield one


@asynccontextmanager
async def till_before(shop: Shop, name: str, user: str, *, offline: bool = False) -> AsyncIterator[Till]:
    """The same on the network of *shop*: another one of the same name goes on with its cache and outbox."""
    one = Till(shop, name, user)
    shop.proxy.plain.refused = shop.proxy.stream.refused = offline
    async with one.client as client:
        if not offline:
            await client.wait_for(State.CONNECTED, timeout_s=20)
        await one.cart.open(till=name, timeout_s=0.1 if offline else 20)
        yield one


async def stored(shop: Shop, user: str) -> dict[str, Any]:
    """What the server says of the user's active session."""
    reply = await shop.http.get("/api/v1/order-sessions/active", params={"userId": user})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def names_in(session: dict[str, Any] | None) -> list[str]:
    return [] if session is None else [item["name"] for item in session["items"]]


async def test_a_change_is_saved_by_itself(any_shop: Shop, user: str) -> None:
    async with till(any_shop, "till-1", user) as one:
        assert (one.cart.state, one.names) == (SaveState.SAVED, [])
        line = one.cart.add(**COLA, quantity=2)
        assert one.cart.state is SaveState.CHANGED
        await one.becomes(SaveState.SAVED)
        session = (await stored(any_shop, user))["order_session"]
        assert (session["userId"], session["tillId"], session["status"]) == (user, "till-1", "active")
        assert session["items"] == [{**COLA, "quantity": 2, "lineID": line}]
        one.cart.change(line, quantity=5)
        one.put_in("b")
        one.cart.remove(line)
        await one.becomes(SaveState.SAVED)
        session = (await stored(any_shop, user))["order_session"]
        assert (names_in(session), session["version"]) == (["b"], 2), "what comes together is saved together"


async def test_another_till_goes_on_and_says_where_it_was(shop: Shop, user: str) -> None:
    async with till(shop, "till-1", user) as one:
        one.put_in("a", "b")
        await one.cart.save()
        await one.becomes(SaveState.SAVED)
        async with till(shop, "till-2", user) as two:
            assert (two.names, two.cart.other_till) == (["a", "b"], "till-1")
            two.put_in("c")
            await two.becomes(SaveState.SAVED)
            assert two.cart.other_till is None
            await eventually(lambda: one.names == ["a", "b", "c"], what="the first till follows")
            assert one.cart.other_till == "till-2"


@pytest.mark.parametrize(("choice", "left"), [("both", {"a", "b", "c"}), ("mine", {"a", "c"}), ("theirs", {"a", "b"})])
async def test_two_tills_at_once_is_a_conflict_that_shows_both(
    any_shop: Shop, user: str, choice: Any, left: set[str]
) -> None:
    async with till(any_shop, "till-1", user) as one, till(any_shop, "till-2", user) as two:
        one.put_in("a")
        await one.becomes(SaveState.SAVED)
        await eventually(lambda: two.names == ["a"])
        await two.unplug()
        two.put_in("c")
        await two.cart.save()
        one.put_in("b")
        await one.becomes(SaveState.SAVED)
        await two.plug_in()
        await two.becomes(SaveState.CONFLICT)
        conflict = two.cart.conflict
        assert conflict is not None
        assert conflict.theirs is not None
        assert {item.name for item in conflict.mine} == {"a", "c"}
        assert {item.name for item in conflict.theirs.items} == {"a", "b"}
        with pytest.raises(ClientError, match="resolve"):
            await two.cart.complete()
        await two.cart.resolve(choice)
        await two.becomes(SaveState.SAVED)
        assert set(two.names) == set(names_in((await stored(any_shop, user))["order_session"])) == left
        assert list(two.client.outbox) == []
        await eventually(lambda: set(one.names) == left)


async def add_elsewhere(shop: Shop, one: Till, name: str) -> None:
    """Somebody puts that into the session, past the till, which hears of it."""
    session = (await stored(shop, one.user))["order_session"]
    body = {"items": [*session["items"], {**COLA, "quantity": 1, "name": name}]}
    reply = await shop.http.put(f"/api/v1/order-sessions/{session['id']}", json=body)
    version = reply.json()["order_session"]["version"]

    def told() -> bool:
        entry = one.client.order_sessions.get(session["id"])
        return entry is not None and entry.document.version >= version

    await eventually(told, what="the till hears of it")


async def test_what_is_heard_of_before_the_save_is_no_reason_to_save_over_it(shop: Shop, user: str) -> None:
    async with till(shop, "till-1", user) as one:
        one.put_in("a")
        await one.becomes(SaveState.SAVED)
        one.put_in("b")
        await add_elsewhere(shop, one, "theirs")
        await one.cart.save()
        await one.becomes(SaveState.CONFLICT)
        assert names_in((await stored(shop, user))["order_session"]) == ["a", "theirs"]
        assert one.names == ["a", "b"]


async def test_nor_is_what_is_heard_of_while_a_save_is_under_way(shop: Shop, user: str) -> None:
    async with till(shop, "till-1", user) as one:
        one.put_in("a")
        await one.becomes(SaveState.SAVED)
        one.shop.proxy.plain.refused = True
        one.put_in("b")
        await one.cart.save()
        await eventually(lambda: one.client.outbox.in_flight)
        await add_elsewhere(shop, one, "theirs")
        one.put_in("c")
        await one.cart.save()
        assert len(one.client.outbox) == 2
        one.shop.proxy.plain.clear()
        one.shop.proxy.cut_all()
        await one.becomes(SaveState.CONFLICT)
        await eventually(lambda: not one.client.outbox.in_flight and not one.client.outbox.queued)
        assert names_in((await stored(shop, user))["order_session"]) == ["a", "theirs"]
        await one.cart.resolve("both")
        await one.becomes(SaveState.SAVED)
        assert sorted(one.names) == sorted(names_in((await stored(shop, user))["order_session"]))
        assert sorted(one.names) == ["a", "b", "c", "theirs"]
        assert list(one.client.outbox) == []


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_was_sold_meanwhile_is_not_sold_again(shop: Shop, user: str, restarted: bool) -> None:
    async with till(shop, "till-1", user) as one:
        one.put_in("a", "b")
        await one.becomes(SaveState.SAVED)
        async with till_before(shop, "till-2", user) as two:
            assert two.names == ["a", "b"]
            await two.unplug()
            two.put_in("late")
            await two.cart.save()
            await (await one.cart.complete()).done(20)
            if not restarted:
                await two.plug_in()
                await sell_what_came_late(shop, two)
    if restarted:
        async with till_before(shop, "till-2", user) as two:
            await sell_what_came_late(shop, two)


async def sell_what_came_late(shop: Shop, two: Till) -> None:
    await two.becomes(SaveState.CONFLICT)
    conflict = two.cart.conflict
    assert conflict is not None
    assert ([item.name for item in conflict.mine], conflict.theirs) == (["late"], None)
    await two.cart.resolve("both")
    answer = await (await two.cart.complete()).done(20)
    assert answer["transaction"]["total"] == "2.50"


async def test_of_a_line_that_was_sold_meanwhile_only_what_was_added_is_left(shop: Shop, user: str) -> None:
    async with till(shop, "till-1", user) as one, till(shop, "till-2", user) as two:
        line = one.cart.add(**COLA, quantity=2)
        await one.becomes(SaveState.SAVED)
        await eventually(lambda: two.cart.items)
        await two.unplug()
        two.cart.change(line, quantity=5)
        await two.cart.save()
        answer = await (await one.cart.complete()).done(20)
        assert answer["transaction"]["total"] == "5.00"
        await two.plug_in()
        await two.becomes(SaveState.CONFLICT)
        await two.cart.resolve("both")
        assert [item.quantity for item in two.cart.items] == [3]
        answer = await (await two.cart.complete()).done(20)
        assert answer["transaction"]["total"] == "7.50"


async def test_what_another_program_put_in_is_not_there_twice(shop: Shop, user: str) -> None:
    items = [{**COLA, "quantity": 1, "name": name} for name in ("a", "a", "b")]
    reply = await shop.http.post("/api/v1/order-sessions", json={"userId": user, "items": items})
    assert reply.status_code == 201, reply.text
    async with till(shop, "till-1", user) as one:
        assert one.names == ["a", "a", "b"]
        one.put_in("mine")
        await add_elsewhere(shop, one, "theirs")
        await one.cart.save()
        await one.becomes(SaveState.CONFLICT)
        await one.cart.resolve("both")
        await one.becomes(SaveState.SAVED)
        assert one.names == ["a", "a", "b", "theirs", "mine"]
        assert names_in((await stored(shop, user))["order_session"]) == one.names


async def test_names_that_are_none_are_refused_and_the_client_closes_as_ever(shop: Shop, user: str) -> None:
    client = shop.client("x", replica=SESSION_KINDS, subject=user)
    async with client:
        with pytest.raises(InvalidCommand, match="till: 1 to 64 letters"):
            await client.session.open(till="Till 1")
        with pytest.raises(ClientError, match="open"):
            client.session.add(**COLA)
    async with shop.client("x", replica=SESSION_KINDS, subject=user) as again:  # nobody holds its cache
        await again.session.open(till="till-1")


async def test_both_begin_a_session_offline(shop: Shop, user: str) -> None:
    async with till(shop, "till-1", user, offline=True) as one, till(shop, "till-2", user, offline=True) as two:
        one.put_in("a")
        two.put_in("b")
        await one.cart.save()
        await two.cart.save()
        await one.plug_in()
        await one.becomes(SaveState.SAVED)
        await two.plug_in()
        await two.becomes(SaveState.CONFLICT)
        await two.cart.resolve("both")
        await two.becomes(SaveState.SAVED)
        assert sorted(names_in((await stored(shop, user))["order_session"])) == ["a", "b"]
        await eventually(lambda: sorted(one.names) == ["a", "b"])


async def test_what_is_put_in_offline_takes_one_command_and_outlives_the_program(shop: Shop, user: str) -> None:
    async with till_before(shop, "till-1", user) as one:
        one.put_in("a")
        await one.becomes(SaveState.SAVED)
        await one.unplug()
        for name in "bcdef":
            one.put_in(name)
            await one.cart.save()
        assert one.cart.state is SaveState.WAITING
        assert len(one.client.outbox) == 1
        one.put_in("g")  # kept by the orderly end
    async with till_before(shop, "till-1", user, offline=True) as one:
        assert "".join(one.names) == "abcdefg"
        assert one.cart.state is SaveState.WAITING
        one.put_in("h")
        await one.plug_in()
        await one.becomes(SaveState.SAVED)
        assert "".join(names_in((await stored(shop, user))["order_session"])) == "abcdefgh"


async def test_an_unresolved_conflict_outlives_the_program_with_what_was_put_in_since(shop: Shop, user: str) -> None:
    async with till(shop, "till-1", user) as one, till_before(shop, "till-2", user) as two:
        one.put_in("a")
        await one.becomes(SaveState.SAVED)
        await eventually(lambda: two.names == ["a"])
        await two.unplug()
        two.put_in("b")
        await two.cart.save()
        one.put_in("c")
        await one.becomes(SaveState.SAVED)
        await two.plug_in()
        await two.becomes(SaveState.CONFLICT)
        two.put_in("d")
        await two.cart.save()
        assert two.cart.state is SaveState.CONFLICT
    async with till_before(shop, "till-2", user) as two:
        assert two.cart.state is SaveState.CONFLICT
        assert two.names == ["a", "b", "d"]
        await two.cart.resolve("both")
        await two.becomes(SaveState.SAVED)
        assert sorted(names_in((await stored(shop, user))["order_session"])) == ["a", "b", "c", "d"]


async def test_a_session_that_was_left_is_gone_on_with(shop: Shop, user: str) -> None:
    async with till(shop, "till-1", user) as one:
        one.put_in("a")
        await (await one.cart.logout()).done(20)
        assert (one.names, one.cart.state) == ([], SaveState.SAVED)
        found = await stored(shop, user)
        assert (found["order_session"], names_in(found["recoverable"])) == (None, ["a"])
    async with till(shop, "till-2", user) as two:
        assert two.names == ["a"]
        await two.becomes(SaveState.SAVED)
        session = (await stored(shop, user))["order_session"]
        assert (session["status"], session["tillId"], names_in(session)) == ("active", "till-2", ["a"])


async def test_what_is_left_by_itself_is_taken_up_by_the_next_change(shop: Shop, user: str) -> None:
    async with till(shop, "till-1", user) as one:
        one.put_in("a")
        await one.becomes(SaveState.SAVED)
        session = (await stored(shop, user))["order_session"]
        await one.unplug()
        await shop.http.post(f"/api/v1/order-sessions/{session['id']}/logout")
        one.put_in("b")
        await one.cart.save()
        await one.plug_in()
        await one.becomes(SaveState.SAVED)
        session = (await stored(shop, user))["order_session"]
        assert (session["status"], names_in(session)) == ("active", ["a", "b"])
        assert list(one.client.outbox) == []


async def test_completing_empties_the_cart_and_makes_a_transaction(any_shop: Shop, user: str) -> None:
    async with till(any_shop, "till-1", user) as one:
        with pytest.raises(ClientError, match="no session"):
            await one.cart.complete()
        one.put_in("a", "b")
        sent = await one.cart.complete(payment={"method": "cash"})
        assert one.names == []
        one.put_in("next")
        answer = await sent.done(20)
        assert answer["transaction"]["total"] == "5.00"
        assert answer["transaction"]["payment"] == {"method": "cash"}
        await one.becomes(SaveState.SAVED)
        assert names_in((await stored(any_shop, user))["order_session"]) == ["next"]


async def test_a_tab_takes_the_cart_and_what_is_refused_comes_back(shop: Shop, user: str) -> None:
    tab = (await shop.http.post("/api/v1/tabs", json={"name": "Table 7"})).json()["tab"]["tabID"]
    async with till(shop, "till-1", user) as one:
        one.put_in("a")
        refused = await one.cart.assign_to_tab("no-such-tab")
        with pytest.raises(CommandFailed):
            await refused.done(20)
        assert one.names == ["a"], "the cart is back"
        await (await one.cart.assign_to_tab(tab)).done(20)
        assert (await stored(shop, user))["order_session"] is None
        found = (await shop.http.get(f"/api/v1/tabs/{tab}")).json()["tab"]
        assert [item["name"] for item in found["items"]] == ["a"]


async def test_a_failed_save_leaves_the_choice(shop: Shop, user: str) -> None:
    async with till(shop, "till-1", user) as one:
        one.put_in("a")
        await one.becomes(SaveState.SAVED)
        session = (await stored(shop, user))["order_session"]
        await one.unplug()
        await shop.http.delete(f"/api/v1/order-sessions/{session['id']}")
        one.put_in("b")
        await one.cart.save()
        await one.plug_in()
        await one.becomes(SaveState.FAILED)
        problem = one.cart.view.problem
        assert problem is not None
        assert problem["status"] == 404
        one.cart.go_on_locally()
        one.put_in("c")
        await one.cart.save()
        assert (one.cart.state, one.names) == (SaveState.LOCAL, ["a", "b", "c"])
        await one.cart.retry()
        await one.becomes(SaveState.SAVED)
        found = (await stored(shop, user))["order_session"]
        assert (names_in(found), found["id"] != session["id"]) == (["a", "b", "c"], True)


async def test_a_save_that_somebody_discards_is_no_more_in_the_cart(shop: Shop, user: str) -> None:
    async with till(shop, "till-1", user) as one:
        one.put_in("a")
        await one.becomes(SaveState.SAVED)
        await one.unplug()
        one.put_in("b")
        await one.cart.save()
        (waiting,) = one.client.outbox.queued or one.client.outbox.in_flight
        await one.client.outbox.discard(waiting.key)
        await eventually(lambda: one.names == ["a"])
        assert one.cart.state is SaveState.SAVED


async def test_who_looks_on_is_told(shop: Shop, user: str) -> None:
    async with till(shop, "till-1", user) as one:
        seen: list[SaveState] = []
        async for view in one.cart.watch():
            seen.append(view.state)
            if len(seen) == 1:
                one.put_in("a")
            elif view.state is SaveState.SAVED:
                break
        assert seen[0] is seen[-1] is SaveState.SAVED
        assert SaveState.CHANGED in seen


async def test_what_is_no_item_is_refused_at_once(shop: Shop, user: str) -> None:
    async with till(shop, "till-1", user) as one:
        for wrong in ({"unitPrice": 2.5}, {"quantity": 0}, {"sku": ""}):
            with pytest.raises(InvalidCommand):
                one.cart.add(**COLA | wrong)
        with pytest.raises(ClientError, match="no line"):
            one.cart.remove("x")
        assert (one.names, one.cart.state) == ([], SaveState.SAVED)


async def test_a_session_needs_its_kinds_a_start_and_a_person(shop: Shop) -> None:
    with pytest.raises(ClientError, match="SESSION_KINDS"):
        _ = shop.client("x", replica=True).session
    client = shop.client("x", replica=SESSION_KINDS)
    with pytest.raises(ClientError, match="not been started"):
        await client.session.open("ann")
    async with client:
        with pytest.raises(ClientError, match="whose"):
            await client.session.open()
        with pytest.raises(ClientError, match="open"):
            client.session.add(**COLA)
