"""What tills send on ``/ws`` (seed 003), understood and nothing else: no I/O, no clock.

    connect                          Hello
    device_update, order_placed ...  Wish: a command of sync_core/domain/devices.py

Prices are JSON numbers here, and amounts (decimals as text) in commands. Source: seed 003, docs/devices.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import to_json

from sync_core.domain import devices
from sync_core.domain.command import Command, CommandInput
from sync_core.domain.fields import MAX_AMOUNT, MAX_WHOLE, NO_DECIMAL, DocumentID, Whole
from sync_core.faults import faults_of
from sync_core.problems import FieldError, SyncError
from sync_server.api.body import long_lists

__all__ = ["MESSAGES", "Hello", "InvalidMessage", "Message", "Wish", "parse"]

Words = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Sent(BaseModel):
    """Members that any message may have. Others are let be: a newer till may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    timestamp: Annotated[str, StringConstraints(max_length=64)] | None = None
    """By the till's clock, which decides nothing: the server's does."""
    id: Words | None = None
    """Of this message: it is answered with ``ack``, and takes effect once however often it is sent."""


class Hello(_Sent):
    """``connect``. *session* goes on with an earlier socket: its own changes stay hidden. *token* is a credential."""

    type: Literal["connect"]
    clientId: Words | None = None
    cursor: Words | None = None
    session: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")] | None = None
    token: Annotated[str, StringConstraints(min_length=1, max_length=16 * 1024)] | None = None


class _OfDevice(_Sent):
    deviceId: DocumentID
    baseVersion: Annotated[Whole, Field(ge=0)] | None = None
    """The version of the device that this was made out of; without it, what this socket was told last."""


class _Update(_OfDevice):
    data: dict[str, Any]


class _Placed(_OfDevice):
    orders: list[dict[str, Any]]


class _Changed(_OfDevice):
    orderIndex: Whole
    data: dict[str, Any]


class _Deleted(_OfDevice):
    orderIndex: Whole


class _Transfer(_Sent):
    fromDeviceId: DocumentID
    toDeviceId: DocumentID
    baseVersion: Annotated[Whole, Field(ge=0)] | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """A command that a till asks for. *size_bytes* is about what it takes.

    *adds* if it only adds to what is there: then nothing that happened meanwhile stands in its way.
    """

    type: str
    id: str | None
    device_id: str
    base_version: int | None
    command: Command
    given: CommandInput
    size_bytes: int
    adds: bool = False


