from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import respx
from pymongo import MongoClient, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from tests.fixtures import MongoDatabase
from tests.mongod import (
    ELECTION_TIMEOUT_S,
    HOST,
    Node,
    NoPrimary,
    PortTaken,
    ReplicaSet,
)
from tests.mongod_binary import find_mongod, unavailable_reason

REPOSITORY = Path(__file__).parent.parent
Documents = Collection[dict[str, Any]]

needs_mongod = pytest.mark.skipif(unavailable_reason() is not None, reason=unavailable_reason() or "")


def connect(uri: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(uri, serverSelectionTimeoutMS=10_000, connectTimeoutMS=1_000, heartbeatFrequencyMS=1_000)


def durable(client: MongoClient[dict[str, Any]]) -> Documents:
    return client.get_database("shop").get_collection("orders", write_concern=WriteConcern("majority"))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.01)


@pytest.fixture
def one_node(tmp_path: Path) -> Iterator[ReplicaSet]:
    with ReplicaSet(base_dir=tmp_path) as replicas:
        yield replicas


@needs_mongod
class TestOneNode:
    def test_takes_majority_writes_through_its_uri_once_made(self, one_node: ReplicaSet) -> None:
        with connect(one_node.uri) as client:
            durable(client).insert_one({"_id": 1})
            assert durable(client).count_documents({}) == 1

    def test_is_its_own_primary(self, one_node: ReplicaSet) -> None:
        assert one_node.primary() is one_node.nodes[0]

    @pytest.mark.parametrize("stop", [Node.kill, Node.terminate])
    def test_comes_back_on_its_port_with_its_data(self, one_node: ReplicaSet, stop: Callable[[Node], None]) -> None:
        node = one_node.nodes[0]
        before = node.pid, node.port
        with connect(one_node.uri) as client:
            durable(client).insert_many([{"_id": number} for number in range(100)])
        stop(node)
        assert not node.running
        with pytest.raises(NoPrimary):
            one_node.primary()

        node.start()

        assert one_node.wait_primary() is node
        assert node.pid != before[0]
        assert node.port == before[1]
        with connect(one_node.uri) as client:
            assert durable(client).count_documents({}) == 100

    def test_a_client_that_was_open_over_the_restart_goes_on(self, one_node: ReplicaSet) -> None:
        with connect(one_node.uri) as client:
            durable(client).insert_one({"_id": 1})
            one_node.nodes[0].kill()
            one_node.nodes[0].start()
            one_node.wait_primary()
            assert durable(client).count_documents({}) == 1

    def test_starting_what_runs_changes_nothing(self, one_node: ReplicaSet) -> None:
        pid = one_node.nodes[0].pid
        one_node.nodes[0].start()
        assert one_node.nodes[0].pid == pid

    def test_its_port_is_kept_for_it_while_it_is_down(self, one_node: ReplicaSet) -> None:
        one_node.nodes[0].kill()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((HOST, one_node.nodes[0].port))

    def test_says_so_where_somebody_else_listens_on_its_port(self, one_node: ReplicaSet) -> None:
        node = one_node.nodes[0]
        node.kill()
        with listener(node.port), pytest.raises(PortTaken, match=node.address):
            node.start()

    def test_fail_points_are_refused_unless_asked_for(self, one_node: ReplicaSet) -> None:
        with connect(one_node.uri) as client, pytest.raises(OperationFailure):
            client.admin.command("configureFailPoint", "failCommand", mode="off")

    def test_close_leaves_no_process_and_no_directory(self, tmp_path: Path) -> None:
        replicas = ReplicaSet(base_dir=tmp_path)
        pid = replicas.nodes[0].pid
        assert pid is not None
        assert alive(pid)
        assert replicas.directory.parent == tmp_path

        replicas.close()
        replicas.close()

        assert not alive(pid)
        assert list(tmp_path.iterdir()) == []

    def test_lives_on_when_the_thread_that_made_it_ends(self, tmp_path: Path) -> None:
        made: list[ReplicaSet] = []
        thread = threading.Thread(target=lambda: made.append(ReplicaSet(base_dir=tmp_path)))
        thread.start()
        thread.join()
        with made[0] as replicas:
            assert replicas.primary().running


def listener(port: int) -> socket.socket:
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind((HOST, port))
    taken.listen()
    return taken


