"""What the driver asks of the world outside of the machine: the links, the blobs, the executors, and the clock."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Protocol

from ..protocol.effects import CompareOutputs, Execute


class Transport(Protocol):
    """What the driver asks of the links."""

    def send(self, peer: bytes, payloads: Sequence[bytes]) -> None: ...

    def publish(self, payload: bytes) -> None: ...

    def learn(self, peer: bytes, addresses: tuple[str, ...], relays: tuple[bytes, ...]) -> None: ...

    def connect(self, peer: bytes) -> None: ...

    def close(self, peer: bytes, reason: str) -> None: ...

    def recheck(self) -> None: ...

    def source_of(self, peer: bytes) -> str:
        """The address without a port, or the relay, that a linked peer comes from; empty if it has no link."""

    def note_fault(self, peer: bytes) -> None:
        """The peer broke a rule: gossip thinks less of it too."""


class Blobs(Protocol):
    """Bringing blobs here, and keeping those that are needed."""

    def hold(self, digests: Collection[bytes], pin: bytes) -> bool:
        """Pin them if all are here; else False, and whatever is pinned stays so for `fetch`."""

    async def fetch(
        self, digests: Sequence[bytes], sources: Sequence[bytes], pin: bytes, sizes: Sequence[int] = ()
    ) -> None: ...

    def unpin(self, owner: bytes) -> None: ...

    def has_room(self) -> bool: ...


class Runner(Protocol):
    """Runs executions; feeds `TaskFinished`, `ExecutionFailed` or `ExecutionSaved` when they end."""

    def start(self, run: Execute) -> None: ...

    def save(self, execution_id: int, patience_s: float) -> None: ...

    def cancel(self, execution_id: int) -> None: ...

    def drop_checkpoint(self, job_id: bytes, index: int) -> None:
        """Nothing of a task that goes on elsewhere is to be left here."""

    def compare(self, wanted: CompareOutputs) -> None:
        """Feeds `OutputsCompared` in the end."""

    def forget(self, job_id: bytes) -> None:
        """Nothing of a confidential job is to be left here in the clear."""


class BlobsUnavailable(Exception):
    """A blob could not be brought here. The text is for the one who waits for it."""


def monotonic_us() -> int:
    """The clock of all machines and timers on this node."""
    return time.monotonic_ns() // 1_000
