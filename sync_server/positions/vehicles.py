"""The vehicles that positions are about, as the log has them: whether there are such, and who may see them."""

from collections.abc import Iterable
from typing import NamedTuple

from sync_core.domain.document import Ref
from sync_core.domain.drivers import OFFICE
from sync_core.domain.vehicles import Vehicle
from sync_core.filters import tag
from sync_core.labels import user_of
from sync_server.access.caller import Caller
from sync_server.access.rights import Rights
from sync_server.log.base import Bounds, EventLog, Selection
from sync_server.log.records import StoredDocument

__all__ = ["Known", "Vehicles", "may_see", "own_tags"]

PAGE = 500


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
        await self._ensure(tenant)
        page = await self._log.load(tenant, [Ref(Vehicle.kind, vehicle_id) for vehicle_id in vehicle_ids])
        return Known(page.bounds, {document.id: document for document in page.documents if not document.deleted})

    async def own(self, caller: Caller, tags: frozenset[str]) -> Known:
        """Those that *caller* sees, all of them standing under its ``own_tags``. Raises LogError."""
        await self._ensure(caller.tenant)
        if not tags:
            return await self.known(caller.tenant, ())
        selection, after, found = Selection((Vehicle.kind,), tags), None, dict[str, StoredDocument]()
        while True:
            page = await self._log.documents(caller.tenant, selection, after=after, limit=PAGE)
            found |= {document.id: document for document in page.documents if may_see(caller, document)}
            after = page.next
            if after is None:
                return Known(page.bounds, found)

    async def _ensure(self, tenant: str) -> None:
        if tenant not in self._ensured:
            await self._log.ensure(tenant)
            self._ensured.add(tenant)


def own_tags(rights: Rights) -> frozenset[str] | None:
    """Under which tags all vehicles stand that one with *rights* may see, who drives them or is bound to them; None
    for who may see all. There are no more of them than tags: a driver has one vehicle."""
    if rights.permissions is None or not rights.labels.isdisjoint(OFFICE):
        return None
    bound = {entity for entity in rights.bound if entity.startswith(tag(Vehicle.id_key, ""))}
    return frozenset(bound | {tag("userID", user_of(label)) for label in rights.personal})


def may_see(caller: Caller, vehicle: StoredDocument) -> bool:
    """Whether *caller* may see *vehicle*, and with it where it is."""
    return caller.rights.sees_document(Vehicle, vehicle.grants, vehicle.audience)
