"""The envelope is put together as text; it has to be the JSON that a dictionary would give."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from sync_core.envelope import envelope, envelope_tail
from sync_core.filters import ENTITY_KEYS, tag

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(
    data=st.dictionaries(texts, json_values, max_size=5),
    entities=st.dictionaries(st.sampled_from(ENTITY_KEYS), texts.filter(bool), max_size=4),
    client_id=st.none() | texts,
    occurred_at=st.none() | st.just("2026-11-20T10:30:00.123Z"),
)
def test_an_envelope_is_the_json_of_its_dictionary(
    data: dict[str, Any], entities: dict[str, str], client_id: str | None, occurred_at: str | None
) -> None:
    tail = envelope_tail(
        to_json(data).decode(),
        tags=[tag(key, value) for key, value in entities.items()],
        client_id=client_id,
        occurred_at=occurred_at,
    )
    text = envelope("k3f9a2c1.1042", "stage_change", "2026-11-20T10:30:00.000Z", tail)
    naive = {
        "id": "k3f9a2c1.1042",
        "eventType": "stage_change",
        "timestamp": "2026-11-20T10:30:00.000Z",
        "data": data,
        **entities,
        **({"clientID": client_id} if client_id is not None else {}),
        **({"occurredAt": occurred_at} if occurred_at is not None else {}),
    }
    assert json.loads(text) == naive
    assert list(json.loads(text)) == list(naive)
    assert "\n" not in text
    assert "\r" not in text


def test_arabic_leaves_as_itself() -> None:
    tail = envelope_tail('{"name":"كولا"}', tags=["deviceID=حاسبة١"])
    assert tail == '"data":{"name":"كولا"},"deviceID":"حاسبة١"}'
