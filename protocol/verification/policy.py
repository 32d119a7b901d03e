"""How much of a job is run again before it is believed. A policy is a short text in the signed spec."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from .lanes import COPIES_MAX

# Of a quorum at most half of what may ever be run: the other half is for doubts.
QUORUM_MAX = COPIES_MAX // 2
# Right results in a row, after which a node is checked by samples.
PROVEN_AFTER = 10
# Of a node with any record, at least this share of tasks is checked, and it cannot tell which.
AUDIT_FLOOR = 0.02

_SPOT = re.compile(r"spot\((0(?:\.[0-9]{1,4})?|1(?:\.0)?)\)")
_QUORUM = re.compile(r"quorum\(([0-9]{1,2})\)")


class PolicyKind(StrEnum):
    NONE = "none"
    SPOT = "spot"
    QUORUM = "quorum"
    ADAPTIVE = "adaptive"


@dataclass(frozen=True, slots=True)
class Policy:
    """share: of tasks that are checked, for `spot`.  quorum: workers that must agree on a checked task."""

    kind: PolicyKind
    share: float = 0.0
    quorum: int = 2

    def __str__(self) -> str:
        match self.kind:
            case PolicyKind.SPOT:
                return f"spot({self.share:g})"
            case PolicyKind.QUORUM:
                return f"quorum({self.quorum})"
        return str(self.kind)

    def share_to_check(self, streak: int) -> float:
        """The probability that a task is checked. streak: right results in a row of its worker."""
        match self.kind:
            case PolicyKind.NONE:
                return 0.0
            case PolicyKind.SPOT:
                return self.share
            case PolicyKind.QUORUM:
                return 1.0
        return 1.0 if streak < PROVEN_AFTER else max(AUDIT_FLOOR, 1 / streak)

    @property
    def is_strict(self) -> bool:
        """Whether results wait for their checkers for as long as it takes, even if there is nobody to check."""
        return self.kind is PolicyKind.QUORUM


NO_CHECKS = Policy(PolicyKind.NONE)


def parse_policy(text: str) -> Policy:
    """The policy of a spec. Raises ValueError with what would be right."""
    if text in (PolicyKind.NONE, PolicyKind.ADAPTIVE):
        return Policy(PolicyKind(text))
    if found := _SPOT.fullmatch(text):
        return Policy(PolicyKind.SPOT, share=float(found[1]))
    if (found := _QUORUM.fullmatch(text)) and 2 <= int(found[1]) <= QUORUM_MAX:
        return Policy(PolicyKind.QUORUM, quorum=int(found[1]))
    raise ValueError(f'expected "none", "spot(0.05)", "quorum(2)" to "quorum({QUORUM_MAX})", or "adaptive"')
