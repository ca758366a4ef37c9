"""The window, the encoding and the thinning of events, by themselves."""

import json

import pytest

from sync_server.access.rights import Access
from sync_server.feed.memory import Order
from sync_server.feed.window import EVENT_OVERHEAD_BYTES, PIECE_BYTES, FeedEvent, Window, encode, piece, thin
from sync_server.log.records import Reach, StoredEvent
from tests.feed.hubs import TABLE

EVENTS = Access("view_events")


def stored(seq: int, *, tail: str = '"data":{"n":1}}') -> StoredEvent:
    return StoredEvent(seq, 1_763_634_600_123, "stage_change", ("orderID=A",), None, "anonymous", tail)


def event(seq: int, event_type: str = "stage_change", *tags: str) -> FeedEvent:
    return FeedEvent(seq, event_type, tags, None, "anonymous", b"x" * 100, 1, EVENTS)


def test_an_event_is_encoded_as_one_block() -> None:
    encoded = encode("k3f9a2c1", stored(7), TABLE)
    assert encoded.block == (
        b"event: stage_change\nid: k3f9a2c1.7\n"
        b'data: {"id":"k3f9a2c1.7","eventType":"stage_change",'
        b'"timestamp":"2025-11-20T10:30:00.123Z","data":{"n":1}}\n\n'
    )
    assert json.loads(encoded.envelope)["id"] == "k3f9a2c1.7"


def test_an_ephemeral_event_has_no_id_anywhere() -> None:
    encoded = encode("k3f9a2c1", stored(0), TABLE)
    assert b"id:" not in encoded.block
    assert "id" not in json.loads(encoded.envelope)


def test_the_window_gives_up_its_oldest_events_beyond_its_bytes() -> None:
    window = Window(start=10, order=Order(max_bytes=5 * (100 + EVENT_OVERHEAD_BYTES)))
    for seq in range(11, 5000):
        window.append(event(seq))
        assert window.last == seq
        assert window.last - window.before == min(seq - 10, 5)
    assert [e.seq for e in window.after(window.before, upto=window.last)] == [4995, 4996, 4997, 4998, 4999]
    assert [e.seq for e in window.after(4997, upto=4998)] == [4998]
    assert window.after(4999, upto=4999) == []
    with pytest.raises(ValueError, match="has left the window"):
        window.after(4993, upto=4999)


def test_the_window_takes_only_the_next_event() -> None:
    window = Window(start=10, order=Order(max_bytes=1000))
    for wrong in (10, 12):
        with pytest.raises(ValueError, match="does not follow"):
            window.append(event(wrong))


def test_a_piece_is_bounded_by_bytes_but_never_empty() -> None:
    large = FeedEvent(1, "a", (), None, "p", b"x" * (PIECE_BYTES + 1), 1, EVENTS)
    assert piece([large, large]) == [large]
    assert piece([event(1), event(2)]) == [event(1), event(2)]
    assert piece([]) == []


def test_thinning_keeps_the_newest_of_each_entity_at_its_seq() -> None:
    latest = {"position": "vehicleID="}
    events = [
        event(1, "position", "vehicleID=1"),
        event(2, "position", "vehicleID=2"),
        event(3, "stage_change", "vehicleID=1"),
        event(4, "position", "orderID=9", "vehicleID=1"),
        event(5, "position"),
        event(6, "position"),
    ]
    assert [e.seq for e in thin(events, latest)] == [2, 3, 4, 5, 6]
    assert thin(events, {}) == events


def test_a_change_that_takes_something_away_has_a_removal_with_what_was_before() -> None:
    reach = Reach(
        "order", 'A"1', 4, left=("orderID=A", "bayID=1"), grants=("orderID=A",), grants_left=("orderID=A", "bayID=1"),
        audience=("role:csr",), sample=0.5,
    )  # fmt: skip
    encoded = encode("k3f9a2c1", stored(7)._replace(reach=reach), TABLE)
    assert (encoded.access, encoded.sample) == (Access("view_orders", ("orderID=A",), ("role:csr",)), 0.5)
    removal = encoded.removal
    assert removal is not None
    assert removal.block == b'event: removed\nid: k3f9a2c1.7\ndata: {"kind":"order","id":"A\\"1","version":4}\n\n'
    assert json.loads(removal.envelope) == {
        "id": "k3f9a2c1.7", "eventType": "removed", "data": {"kind": "order", "id": 'A"1', "version": 4}
    }  # fmt: skip
    assert (removal.event_type, removal.tags) == ("stage_change", ("orderID=A", "bayID=1"))
    assert removal.access == Access("view_orders", ("orderID=A", "bayID=1"), ())
    assert removal.sample is None


def test_a_type_says_who_is_spared_from_the_draw() -> None:
    offer = stored(7)._replace(event_type="new_unclaimed_order", reach=Reach("fuel_order", "F", 1, sample=0.5))
    assert encode("k3f9a2c1", offer, TABLE).spares == "edit_fuel_order"
    assert encode("k3f9a2c1", stored(8)._replace(reach=Reach("order", "A", 1, sample=0.5)), TABLE).spares is None


def test_an_event_that_is_judged_by_a_document_needs_the_permission_for_it() -> None:
    about = Reach("bay", "1", 0, grants=("bayID=1",))
    encoded = encode("k3f9a2c1", stored(7)._replace(reach=about), TABLE)
    assert encoded.access == Access("view_bays", ("bayID=1",))
    assert encoded.removal is None
    assert encode("k3f9a2c1", stored(7), TABLE).access == EVENTS


def test_thinning_leaves_removals_where_they_are() -> None:
    latest = {"position": "vehicleID="}

    def removal(seq: int) -> FeedEvent:
        return event(seq, "position", "vehicleID=1")._replace(envelope_at=0)

    position = "position", "vehicleID=1"
    events = [event(1, *position), removal(2), event(3, *position), event(4, *position), removal(5), removal(6)]
    assert [e.seq for e in thin(events, latest)] == [2, 4, 5, 6]
    assert [e.seq for e in thin([event(1, *position), removal(2)], latest)] == [1, 2]
