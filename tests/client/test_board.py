"""What ``sync-client board`` shows: it fits every screen, bays first; and in lines."""

import dataclasses
import io
from collections import Counter
from typing import Any

import pytest
from rich.console import Console

from sync_client.console.board import Floor, Jobs, bay_line, order_line, picture, queue_line
from sync_client.gauges import health_at_rest
from sync_client.states import State
from sync_core.domain import bays, queues
from sync_core.domain.bays import Bay, Job
from tests.core.domain.shop import Shop, open_shop


def floor_of(shop: Shop, **more: Any) -> Floor:
    health = dataclasses.replace(health_at_rest(State.CONNECTED), cursor="k3f9a2c1.1042")
    left_s = {bay.bayID: 61.4 for bay in shop.all(Bay) if bay.job is not None}
    given = {"fresh": True, "stages": Counter({"initiated": 3, "in_progress": 1}), "left_s": left_s, **more}
    return Floor(health=health, bays=shop.all(Bay), queues=shop.all(queues.Queue), **given)


def lines(floor: Floor, *, width: int = 100, height: int = 30) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, height=height, highlight=False).print(picture(floor, width=width, height=height))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def busy_shop(*, many_bays: int = 0, many_queues: int = 0) -> Shop:
    shop = open_shop(waiting_in=["o2", "o3"], job="o1")
    shop.do(bays.report_progress, bayID="b1", jobID="j1", progress=50)
    for n in range(many_bays):
        shop.do(bays.create, name=f"Extra bay {n} " + "x" * 60)
    for n in range(many_queues):
        shop.do(queues.create, name=f"Extra queue {n} " + "x" * 60)
    return shop


def test_a_bay_shows_its_job_and_a_queue_who_waits() -> None:
    shown = lines(floor_of(busy_shop()))
    (bay,) = [line for line in shown if line.startswith("Bay 1")]
    assert [word for word in bay.split() if word.isascii()][2:] == ["occupied", "o1", "wash", "1:01"]
    assert bay.count("━") == 10 or "╸" in bay
    (queue,) = [line for line in shown if line.startswith("Main")]
    assert queue.split(maxsplit=2)[1:] == ["2", "1 o2, 2 o3"]
    assert shown[1] == "orders: 1 in progress · 3 initiated"


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("height", [10, 23, 50])
@pytest.mark.parametrize(("many_bays", "many_queues"), [(0, 0), (40, 0), (0, 40), (40, 40)])
def test_it_fits_the_screen(width: int, height: int, many_bays: int, many_queues: int) -> None:
    shown = lines(floor_of(busy_shop(many_bays=many_bays, many_queues=many_queues)), width=width, height=height)
    assert len(shown) <= height
    assert max(map(len, shown)) <= width
    assert any(line.startswith("bays") for line in shown)
    assert any(line.startswith("queues") for line in shown)
    assert ("not shown: " in shown[1]) == (many_bays + many_queues + 6 > height)


def test_an_empty_shop_is_a_picture_too() -> None:
    assert lines(floor_of(Shop(), stages=Counter()))[1] == "orders: none"


def test_what_is_not_up_to_date_says_so() -> None:
    assert "loading" in lines(floor_of(busy_shop(), fresh=False))[0]
    assert "loading" not in lines(floor_of(busy_shop()))[0]


def bay_with(progress: int, job_id: str = "j1") -> Bay:
    job = Job(jobID=job_id, orderID="o1", service="wash", startedAt="", expectedSeconds=100, progress=progress)
    return Bay(bayID="b1", name="Bay", status=bays.BayStatus.OCCUPIED, job=job)


def test_the_time_left_runs_down_from_what_was_last_told() -> None:
    jobs = Jobs()
    assert jobs.left_s(bay_with(0), now_s=10) == 100
    assert jobs.left_s(bay_with(0), now_s=25) == 85
    assert jobs.left_s(bay_with(50), now_s=40) == 50
    assert jobs.left_s(bay_with(50), now_s=500) == 0
    assert jobs.left_s(bay_with(0, "j2"), now_s=600) == 100
    assert jobs.left_s(Bay(bayID="b1", name="Bay"), now_s=601) is None


def test_documents_in_words() -> None:
    shop = busy_shop()
    assert bay_line(shop.bay()) == "bay Bay 1 occupied: order o1, wash, 50 %"
    assert queue_line(shop.queue()) == "queue Main: 2 waiting: 1 o2, 2 o3"
    assert order_line(shop.order("o1")) == "order o1 in progress"
    shop.do(queues.edit, queueID="q1", paused=True)
    assert queue_line(shop.queue()).startswith("queue Main (paused): 2 waiting")
