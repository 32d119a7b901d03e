"""Words for people, as sentences need them."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """1 task, 2 tasks. plural: where it does not end in an s."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
