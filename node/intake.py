"""What one peer, and one source address, may make the machine do: bytes, signatures, gossip.

Over its budget a peer is not read from until it has some again, so the bytes stay in its own socket: honest peers are
slowed, not cut off. Gossip has nobody to slow down, and is dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..protocol.budget import Budget
from ..protocol.limits import Limit
from .limits import LimitMeter

SECOND_US = 1_000_000
KEPT_MAX = 1024
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeLimits:
    """Rates of one peer. A signature takes some 0.1 ms: at its full rate a peer has a tenth of a core."""

    bytes_burst: int = 64 * MIB
    bytes_a_second: int = 16 * MIB
    signatures_burst: int = 10_000
    signatures_a_second: int = 1_000
    gossip_burst: int = 64
    gossip_a_second: int = 8
    source_share: int = 4
    """All peers behind one address, or one relay, together have so many times what one has."""


class Intake:
    """Accounts of peers and sources; bounded. Times in microseconds of one monotonic clock."""

    def __init__(self, limits: IntakeLimits, meter: LimitMeter, source_of: Callable[[bytes], str]) -> None:
        """source_of: a peer's address without its port, or its relay; empty where there is none."""
        self._limits = limits
        self._meter = meter
        self._source_of = source_of
        self._peers: OrderedDict[bytes, tuple[Budget, Budget]] = OrderedDict()
        self._sources: OrderedDict[str, tuple[Budget, Budget]] = OrderedDict()
        self._gossip: OrderedDict[bytes, Budget] = OrderedDict()

    def charge(self, peer: bytes, size_bytes: int, signatures: int, now_us: int) -> None:
        """A message came; whether more may come says `overdrawn_us`."""
        source = self._source_of(peer)
        self._charge(self._of_peer(peer, now_us), size_bytes, signatures, now_us, peer, source, _PEER_LIMITS)
        if source:
            self._charge(self._of_source(source, now_us), size_bytes, signatures, now_us, peer, source, _SOURCE_LIMITS)

    def _charge(
        self,
        account: tuple[Budget, Budget],
        size_bytes: int,
        signatures: int,
        now_us: int,
        peer: bytes,
        source: str,
        names: tuple[Limit, Limit],
    ) -> None:
        of_bytes, of_signatures = account
        if of_bytes.charge(size_bytes, now_us):
            self._meter.hit(names[0], peer, source)
        if signatures and of_signatures.charge(signatures, now_us):
            self._meter.hit(names[1], peer, source)

    def overdrawn_us(self, peer: bytes, now_us: int) -> int:
        """For how long nothing more may be read from the peer; 0 if it may."""
        accounts = [self._peers.get(peer), self._sources.get(self._source_of(peer))]
        return max((budget.overdrawn_us(now_us) for account in accounts if account for budget in account), default=0)

    def takes_gossip(self, author: bytes, now_us: int) -> bool:
        """False: this message is one too many of its author's."""
        budget = self._gossip.get(author)
        if budget is None:
            limits = self._limits
            budget = self._gossip[author] = Budget(limits.gossip_burst, limits.gossip_a_second, SECOND_US, now_us)
            _trim(self._gossip)
        self._gossip.move_to_end(author)
        if budget.spend(1, now_us):
            return True
        self._meter.hit(Limit.GOSSIP_SOURCE, author)
        return False

    def _of_peer(self, peer: bytes, now_us: int) -> tuple[Budget, Budget]:
        account = self._peers.get(peer)
        if account is None:
            account = self._peers[peer] = self._account(1, now_us)
            _trim(self._peers)
        self._peers.move_to_end(peer)
        return account

    def _of_source(self, source: str, now_us: int) -> tuple[Budget, Budget]:
        account = self._sources.get(source)
        if account is None:
            account = self._sources[source] = self._account(self._limits.source_share, now_us)
            _trim(self._sources)
        self._sources.move_to_end(source)
        return account

    def _account(self, times: int, now_us: int) -> tuple[Budget, Budget]:
        limits = self._limits
        return (
            Budget(times * limits.bytes_burst, times * limits.bytes_a_second, SECOND_US, now_us),
            Budget(times * limits.signatures_burst, times * limits.signatures_a_second, SECOND_US, now_us),
        )


_PEER_LIMITS = (Limit.PEER_BYTES, Limit.PEER_SIGNATURES)
_SOURCE_LIMITS = (Limit.SOURCE_BYTES, Limit.SOURCE_SIGNATURES)


def _trim(kept: OrderedDict[Any, Any]) -> None:
    """The one that was quiet for longest goes: it has its whole budget again, or nearly so."""
    while len(kept) > KEPT_MAX:
        kept.popitem(last=False)
