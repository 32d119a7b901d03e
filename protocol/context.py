"""What the sub-machines of a `Mesh` share: identity, bounds, randomness, and the list of effects in the making."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from ..crypto.certificates import Certificate, CertificateError, CertificateReason, MembershipPolicy
from ..crypto.identity import Identity
from .config import ProtocolConfig
from .effects import CancelTimer, Effect, Limited, Notify, Penalise, Reason, Send, SetTimer, TimerKey
from .limits import Limit
from .messages import Message, Stored
from .reasons import Reasons


class Randomness(Protocol):
    """The part of `random.Random` that machines use; the driver brings it, seeded in simulation.

    In the world it is the system's own (`random.SystemRandom`): checks and keys are drawn from it, and some of what is
    drawn is published. From a few hundred numbers of `random.Random` all later ones can be worked out.
    """

    def random(self) -> float: ...

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int: ...

    def getrandbits(self, k: int) -> int: ...


class Context:
    """Collects effects in order. A message to oneself is looped back instead of sent, unless it is of the disk."""

    def __init__(
        self,
        identity: Identity,
        config: ProtocolConfig,
        rng: Randomness,
        *,
        policy: MembershipPolicy,
        certificate: bytes,
        wall_offset_us: int = 0,
        born_us: int = 0,
    ) -> None:
        """wall_offset_us: what to add to `now_us` for microseconds since 1970; the driver keeps it right.

        born_us: when this life begins, by that clock, since 1970.
        """
        self.identity = identity
        self.node_id = identity.node_id
        self.config = config
        self.rng = rng
        self.policy = policy
        self.certificate = certificate
        self.wall_offset_us = wall_offset_us
        self._born_us = born_us
        self._born_offset_us = wall_offset_us
        self.effects: list[Effect] = []
        self.loopback: deque[Message] = deque()
        self.reasons = Reasons()
        # Nodes that were found lying here, with the accusation that showed it.
        self.convicted: dict[bytes, bytes] = {}
        self._request = 0

    def emit(self, effect: Effect) -> None:
        self.effects.append(effect)

    def send(self, peer: bytes, message: Message) -> None:
        # Its own "stored" counts for the outbox like any other's: not before it is true.
        if peer == self.node_id and not isinstance(message, Stored):
            self.loopback.append(message)
        else:
            self.effects.append(Send(peer, message))

    def set_timer(self, key: TimerKey, at_us: int) -> None:
        self.effects.append(SetTimer(key, at_us))

    def cancel_timer(self, key: TimerKey) -> None:
        self.effects.append(CancelTimer(key))

    def notify(self, name: str, **fields: Any) -> None:
        self.effects.append(Notify(name, fields))

    def limit(self, limit: Limit, peer: bytes) -> None:
        """A peer ran into a bound."""
        self.effects.append(Limited(limit, peer))

    def penalise(self, peer: bytes, reason: Reason) -> None:
        self.effects.append(Penalise(peer, reason))

    def next_request(self) -> int:
        """Numbers requests of this node from 1 on; 0 means unsolicited."""
        self._request += 1
        return self._request

    def take_effects(self) -> list[Effect]:
        effects, self.effects = self.effects, []
        return effects

    def sample(self, items: list[bytes], count: int) -> list[bytes]:
        """Distinct random items, at most count."""
        pool = list(items)
        chosen: list[bytes] = []
        while pool and len(chosen) < count:
            chosen.append(pool.pop(self.rng.randrange(len(pool))))
        return chosen

    def wall_us(self, now_us: int) -> int:
        """Microseconds since 1970, for records that outlive this process."""
        return now_us + self.wall_offset_us

    def born_us(self) -> int:
        """When this life began, in microseconds since 1970, by the clock as it is now."""
        return self._born_us + self.wall_offset_us - self._born_offset_us

    def is_former(self, born_us: int, now_us: int) -> bool:
        """Whether a life of this node that is said to have begun then, and comes after this one, was one before it.

        It begins later than the clock shows, which was set back since; or before this life did, whose clock was behind
        at its start and has been put right. Any other is of another process with this key, as clients may have.
        """
        return born_us > self.wall_us(now_us) or self._born_us < born_us < self.born_us()

    def admitted_until_us(self) -> int:
        """The first moment, in microseconds since 1970, at which nobody takes this node for a member any more.

        Less than 2^60, as certificates are bounded.
        """
        return (Certificate.from_bytes(self.certificate).not_after_s + 1) * 1_000_000

    def admitted(self, certificate: bytes, node: bytes, needs: int, now_us: int) -> bool:
        """Whether the certificate admits the node with a role, now."""
        try:
            self.check(certificate, node, needs, now_us)
        except CertificateError:
            return False
        return True

    def refusal(
        self, peer: bytes, certificate: bytes, node: bytes, needs: int, now_us: int
    ) -> CertificateReason | None:
        """Why a certificate that a peer shows does not admit the node with a role, now; None if it does.

        The peer is penalised for one that never counts, and for no other.

        By a clock that is an hour behind whoever was admitted since is not admitted yet: a node that blamed the others
        for that would soon talk to nobody.
        """
        try:
            self.check(certificate, node, needs, now_us)
        except CertificateError as error:
            if not error.reason.depends_on_clock:
                self.penalise(peer, Reason.NOT_ADMITTED)
            return error.reason
        return None

    def check(self, certificate: bytes, node: bytes, needs: int, now_us: int) -> Certificate:
        """The certificate, if it admits the node with a role, now. Raises CertificateError."""
        return self.policy.check(certificate, node, self.wall_us(now_us) // 1_000_000, needs)
