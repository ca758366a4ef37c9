"""What a reader is shown: its own doing, samples, removals."""

import pytest

from sync_core.filters import Filter
from sync_server.access.rights import Access, Rights
from sync_server.feed.window import FeedEvent
from tests.feed.hubs import view_of

EVENTS = Access("view_events")
FUELERS = Rights(frozenset({"view_orders"}), frozenset({"role:fueler"}))


def event(client_id: str | None = None, principal: str = "anna") -> FeedEvent:
    return FeedEvent(1, "stage_change", (), client_id, principal, b"", 1, EVENTS)


def offer(seq: int, share: float) -> FeedEvent:
    block = b'event: new_unclaimed_order\nid: k3f9a2c1.%d\ndata: {"id":"k3f9a2c1.%d"}\n\n' % (seq, seq)
    access = Access("view_orders", (), ("role:fueler",))
    return FeedEvent(seq, "new_unclaimed_order", (), None, "anna", block, block.index(b"{"), access, share)


@pytest.mark.parametrize(
    ("client_id", "principal", "seen"),
    [("till-1", "anna", False), ("till-1", "bert", True), ("till-2", "anna", True), (None, "anna", True)],
)
def test_echo_is_what_the_same_client_of_the_same_principal_caused(
    client_id: str | None, principal: str, seen: bool
) -> None:
    one = event(client_id, principal)
    assert (view_of(client_id="till-1").shows(one) is one) is seen


def test_who_gave_no_client_id_sees_events_without_one() -> None:
    one = event()
    assert view_of().shows(one) is one


def test_who_caused_a_removal_is_not_told_of_it() -> None:
    removal = event("till-1")._replace(tags=("bayID=1",))
    moved = event("till-1")._replace(tags=("bayID=2",), removal=removal)
    wanted = Filter(tags=frozenset({"bayID=1"}))
    assert view_of(wanted, client_id="till-1").shows(moved) is None
    assert view_of(wanted, client_id="till-2").shows(moved) is removal


def test_a_sample_is_its_share_of_the_readers_and_others_with_each_event() -> None:
    views = [view_of(principal=f"fueler-{n}", rights=FUELERS) for n in range(1000)]
    drawn = [{n for n, view in enumerate(views) if view.shows(offer(seq, 0.3)) is not None} for seq in range(1, 6)]
    for one in drawn:
        assert 250 < len(one) < 350
    assert len(drawn[0] & drawn[1]) < 150
    # as it was in every process before this one
    assert sorted(drawn[0])[:5] == [0, 2, 5, 9, 12]


@pytest.mark.parametrize(("share", "seen"), [(0.0, False), (1.0, True)])
def test_a_sample_of_none_or_all(share: float, seen: bool) -> None:
    views = [view_of(principal=f"fueler-{n}", rights=FUELERS) for n in range(100)]
    assert {view.shows(offer(1, share)) is not None for view in views} == {seen}


def test_a_sample_is_no_access() -> None:
    stranger = view_of(rights=Rights(frozenset({"view_orders"}), frozenset({"role:csr"})))
    assert stranger.shows(offer(1, 1.0)) is None


def test_who_has_the_permission_that_spares_is_told_in_any_case() -> None:
    editor = view_of(rights=Rights(frozenset({"view_orders", "edit_fuel_order"}), frozenset({"role:fueler"})))
    spared = [offer(seq, 0.01)._replace(spares="edit_fuel_order") for seq in range(1, 20)]
    assert all(editor.shows(one) is one for one in spared)
    assert not all(view_of(rights=FUELERS).shows(one) is one for one in spared)
    stranger = view_of(rights=Rights(frozenset({"edit_fuel_order"}), frozenset({"role:fueler"})))
    assert [stranger.shows(one) for one in spared] == [None] * 19, "it is no access either"


def test_without_access_control_nothing_is_thinned() -> None:
    assert all(view_of().shows(offer(seq, 0.01)) is not None for seq in range(1, 20))


def test_who_saw_a_document_is_told_what_replaces_it_drawn_or_not_and_not_that_it_is_gone() -> None:
    before = offer(1, 0.0)._replace(sample=None, access=Access("view_orders", (), ("user:anna",)))
    back = offer(1, 0.0)._replace(removal=before)
    anna = Rights(FUELERS.permissions, FUELERS.labels | {"user:anna"})
    assert view_of(rights=anna).shows(back) is back
    assert view_of(rights=FUELERS).shows(back) is None
