"""Records of a job, in messages that a link can carry."""

from __future__ import annotations

# Records a message; more go into the next one, so that no frame is too long for the link.
RECORDS_BYTES_MAX = 1024 * 1024
RECORDS_A_MESSAGE_MAX = 256


def in_messages(raws: list[bytes]) -> list[tuple[bytes, ...]]:
    """Records, in order, in parts that a message holds each."""
    parts: list[list[bytes]] = []
    size = RECORDS_BYTES_MAX
    for raw in raws:
        if size + len(raw) > RECORDS_BYTES_MAX or len(parts[-1]) == RECORDS_A_MESSAGE_MAX:
            parts.append([])
            size = 0
        parts[-1].append(raw)
        size += len(raw)
    return [tuple(part) for part in parts]
