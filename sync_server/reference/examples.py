"""Examples, made from the schemas, so that a new command has one without anybody writing it."""

from collections.abc import Mapping
from typing import Any

__all__ = ["TIME", "example"]

TIME = "2026-11-20T10:30:00.123Z"

_BY_NAME: Mapping[str, Any] = {
    "orderID": "ORDER-001",
    "queueID": "hall",
    "bayID": "bay-1",
    "jobID": "job-1",
    "vehicleID": "van-1",
    "transportOrderID": "transport-1",
    "fuelLogID": "filling-1",
    "vehicleMarkID": "vin.WDB9066331S123456",
    "lastLogID": "filling-1",
    "driverID": "dan",
    "customerID": "acme",
    "plateNumber": "B 123 456",
    "vin": "WDB9066331S123456",
    "make": "Mercedes-Benz",
    "model": "Sprinter",
    "odometer": 128400,
    "fuelOrderID": "fuel-1",
    "truckID": "truck-1",
    "sessionID": "session-1",
    "tabID": "tab-7",
    "tabId": "tab-7",
    "userID": "ann",
    "userId": "ann",
    "tillID": "till-1",
    "tillId": "till-1",
    "transactionID": "sale-1",
    "transactionId": "sale-1",
    "deviceID": "pc1",
    "fromDeviceID": "pc1",
    "toDeviceID": "pc5",
    "catalogID": "main",
    "elapsedSeconds": 3600,
    "orderIndex": 0,
    "mode": "single",
    "customerCount": 2,
    "category": "Drinks",
    "firstOrderTime": TIME,
    "lastOrderTime": TIME,
    "cursor": "k3f9a2c1.1042",
    "version": 7,
    "sku": "WASH-L",
    "quantity": 1,
    "service": "wash",
    "phone": "+961 70 123 456",
    "reason": "The customer left.",
    "note": "Waiting for the key.",
    "notes": "Mind the roof rack.",
    "method": "card",
    "reference": "T-20261120-7",
    "currency": "USD",
    "newStage": "in_progress",
    "previousStage": "initiated",
    "progress": 40,
    "position": 1,
    "priority": 0,
    "ticket": 12,
    "nextTicket": 13,
    "paused": False,
    "name": "Large wash",
}
"""Values that say more than what could be made from a type."""

_BY_MODEL: Mapping[str, Any] = {
    "SetStatus.status": "Waiting for the key.",
    "SetPayment.status": "paid",
    "Payment.status": "pending",
    "Order.stage": "initiated",
    "Order.status": "Waiting for the key.",
    "Customer.name": "R. Haddad",
    "OrderSession.id": "session-1",
    "CreateTab.name": "Table 7",
    "EditTab.name": "Table 7",
    "Tab.name": "Table 7",
    "CreateQueue.name": "Hall",
    "EditQueue.name": "Hall",
    "Queue.name": "Hall",
    "CreateBay.name": "Bay 1",
    "EditBay.name": "Bay 1",
    "Bay.name": "Bay 1",
    "Bay.status": "occupied",
    "Device.name": "PC 1",
    "Device.notes": "VIP customer",
    "CreateDevice.name": "PC 1",
    "UpdateDevice.name": "PC 1",
    "UpdateDevice.notes": "VIP customer",
    "DeviceOrder.name": "كولا",
    "DeviceOrder.notes": "بارد",
    "EditDeviceOrder.name": "كولا",
    "EditDeviceOrder.notes": "بارد جداً",
    "Category.name": "Drinks",
    "Price.name": "كولا",
}


def example(schema: Mapping[str, Any], components: Mapping[str, Any], *, name: str = "", model: str = "") -> Any:
    """A value for *schema*, that of field *name* in *model*; *components* are what it refers to."""
    known = _BY_MODEL.get(f"{model}.{name}", _BY_NAME.get(name))
    if known is not None:
        return known
    if "$ref" in schema:
        target = schema["$ref"].rpartition("/")[2]
        return example(components[target], components, name=name, model=target)
    for options in ("anyOf", "oneOf", "allOf"):
        if options in schema:
            return example(schema[options][0], components, name=name, model=model)
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("default") is not None and schema["default"] != []:
        return schema["default"]
    return _by_type(schema, components, name, model)


def _by_type(schema: Mapping[str, Any], components: Mapping[str, Any], name: str, model: str) -> Any:
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {field: example(part, components, name=field, model=model) for field, part in fields.items()}
        case "array":
            return [example(schema.get("items", {}), components)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "string":
            return TIME if name.endswith("At") or schema.get("format") == "date-time" else "text"
        case _:
            return {}
