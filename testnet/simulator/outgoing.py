"""Which messages wait for the disk. The one place to keep in line with the driver of real nodes."""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol.messages import Granted, HandOn, Message, Records, Stored, Submitted

_ACKNOWLEDGE_OR_GRANT = (Stored, Submitted, Granted, HandOn, Records)


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


def rests_on_disk(message: Message) -> bool:
    """Whether a message says that something is on the sender's disk, or gives away what that disk must remember.

    Such a message never overtakes a write that came before it, and is not said at all while writes fail. The others
    (pings, tables, steals, refusals, progress, results on their way) would be as true after a crash.
    """
    return isinstance(message, _ACKNOWLEDGE_OR_GRANT)
