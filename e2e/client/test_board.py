"""``sync-client board`` as a process: lines where nobody watches."""

import asyncio
import sys
from pathlib import Path

from e2e.client.harness import Shop
from e2e.client.test_replica import bay, do, order

SYNC_CLIENT = Path(sys.executable).parent / "sync-client"


async def test_it_tells_of_every_change_until_nobody_reads(shop: Shop, order_id: str) -> None:
    bay_id = f"B-{order_id}"
    await bay(shop, bay_id)
    await order(shop, order_id)
    process = await asyncio.create_subprocess_exec(
        SYNC_CLIENT, "board", shop.proxy.url, "--cache-dir", str(shop.directory), "--for", "60",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        await read_until(process.stdout, f"order {order_id} initiated")
        await do(shop, "POST", f"/bays/{bay_id}/jobs", {"orderID": order_id, "jobID": "j"})
        await read_until(process.stdout, f"bay Bay occupied: order {order_id}, wash, 0 %")
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        await do(shop, "POST", f"/bays/{bay_id}/jobs/j/finish")
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def read_until(lines: asyncio.StreamReader, wanted: str) -> None:
    async with asyncio.timeout(30):
        async for line in lines:
            if line.decode().strip() == wanted:
                return
    raise AssertionError(f"no line {wanted!r}")
