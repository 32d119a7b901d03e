"""Who keeps a job: weighted rendezvous hashing, with seats spread over heat zones.

Every node computes the same order from the same candidates: scores are whole numbers, because a logarithm in
floating point may differ in its last bit between two machines.

Source: Thaler and Ravishankar, Using Name-Based Mappings to Increase Hit Rates (1998); the weighting -w /
ln(u) after Schindelhauer and Schomaker, Weighted Distributed Hash Tables (2005).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from ..crypto.certificates import Certificate, CertificateError, Role
from .records import MemberRecord
from .vouching import vouched_by

_FRACTION_BITS = 32
_WEIGHT_SCALE = 1 << 16
_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S
# Age in seconds from which a node weighs so much. Steps, so that two clocks that differ by seconds agree; few
# and saturating, because a node states its own age.
_WEIGHT_BY_AGE_S = ((30 * _DAY_S, 4.0), (7 * _DAY_S, 3.0), (_DAY_S, 2.0), (_HOUR_S, 1.5), (0, 1.0))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that could keep a job.

    weight: > 0, relative share of jobs.  zone: heat zone; an empty one counts as the node's own.
    year_round: its sink wants heat in summer too.  owner, site: as its certificate has them; empty counts as its own.
    """

    node: bytes
    weight: float
    zone: str
    year_round: bool
    owner: str = ""
    site: str = ""


def choose_replicas(
    job_id: bytes, candidates: Iterable[Candidate], count: int, exclude: Sequence[bytes] = ()
) -> list[bytes]:
    """The replica set in order of seats: at most `count` nodes, fewer only if there are fewer candidates.

    Each seat goes to the highest score among those of an owner, a zone and a site that have no seat yet; where there
    are none, sites may repeat, then zones, then owners. The last seat goes to a year-round sink if there is any and no
    seat has one yet.

    Disruption: taking away a node that has no seat changes nothing. Taking away one that has a seat brings in
    one other node while all zones differ, and at most two otherwise: then a year-round zone-mate of the lost
    one may take its seat and free the seat that was kept for a year-round sink.
    """
    ranked = _ranked(job_id, candidates, exclude)
    chosen: list[Candidate] = []
    while len(chosen) < count:
        seat = _next_seat(ranked, chosen, last=len(chosen) == count - 1)
        if seat is None:
            break
        chosen.append(seat)
    return [seat.node for seat in chosen]


def replacement(job_id: bytes, current: Sequence[bytes], dead: bytes, candidates: Iterable[Candidate]) -> bytes | None:
    """The node that takes the seat of `dead` beside those that stay, by the rules of `choose_replicas`.

    current: the replica set.  Members of it that are no candidates any more count for no zone.
    None if no other candidate is left.
    """
    known = list(candidates)
    staying = [each for each in known if each.node in current and each.node != dead]
    ranked = _ranked(job_id, known, [*current, dead])
    seat = _next_seat(ranked, staying, last=True)
    return seat.node if seat else None


def heirs(job_id: bytes, staying: Sequence[bytes], candidates: Iterable[Candidate], count: int) -> list[bytes]:
    """Who would take a seat beside those that stay, and who if that one were not there; at most `count`."""
    known = list(candidates)
    beside = [each for each in known if each.node in staying]
    ranked = _ranked(job_id, known, staying)
    found: list[bytes] = []
    while len(found) < count and (seat := _next_seat(ranked, beside, last=True)) is not None:
        found.append(seat.node)
        ranked.remove(seat)
    return found


def candidates_from(members: Iterable[MemberRecord], now_s: int) -> list[Candidate]:
    """Those members that may keep jobs: role REPLICA, and reachable directly, not through a relay.

    now_s: unix seconds. Long-lived nodes weigh more: 1 at first, 4 after 30 days.
    """
    return [
        _candidate(member, now_s)
        for member in members
        if member.roles & Role.REPLICA and member.addresses and not member.relays
    ]


def _candidate(member: MemberRecord, now_s: int) -> Candidate:
    vouched = vouched_by(member.certificate)
    weight = _weight(now_s - _since_s(member))
    return Candidate(member.node, weight, member.zone, member.year_round, vouched.owner, vouched.site)


def score(job_id: bytes, node: bytes, weight: float) -> int:
    """weight / -log2(u), scaled by 2**48, with u uniform in (0, 1) from the hash of job and node."""
    uniform = int.from_bytes(sha256(b"hearthmesh/rendezvous" + job_id + node).digest()[:8], "big")
    return (int(weight * _WEIGHT_SCALE) << 64) // _negative_log2(uniform | 1)


def _ranked(job_id: bytes, candidates: Iterable[Candidate], exclude: Sequence[bytes]) -> list[Candidate]:
    """Distinct candidates, best first."""
    eligible = {each.node: each for each in candidates if each.node not in exclude and each.weight > 0}
    return sorted(eligible.values(), key=lambda each: (-score(job_id, each.node, each.weight), each.node))


def _next_seat(ranked: Sequence[Candidate], chosen: Sequence[Candidate], *, last: bool) -> Candidate | None:
    seated = {each.node for each in chosen}
    zones = {each.zone for each in chosen if each.zone}
    sites = {each.site for each in chosen if each.site}
    owners = {each.owner for each in chosen if each.owner}
    free = [each for each in ranked if each.node not in seated]
    if last and not any(each.year_round for each in chosen):
        free = [each for each in free if each.year_round] or free

    def near(each: Candidate) -> int:
        """How much would be lost together with those that have a seat; two of one owner can also put together a key."""
        if each.owner in owners:
            return 3
        return 2 if each.zone in zones else int(each.site in sites)

    return min(free, key=near, default=None)


def _since_s(member: MemberRecord) -> int:
    """A node states its own age, but is no older than its admission."""
    return max(member.since_s, _admitted_s(member.certificate))


@lru_cache(maxsize=4096)
def _admitted_s(certificate: bytes) -> int:
    try:
        return Certificate.from_bytes(certificate).not_before_s
    except CertificateError:
        return 0


def _weight(age_s: int) -> float:
    for least_s, weight in _WEIGHT_BY_AGE_S:
        if age_s >= least_s:
            return weight
    return 1.0


def _negative_log2(uniform: int) -> int:
    """-log2(uniform / 2**64) with 32 fractional bits, at least 1.  uniform: odd, in (0, 2**64).

    Bit by bit: squaring a mantissa in [1, 2) doubles its logarithm.
    """
    exponent = uniform.bit_length() - 1
    mantissa = uniform << (63 - exponent)
    fraction = 0
    for _ in range(_FRACTION_BITS):
        mantissa = (mantissa * mantissa) >> 63
        fraction <<= 1
        if mantissa >> 64:
            mantissa >>= 1
            fraction |= 1
    return max(1, (64 << _FRACTION_BITS) - ((exponent << _FRACTION_BITS) | fraction))