class InvalidMessage(SyncError):
    """A message that cannot be understood; *type*, *id* and *device_id* as far as they could be."""

    def __init__(self, detail: str, *, errors: tuple[FieldError, ...] = (), sent: Any = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        content = sent if isinstance(sent, dict) else {}
        self.type = _short(content.get("type"))
        self.id = _short(content.get("id"))
        self.device_id = _short(content.get("deviceId", content.get("fromDeviceId")))


def _short(value: Any) -> str | None:
    return value[:128] if isinstance(value, str) and value.isprintable() else None


def parse(sent: dict[str, Any]) -> Hello | Wish:
    """What the JSON object *sent*, whose ``type`` is text, means. Raises InvalidMessage with all that is wrong."""
    known = MESSAGES.get(sent["type"])
    if known is None:
        raise InvalidMessage(
            f"{_short(sent['type'])} is no message of a client: those are {', '.join(MESSAGES)} and ping.", sent=sent
        )
    if faults := long_lists(sent):
        told = f"{faults[0].path}: {faults[0].message}"
        raise InvalidMessage(f"{sent['type']} cannot be accepted: {told}", errors=faults, sent=sent)
    model = known.model
    try:
        message = model.model_validate(_plain(sent), strict=True)
        return message if isinstance(message, Hello) else _wish(message, known)
    except ValidationError as exc:
        faults = tuple(FieldError(_place(f.path, model), f.message) for f in faults_of(exc, messages=_FAULTS))
        told = "; ".join(f"{fault.path}: {fault.message}" for fault in faults[:3])
        raise InvalidMessage(f"{sent['type']} cannot be accepted: {told}", errors=faults, sent=sent) from None
    except ValueError as exc:
        raise InvalidMessage(f"{sent['type']} cannot be accepted: {exc}", sent=sent) from None


@dataclass(frozen=True, slots=True)
class Message:
    """What a message looks like, and which *command* it asks for. Of *carries*, a member, the content is the command's:
    its fields, or (where it has one of that name) that field.
    """

    model: type[Hello | _OfDevice | _Transfer]
    command: Command | None = None
    carries: Literal["data", "orders"] | None = None
    adds: bool = False


MESSAGES: Mapping[str, Message] = {
    "connect": Message(Hello),
    "device_update": Message(_Update, devices.update, "data"),
    "order_placed": Message(_Placed, devices.place_orders, "orders", adds=True),
    "order_updated": Message(_Changed, devices.edit_order, "data"),
    "order_deleted": Message(_Deleted, devices.remove_order),
    "device_transfer": Message(_Transfer, devices.transfer),
    "device_deleted": Message(_OfDevice, devices.delete),
    "device_reset": Message(_OfDevice, devices.reset),
}
"""By type."""

_FAULTS = {NO_DECIMAL: f"has to be a number from 0 to {MAX_AMOUNT}, such as 12.5"}
"""In commands prices are text."""
_WIRE_NAMES = {"deviceID": "deviceId", "toDeviceID": "toDeviceId"}


def _place(path: str, model: type[BaseModel]) -> str:
    """Where in the message a command's field at *path* came from."""
    field = path.partition(".")[0].partition("[")[0]
    inside = "data" in model.model_fields and field not in model.model_fields and field not in _WIRE_NAMES
    return f"data.{path}" if inside else _WIRE_NAMES.get(path, path)


def _plain(value: Any) -> Any:
    """*value* with 3.0 as the whole number that it is in JSON."""
    match value:
        case float() if value.is_integer() and abs(value) <= MAX_WHOLE:
            return int(value)
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case list():
            return [_plain(item) for item in value]
    return value


def _wish(message: _OfDevice | _Transfer, known: Message) -> Wish:
    given: dict[str, Any]
    match message:
        case _Update():
            given = {"deviceID": message.deviceId, **_data(message.data, {"deviceID"})}
        case _Placed():
            given = {"deviceID": message.deviceId, "orders": [_priced(order) for order in message.orders]}
        case _Changed():
            changes = _priced(_data(message.data, {"deviceID", "orderIndex"}))
            given = {"deviceID": message.deviceId, "orderIndex": message.orderIndex, **changes}
        case _Deleted():
            given = {"deviceID": message.deviceId, "orderIndex": message.orderIndex}
        case _Transfer():
            if message.fromDeviceId == message.toDeviceId:
                raise ValueError("toDeviceId has to be another device")
            given = {"deviceID": message.fromDeviceId, "toDeviceID": message.toDeviceId}
        case _:
            given = {"deviceID": message.deviceId}
    assert known.command is not None
    body = to_json(given)
    checked = known.command.input.model_validate_json(body, strict=True)
    return Wish(
        type=message.type, id=message.id, device_id=given["deviceID"], base_version=message.baseVersion,
        command=known.command, given=checked, size_bytes=len(body) + 1024, adds=known.adds,
    )  # fmt: skip


def _data(data: dict[str, Any], taken: set[str]) -> dict[str, Any]:
    """What stands in *data*, where the ids of the message itself do not belong."""
    wrong = sorted(taken & data.keys())
    if wrong:
        raise ValueError(f"data.{wrong[0]} does not belong there")
    return data


def _priced(order: dict[str, Any]) -> dict[str, Any]:
    """*order* with its price, a JSON number, as an amount."""
    price = order.get("price")
    if isinstance(price, int | float) and not isinstance(price, bool):
        return order | {"price": str(price)}  # the shortest text that means this number: what was written
    return order
