"""The hub by itself: what time brings to its readers, and what it makes of a log that is not as expected."""

import asyncio
import json
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from sync_server.feed.clock import ADVANCE_SEQS
from sync_server.feed.connection import Blocked, Chunk
from sync_server.feed.framing import ServerSentEvents
from sync_server.feed.hub import FLUSH_INTERVAL_S, FLUSH_PAUSE_S, FeedSettings
from sync_server.feed.reader import Reader
from sync_server.feed.tail import FUTURE_PATIENCE_S
from sync_server.feed.window import FeedEvent
from sync_server.log.base import Bounds
from sync_server.log.records import StoredEvent
from tests.feed.hubs import MemoryLog, Socket, bench, hub_on, view_of
from tests.log.writes import TENANT, commit, note, submission
from tests.streams import eventually

# -- what time brings -------------------------------------------------------------------------------


async def test_what_comes_in_quick_succession_leaves_in_few_pieces_and_the_first_at_once(tmp_path: Path) -> None:
    class Stamped(Socket):
        def __init__(self) -> None:
            super().__init__()
            self.at_s: list[float] = []

        def write(self, chunk: Chunk) -> Blocked | None:
            self.at_s.append(time.monotonic())
            return super().write(chunk)

    async with bench(tmp_path) as on:
        socket = Stamped()
        reader, _ = on.admit()
        reader._connection = socket
        began_s = time.monotonic()
        on.hub.signal([StoredEvent(0, 1, *note())])
        await asyncio.sleep(0)
        assert socket.count("status_update") == 1
        for _ in range(150):
            on.hub.signal([StoredEvent(0, 1, *note())])
            await asyncio.sleep(0.001)
        await eventually(lambda: socket.count("status_update") == 151)
    # By how many there are: two may come closer together on a machine that stands still in between.
    assert len(socket.at_s) <= (socket.at_s[-1] - began_s) / FLUSH_INTERVAL_S + 2


async def test_between_long_flushes_others_have_their_turn(tmp_path: Path) -> None:
    class Slow(Socket):
        def __init__(self) -> None:
            super().__init__()
            self.began_s: list[float] = []
            self.ended_s: list[float] = []

        def write(self, chunk: Chunk) -> Blocked | None:
            self.began_s.append(time.monotonic())
            time.sleep(0.03)
            self.ended_s.append(time.monotonic())
            return super().write(chunk)

    async with bench(tmp_path) as on:
        socket = Slow()
        reader, _ = on.admit()
        reader._connection = socket
        for _ in range(200):
            on.hub.signal([StoredEvent(0, 1, *note())])
            await asyncio.sleep(0.001)
        await eventually(lambda: socket.count("status_update") == 200)
    pauses_s = [began - ended for began, ended in zip(socket.began_s[1:], socket.ended_s, strict=False)]
    assert len(pauses_s) >= 3
    assert min(pauses_s) > FLUSH_PAUSE_S * 0.6


async def test_a_long_way_through_hidden_events_is_no_silence(tmp_path: Path) -> None:
    async with bench(tmp_path, events=3000, settings=FeedSettings(heartbeat_s=0.0001)) as on:
        socket = on.read(cursor=0, order="nobody")
        await eventually(lambda: socket.count("caught_up") == 1)
        beats = [int(event.id.partition(".")[2]) for event in socket.seen if event.event == "heartbeat"]
        assert len(beats) >= 3
        assert beats == sorted(set(beats))  # each says how far was looked, for a reconnect to go on from there
        assert 0 < beats[0] < beats[-1] <= 3000
        assert socket.count("status_update") == 0


async def test_no_heartbeat_in_a_catch_up_before_it_is_due(tmp_path: Path) -> None:
    async with bench(tmp_path, events=3000) as on:
        socket = on.read(cursor=0, order="nobody")
        await eventually(lambda: socket.count("caught_up") == 1)
        assert [event.event for event in socket.seen] == ["caught_up"]