@needs_mongod
def test_a_new_node_changes_its_port_where_that_is_taken(tmp_path: Path) -> None:
    binary = find_mongod()
    assert binary is not None
    node = Node(binary, tmp_path / "node", options=["--bind_ip", HOST, "--nounixsocket"])
    port = node.port
    try:
        with listener(port):
            node.begin()
            node.wait_first_answer()
        assert node.port != port
        assert node.running
    finally:
        node.close()


@needs_mongod
class TestThreeNodes:
    def test_another_one_takes_over_when_the_primary_is_killed(self, replica_set: ReplicaSet) -> None:
        killed = replica_set.primary()
        with connect(replica_set.uri) as client:
            durable(client).insert_one({"_id": 1})

            killed.kill()
            killed_at = time.monotonic()
            follower = replica_set.wait_primary()

            # 2 to 3 s with our election timeout; 10 s is the default's.
            assert time.monotonic() - killed_at < 8
            assert follower is not killed
            durable(client).insert_one({"_id": 2})
            assert [found["_id"] for found in durable(client).find().sort("_id")] == [1, 2]

        killed.start()
        replica_set.wait_members()
        wait_until(lambda: bool(killed.hello().get("secondary")), timeout_s=ELECTION_TIMEOUT_S)

    def test_a_terminated_primary_hands_over(self, replica_set: ReplicaSet) -> None:
        before = replica_set.primary()
        before.terminate()
        assert replica_set.wait_primary() is not before

    def test_a_frozen_primary_is_replaced_and_steps_down_when_it_wakes(self, replica_set: ReplicaSet) -> None:
        frozen = replica_set.primary()
        frozen.stop_signal()
        follower = replica_set.wait_primary()
        assert follower is not frozen

        frozen.cont()

        assert replica_set.wait_primary() is not frozen
        # It may be secondary, and then not for a moment, while it takes back what only it had written.
        wait_until(lambda: bool(frozen.hello().get("secondary")), timeout_s=ELECTION_TIMEOUT_S)


@needs_mongod
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
class TestWhenTheProcessDies:
    def start_elsewhere(self, base_dir: Path, *, then: str) -> tuple[subprocess.Popen[str], int]:
        program = f"""
            import os, signal, sys
            from pathlib import Path
            from tests.mongod import ReplicaSet
            replicas = ReplicaSet(base_dir=Path({str(base_dir)!r}))
            print(replicas.nodes[0].pid, flush=True)
            {then}
        """
        owner = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert owner.stdout is not None
        return owner, int(owner.stdout.readline())

    def test_its_mongod_dies_with_it_and_the_next_set_removes_the_directory(self, tmp_path: Path) -> None:
        owner, pid = self.start_elsewhere(tmp_path, then="signal.pause()")
        assert alive(pid)
        left_over = next(tmp_path.iterdir())

        owner.kill()
        owner.communicate()

        wait_until(lambda: not alive(pid))
        assert left_over.exists()
        with ReplicaSet(base_dir=tmp_path) as replicas:
            assert list(tmp_path.iterdir()) == [replicas.directory]

    def test_a_set_that_nobody_closed_is_closed_at_exit(self, tmp_path: Path) -> None:
        owner, pid = self.start_elsewhere(tmp_path, then="sys.exit(0)")
        owner.communicate(timeout=30)
        assert owner.returncode == 0
        assert not alive(pid)
        assert list(tmp_path.iterdir()) == []

    def test_a_fork_that_exits_leaves_the_set_alone(self, tmp_path: Path) -> None:
        fork = "os.fork() or sys.exit(0); os.wait(); print(replicas.primary().pid)"
        owner, pid = self.start_elsewhere(tmp_path, then=fork)
        output, _ = owner.communicate(timeout=30)
        assert int(output) == pid
        assert owner.returncode == 0


