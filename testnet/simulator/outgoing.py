"""Messages on their way out of a node, in the order of its effects."""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol.messages import Message


@dataclass(frozen=True, slots=True)
class Outgoing:
    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class OutgoingBatch:
    """A batch that is read from the disk when its turn comes."""

    peer: bytes
    job_id: bytes
    batch_id: bytes
