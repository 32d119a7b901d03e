"""Peers that broke rules: how often of late, and who is not let in for a while."""

from __future__ import annotations

from collections import deque

import structlog

from ..protocol.effects import Reason

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# A peer that broke this many rules within a minute is cut off for that long.
PENALTIES_MAX = 20
PENALTY_WINDOW_US = 60_000_000
# Of one peer so often at most, or the log would be what it floods.
PENALTY_LOG_US = 1_000_000
PEERS_MAX = 1024


class Penalties:
    """Bounded by `PEERS_MAX` peers; the oldest are forgotten."""

    def __init__(self) -> None:
        self._times: dict[bytes, deque[int]] = {}
        self._banned_until: dict[bytes, int] = {}

    def is_banned(self, peer: bytes, now_us: int) -> bool:
        return self._banned_until.get(peer, 0) > now_us

    def add(self, peer: bytes, reason: Reason, now_us: int) -> bool:
        """Count a broken rule; True if the peer is banned from now on."""
        times = self._times.setdefault(peer, deque(maxlen=PENALTIES_MAX))
        if not times or now_us - times[-1] >= PENALTY_LOG_US:
            log.warning("peer.penalised", peer=peer.hex()[:16], reason=str(reason))
        times.append(now_us)
        while len(self._times) > PEERS_MAX:
            del self._times[next(iter(self._times))]
        if len(times) < PENALTIES_MAX or now_us - times[0] >= PENALTY_WINDOW_US:
            return False
        self._banned_until[peer] = now_us + PENALTY_WINDOW_US
        while len(self._banned_until) > PEERS_MAX:
            del self._banned_until[next(iter(self._banned_until))]
        return True
