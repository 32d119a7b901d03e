"""Where peers are said to be, and where this node is. Texts of multiaddrs; bounded, whoever tells them."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable

import ifaddr
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from ...crypto.identity import node_id_from_text, peer_id_text

PEERS_MAX = 8192
ADDRESSES_PER_PEER_MAX = 8
RELAYS_PER_PEER_MAX = 3
ADDRESS_LENGTH_MAX = 256
CIRCUIT = "/p2p-circuit"


class AddressError(ValueError):
    """No address that this node could dial. The text says why."""


def split_peer_address(text: str) -> tuple[bytes, str]:
    """The node that an address ends in, and the address without it. Raises AddressError.

    `/ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…` or `…/p2p/RELAY/p2p-circuit/p2p/12D3Koo…`.
    """
    if len(text) > ADDRESS_LENGTH_MAX:
        raise AddressError(f"an address of {len(text)} characters, at most {ADDRESS_LENGTH_MAX} allowed")
    base, separator, name = text.rpartition("/p2p/")
    if not separator:
        raise AddressError(f"{text}: it does not end in /p2p/ and a peer id")
    try:
        node = node_id_from_text(name)
        Multiaddr(text)
    except (ValueError, MultiaddrError) as error:
        raise AddressError(f"{text}: {error}") from None
    return node, base


def with_peer(address: str, node: bytes) -> str:
    return f"{address}/p2p/{peer_id_text(node)}"


class AddressBook:
    """The last addresses learned of each peer; of the peers the last 8,192."""

    def __init__(self) -> None:
        self._peers: OrderedDict[bytes, tuple[tuple[str, ...], tuple[bytes, ...]]] = OrderedDict()

    def learn(self, peer: bytes, addresses: Iterable[str], relays: Iterable[bytes]) -> bool:
        """Take in what can be read of it; True if it was news. Nothing to read keeps what is known."""
        usable: dict[str, None] = {}
        for text in list(addresses)[:ADDRESSES_PER_PEER_MAX]:
            address = _address_of(peer, text)
            if address is not None:
                usable[address] = None
        learned = (tuple(usable), tuple(dict.fromkeys(list(relays)[:RELAYS_PER_PEER_MAX])))
        known = self._peers.get(peer)
        if not any(learned) or known == learned:
            return False
        self._peers[peer] = learned
        self._peers.move_to_end(peer)
        while len(self._peers) > PEERS_MAX:
            self._peers.popitem(last=False)
        return True

    def direct(self, peer: bytes) -> list[str]:
        """Addresses to dial, in the peer's own order, without its id."""
        addresses, _ = self._peers.get(peer, ((), ()))
        return [address for address in addresses if CIRCUIT not in address]

    def circuits(self, peer: bytes) -> list[tuple[bytes, list[str]]]:
        """Relays that lead to the peer, each with the addresses of the relay that are known."""
        addresses, relays = self._peers.get(peer, ((), ()))
        found: dict[bytes, list[str]] = {}
        for address in addresses:
            via, separator, _ = address.partition(CIRCUIT)
            if separator:
                try:
                    relay, base = split_peer_address(via)
                except AddressError:
                    continue
                found.setdefault(relay, []).append(base)
        for relay in relays:
            found.setdefault(relay, []).extend(self.direct(relay))
        return [(relay, list(dict.fromkeys(bases))) for relay, bases in found.items() if relay != peer]

    def knows(self, peer: bytes) -> bool:
        return peer in self._peers


def _address_of(peer: bytes, text: str) -> str | None:
    """The address without the peer's id; None if it is another's or cannot be read."""
    suffix = f"/p2p/{peer_id_text(peer)}"
    try:
        if not text.endswith(suffix):
            text += suffix
        node, base = split_peer_address(text)
    except AddressError:
        return None
    if node != peer or (CIRCUIT not in base and "/p2p/" in base):
        return None
    return base


def announced(listening: Iterable[str], own: bytes) -> tuple[str, ...]:
    """The addresses under which others may find what listens here, each ending in our peer id.

    A wildcard becomes the addresses of all interfaces; loopback only where there is nothing else.
    """
    found: dict[str, None] = {}
    for text in listening:
        text = text.partition("/p2p/")[0]
        parts = text.split("/")
        if len(parts) < 5 or parts[1] not in ("ip4", "ip6"):
            found[text] = None
            continue
        host = ipaddress.ip_address(parts[2])
        hosts = _interface_addresses(host.version) if host.is_unspecified else [str(host)]
        for one in hosts:
            found["/".join((*parts[:2], one, *parts[3:]))] = None
    return tuple(with_peer(address, own) for address in found)


def _interface_addresses(version: int) -> list[str]:
    """Of all interfaces that are up; not link-local, and loopback only if there is nothing else."""
    outer: list[str] = []
    inner: list[str] = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            text = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            address = ipaddress.ip_address(text)
            if address.version != version or address.is_link_local or address.is_unspecified:
                continue
            (inner if address.is_loopback else outer).append(text)
    return list(dict.fromkeys(outer or inner))
