"""What the examples have in common: they say in one line why they cannot begin, and tell their story and no more."""

from pathlib import Path

import pytest

from e2e.examples import EXAMPLES, played
from tests.servers import SyncServer

SYSTEMS = [path.name for path in EXAMPLES.glob("*.py") if "from stage import" in path.read_text(encoding="utf-8")]
ACCESS = '[access]\nmode = "required"\nsecret = "only-for-this-test-0123456789abcdefghi"\n'


def test_there_is_one_for_each_system() -> None:
    assert sorted(SYSTEMS) == ["cashier_devices.py", "fueling.py", "logistics.py", "order_session.py"]


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("address", ["localhost:8000", "shop"])
async def test_what_is_no_address_is_said(name: str, address: str) -> None:
    told = await played(name, "--url", address, status=2)
    assert told.splitlines()[-1].endswith(f"{address!r} is no address of a server; such as http://127.0.0.1:8000")


@pytest.mark.parametrize("name", SYSTEMS)
async def test_where_nobody_answers_it_says_so(name: str, tmp_path: Path) -> None:
    server = SyncServer(tmp_path)  # its port is held, and nobody answers there
    try:
        told = await played(name, "--url", server.base_url, status=1)
        assert told.startswith(f"wrong: nobody answers at {server.base_url} (")
        assert len(told.splitlines()) == 1
    finally:
        server.close()


async def test_a_server_that_asks_who_calls_is_said(tmp_path: Path) -> None:
    with SyncServer(tmp_path, config=ACCESS) as server:
        told = await played("logistics.py", "--url", f"{server.base_url}/", status=1)
        assert told == f"wrong: {server.base_url} asks who calls; leave --url out, and this has a server of its own\n"


async def test_another_program_s_address_is_said(tmp_path: Path) -> None:
    with SyncServer(tmp_path) as server:
        told = await played("fueling.py", "--url", f"{server.base_url}/elsewhere", status=1)
        assert "/elsewhere is not the address of an order-sync server: it answers 404" in told
