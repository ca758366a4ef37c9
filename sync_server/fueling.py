"""What the configuration says of fueling: to how many fuelers an order is offered at first, and when to all of them.

The share is a field of the command that takes an order: a rule is pure and knows no configuration, so the server puts
the configured share there where the caller names none, before the rule runs, as it does with ids.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from sync_core.domain.command import CommandInput
from sync_core.domain.document import Document
from sync_core.domain.fuel_orders import (
    CreateFuelOrder,
    FuelOrder,
    FuelStatus,
    OfferToAll,
    offer_is_due,
    offer_to_all,
)
from sync_server.commands.sweeps import Sweep
from sync_server.log.base import Selection
from sync_server.sections import FuelingSection

__all__ = ["fueling_defaults", "offers_to_all"]

LOOKS = 5
"""How often the offers are looked at in the time that they are given."""
MAX_INTERVAL_S = 10.0


def fueling_defaults(section: FuelingSection) -> Mapping[type[CommandInput], Mapping[str, Any]]:
    """What is put into inputs that leave it open."""
    return {CreateFuelOrder: {"offerShare": section.offer_share}}


def offers_to_all(section: FuelingSection) -> Sweep:
    """The sweep that offers to every fueler what nobody has claimed in time."""
    waited_s = section.offer_to_all_after / timedelta(seconds=1)

    def due(document: Document, now_ms: int) -> OfferToAll | None:
        order = cast("FuelOrder", document)
        if not offer_is_due(order, now_ms=now_ms, after_ms=int(waited_s * 1000)):
            return None
        return OfferToAll(fuelOrderID=order.fuelOrderID, waitedSeconds=waited_s)

    return Sweep(
        name="offers_to_all",
        selection=Selection((FuelOrder.kind,), states=frozenset({FuelStatus.UNASSIGNED.value})),
        every_s=min(waited_s / LOOKS, MAX_INTERVAL_S),
        command=offer_to_all,
        due=due,
    )
