"""Who may have how much waiting, and whose turn it is."""

import asyncio
from collections.abc import Sequence

import pytest

from sync_core.problems import Unavailable
from sync_server.access.caller import Caller
from sync_server.access.rights import OPEN_RIGHTS
from sync_server.positions.base import Place
from sync_server.positions.lane import Lane, Report


def reports(principal: str, count: int, *, begin: int = 0) -> list[Report]:
    caller = Caller("default", principal, OPEN_RIGHTS)
    done = asyncio.get_running_loop().create_future
    return [Report(caller, None, Place("v1", 0, 0, at_ms), done()) for at_ms in range(begin, begin + count)]


def said(taken: Sequence[Report]) -> list[tuple[str, int]]:
    return [(report.caller.principal, report.place.at_ms) for report in taken]


async def test_one_alone_gets_half_of_the_room_and_leaves_the_other_half_to_others() -> None:
    lane = Lane(most=120)
    lane.add(reports("hog", 60))
    with pytest.raises(Unavailable) as caught:
        lane.add(reports("hog", 1))
    assert caught.value.retry_after_s
    lane.add(reports("ann", 20))
    with pytest.raises(Unavailable):
        lane.add(reports("ann", 11))
    lane.add(reports("ann", 10))
    lane.add(reports("bob", 1))
    assert len(lane) == 91


async def test_all_of_a_message_wait_or_none() -> None:
    lane = Lane(most=10)
    lane.add(reports("ann", 2))
    with pytest.raises(Unavailable):
        lane.add(reports("ann", 4))
    assert len(lane) == 2
    assert said(lane.take(10)) == [("ann", 0), ("ann", 1)]


async def test_hogs_leave_room_for_who_comes_and_become_even() -> None:
    lane, waiting = Lane(most=1000), dict.fromkeys(("a", "b", "c"), 0)
    for _ in range(50):
        for hog in waiting:
            while True:
                try:
                    lane.add(reports(hog, 1))
                except Unavailable:
                    break
                waiting[hog] += 1
        lane.add(reports("ann", 1))
        for report in lane.take(50):
            if report.caller.principal != "ann":
                waiting[report.caller.principal] -= 1
    assert max(waiting.values()) - min(waiting.values()) <= 60
    assert sum(waiting.values()) < 800


async def test_principals_take_turns_and_each_keeps_its_order() -> None:
    lane = Lane(most=100)
    lane.add(reports("hog", 5))
    lane.add(reports("ann", 2))
    lane.add(reports("bob", 1))
    assert said(lane.take(4)) == [("hog", 0), ("ann", 0), ("bob", 0), ("hog", 1)]
    lane.add(reports("bob", 1, begin=1))
    assert said(lane.take(3)) == [("ann", 1), ("hog", 2), ("bob", 1)]
    assert said(lane.take(9)) == [("hog", 3), ("hog", 4)]
    assert (lane.take(9), len(lane)) == ([], 0)
    lane.add(reports("hog", 50))
