"""What this node decided of late about work, and why: a small record, for whoever asks.

Machines note a decision when they take it; `why.py` tells it. The newest of a kind replaces the one before.
"""

from __future__ import annotations

from dataclasses import dataclass

# Peers and jobs of which the newest decision is kept.
REMEMBERED_MAX = 128


@dataclass(frozen=True, slots=True)
class Decision:
    """what: a sentence's predicate; "{peer}" stands for the peer.  detail: a peer's own words, to be quoted only."""

    at_us: int
    what: str
    peer: bytes = b""
    detail: str = ""


class Reasons:
    """Bounded by `REMEMBERED_MAX` a kind."""

    def __init__(self) -> None:
        # What a node without enough work did about it last.
        self.seeking = Decision(0, "it has only started")
        self.refused: dict[bytes, Decision] = {}
        self.denied: dict[bytes, Decision] = {}

    def sought(self, what: str, now_us: int, peer: bytes = b"", detail: str = "") -> None:
        self.seeking = Decision(now_us, what, peer, detail)

    def was_refused(self, peer: bytes, detail: str, now_us: int) -> None:
        """By a peer that was asked for work."""
        _remember(self.refused, peer, Decision(now_us, "{peer} gave nothing", peer, detail))

    def has_denied(self, job_id: bytes, thief: bytes, detail: str, now_us: int) -> None:
        """A thief got nothing of a job that has free tasks here."""
        _remember(self.denied, job_id, Decision(now_us, "{peer} asked and got none", thief, detail))

    def has_granted(self, job_id: bytes) -> None:
        self.denied.pop(job_id, None)

    def last_refusal(self) -> Decision | None:
        return next(reversed(self.refused.values()), None)


def _remember(known: dict[bytes, Decision], key: bytes, decision: Decision) -> None:
    known.pop(key, None)
    known[key] = decision
    while len(known) > REMEMBERED_MAX:
        del known[next(iter(known))]