class TestFixtures:
    def run_pytest(self, tmp_path: Path, test: str, **env: str) -> str:
        (tmp_path / "test_it.py").write_text(textwrap.dedent(test))
        (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
        argv = [sys.executable, "-m", "pytest", "-p", "tests.fixtures", "-q", "-ra"]
        argv += ["-p", "no:cacheprovider", "-p", "no:schemathesis"]
        ours = {name: value for name, value in os.environ.items() if not name.startswith("SYNC_TEST_")}
        environment = {**ours, "PYTHONPATH": str(REPOSITORY), **env}
        done = subprocess.run(
            [*argv, str(tmp_path)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    def test_a_database_is_fresh(self, mongodb_database: MongoDatabase) -> None:
        uri, name = mongodb_database
        with connect(uri) as client:
            assert name not in client.list_database_names()
            client[name]["orders"].insert_one({"_id": 1})
            assert name in client.list_database_names()

    def test_a_database_is_dropped_even_under_a_fail_point_and_an_open_transaction(self, tmp_path: Path) -> None:
        test = """
            from pymongo import MongoClient
            names = []
            def test_leaves_a_mess(mongodb_database):
                names.append(mongodb_database.name)
                client = MongoClient(mongodb_database.uri)
                orders = client[mongodb_database.name]["orders"]
                orders.insert_one({"_id": 1})
                session = client.start_session()
                session.start_transaction()
                orders.insert_one({"_id": 2}, session=session)
                data = {"failCommands": ["dropDatabase"], "errorCode": 1}
                client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
            def test_finds_none(mongodb_database):
                with MongoClient(mongodb_database.uri) as client:
                    assert names[0] not in client.list_database_names()
        """
        assert "2 passed" in self.run_pytest(tmp_path, test)

    @needs_mongod
    def test_a_running_mongodb_is_used_where_it_is_named(self, tmp_path: Path, one_node: ReplicaSet) -> None:
        test = f"""
            from tests.mongod import External
            def test_it(mongod, mongodb_database):
                assert mongod == External({one_node.uri!r}, test_commands=False)
                assert mongodb_database.uri == mongod.uri
        """
        environment = {"SYNC_TEST_MONGODB_URI": one_node.uri, "SYNC_TEST_MONGOD": "/nowhere"}
        assert "1 passed" in self.run_pytest(tmp_path, test, **environment)

    NEEDS_MONGOD = "def test_it(mongodb_database): pass\ndef test_three(replica_set): pass\n"

    def test_without_mongod_tests_are_skipped_with_the_reason(self, tmp_path: Path) -> None:
        output = self.run_pytest(tmp_path, self.NEEDS_MONGOD, SYNC_TEST_MONGOD="/nowhere")
        assert "2 skipped" in output
        assert "SYNC_TEST_MONGOD=/nowhere is not an executable file." in output

    def test_where_skipping_is_forbidden_they_fail_with_the_reason(self, tmp_path: Path) -> None:
        output = self.run_pytest(tmp_path, self.NEEDS_MONGOD, SYNC_TEST_MONGOD="/nowhere", SYNC_TEST_NO_SKIP="1")
        assert "2 errors" in output
        assert "SYNC_TEST_MONGOD=/nowhere is not an executable file." in output

    def test_where_skipping_is_forbidden_every_skip_fails_but_no_expected_failure(self, tmp_path: Path) -> None:
        test = """
            import pytest
            @pytest.mark.skip(reason="marked")
            def test_marked(): pass
            def test_inside(): pytest.skip("inside")
            @pytest.mark.xfail(strict=True)
            def test_expected_to_fail(): assert False
        """
        output = self.run_pytest(tmp_path, test, SYNC_TEST_NO_SKIP="1")
        assert "1 failed, 1 xfailed, 1 error" in output
        assert "marked (a failure: SYNC_TEST_NO_SKIP=1)" in output
        assert "inside (a failure: SYNC_TEST_NO_SKIP=1)" in output

    def test_where_skipping_is_forbidden_a_skipped_module_is_an_error(self, tmp_path: Path) -> None:
        test = "import pytest; pytest.importorskip('no_such_module')"
        assert "1 error" in self.run_pytest(tmp_path, test, SYNC_TEST_NO_SKIP="1")
        assert "1 skipped" in self.run_pytest(tmp_path, test)

    def test_the_chromium_is_one(self, chromium_path: Path) -> None:
        assert os.access(chromium_path, os.X_OK)

    def test_respx_answers_for_httpx2(self) -> None:
        with respx.mock:
            respx.get("http://shop.test/").respond(json={"ok": True})
            assert httpx2.get("http://shop.test/").json() == {"ok": True}

    async def test_the_respx_fixture_answers_for_httpx2(self, respx_mock: respx.MockRouter) -> None:
        respx_mock.get("http://shop.test/").respond(204)
        async with httpx2.AsyncClient() as client:
            assert (await client.get("http://shop.test/")).status_code == 204
