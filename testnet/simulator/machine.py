"""A computer in a room: what stays when its process ends. Key, disk, clock, heat sink, place in the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...crypto.certificates import Role
from ...crypto.identity import Identity
from ...protocol.effects import TimerKey
from ...protocol.presence import NodeProfile
from .clock import Clock
from .disk import Disk
from .links import ACCESS, Access, Line, Nat

if TYPE_CHECKING:
    from .basins import Basin
    from .executor import Executor
    from .liars import Liar
    from .life import Life
    from .sinks import Sink


class Machine:
    """index: its number in the world, from 0.  site: machines of one site are in one house, on one switch.

    relays: through whom it can be reached, if it is behind a NAT.  silences: counts freezes.  awake_us: since when it
    is not frozen.  liar: what makes it lie.
    """

    def __init__(
        self,
        index: int,
        name: str,
        identity: Identity,
        certificate: bytes,
        *,
        roles: Role,
        site: int,
        access: Access,
        nat: Nat,
        relays: tuple[int, ...],
        slots: int,
        year_round: bool,
        clock: Clock,
    ) -> None:
        self.index = index
        self.name = name
        self.identity = identity
        self.id = identity.node_id
        self.certificate = certificate
        self.roles = roles
        self.site = site
        self.access = access
        self.nat = nat
        self.line = Line(ACCESS[access])
        self.relays = relays
        self.slots = slots
        self.clock = clock
        self.profile = NodeProfile(name, roles, f"zone{site}", year_round, slots, 1 << 30)
        self.disk = Disk()
        self.life: Life | None = None
        self.lives = 0
        self.frozen = False
        self.powerless = False
        self.silences = self.awake_us = 0
        self.overdue: list[tuple[TimerKey, int]] = []
        self.sent_bytes = 0
        self.executor: Executor
        self.sink: Sink | Basin | None = None
        self.liar: Liar | None = None

    def __repr__(self) -> str:
        return self.name

    @property
    def behind_nat(self) -> bool:
        return self.nat is not Nat.NONE

    @property
    def honest(self) -> bool:
        return self.liar is None

    @property
    def well(self) -> bool:
        """Runs, and is not frozen."""
        return self.life is not None and not self.frozen
