"""Peers that have no link yet: what waits for them, and when they may be dialled again. Bounded in every way."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

RETRY_FIRST_S = 0.25
RETRY_MAX_S = 8.0
FAILURES_MAX = 4096
PEERS_MAX = 1024


@dataclass(slots=True)
class _Queue:
    frames: deque[bytes] = field(default_factory=deque)
    size_bytes: int = 0


class WaitingFrames:
    """Frames for peers that are being dialled: so many, and so many bytes, for each of at most 1,024 peers."""

    def __init__(self, frames_max: int, bytes_max: int) -> None:
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._queues: dict[bytes, _Queue] = {}

    def __len__(self) -> int:
        """Peers that something waits for."""
        return len(self._queues)

    def add(self, peer: bytes, payload: bytes) -> bool:
        """False: dropped, there is no room."""
        queue = self._queues.get(peer)
        if queue is None:
            if len(self._queues) >= PEERS_MAX:
                return False
            queue = self._queues[peer] = _Queue()
        if len(queue.frames) >= self._frames_max or queue.size_bytes + len(payload) > self._bytes_max:
            return False
        queue.frames.append(payload)
        queue.size_bytes += len(payload)
        return True

    def take(self, peer: bytes) -> deque[bytes]:
        """All that waits for the peer, in order."""
        queue = self._queues.pop(peer, None)
        return queue.frames if queue is not None else deque()


@dataclass(slots=True)
class _Failure:
    retry_at_s: float
    delay_s: float


class FailedDials:
    """Peers that did not answer: each may be tried again after 0.25 s, then twice that, up to 8 s."""

    def __init__(self) -> None:
        self._failures: OrderedDict[bytes, _Failure] = OrderedDict()

    def may_try(self, peer: bytes, now_s: float) -> bool:
        failure = self._failures.get(peer)
        return failure is None or now_s >= failure.retry_at_s

    def note(self, peer: bytes, now_s: float) -> None:
        """It failed; a failure while it was not to be tried at all counts for nothing."""
        if not self.may_try(peer, now_s):
            return
        known = self._failures.pop(peer, None)
        delay_s = RETRY_FIRST_S if known is None else min(RETRY_MAX_S, 2 * known.delay_s)
        self._failures[peer] = _Failure(now_s + delay_s, delay_s)
        while len(self._failures) > FAILURES_MAX:
            self._failures.popitem(last=False)

    def forget(self, peer: bytes) -> None:
        """It answered, or another address of it is known."""
        self._failures.pop(peer, None)

    def clear(self) -> None:
        self._failures.clear()
