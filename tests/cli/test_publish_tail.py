"""`sync-server publish` and `tail`, with a server, without one, and beside what is none."""

import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from tests.cli.places import FREE_PORT, JSON_LINE, Place, lines
from tests.server.commands import Running, run
from tests.server.publishing import EVENT, published, read
from tests.servers import SyncServer, wait_until

# -- publish --------------------------------------------------------------------------------------------


def test_publish_goes_into_the_log_where_nobody_serves_it(place: Place) -> None:
    (place.path / "day.jsonl").write_text(lines(EVENT, {"eventType": "status_update", "data": {"status": "جاهز"}}))
    done = run("publish", "day.jsonl", cwd=place.path, env=place.env)
    assert [line.split(".")[1] for line in done.stdout.splitlines()] == ["1 stage_change", "2 status_update"]
    assert "head 2, 2 events" in run("log", "info", cwd=place.path, env=place.env).stdout


def test_publish_goes_through_the_running_server(server: SyncServer) -> None:
    env = {"SYNC_SERVER__PORT": str(server.port)}
    events = [
        EVENT,
        {"eventType": "blip", "data": {}},
        EVENT | {"key": "k"},
    ]
    done = run("publish", "-", cwd=server.directory, env=env, stdin=lines(*events))
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["stage_change", "blip", "stage_change"]
    assert done.stdout.splitlines()[1] == "- blip"
    again = run("publish", "-", "--url", server.base_url, cwd=server.directory.parent, stdin=lines(events[2]))
    assert "was there already" in again.stdout
    with httpx2.Client(base_url=server.base_url, trust_env=False) as client:
        assert len(read(client, after="earliest")) == 2


def test_publish_of_more_than_a_request_may_carry(server: SyncServer, tmp_path: Path) -> None:
    large = EVENT | {"data": {"newStage": "ك" * 1000}}
    body = lines(*[large] * 600, *[EVENT] * 1100)
    assert len(body.encode()) > 1024 * 1024
    done = run("publish", "-", "--url", server.base_url, cwd=tmp_path, stdin=body)
    assert "1700 events published" in done.stderr
    seqs = [int(line.split()[0].split(".")[1]) for line in done.stdout.splitlines()]
    assert seqs == list(range(1, 1701))


@pytest.mark.parametrize("served", [False, True])
def test_publish_of_a_bad_event_tells_its_line(server: SyncServer, tmp_path: Path, served: bool) -> None:
    (tmp_path / "bad.jsonl").write_text(lines(EVENT, EVENT | {"x": 1}, {"eventType": "stage_change", "data": {}}))
    env = {"SYNC_SERVER__PORT": str(server.port)} if served else FREE_PORT
    told = run("publish", "bad.jsonl", cwd=tmp_path, env=env, status=1).stderr
    assert told.startswith("sync-server: bad.jsonl: ")
    assert "line 2, x: unknown field" in told
    assert "line 3, data.newStage: is missing" in told


def test_publish_of_what_is_not_json_tells_its_line(here: Place) -> None:
    told = run("publish", "-", cwd=here.path, env=here.env, stdin=JSON_LINE + "\n{cut\n", status=1).stderr
    assert told.startswith("sync-server: standard input, line 2: not JSON: ")


@pytest.mark.parametrize("file", ["nowhere.json", "."])
def test_publish_of_a_file_that_cannot_be_read(here: Place, file: str) -> None:
    assert run("publish", file, cwd=here.path, status=1).stderr.startswith(f"sync-server: {file}: ")


def test_publish_of_bytes_that_are_no_text(here: Place) -> None:
    assert "not JSON" in run("publish", "-", cwd=here.path, env=here.env, stdin=b"\xff\xfe\x00", status=1).stderr


def test_publish_to_a_server_that_is_not_there(here: Place) -> None:
    told = run("publish", "-", "--url", "http://127.0.0.1:1", cwd=here.path, stdin=JSON_LINE, status=1).stderr
    assert "does not answer" in told
    assert not (here.path / "sync.db").exists()


def test_publish_beside_a_server_on_another_port_says_who_has_the_log(server: SyncServer) -> None:
    told = run("publish", "-", cwd=server.directory, env=FREE_PORT, stdin=JSON_LINE, status=2).stderr
    assert "in use by another sync-server" in told


# -- tail -----------------------------------------------------------------------------------------------