async def test_who_sees_only_its_own_events_is_advanced_by_an_id_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as on:
        socket = on.read(client_id="till-1")
        await on.publish(ADVANCE_SEQS, client_id="till-1")
        on.hub.clock.sweep()
        assert socket.last_event_id == on.hub.cursor_text(0)
        await on.publish(1, client_id="till-1")
        on.hub.clock.sweep()
        assert socket.last_event_id == on.hub.cursor_text(ADVANCE_SEQS + 1)
        assert [event.event for event in socket.seen] == ["caught_up"]


async def test_an_advance_is_not_repeated_at_every_sweep(tmp_path: Path) -> None:
    async with bench(tmp_path) as on:
        socket = on.read(order="nobody")
        for _ in range(2):
            await on.publish(ADVANCE_SEQS + 1)
            on.hub.clock.sweep()
        assert socket.last_event_id == on.hub.cursor_text(ADVANCE_SEQS + 1)


async def test_heartbeats_of_channels_are_spread(tmp_path: Path) -> None:
    async with bench(tmp_path, settings=FeedSettings(heartbeat_s=100)) as on:
        sockets = [on.read(order=f"ORDER-{n}") for n in range(50)]

        def assert_spread() -> None:
            now = on.hub.now()
            in_s = [channel.heartbeat_due_s - now for channel in on.hub.channels]
            assert 80 < min(in_s) < 95
            assert 105 < max(in_s) <= 110

        assert_spread()  # after they joined at once
        for channel in on.hub.channels:
            channel.heartbeat_due_s = 0
        on.hub.clock.sweep()
        assert all(socket.count("heartbeat") == 1 for socket in sockets)
        assert_spread()  # and after they beat at once


async def test_a_reader_that_left_at_once_is_not_behind_for_ever(tmp_path: Path) -> None:
    async with bench(tmp_path, events=2000) as on:
        readers = [on.admit(cursor=0)[0] for _ in range(20)]
        assert on.sample("sync_readers_behind") == 20
        for reader in readers[:10]:
            reader.discard()  # before its task has run at all
        await eventually(lambda: on.sample("sync_readers_behind") == 0)
        assert on.sample("sync_readers") == 10


# -- a log that is not as expected ------------------------------------------------------------------


async def test_a_log_that_went_back_resets_its_readers_after_two_seconds_of_it(tmp_path: Path) -> None:
    async with bench(tmp_path, events=5) as on:
        socket = on.read()
        went_back = Bounds(on.hub.tail.epoch, 0, 3)
        began_s = on.hub.now()

        def is_reset() -> bool:
            if not socket.count("reset"):
                on.hub.tail.observe(went_back, seq_before=5)
            return socket.count("reset") > 0

        assert not is_reset()
        await eventually(is_reset)
        assert on.hub.now() - began_s >= FUTURE_PATIENCE_S
        assert [reset["reason"] for reset in socket.data("reset")] == ["future"]
        assert socket.last_event_id == on.hub.cursor_text(3)


async def test_a_deposed_primarys_answers_from_its_past_reset_nobody(tmp_path: Path) -> None:
    async with bench(tmp_path, events=5) as on:
        socket = on.read()
        now, past = on.bounds, Bounds(on.hub.tail.epoch, 0, 3)
        on.hub.tail.observe(past, seq_before=5)
        on.hub.tail.observe(now, seq_before=5)
        end_s = on.hub.now() + FUTURE_PATIENCE_S + 0.1
        await eventually(lambda: on.hub.now() >= end_s)
        on.hub.tail.observe(past, seq_before=5)
        assert socket.count("reset") == 0
        assert on.hub.tail.seq == 5


async def test_bounds_that_were_asked_for_before_an_own_commit_are_no_step_back(tmp_path: Path) -> None:
    async with bench(tmp_path, events=5) as on:
        socket = on.read()
        before = on.bounds
        await on.publish(3)
        end_s = on.hub.now() + FUTURE_PATIENCE_S + 0.1

        def observed_long_enough() -> bool:
            on.hub.tail.observe(before, seq_before=5)
            return on.hub.now() >= end_s

        await eventually(observed_long_enough)
        assert socket.count("reset") == 0
        assert on.hub.tail.seq == 8


