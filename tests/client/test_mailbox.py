"""What the client's thread leaves for the program's."""

import asyncio

from sync_client.mailbox import KEPT_NEWS, Mailbox


def test_of_news_that_nobody_fetches_the_last_ones_are_kept() -> None:
    mailbox = Mailbox()
    heard: list[int] = []
    for n in range(10 * KEPT_NEWS):
        mailbox.post(lambda n=n: heard.append(n))  # type: ignore[misc]
    assert mailbox._queue.qsize() == 1
    while mailbox.drain(0.0):
        pass
    assert heard == list(range(9 * KEPT_NEWS, 10 * KEPT_NEWS))


def test_news_that_a_listener_posts_are_told_as_well() -> None:
    mailbox = Mailbox()
    heard: list[str] = []

    def first() -> None:
        heard.append("first")
        mailbox.post(lambda: heard.append("second"))

    mailbox.post(first)
    mailbox.drain(1.0)
    assert heard == ["first", "second"]


async def test_a_call_whose_client_was_closed_is_not_made() -> None:
    mailbox = Mailbox()
    heard: list[str] = []
    call = asyncio.create_task(mailbox.wrap(heard.append)("late"))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert mailbox.drain(0.0) == 1
    assert heard == []
