"""Proxies that the environment names: those that are none are told to people, and bring nothing down."""

import subprocess
import sys

import pytest

from sync_client import ConfigurationError, SyncClient
from sync_client.errors import NetworkFailed
from sync_client.probe import examine
from sync_client.transport import Transport
from sync_client.websocket import SocketTransport

URL = "http://127.0.0.1:9"
CLI = [sys.executable, "-c", "from sync_client.cli import main; main()"]
FAR = "http://127.0.0.1:99999"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("proxy", ["foo://bar", "http://[::1", "socks5://127.0.0.1:1"])
def test_what_cannot_be_a_proxy_is_a_fault_of_the_configuration(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)  # as it is where nobody has installed it
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConfigurationError, match=r"a proxy that cannot be used .*ALL_PROXY.*; correct or unset it"):
        SyncClient(URL, cache=False)
    SyncClient(URL, cache=False, trust_env=False)


async def test_a_proxy_whose_port_is_none_is_a_network_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", FAR)
    transport = Transport(URL)
    with pytest.raises(NetworkFailed, match="names a port that is not from 1 to 65535"):
        await transport.get_json("/")
    with pytest.raises(NetworkFailed):
        async with transport.stream():
            pass
    assert "cannot be reached at all" in (await examine(transport, watch_s=1)).verdict
    await transport.aclose()


@pytest.mark.parametrize("proxy", ["nonsense", "http://127.0.0.1:1/path", FAR])
async def test_a_socket_s_proxy_that_is_none_is_a_network_that_fails(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """A client polls then, by whatever way plain requests have."""
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(NetworkFailed):
        async with SocketTransport(URL).stream():
            pass


@pytest.mark.parametrize(
    ("proxy", "command", "status", "told"),
    [
        ("foo://bar", ["status"], 2, "sync-client: the environment names a proxy that cannot be used"),
        (FAR, ["probe", "--for", "1"], 1, "cannot be reached at all"),
    ],
)
def test_the_commands_say_so_in_a_line(proxy: str, command: list[str], status: int, told: str) -> None:
    done = subprocess.run(
        [*CLI, *command, URL], env={"HTTP_PROXY": proxy, "COLUMNS": "200"}, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)
    assert told in done.stdout + done.stderr
