"""The index of channels finds exactly those that an event is for, and leaves nothing behind."""

from hypothesis import given
from hypothesis import strategies as st

from sync_core.filters import Filter
from sync_server.access.rights import OPEN_RIGHTS, Access, Rights
from sync_server.feed.channel import Channel, ChannelIndex
from sync_server.feed.view import Sight
from sync_server.feed.window import FeedEvent

types = st.sampled_from(["stage_change", "status_update", "qr_generated"])
tags = st.sampled_from(["orderID=A", "orderID=B", "bayID=A", "bayID=1"])
labels = st.sampled_from(["role:csr", "role:fueler", "user:1"])
permissions = st.sampled_from(["view_events", "view_orders"])
filters = st.builds(Filter, st.frozensets(types, max_size=2), st.frozensets(tags, max_size=3))
rights = st.just(OPEN_RIGHTS) | st.builds(
    Rights, st.frozensets(permissions), st.frozensets(labels, max_size=2), st.frozensets(tags, max_size=2)
)
sights = st.builds(Sight, filters, rights)
accesses = st.builds(
    Access, permissions, st.frozensets(tags, max_size=2).map(tuple), st.frozensets(labels, max_size=2).map(tuple)
)


def event(
    event_type: str, tags: frozenset[str], access: Access, removal: tuple[frozenset[str], Access] | None
) -> FeedEvent:
    before = None if removal is None else FeedEvent(1, event_type, tuple(removal[0]), None, "p", b"", 0, removal[1])
    return FeedEvent(1, event_type, tuple(tags), None, "p", b"", 1, access, None, before)


events = st.builds(
    event,
    types,
    st.frozensets(tags),
    accesses,
    st.none() | st.tuples(st.frozensets(tags), accesses),
)


@given(st.lists(sights), st.lists(events))
def test_matching_is_what_the_sights_show_each_channel_once(wanted: list[Sight], published: list[FeedEvent]) -> None:
    index = ChannelIndex()
    channels = {one: index.channel(one) for one in wanted}
    for published_one in published:
        expected = {channel for one, channel in channels.items() if one.shows(published_one) is not None}
        found = list(index.matching(published_one))
        assert set(found) == expected
        assert len(found) == len(expected)


@given(st.lists(sights, min_size=1))
def test_released_channels_leave_nothing_behind(wanted: list[Sight]) -> None:
    index = ChannelIndex()
    channels = [index.channel(one) for one in wanted]
    for channel in channels:
        index.release(channel)
        index.release(channel)
    assert len(index) == 0
    assert [index._open, index._public, index._by_label, index._by_grant] == [{}] * 4


def test_equal_sights_share_a_channel_and_a_used_one_stays() -> None:
    index = ChannelIndex()
    sight = Sight(Filter(tags=frozenset({"orderID=A"})), OPEN_RIGHTS)
    channel = index.channel(sight)
    assert index.channel(Sight(Filter(tags=frozenset({"orderID=A"})), Rights(None))) is channel
    channel.readers.add(object())  # type: ignore[arg-type] - a reader is a reader
    index.release(channel)
    assert list(index) == [channel]
    assert isinstance(channel, Channel)


class Counting(Rights):
    """Rights that count how often they are asked."""

    asked = 0

    def may_see(self, access: Access) -> bool:
        type(self).asked += 1
        return super().may_see(access)


def test_who_is_bound_to_another_entity_is_not_even_asked() -> None:
    index = ChannelIndex()
    for n in range(1000):
        bound = frozenset({f"orderID={n}"})
        index.channel(Sight(Filter(), Counting(frozenset({"view_orders"}), frozenset({"role:client"}), bound)))
    Counting.asked = 0
    about = Access("view_orders", ("orderID=7", "bayID=1"), ("role:csr",))
    (found,) = index.matching(FeedEvent(1, "order_updated", ("orderID=7",), None, "p", b"", 1, about))
    assert found.sight.rights.bound == {"orderID=7"}
    assert Counting.asked == 1
    published = FeedEvent(2, "qr_generated", (), None, "p", b"", 1, Access("view_events"))
    assert not list(index.matching(published))
    assert Counting.asked == 1


def test_who_is_not_in_the_audience_is_not_even_asked() -> None:
    index = ChannelIndex()
    for n in range(1000):
        index.channel(Sight(Filter(), Counting(frozenset({"view_orders"}), frozenset({f"role:{n}"}))))
    Counting.asked = 0
    for_two = FeedEvent(1, "order_updated", (), None, "p", b"", 1, Access("view_orders", (), ("role:7", "role:8")))
    assert len(list(index.matching(for_two))) == 2
    assert Counting.asked == 2
