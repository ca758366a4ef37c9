"""What a reader is shown of its own doing."""

import pytest

from sync_server.access.rights import Access
from sync_server.feed.window import FeedEvent
from tests.feed.hubs import view_of


@pytest.mark.parametrize(
    ("client_id", "principal", "seen"),
    [("till-1", "anna", False), ("till-1", "bert", True), ("till-2", "anna", True), (None, "anna", True)],
)
def test_echo_is_what_the_same_client_of_the_same_principal_caused(
    client_id: str | None, principal: str, seen: bool
) -> None:
    event = FeedEvent(1, "stage_change", (), client_id, principal, b"", 1, Access("view_events"))
    assert (view_of(client_id="till-1").shows(event) is event) is seen


def test_who_gave_no_client_id_sees_events_without_one() -> None:
    event = FeedEvent(1, "stage_change", (), None, "anna", b"", 1, Access("view_events"))
    assert view_of().shows(event) is event