async def test_an_own_commit_to_a_new_epoch_is_not_left_out() -> None:
    """It comes while the log is being looked at, and what is found there is from before it."""

    class SlowLog(MemoryLog):
        answering = asyncio.Event()

        async def bounds(self, tenants: Collection[str]) -> dict[str, Bounds]:
            found = await super().bounds(tenants)
            await self.answering.wait()
            return found

    event_log = SlowLog()
    async with hub_on(event_log, Bounds(event_log.epoch, 0, 0)) as hub:
        event_log.epoch = "e2"
        event_log.append(note(), note())
        looking = hub.tail.look()
        await asyncio.sleep(0)
        hub.tail.offer(event_log.append(note()))
        event_log.answering.set()
        await looking
        await eventually(lambda: (hub.tail.epoch, hub.tail.seq) == ("e2", 3))


async def test_a_bell_that_says_how_far_costs_one_read(tmp_path: Path) -> None:
    async with bench(tmp_path) as on:
        socket = on.read()
        for head in (1, 3, 6):
            await on.write(head - on.hub.tail.seq)
            on.hub.tail.ring(head)
            await eventually(lambda head=head: on.hub.flushed == head)
        await eventually(lambda: socket.count("status_update") == 6)
        await on.event_log.bounds([TENANT])  # behind a read too many, on the same thread
        assert on.sample("sync_log_reads_total", purpose="follow") == 3
        await on.write(1)
        on.hub.tail.ring()
        await eventually(lambda: socket.count("status_update") == 7)


async def test_a_tail_that_was_overtaken_by_the_floor_resets_its_readers_once(tmp_path: Path) -> None:
    async with bench(tmp_path, events=5) as on:
        socket = on.read()
        await on.write(10)
        await on.event_log.trim(TENANT, 10)
        on.hub.tail.ring()
        await eventually(lambda: socket.count("reset") > 0)
        assert [reset["reason"] for reset in socket.data("reset")] == ["expired"]
        assert socket.last_event_id == on.hub.cursor_text(15)
        await on.write(2)
        on.hub.tail.ring()
        await eventually(lambda: socket.count("status_update") == 2)
        assert socket.count("reset") == 1
        assert on.sample("sync_log_holes_total") == 0


# -- who caused it ----------------------------------------------------------------------------------


async def test_who_hid_its_own_events_and_left_is_not_written_to(tmp_path: Path) -> None:
    async with bench(tmp_path) as on:
        leaving, left = on.admit(client_id="till-1")
        _, stayed = on.admit(client_id="till-1")
        leaving.discard()
        await on.publish(1, client_id="till-1")
        await on.publish(1, client_id="till-2")
        assert [socket.count("status_update") for socket in (left, stayed)] == [0, 1]
        (channel,) = on.hub.channels
        for reader in list(on.hub.readers):
            reader.discard()
        assert channel._echo == {}


class Broken(ServerSentEvents):
    """A form that cannot say what there is."""

    def events(self, events: Iterable[FeedEvent]) -> bytes:
        if any(True for _ in events):
            raise KeyError("device")
        return b""


async def test_what_one_channel_cannot_be_told_keeps_nothing_from_the_others(tmp_path: Path) -> None:
    async with bench(tmp_path) as opened:
        cut: list[str] = []
        socket = Socket()
        socket.abort = lambda: cut.append("x")  # type: ignore[method-assign]
        broken = Reader(opened.hub, socket, view=view_of(), cursor=opened.hub.flushed, framing=Broken())
        opened.hub.admit(broken, lifetime_s=600)
        broken.begin(b"")
        others = [opened.read(), opened.read(order="A")]
        for _ in range(2):
            await opened.publish(1)
        assert (cut, broken.closed) == (["x"], True)
        assert [socket.count("status_update") for socket in others] == [2, 0]
        assert others[0].last_event_id == opened.hub.cursor_text(2)


async def test_who_caused_some_of_a_flush_gets_the_rest_of_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as on:
        sockets = [on.read(client_id=f"till-{n}") for n in range(4)]
        for n in range(4):
            on.hub.tail.offer(await commit(on.event_log, submission(note(client_id=f"till-{n}"))))
        on.hub.flush()
        for n, socket in enumerate(sockets):
            seen = [json.loads(one.data)["id"] for one in socket.seen if one.event == "status_update"]
            assert seen == [on.hub.cursor_text(seq) for seq in range(1, 5) if seq != n + 1]
