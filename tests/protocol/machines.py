"""One sub-machine alone, with peers that it knows; what it wants done, as it would be done."""

from __future__ import annotations

from typing import Any

from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.config import LOCAL, ProtocolConfig
from hearthmesh.protocol.context import Context
from hearthmesh.protocol.effects import Effect, Notify, Send
from hearthmesh.protocol.membership import Membership
from hearthmesh.protocol.messages import Message
from hearthmesh.protocol.records import BatchHeader, JobSpec, Record, RecordKind, ReplicaSet, sign_record
from tests.protocol.arena import context, identity

ME, A, B, C, D = (identity(number) for number in range(1, 6))
SUBMITTER = identity(9)
PEERS = (A.node_id, B.node_id, C.node_id)
SPEC = sign_record(
    SUBMITTER,
    RecordKind.SPEC,
    JobSpec(1, bytes(32), b"", "job", "wasm", "function", bytes(32), 1, "", "hearth_task", (), 100),
)
JOB = SPEC.id
REPLICA_SET = sign_record(SUBMITTER, RecordKind.REPLICA_SET, ReplicaSet(JOB, 0, PEERS))


class Bench:
    """A context of its own, a membership in which the peers are alive, and a look at the effects."""

    def __init__(self, config: ProtocolConfig = LOCAL, peers: tuple[bytes, ...] = PEERS) -> None:
        self.ctx: Context = context(1, config)
        self.members = Membership(self.ctx, 1)
        for peer in peers:
            self.members.learn(peer, 1, 0, serves=True)
            self.members.connected(peer, 0)
        self.ctx.take_effects()

    def effects(self) -> list[Effect]:
        """All since the last time."""
        return self.ctx.take_effects()

    def sent(self) -> list[tuple[bytes, Message]]:
        return [(effect.peer, effect.message) for effect in self.effects() if isinstance(effect, Send)]

    def notes(self) -> list[tuple[str, dict[str, Any]]]:
        return [(effect.name, effect.fields) for effect in self.effects() if isinstance(effect, Notify)]


def batch_header(first: int, count: int = 1, *, epoch: int = 1, by: Identity = ME) -> Record:
    body = BatchHeader(JOB, first, count, epoch, bytes([first]) * 32, 0, 10, 0, 5, 5, False, b"")
    return sign_record(by, RecordKind.BATCH, body)
