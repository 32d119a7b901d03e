"""What a node says of itself: its member record, told anew whenever something of it changes."""

from __future__ import annotations

from dataclasses import dataclass

from ..crypto.certificates import Role
from .context import Context
from .records import MemberRecord, RecordKind, sign_record
from .tables import Tables


@dataclass(frozen=True, slots=True)
class NodeProfile:
    """What a node says of itself in its member record. roles: as its certificate has them.

    sees_nans: known to itself alone; whether a NaN that its processor makes has other bits than the canonical one.
    """

    name: str
    roles: Role
    zone: str
    year_round: bool
    cores: int
    memory_bytes: int
    native_commands: tuple[str, ...] = ()
    wasm: bool = True
    machine: str = ""
    builds: tuple[bytes, ...] = ()
    sees_nans: bool = True


# As a number: a flag's own operators cost ten times as much, and this is asked for every row.
_SERVING = int(Role.WORKER | Role.REPLICA | Role.RELAY)


def serves(role_bits: int) -> bool:
    """Whether a node does anything for others; pure clients are not probed."""
    return role_bits & _SERVING != 0


class Presence:
    """The owner of this node's member record. Says nothing before `start`.

    profile: what it says.  addresses, relays: where the transport listens.  keeps: whether this node can keep jobs for
    others now.
    """

    def __init__(self, ctx: Context, tables: Tables, profile: NodeProfile) -> None:
        self._ctx = ctx
        self._tables = tables
        self.profile = profile
        self._sequence = 0
        self._since_s = 0
        self.addresses: tuple[str, ...] = ()
        self.relays: tuple[bytes, ...] = ()
        self.keeps = True

    def start(self, now_us: int) -> None:
        self._since_s = self._ctx.wall_us(now_us) // 1_000_000

    def publish(self, incarnation: int, now_us: int) -> None:
        """As it is now."""
        if self._since_s == 0:
            return
        profile = self.profile
        self._sequence += 1
        body = MemberRecord(
            node=self._ctx.node_id,
            incarnation=incarnation,
            sequence=self._sequence,
            # Who cannot write keeps nothing for others: they are to choose, and to ask, somebody else.
            roles=int(profile.roles if self.keeps else profile.roles & ~Role.REPLICA),
            name=profile.name,
            addresses=self.addresses,
            relays=self.relays,
            zone=profile.zone,
            year_round=profile.year_round,
            since_s=self._since_s,
            cores=profile.cores,
            certificate=self._ctx.certificate,
            memory_bytes=profile.memory_bytes,
            wasm=profile.wasm,
            commands=profile.native_commands,
            machine=profile.machine,
            builds=profile.builds,
        )
        self._tables.publish(sign_record(self._ctx.identity, RecordKind.MEMBER, body), now_us, urgent=True)
