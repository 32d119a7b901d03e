"""What a message may cost the one who gets it, before it is looked at closely."""

from __future__ import annotations

from .messages import (
    Accused,
    Announce,
    CellDigest,
    Delivery,
    FoundJobs,
    FoundNodes,
    Granted,
    HandOn,
    KeyShare,
    KeyWanted,
    Message,
    Records,
    Renew,
    Revocations,
    ShareGiven,
    SharePart,
    ShareWanted,
    Submit,
    Subscribe,
    Superseded,
    TableRows,
)

# Its own, and those of the records that it embeds: a grant has a parent, a release a grant, a copy's batch its grant.
EMBEDDED = 2
# The accusation, the spec, two headers, and the certificates of the submitter and of two workers.
ACCUSED = 7
# A share is opened and another sealed, by three multiplications of points.
SEALED = 3
# A signature over so many bytes takes twice as long to check as one over few.
BYTES_A_SIGNATURE = 32 * 1024
# Ranges of tasks that are looked up in the time of one signature: in leases, and in what is done.
RANGES_A_SIGNATURE = 8
KNOWN_RANGES_A_SIGNATURE = 64
# Whatever it says: what is known of the tasks that the shortest renewal may name, and all batches of a job.
RENEWAL = 16
SUBSCRIPTION = 4


def signatures_in(message: Message) -> int:
    """How many signatures have to be checked for it, about, and at most in an honest one; or what takes as long."""
    match message:
        case TableRows() | FoundNodes():
            return EMBEDDED * len(message.rows)
        case CellDigest():
            return len(message.jobs)
        case Granted() | HandOn():
            return EMBEDDED * len(message.grants) + len(message.context)
        case Delivery():
            return EMBEDDED + 1
        case Records() | Announce():
            return EMBEDDED * len(message.records)
        case Submit():
            return EMBEDDED + 1
        case FoundJobs():
            return len(message.context)
        case Revocations():
            return 1 + len(message.revocation_list) // BYTES_A_SIGNATURE
        case Accused():
            return ACCUSED
        case KeyWanted():
            return EMBEDDED + 1 + SEALED
        case KeyShare() | ShareGiven() | SharePart() | ShareWanted():
            return SEALED
        case Renew():
            return RENEWAL + sum(len(held.ranges) for held in message.jobs) // RANGES_A_SIGNATURE
        case Superseded():
            return sum(len(held.ranges) for held in message.jobs) // RANGES_A_SIGNATURE
        case Subscribe():
            return SUBSCRIPTION + len(message.have) // KNOWN_RANGES_A_SIGNATURE
        case _:
            return 0
