"""Counting what ran into a bound: a counter and a log event for each of `protocol.limits.Limit`."""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from ..protocol.limits import Limit

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Of one limit so often at most, or the log would be what a flood fills; the event says how many it stands for.
LOG_EVERY_S = 1.0


class LimitMeter:
    """One node's counters. `hit` never raises and never waits."""

    def __init__(self, now_s: Callable[[], float] = trio.current_time) -> None:
        self.counts: dict[Limit, int] = dict.fromkeys(Limit, 0)
        self._now_s = now_s
        self._logged_s: dict[Limit, float] = {}
        self._unlogged: dict[Limit, int] = {}

    def hit(self, limit: Limit, peer: bytes = b"", source: str = "", times: int = 1) -> None:
        """Somebody ran into it.  peer, source: who and from where, as far as that is known."""
        self.counts[limit] += times
        hits = self._unlogged.get(limit, 0) + times
        now_s = self._now_s()
        if now_s - self._logged_s.get(limit, -LOG_EVERY_S) < LOG_EVERY_S:
            self._unlogged[limit] = hits
            return
        self._logged_s[limit] = now_s
        self._unlogged[limit] = 0
        fields = {"peer": peer.hex()[:16]} if peer else {}
        if source:
            fields["source"] = source
        log.warning(f"limit.{limit}", hits=hits, **fields)

    def shown(self) -> dict[str, int]:
        """All of them, by name."""
        return {str(limit): count for limit, count in self.counts.items()}
