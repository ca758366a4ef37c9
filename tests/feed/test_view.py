"""What a reader is shown of its own doing."""

import pytest

from sync_core.filters import Filter
from sync_server.feed.view import View
from sync_server.feed.window import FeedEvent


@pytest.mark.parametrize(
    ("client_id", "principal", "seen"),
    [("till-1", "anna", False), ("till-1", "bert", True), ("till-2", "anna", True), (None, "anna", True)],
)
def test_echo_is_what_the_same_client_of_the_same_principal_caused(
    client_id: str | None, principal: str, seen: bool
) -> None:
    event = FeedEvent(1, "stage_change", (), client_id, principal, b"", 0)
    assert View(Filter(), "till-1", "anna").sees(event) is seen


def test_who_gave_no_client_id_sees_events_without_one() -> None:
    event = FeedEvent(1, "stage_change", (), None, "anna", b"", 0)
    assert View(Filter(), None, "anna").sees(event)
