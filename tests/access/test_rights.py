"""What rights let a caller see, and when they are the same."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_core.domain.catalog import DOMAIN, REGISTRY
from sync_core.domain.orders import Order
from sync_core.events import EventType
from sync_core.problems import Forbidden
from sync_server.access.caller import OPEN_CALLER, Caller, caller_of
from sync_server.access.rights import OPEN_RIGHTS, Access, AccessTable, Rights

ORDERS = frozenset({"view_orders"})
X, Y = "orderID=X", "orderID=Y"

labels = st.sampled_from(["role:csr", "role:fueler", "user:1", "user:2"])
tags = st.sampled_from([X, Y, "bayID=1"])
all_rights = st.builds(Rights, st.just(ORDERS), st.frozensets(labels), st.frozensets(tags, max_size=2))
accesses = st.builds(Access, st.just("view_orders"), st.frozensets(tags).map(tuple), st.frozensets(labels).map(tuple))


@pytest.mark.parametrize(
    ("rights", "access", "seen"),
    [
        # no audience: whoever has the permission
        (Rights(ORDERS), Access("view_orders"), True),
        (Rights(ORDERS), Access("view_bays"), False),
        (Rights(frozenset()), Access("view_orders"), False),
        # an audience: one of its labels, and still the permission
        (Rights(ORDERS), Access("view_orders", (X,), ("role:csr",)), False),
        (Rights(ORDERS, frozenset({"role:csr"})), Access("view_orders", (X,), ("role:csr", "user:1")), True),
        (Rights(frozenset(), frozenset({"role:csr"})), Access("view_orders", (X,), ("role:csr",)), False),
        # bound: by grants, or as somebody it is addressed to; never by what everybody may see
        (Rights(ORDERS, bound=frozenset({X})), Access("view_orders", (X, "bayID=1")), True),
        (Rights(ORDERS, bound=frozenset({X})), Access("view_orders", (X,), ("role:csr",)), True),
        (Rights(ORDERS, bound=frozenset({X})), Access("view_orders", (Y,)), False),
        (Rights(ORDERS, bound=frozenset({X})), Access("view_orders"), False),
        (Rights(ORDERS, frozenset({"user:1"}), frozenset({X})), Access("view_orders", (Y,), ("user:1",)), True),
        (Rights(ORDERS, frozenset({"user:1"}), frozenset({X})), Access("view_orders", (Y,), ("user:2",)), False),
        (Rights(frozenset({"view_bays"}), bound=frozenset({X})), Access("view_orders", (X,)), False),
        # open: everything
        (OPEN_RIGHTS, Access("view_orders", (), ("user:1",)), True),
    ],
)
def test_what_may_be_seen(rights: Rights, access: Access, seen: bool) -> None:
    assert rights.may_see(access) is seen
    if access.permission == Order.view_permission:
        assert rights.sees_document(Order, access.grants, access.audience) is seen


@given(all_rights, accesses)
def test_shared_rights_show_no_more_and_the_same_but_for_what_names_the_person(rights: Rights, access: Access) -> None:
    shared = rights.shared
    assert not any(label.startswith("user:") for label in shared.labels)
    if shared.may_see(access):
        assert rights.may_see(access)
    if rights.personal.isdisjoint(access.audience):
        assert rights.may_see(access) is shared.may_see(access)


def test_colleagues_share_rights_and_a_kiosk_has_its_own() -> None:
    anna, bert = (Rights(ORDERS, frozenset({"role:csr", f"user:{n}"})) for n in (1, 2))
    assert anna != bert
    assert anna.shared == bert.shared == Rights(ORDERS, frozenset({"role:csr"}))
    kiosk = Rights(ORDERS, frozenset({"role:kiosk"}), frozenset({"bayID=1"}))
    assert kiosk.shared is kiosk


def test_a_permission_is_required_by_its_name() -> None:
    Rights(ORDERS).require("view_orders")
    OPEN_RIGHTS.require("anything")
    with pytest.raises(Forbidden, match="view_bays"):
        Rights(ORDERS).require("view_bays")


def test_who_may_see_everything_is_not_bound() -> None:
    with pytest.raises(ValueError, match="bound"):
        Rights(None, bound=frozenset({X}))


DIGEST = "from sync_server.access.rights import Rights; print(Rights(frozenset('abc'), frozenset('de')).digest)"


def test_a_digest_is_the_same_in_every_process_and_differs_with_the_rights() -> None:
    other = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout.strip()
    assert Rights(frozenset("cba"), frozenset("ed")).digest == other
    others = [
        Rights(frozenset("abc")),
        Rights(frozenset("abc"), bound=frozenset("de")),
        Rights(frozenset("de"), frozenset("abc")),
        Rights(frozenset("abcde")),
        OPEN_RIGHTS,
    ]
    assert len({other, *(rights.digest for rights in others)}) == 6
    assert OPEN_RIGHTS.digest == "open"


def test_events_are_seen_by_the_document_they_tell_of() -> None:
    table = AccessTable(REGISTRY.extended([EventType("door_opened")]), DOMAIN)
    expected = {
        "order_updated": "view_orders", "queue_updated": "view_queues", "bay_updated": "view_bays",
        "qr_generated": "view_events", "door_opened": "view_events", "forgotten_type": "view_events",
    }  # fmt: skip
    assert {name: table.of_type(name) for name in expected} == {n: Access(p) for n, p in expected.items()}
    assert table.permission("", "order_updated") == "view_orders"
    # A status update that carries an order shows that order, whatever its type lets publishers do.
    assert table.permission("order", "status_update") == "view_orders"
    assert table.permission("bay", "job_started") == "view_bays"


def test_a_kind_that_is_not_known_any_more_is_shown_to_nobody() -> None:
    permission = AccessTable(REGISTRY, DOMAIN).permission("spaceship", "status_update")
    everything = Rights(frozenset({"view_events", *(kind.view_permission for kind in DOMAIN.kinds.values())}))
    assert not everything.may_see(Access(permission))
    assert OPEN_RIGHTS.may_see(Access(permission))


def test_nobody_is_let_in_by_default() -> None:
    assert caller_of({"state": {"caller": OPEN_CALLER}}) is OPEN_CALLER
    for scope in ({}, {"state": {}}, {"state": {"caller": None}}, {"state": {"caller": "anna"}}):
        with pytest.raises(LookupError):
            caller_of(scope)


def test_equal_callers_are_one() -> None:
    rights = (Rights(frozenset(["a", "b"]), frozenset(["role:x"])) for _ in range(2))
    assert len({Caller("shop", "anna", one) for one in rights}) == 1
