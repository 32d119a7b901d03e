"""Who gets a copy: an order of the nodes that no worker can know before its own result is signed, nor change.

The submitter draws a salt after it has the result that is to be checked. Nodes are ranked by a hash of salt and node;
the first two may have the copy at once, and as time passes without a taker twice as many, so that a check never
waits for two that are busy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

FIRST_CHOSEN = 2


@dataclass(frozen=True, slots=True)
class Checker:
    """A node that could run a copy. zone, site, owner: where it stands, whose it is; empty counts as one of its own."""

    node: bytes
    zone: str
    site: str
    owner: str
    keeps_job: bool


def ticket(salt: bytes, node: bytes) -> bytes:
    """What nodes are ranked by; the lowest comes first."""
    return sha256(b"hearthmesh/checker" + salt + node).digest()


def ranked(salt: bytes, checkers: Iterable[Checker], avoid: Sequence[Checker], avoided: Sequence[bytes]) -> list[bytes]:
    """Nodes that may run a copy, in order: first those of other places and owners than the avoided ones that do not
    keep the job (who keeps it could copy the answer), then others that are apart, then the rest; each by ticket.

    avoided: ids of nodes that never may; avoid: those of them of which a place is known.
    """
    zones = {other.zone for other in avoid if other.zone}
    sites = {other.site for other in avoid if other.site}
    owners = {other.owner for other in avoid if other.owner}

    def group(checker: Checker) -> int:
        if checker.zone in zones or checker.site in sites or checker.owner in owners:
            return 2
        return 1 if checker.keeps_job else 0

    eligible = [(group(each), ticket(salt, each.node), each.node) for each in checkers if each.node not in avoided]
    eligible.sort()
    return [node for _, _, node in eligible]


def chosen_count(waited_us: int, step_us: int) -> int:
    """How many of the ranked nodes may have the copy after so long without a taker."""
    return FIRST_CHOSEN << min(30, max(0, waited_us) // step_us)


def site_of(addresses: Sequence[str]) -> str:
    """Of the first IP address among multiaddr texts: its /24, or /48 for IPv6; empty if there is none.

    Loopback addresses say nothing of where a machine stands.
    """
    for address in addresses:
        parts = address.split("/")
        if len(parts) > 2 and parts[1] == "ip4" and not parts[2].startswith("127."):
            return ".".join(parts[2].split(".")[:3])
        if len(parts) > 2 and parts[1] == "ip6" and parts[2] != "::1":
            return ":".join(parts[2].split(":")[:3])
    return ""
