"""Where a request really comes from, where there are proxies in between that are trusted to say so."""

import ipaddress
from collections.abc import Iterable

from starlette.types import Scope

__all__ = ["Proxies"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """The *trusted* ones (addresses and networks). What anybody else says about itself is not believed."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(network) for network in trusted)

    def locate(self, scope: Scope) -> None:
        """Put the client's own address and scheme into *scope*, if a trusted proxy passed it on.

        Of ``X-Forwarded-For`` the last address that is no trusted proxy is the client: what stands before it was
        written by the client itself.
        """
        client = scope.get("client")
        if not self._networks or client is None or not self._trusts(client[0]):
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        host = client[0]
        for entry in reversed(_entries(headers, b"x-forwarded-for")):
            address = _host(entry)
            if address is None:
                break
            host = address
            if not self._trusts(host):
                break
        scope["client"] = (host, 0)
        scheme = _entries(headers, b"x-forwarded-proto")[-1:]
        if scheme in (["http"], ["https"]):
            scope["scheme"] = scheme[0]

    def _trusts(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def _entries(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """The comma list of all headers of that name, in order."""
    joined = ",".join(value.decode("latin-1") for key, value in headers if key == name)
    return [entry.strip() for entry in joined.split(",") if entry.strip()]


def _host(entry: str) -> str | None:
    """The address of an entry, which may have a port; None if there is none."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        return str(ipaddress.ip_address(entry))
    except ValueError:
        return None
