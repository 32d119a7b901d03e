"""A worker's keys: asked of the replicas of a job that it holds tasks of, put together here, wiped with its last task.

Keys are in this process's memory and nowhere else. A wiped one is overwritten; copies that Python, or the cipher, made
of it meanwhile are not (docs/confidentiality.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ...crypto.sealing import SealError
from ...crypto.sharing import Share, recover, share_place
from ..context import Context
from ..effects import Reason
from ..jobs import JobState
from ..messages import KeyRefused, KeyShare, KeyWanted
from ..records import Record
from .keys import key_digest, open_secret

# Asked so often, in vain, a worker gives the job's tasks back: within two thirds of a lease.
TRIES_MAX = 4


@dataclass(slots=True)
class WantedKey:
    """grant: by which it is asked for.  shares, refusals: by replica."""

    grant: Record
    asked_us: int = 0
    tries: int = 0
    requests: dict[int, bytes] = field(default_factory=dict)
    shares: dict[bytes, Share] = field(default_factory=dict)
    refusals: dict[bytes, str] = field(default_factory=dict)


class KeyRing:
    """Sub-machine of a worker. retry_us: after which who did not answer is asked again."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._keys: dict[bytes, bytearray] = {}
        self._wanted: dict[bytes, WantedKey] = {}

    @property
    def waiting(self) -> bool:
        return bool(self._wanted)

    @property
    def held(self) -> tuple[bytes, ...]:
        """Jobs of which there is a key."""
        return tuple(self._keys)

    def key(self, job_id: bytes) -> bytearray | None:
        """Not to be kept by who asks: it is wiped in place."""
        return self._keys.get(job_id)

    def lacks(self, view: JobState) -> bool:
        """Whether the job's tasks cannot be run here, or not yet, for want of its key."""
        return view.spec.secrecy is not None and view.job_id not in self._keys

    def want(self, view: JobState, grant: Record, now_us: int) -> None:
        """Ask the replicas for their shares, if they were not asked yet."""
        wanted = self._wanted.get(view.job_id)
        if wanted is None:
            wanted = self._wanted[view.job_id] = WantedKey(grant)
            self._ask(view, wanted, now_us)

    def ask_again(self, view: JobState, grant: Record, now_us: int, retry_us: int) -> bool:
        """Ask those that did not answer, with a grant that is still held; False if the key is not to be had."""
        wanted = self._wanted.get(view.job_id)
        if wanted is None or now_us - wanted.asked_us < retry_us:
            return True
        if wanted.tries >= TRIES_MAX:
            return False
        wanted.refusals.clear()
        wanted.grant = grant
        self._ask(view, wanted, now_us)
        return True

    def _ask(self, view: JobState, wanted: WantedKey, now_us: int) -> None:
        wanted.asked_us, wanted.tries = now_us, wanted.tries + 1
        for node in view.replicas:
            if node not in wanted.shares:
                request = self._ctx.next_request()
                wanted.requests[request] = node
                self._ctx.send(node, KeyWanted(request, view.job_id, wanted.grant.raw, self._ctx.certificate))

    def give_up(self, job_id: bytes) -> None:
        self._wanted.pop(job_id, None)

    def on_share(self, peer: bytes, message: KeyShare, view: JobState | None) -> bool:
        """True if the key is complete now."""
        wanted = self._wanted.get(message.job_id)
        if wanted is None or view is None or wanted.requests.pop(message.request, None) != peer:
            return False
        assert view.spec.secrecy is not None
        try:
            secret = open_secret(self._ctx, message.sealed, "key share", message.job_id)
        except SealError:
            self._ctx.penalise(peer, Reason.BAD_PROOF)
            return False
        share = Share(share_place(message.job_id, peer), secret)
        for other in wanted.shares.values():
            key = recover((share, other))
            if key_digest(key) == view.spec.secrecy.key_digest:
                self._keys[message.job_id] = bytearray(key)
                del self._wanted[message.job_id]
                return True
        # With two that do not fit, a third tells which is wrong; nobody can tell before.
        wanted.shares[peer] = share
        if len(wanted.shares) > 1:
            self._ctx.notify("key.misfit", job_id=message.job_id, shares=len(wanted.shares))
        return False

    def on_refused(self, peer: bytes, message: KeyRefused, view: JobState | None) -> bool:
        """True if so many refused that the rest is not enough: it is asked again, or given up."""
        wanted = self._wanted.get(message.job_id)
        if wanted is None or view is None or wanted.requests.pop(message.request, None) != peer:
            return False
        wanted.refusals[peer] = message.reason
        self._ctx.notify("key.refused", job_id=message.job_id, replica=peer, reason=message.reason)
        return len(view.replicas) - len(wanted.refusals) < 2

    def keep_only(self, job_ids: Iterable[bytes]) -> list[bytes]:
        """Wipe the keys of all other jobs. Returns theirs."""
        held = dict.fromkeys(job_ids)
        gone = [job_id for job_id in self._keys if job_id not in held]
        for job_id in gone:
            key = self._keys.pop(job_id)
            key[:] = bytes(len(key))
        for job_id in [job_id for job_id in self._wanted if job_id not in held]:
            del self._wanted[job_id]
        return gone
