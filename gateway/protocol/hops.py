"""Who the client is behind proxies that are believed: the hops of `X-Forwarded-For`, read from the right."""

from __future__ import annotations

import ipaddress
import logging
import re
import time
from collections.abc import Iterable
from typing import Final, TypeAlias

log = logging.getLogger("gateway.edge")

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_TOLD_SECONDS: Final = 60.0
#: The longest address with its zone, brackets and port has 68.
_MOST_CHARACTERS: Final = 80
#: Proxies write the port, too, when they are told to, and brackets around an IPv6 address then.
_PORTED: Final = re.compile(r"(?:\[(?P<six>[^\[\]:]*:[^\[\]]*)\]|(?P<four>[0-9.]+))(?::[0-9]{1,5})?", re.ASCII)


def plain(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def read_hop(text: str) -> Address | None:
    """The address in `ADDRESS`, `a.b.c.d:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`; None for anything else."""
    if len(text) > _MOST_CHARACTERS:
        return None
    found = _PORTED.fullmatch(text)
    return plain(text if found is None else found["six"] or found["four"])


class Hops:
    """What one process believes of `X-Forwarded-For`; that a proxy's word cannot be read is logged once a minute."""

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        self._trusted = trusted
        self._told: float | None = None

    def trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)

    def client(self, proxy: tuple[str, int] | None, headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, int] | None:
        """
        The right-most hop that is not one of the trusted proxies, for a request that *proxy*, which is one, sends.

        Where a hop cannot be read, the one to its right is the client: nobody vouches for what stands left of it.
        """
        lines = [value for name, value in headers if name == b"x-forwarded-for"]
        hop = proxy
        for text in reversed(b",".join(lines).decode("latin-1").split(",")) if lines else ():
            address = read_hop(text.strip(" \t"))
            if address is None:
                self._tell(hop)
                return hop
            hop = (str(address), 0)
            if not self.trusts(address):
                return hop
        return hop

    def _tell(self, hop: tuple[str, int] | None) -> None:
        now = time.monotonic()
        if self._told is not None and now - self._told < _TOLD_SECONDS:
            return
        self._told = now
        # What stands there is the client's own text, perhaps, and may be a secret.
        log.warning(
            "the proxy %s sends an X-Forwarded-For that names no address: all its clients count as one, itself; "
            "have it write ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT",
            hop[0] if hop else "",
        )
