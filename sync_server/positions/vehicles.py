"""The vehicles that positions are about, as the log has them: whether there are such, and who may see them."""

from collections.abc import Iterable
from typing import NamedTuple

from sync_core.domain.document import Ref
from sync_core.domain.vehicles import Vehicle
from sync_server.access.caller import Caller
from sync_server.log.base import Bounds, EventLog
from sync_server.log.records import StoredDocument

__all__ = ["Known", "Vehicles", "may_see"]


class Known(NamedTuple):
    """Those that there are, by id, and where the log ended then."""

    bounds: Bounds
    vehicles: dict[str, StoredDocument]


class Vehicles:
    """Looks them up."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._ensured: set[str] = set()

    async def known(self, tenant: str, vehicle_ids: Iterable[str]) -> Known:
        """One read for all. Raises LogError."""
        if tenant not in self._ensured:
            await self._log.ensure(tenant)
            self._ensured.add(tenant)
        page = await self._log.load(tenant, [Ref(Vehicle.kind, vehicle_id) for vehicle_id in vehicle_ids])
        return Known(page.bounds, {document.id: document for document in page.documents if not document.deleted})


def may_see(caller: Caller, vehicle: StoredDocument) -> bool:
    """Whether *caller* may see *vehicle*, and with it where it is."""
    return caller.rights.sees_document(Vehicle, vehicle.grants, vehicle.audience)
