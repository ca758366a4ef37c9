"""The index of channels finds exactly those whose filter lets an event through."""

from hypothesis import given
from hypothesis import strategies as st

from sync_core.filters import Filter
from sync_server.feed.channel import Channel, ChannelIndex
from sync_server.feed.window import FeedEvent

types = st.sampled_from(["stage_change", "status_update", "qr_generated"])
tags = st.sampled_from(["orderID=A", "orderID=B", "bayID=A", "bayID=1"])
filters = st.builds(Filter, st.frozensets(types, max_size=2), st.frozensets(tags, max_size=3))
events = st.builds(
    lambda event_type, tags: FeedEvent(1, event_type, tuple(tags), None, "p", b"", 0), types, st.frozensets(tags)
)


@given(st.lists(filters), st.lists(events))
def test_matching_is_what_the_filters_say_each_channel_once(wanted: list[Filter], published: list[FeedEvent]) -> None:
    index = ChannelIndex()
    channels = {one: index.channel(one) for one in wanted}
    for event in published:
        expected = {channel for one, channel in channels.items() if one.matches(event.event_type, event.tags)}
        found = index.matching(event)
        assert set(found) == expected
        assert len(found) == len(expected)


@given(st.lists(filters, min_size=1))
def test_released_channels_leave_nothing_behind(wanted: list[Filter]) -> None:
    index = ChannelIndex()
    channels = [index.channel(one) for one in wanted]
    for channel in channels:
        index.release(channel)
        index.release(channel)
    assert len(index) == 0
    assert index.matching(FeedEvent(1, "stage_change", ("orderID=A", "bayID=1"), None, "p", b"", 0)) == []
    assert not index._by_tag


def test_equal_filters_share_a_channel_and_a_used_one_stays() -> None:
    index = ChannelIndex()
    channel = index.channel(Filter(tags=frozenset({"orderID=A"})))
    assert index.channel(Filter(tags=frozenset({"orderID=A"}))) is channel
    channel.readers.add(object())  # type: ignore[arg-type] - a reader is a reader
    index.release(channel)
    assert list(index) == [channel]
    assert isinstance(channel, Channel)
