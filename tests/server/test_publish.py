"""POST /api/v1/sync/events over real HTTP: what is taken, what is refused, and how. Source: protocol.md 3 and 5."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.server.publishing import (
    CONFIG,
    EVENT,
    EVENTS,
    JSON,
    POLL,
    assert_problem,
    head,
    log_untouched,
    published,
    read,
    send,
)
from tests.servers import SyncServer

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    with SyncServer(tmp_path_factory.mktemp("server"), config=CONFIG) as server:
        yield server
        assert "request_failed" not in server.log_text()


@pytest.fixture(scope="module")
def client(server: SyncServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.base_url, timeout=30, trust_env=False) as client:
        yield client


# -- what is taken ---------------------------------------------------------------------------------------


def test_one_event_is_answered_with_its_id(client: httpx2.Client) -> None:
    before = head(client)
    reply = send(client, EVENT)
    assert reply.status_code == 201
    (receipt,) = reply.json()["events"]
    assert receipt["eventType"] == "stage_change"
    assert receipt["duplicate"] is False
    (event,) = read(client, after=before)
    assert event.pop("timestamp").endswith("Z")
    assert event == EVENT | {"id": receipt["id"]}


def test_a_batch_keeps_its_order(client: httpx2.Client) -> None:
    before = head(client)
    receipts = published(client, *(EVENT | {"data": {"newStage": "x", "n": n}} for n in range(1000)))
    events = read(client, after=before)
    assert [event["data"]["n"] for event in events] == list(range(1000))
    assert [event["id"] for event in events] == [receipt["id"] for receipt in receipts]


def test_a_batch_has_one_time(client: httpx2.Client) -> None:
    before = head(client)
    published(client, EVENT, EVENT, EVENT)
    assert len({event["timestamp"] for event in read(client, after=before)}) == 1


@pytest.mark.parametrize("name", ["timestamp", "occurredAt"])
def test_the_clients_time_is_kept_as_occurred_at(client: httpx2.Client, name: str) -> None:
    before = head(client)
    published(client, EVENT | {name: "2026-02-03T02:25:33+03:00"})
    (event,) = read(client, after=before)
    assert event["occurredAt"] == "2026-02-02T23:25:33.000Z"
    assert event["timestamp"] != event["occurredAt"]


def test_the_client_header_names_the_instance(client: httpx2.Client) -> None:
    before = head(client)
    client.post(EVENTS, json=EVENT, headers={"X-Client-ID": "till-3#8f2c"}).raise_for_status()
    (event,) = read(client, after=before)
    assert event["clientID"] == "till-3#8f2c"


def test_the_caller_may_name_the_request(client: httpx2.Client) -> None:
    reply = client.post(EVENTS, json=EVENT, headers={"X-Request-ID": "abc-1"})
    assert reply.headers["x-request-id"] == "abc-1"
    reply = client.post(EVENTS, json=EVENT, headers={"X-Request-ID": "no id: <>"})
    assert reply.headers["x-request-id"] != "no id: <>"


def test_an_ephemeral_event_is_not_logged(client: httpx2.Client) -> None:
    with log_untouched(client):
        assert published(client, {"eventType": "blip", "data": {}}) == [
            {"id": None, "eventType": "blip", "duplicate": False}
        ]


def test_receipts_of_a_mixed_batch_keep_its_order(client: httpx2.Client) -> None:
    before = head(client)
    receipts = published(client, {"eventType": "blip", "data": {}}, EVENT, {"eventType": "blip", "data": {}}, EVENT)
    assert [receipt["id"] is None for receipt in receipts] == [True, False, True, False]
    assert len(read(client, after=before)) == 2


def test_numbers_and_text_come_back_as_they_went(client: httpx2.Client) -> None:
    data = {
        "newStage": "x",
        "ints": [0, -1, 2**53 + 1, 10**100, -(10**30)],
        "floats": [0.1, 1e-300, 1.7976931348623157e308, -2.5, 100000.0],
        "texts": ["", "كولا", "بارد جداً", "😀", "\0", "\x1f", "\x7f", "\x85", "\u2028\u2029", "a\r\nb", '"\\/'],
        "constants": [None, True, False, {}, []],
        "كولا": {"__class__": 1, "model_config": 2, "": 3, "a.b": 4},
    }
    before = head(client)
    published(client, EVENT | {"data": data})
    (event,) = read(client, after=before)
    assert event["data"] == data
    assert [type(number) for number in event["data"]["ints"]] == [int] * 5


def test_the_last_of_two_members_with_one_name_counts(client: httpx2.Client) -> None:
    before = head(client)
    body = '{"eventType":"stage_change","eventType":"note","data":{"a":1,"a":2},"orderID":"x","orderID":"y"}'
    assert send(client, body).status_code == 201
    (event,) = read(client, after=before)
    assert (event["eventType"], event["data"], event["orderID"]) == ("note", {"a": 2}, "y")


@pytest.mark.parametrize("depth", [50, 190])
def test_deep_but_possible_nesting_is_taken(client: httpx2.Client, depth: int) -> None:
    before = head(client)
    body = '{"eventType":"note","data":{"a":' + "[" * depth + "]" * depth + "}}"
    assert send(client, body).status_code == 201
    assert json.dumps(read(client, after=before)[0]["data"]["a"]) == "[" * depth + "]" * depth


def test_the_largest_event_is_taken_and_comes_back_whole(client: httpx2.Client) -> None:
    before = head(client)
    text = "ك" * (127 * 1024)  # two bytes each
    published(client, {"eventType": "note", "data": {"text": text}})
    (event,) = read(client, after=before)
    assert event["data"]["text"] == text


# -- what is refused -------------------------------------------------------------------------------------

NOT_JSON = {
    "nothing": "",
    "cut": '{"eventType":"stage_change","data":{',
    "trailing comma": '{"eventType":"note","data":{},}',
    "two documents": '{"eventType":"note","data":{}} {}',
    "single quotes": "{'eventType':'note'}",
    "NaN": '{"eventType":"note","data":{"n":NaN}}',
    "Infinity": '{"eventType":"note","data":{"n":Infinity}}',
    "-Infinity": '{"eventType":"note","data":{"n":-Infinity}}',
    "leading zero": '{"eventType":"note","data":{"n":01}}',
    "number too long": '{"eventType":"note","data":{"n":' + "1" * 5000 + "}}",
    "lone surrogate, escaped": '{"eventType":"note","data":{"s":"\\ud800"}}',
    "low surrogate alone": '{"eventType":"note","data":{"s":"\\udc00x"}}',
    "lone surrogate in a key": '{"eventType":"note","data":{"\\ud800":1}}',
    "lone surrogate, raw": '{"eventType":"note","data":{"s":"\ud800"}}',
    "not UTF-8": b'{"eventType":"note","data":{"s":"\xff"}}',
    "overlong UTF-8": b'{"eventType":"note","data":{"s":"\xc0\xaf"}}',
    "UTF-16": '{"eventType":"note","data":{}}'.encode("utf-16"),
    "byte order mark": '\ufeff{"eventType":"note","data":{}}',
    "raw line break in text": '{"eventType":"note","data":{"s":"a\nb"}}',
    "raw NUL in text": '{"eventType":"note","data":{"s":"a\0b"}}',
    "NUL bytes": b"\0\0\0\0",
    "nested too deep": '{"eventType":"note","data":{"a":' + "[" * 100_000 + "]" * 100_000 + "}}",
    "objects nested too deep": '{"eventType":"note","data":' + '{"a":' * 5000 + "1" + "}" * 5000 + "}",
    "never closed": "[" * 500_000,
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_a_400(client: httpx2.Client, body: str | bytes) -> None:
    with log_untouched(client):
        assert_problem(send(client, body), 400, "")


BAD_EVENTS: dict[str, tuple[object, list[str]]] = {
    "null": (None, [""]),
    "number": (5, [""]),
    "text": ("x", [""]),
    "list": ([EVENT], [""]),
    "empty object": ({}, ["eventType", "data"]),
    "no data": ({"eventType": "note"}, ["data"]),
    "no type": ({"data": {}}, ["eventType"]),
    "number as type": ({"eventType": 5, "data": {}}, ["eventType"]),
    "list as type": ({"eventType": ["note"], "data": {}}, ["eventType"]),
    "list as data": ({"eventType": "note", "data": []}, ["data"]),
    "null as data": ({"eventType": "note", "data": None}, ["data"]),
    "text as data": ({"eventType": "note", "data": "{}"}, ["data"]),
    "number as id": (EVENT | {"orderID": 7}, ["orderID"]),
    "empty id": (EVENT | {"orderID": ""}, ["orderID"]),
    "line break in an id": (EVENT | {"orderID": "a\nevent: reset"}, ["orderID"]),
    "carriage return in an id": (EVENT | {"bayID": "a\rb"}, ["bayID"]),
    "NUL in an id": (EVENT | {"orderID": "a\0"}, ["orderID"]),
    "line separator in an id": (EVENT | {"orderID": "a\u2028b"}, ["orderID"]),
    "next line in an id": (EVENT | {"orderID": "a\x85b"}, ["orderID"]),
    "comma in an id": (EVENT | {"orderID": "a,b"}, ["orderID"]),
    "long id": (EVENT | {"orderID": "x" * 129}, ["orderID"]),
    "line break in the type": ({"eventType": "note\nid: 1", "data": {}}, ["eventType"]),
    "line break behind the type": ({"eventType": "note\n", "data": {}}, ["eventType"]),
    "NUL in the type": ({"eventType": "note\0", "data": {}}, ["eventType"]),
    "control character in the client": (EVENT | {"clientID": "a\x1eb"}, ["clientID"]),
    "line break in the key": (EVENT | {"key": "a\nb"}, ["key"]),
    "unknown field": (EVENT | {"orderId": "x"}, ["orderId"]),
    "two unknown fields": (EVENT | {"id": "x", "version": 3}, ["id", "version"]),
    "unknown type": ({"eventType": "nonsense", "data": {}}, ["eventType"]),
    "raised by the client only": ({"eventType": "polling_data_refresh", "data": {}}, ["eventType"]),
    "no stage": ({"eventType": "stage_change", "data": {}}, ["data.newStage"]),
    "number as stage": ({"eventType": "stage_change", "data": {"newStage": 5}}, ["data.newStage"]),
    "wrong inside": (
        {"eventType": "stage_change", "data": {"newStage": "x", "order": {"orderID": "a\nb"}}},
        ["data.order.orderID"],
    ),
    "number as time": (EVENT | {"occurredAt": 5}, ["occurredAt"]),
    "time without offset": (EVENT | {"timestamp": "2024-01-15T10:30:00"}, ["timestamp"]),
    "time before the calendar": (EVENT | {"occurredAt": "0001-01-01T00:00:00+14:00"}, ["occurredAt"]),
    "time behind the calendar": (EVENT | {"occurredAt": "9999-12-31T23:59:59-14:00"}, ["occurredAt"]),
    "number out of range": ('{"eventType":"note","data":{"a":[{"n":1e999}]}}', ["data"]),
    "number far below": ('{"eventType":"note","data":{"n":-1e999}}', ["data"]),
    "empty batch": ({"events": []}, ["events"]),
    "object as batch": ({"events": {}}, ["events"]),
    "null as batch": ({"events": None}, ["events"]),
    "batch with more beside it": ({"events": [EVENT], "b": 1, "a": 2}, ["a", "b"]),
    "no object in the batch": ({"events": [EVENT, 5]}, ["events[1]"]),
    "list in the batch": ({"events": [[EVENT]]}, ["events[0]"]),
    "event and batch": (EVENT | {"events": []}, ["events"]),
    "too many": ({"events": [EVENT] * 1001}, ["events"]),
    "one of three": ({"events": [EVENT, EVENT | {"x": 1}, EVENT]}, ["events[1].x"]),
    "each with its path": (
        {"events": [EVENT, {"eventType": "x", "data": {}}, {"eventType": "stage_change", "data": {}}]},
        ["events[1].eventType", "events[2].data.newStage"],
    ),
    "the same key twice": ({"events": [EVENT | {"key": "k-twice"}, EVENT | {"key": "k-twice"}]}, ["events[1].key"]),
}  # fmt: skip


@pytest.mark.parametrize(("document", "paths"), BAD_EVENTS.values(), ids=BAD_EVENTS)
def test_a_bad_event_is_a_422_with_its_path(client: httpx2.Client, document: object, paths: list[str]) -> None:
    body = document if isinstance(document, str) and document.startswith("{") else json.dumps(document)
    with log_untouched(client):
        assert_problem(send(client, body), 422, *paths)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"eventType": "stage_change", "data": {"newStage": "a", "order": "x"}}, "data.order"),
        ({"eventType": "stage_change", "data": [1]}, "data"),
        ({"events": [EVENT, EVENT | {"data": "x"}]}, "events[1].data"),
    ],
)
def test_what_has_to_be_an_object_is_called_so(client: httpx2.Client, document: object, path: str) -> None:
    assert send(client, document).json()["errors"] == [{"path": path, "message": "has to be a JSON object"}]


@pytest.mark.parametrize("document", [5, [EVENT], "text", None])
def test_what_is_no_event_is_told_what_one_is(client: httpx2.Client, document: object) -> None:
    (fault,) = send(client, json.dumps(document)).json()["errors"]
    assert fault == {"path": "", "message": 'an event is a JSON object; several are {"events": [...]}'}


@pytest.mark.parametrize("name", ["connected", "caught_up", "heartbeat", "reset", "removed", "goodbye"])
def test_a_control_event_cannot_be_published(client: httpx2.Client, name: str) -> None:
    with log_untouched(client):
        assert_problem(send(client, {"eventType": name, "data": {}}), 422, "eventType")


@pytest.mark.parametrize(
    "name",
    ["order_created", "order_updated", "order_deleted", "order_stage_change", "queue_updated", "bay_updated",
     "job_started", "job_progress", "job_completed", "job_aborted"],
)  # fmt: skip
def test_a_whole_document_cannot_be_published(client: httpx2.Client, name: str) -> None:
    with log_untouched(client):
        reply = send(client, {"eventType": name, "data": {"order": {"orderID": "x"}}})
        assert_problem(reply, 422, "eventType")


def test_many_faults_are_cut_off(client: httpx2.Client) -> None:
    with log_untouched(client):
        reply = send(client, {"events": [{"eventType": "nonsense", "data": {}}] * 1000})
        assert_problem(reply, 422, *(f"events[{n}].eventType" for n in range(20)))
        reply = send(client, {"events": [5] * 1000})
        assert_problem(reply, 422, *(f"events[{n}]" for n in range(20)))


def test_a_long_name_is_not_repeated_whole(client: httpx2.Client) -> None:
    reply = send(client, EVENT | {"x" * 500_000: 1})
    assert reply.status_code == 422
    assert len(reply.content) < 1000


@pytest.mark.parametrize("batch", [False, True])
def test_an_event_that_is_too_large_is_a_413_with_its_path(client: httpx2.Client, batch: bool) -> None:
    large = {"eventType": "note", "data": {"text": "x" * (256 * 1024)}}
    with log_untouched(client):
        reply = send(client, {"events": [EVENT, large]} if batch else large)
        assert_problem(reply, 413, "events[1]" if batch else "")


def test_a_declared_body_of_2_mib_is_a_413(client: httpx2.Client) -> None:
    with log_untouched(client):
        assert_problem(send(client, b" " * (2 * MIB)), 413)


def test_a_chunked_body_of_2_mib_is_a_413(client: httpx2.Client) -> None:
    with log_untouched(client):
        reply = client.post(EVENTS, content=iter([b" " * 65536] * 32), headers=JSON)
        assert_problem(reply, 413)


def test_a_body_of_just_1_mib_is_looked_at(client: httpx2.Client) -> None:
    with log_untouched(client):
        assert_problem(send(client, b" " * MIB), 400, "")
        assert_problem(send(client, b" " * (MIB + 1)), 413)


def test_a_declared_size_is_refused_before_the_body_comes(server: SyncServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(
            b"POST /api/v1/sync/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 2000000000\r\n\r\n"
        )
        assert sock.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_is_cut_off_leaves_no_trace(client: httpx2.Client, server: SyncServer) -> None:
    body = json.dumps(EVENT).encode()
    with log_untouched(client):
        for sent in (body, body[:10], b""):
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
                sock.sendall(
                    b"POST /api/v1/sync/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(body) + 1, sent)
                )
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(100) == b"", "answered before it is gone"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/jsonx"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_another_content_type_is_a_415(client: httpx2.Client, headers: dict[str, str]) -> None:
    with log_untouched(client):
        assert_problem(client.post(EVENTS, content=json.dumps(EVENT).encode(), headers=headers), 415)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_be_called_so_in_several_ways(client: httpx2.Client, content_type: str) -> None:
    body = json.dumps(EVENT).encode()
    assert client.post(EVENTS, content=body, headers={"Content-Type": content_type}).status_code == 201


@pytest.mark.parametrize("client_id", ["", "x" * 129, "a\tb", "\x85"])
def test_a_bad_client_header_is_a_400(client: httpx2.Client, client_id: str) -> None:
    with log_untouched(client):
        headers = [(b"X-Client-ID", client_id.encode("latin-1")), (b"Content-Type", b"application/json")]
        assert_problem(client.post(EVENTS, content=json.dumps(EVENT).encode(), headers=headers), 400)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", EVENTS),
        ("DELETE", EVENTS),
        ("PATCH", EVENTS),
        ("POST", POLL),
        ("DELETE", "/healthz"),
        ("PUT", "/metrics"),
    ],
)
def test_a_wrong_method_is_a_405(client: httpx2.Client, method: str, path: str) -> None:
    reply = client.request(method, path, content=b"{}", headers=JSON)
    assert_problem(reply, 405)
    assert reply.headers["allow"]


@pytest.mark.parametrize("path", ["/api", "/api/v1/sync", "/api/v1/sync/event", "/%00", "/%ff", "/../api", "/كولا"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_route_is_a_404(client: httpx2.Client, method: str, path: str) -> None:
    assert_problem(client.request(method, path), 404)


# -- idempotency -----------------------------------------------------------------------------------------


def test_a_repeated_key_is_answered_and_not_repeated(client: httpx2.Client) -> None:
    (first,) = published(client, EVENT | {"key": "k-1"})
    with log_untouched(client):
        (again,) = published(client, EVENT | {"key": "k-1"})
    assert again == first | {"duplicate": True}


def test_a_key_does_not_show_on_the_event(client: httpx2.Client) -> None:
    before = head(client)
    published(client, EVENT | {"key": "k-2"})
    assert "key" not in read(client, after=before)[0]


def test_the_order_of_fields_makes_no_other_request(client: httpx2.Client) -> None:
    published(client, {"eventType": "note", "data": {"a": 1, "b": {"c": 2, "d": 3}}, "key": "k-3"})
    (again,) = published(client, {"key": "k-3", "data": {"b": {"d": 3, "c": 2}, "a": 1}, "eventType": "note"})
    assert again["duplicate"] is True


@pytest.mark.parametrize(
    "change", [{"data": {"newStage": "completed"}}, {"orderID": "ORDER-002"}, {"bayID": "1"}, {"eventType": "note"}]
)
def test_a_key_with_another_content_is_refused(client: httpx2.Client, change: dict[str, Any]) -> None:
    published(client, EVENT | {"key": "k-4"})
    with log_untouched(client):
        assert_problem(send(client, EVENT | change | {"key": "k-4"}), 422, "key")


def test_a_reused_key_refuses_its_whole_batch_and_names_its_place(client: httpx2.Client) -> None:
    published(client, EVENT | {"key": "k-5"})
    other = EVENT | {"data": {"newStage": "completed"}, "key": "k-5"}
    with log_untouched(client):
        # The ephemeral event is no member of the log's submission, but of the request.
        reply = send(client, {"events": [{"eventType": "blip", "data": {}}, EVENT, other]})
        assert_problem(reply, 422, "events[2].key")
        assert_problem(send(client, {"events": [other]}), 422, "events[0].key")


def test_a_batch_with_known_and_new_keys_writes_only_the_new(client: httpx2.Client) -> None:
    (known,) = published(client, EVENT | {"key": "k-6"})
    before = head(client)
    receipts = published(client, EVENT | {"key": "k-7"}, EVENT | {"key": "k-6"}, EVENT | {"key": "k-8"})
    assert [receipt["duplicate"] for receipt in receipts] == [False, True, False]
    assert receipts[1]["id"] == known["id"]
    assert [event["id"] for event in read(client, after=before)] == [receipts[0]["id"], receipts[2]["id"]]


# -- the stream's bytes ----------------------------------------------------------------------------------


def test_nothing_that_is_published_can_forge_a_line_of_the_stream(client: httpx2.Client) -> None:
    forged = "x\nevent: reset\ndata: {}\n\nid: 9\r\rretry: 1\u2028\u2029\x85\0"
    with client.stream("GET", EVENTS) as stream:
        for bad in (
            EVENT | {"eventType": forged},
            EVENT | {"orderID": forged},
            EVENT | {"clientID": forged},
            EVENT | {"key": forged},
            EVENT | {"occurredAt": "2024-01-15T10:30:00Z\nevent: reset"},
        ):
            assert send(client, bad).status_code == 422
        data = {"newStage": forged, forged: forged}
        published(client, EVENT | {"data": data}, EVENT | {"orderID": "last"})
        raw = b""
        for piece in stream.iter_raw():
            raw += piece
            if b'"orderID":"last"' in raw and raw.endswith(b"\n\n"):
                break
    *control, one, last = raw.decode().removesuffix("\n\n").split("\n\n")
    assert [block.split("\n")[-3] for block in control] == ["event: connected", "event: caught_up"]
    names = [[line.partition(": ")[0] for line in block.split("\n")] for block in (one, last)]
    assert names == [["event", "id", "data"]] * 2
    assert "\r" not in raw.decode()
    assert json.loads(one.split("\n")[2].removeprefix("data: "))["data"] == data