def test_tail_prints_one_envelope_a_line_and_survives_a_restart(server: SyncServer, tmp_path: Path) -> None:
    with httpx2.Client(base_url=server.base_url, trust_env=False) as client:
        published(client, EVENT | {"data": {"newStage": "كولا", "n": 0}})
        with Running("tail", "--after", "earliest", "--url", server.base_url, cwd=tmp_path) as tail:
            tail.wait_for('"n":0')
            published(client, EVENT | {"data": {"newStage": "x", "n": 1}})
            tail.wait_for('"n":1')
            server.kill()
            tail.wait_for("trying again", where="notes")
            server.start()
            published(client, *(EVENT | {"data": {"newStage": "x", "n": n}} for n in range(2, 50)))
            tail.wait_for('"n":49')
            server.terminate()
            server.start()
            published(client, EVENT | {"data": {"newStage": "x", "n": 50}})
            tail.wait_for('"n":50')
            assert tail.end(signal.SIGINT) == 130
    envelopes = [json.loads(line) for line in tail.lines]
    assert [envelope["data"]["n"] for envelope in envelopes] == list(range(51))
    assert "كولا" in tail.lines[0]


def test_tail_waits_for_a_server_that_is_not_there_yet(server: SyncServer, tmp_path: Path) -> None:
    server.kill()
    with Running("tail", "--url", server.base_url, "--types", "note", cwd=tmp_path) as tail:
        tail.wait_for("trying again", where="notes")
        server.start()
        tail.wait_for("connected again", where="notes")
        with httpx2.Client(base_url=server.base_url, trust_env=False) as client:
            published(client, EVENT, {"eventType": "note", "data": {"n": 1}})
        tail.wait_for("note")
        assert tail.end(signal.SIGTERM) in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert len(tail.lines) == 1


def test_tail_from_a_cursor_that_leads_nowhere_says_reset(server: SyncServer, tmp_path: Path) -> None:
    with Running("tail", "--after", "كولا\n", "--url", server.base_url, cwd=tmp_path) as tail:
        tail.wait_for("reset", where="notes")
        assert '"reason":"malformed"' in tail.notes[0]


def test_tail_with_a_filter_that_cannot_be(server: SyncServer, tmp_path: Path) -> None:
    told = run("tail", "--types", "a b", "--url", server.base_url, cwd=tmp_path, status=1).stderr
    assert "eventTypes: 'a b' cannot be" in told


def test_tail_of_what_is_no_sync_server(tmp_path: Path) -> None:
    (tmp_path / "api/v1/sync").mkdir(parents=True)
    with Stranger(tmp_path) as url:
        told = run("tail", "--url", url, cwd=tmp_path, status=1).stderr
    assert "does not answer as a sync-server" in told


@pytest.mark.parametrize(
    "url", ["foo", "", "ftp://x", "127.0.0.1:8000", "localhost:8000", "http://", "http://x:99999", "http://[::1"]
)
@pytest.mark.parametrize("command", [["tail"], ["publish", "-"]])
def test_an_url_that_is_none_is_told(here: Place, command: list[str], url: str) -> None:
    done = run(*command, "--url", url, cwd=here.path, stdin=JSON_LINE, status=2)
    assert done.stderr.startswith("sync-server: this is no URL: ")
    assert len(done.stderr.splitlines()) == 1


@contextmanager
def mute_port() -> Iterator[str]:
    """A port at which every connection is reset after the first bytes; httpx2 has no words for that."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(65536)
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_port_that_speaks_no_http_is_told_with_a_reason(here: Place) -> None:
    with mute_port() as url:
        told = run("publish", "-", "--url", url, cwd=here.path, stdin=JSON_LINE, status=1).stderr
        assert re.search(r"the server does not answer: \w+", told)
        with Running("tail", "--url", url, cwd=here.path) as tail:
            tail.wait_for("trying again", where="notes")
            assert re.match(rf"no connection to {url} \(\w.*\); trying again", tail.notes[0])
            tail.end(signal.SIGINT)


class Stranger:
    """Python's own file server on a port."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> str:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "-d", str(self._directory)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def answers() -> bool:
            try:
                return httpx2.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200
            except httpx2.TransportError:
                return False

        wait_until(answers)
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def test_a_closed_pipe_ends_tail_without_a_word(server: SyncServer, tmp_path: Path) -> None:
    with httpx2.Client(base_url=server.base_url, trust_env=False) as client:
        published(client, *[EVENT] * 1000)
        command = [sys.executable, "-m", "sync_server", "tail", "--after", "earliest", "--url", server.base_url]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tail:
            assert tail.stdout is not None
            assert tail.stderr is not None
            assert b"stage_change" in tail.stdout.readline()
            tail.stdout.close()
            published(client, *[EVENT] * 1000)
            assert tail.wait(30) != 0
            assert tail.stderr.read() == b""
