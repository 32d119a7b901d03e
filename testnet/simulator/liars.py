"""Admitted machines that lie. Each runs the unmodified machine, and tampers with what it says or computes."""

from __future__ import annotations

from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from ...protocol.codec import encode_message
from ...protocol.effects import Execute
from ...protocol.liveness import Status
from ...protocol.messages import (
    Ack,
    Delivery,
    Granted,
    MemberState,
    Message,
    Ping,
    Records,
    Renew,
    Steal,
    TableRows,
    TableSync,
)
from ...protocol.records import (
    UINT_MAX,
    Acceptance,
    AcceptedBatch,
    Cancellation,
    Grant,
    HeatDigest,
    JobDigest,
    RecordKind,
    open_record,
    sign_record,
)
from ...protocol.roster import INCARNATION_MAX
from .dice import Stream
from .engine import MS, SECOND

if TYPE_CHECKING:
    from .life import Life
    from .machine import Machine
    from .world import World

REMEMBERED_MAX = 400
RUMOURS_MAX = 8
# Three times what makes a worker believed.
SLEEPS_TASKS = 30
# In which a task fails where each does.
FAULTY_US = MS


class Liar:
    """The base of all: says what the machine says, and computes what a task computes.

    lied_us: when it first put out something wrong, 0 if never.
    """

    name = "honest"

    def __init__(self, machine: Machine, world: World, dice: Stream) -> None:
        self.machine = machine
        self.world = world
        self.dice = dice
        self.lied_us = 0

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        self.world.network.send(life, peer, message)

    def outputs(self, run: Execute, outputs: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return outputs

    def exits(self, exits: tuple[int, ...]) -> tuple[int, ...]:
        """With which codes it says that tasks ended."""
        return exits

    def cpu_us(self, cpu_us: tuple[int, ...]) -> tuple[int, ...]:
        """For how long each of them runs."""
        return cpu_us

    def runs(self, run: Execute) -> bool:
        """Whether it ever ends what it was given."""
        return True


class Forger(Liar):
    """Alters records on their way, its own and others': their signatures do not fit any more."""

    name = "forger"

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        super().say(life, peer, message)
        if isinstance(message, Records) and message.records and self.dice.chance(0.5):
            raw = bytearray(self.dice.pick(message.records))
            # Somewhere in the body, behind kind and author.
            raw[self.dice.between(40, len(raw) - 70)] ^= 1
            super().say(life, peer, Records(message.job_id, (bytes(raw),)))


class Equivocator(Liar):
    """Grants what it grants to a second thief as well."""

    name = "equivocator"

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        super().say(life, peer, message)
        if not isinstance(message, Granted):
            return
        others = [self.world.machines[index].id for index in life.links]
        workers = [node for node in others if node != peer and self.world.by_id[node].slots]
        if not workers:
            return
        other = self.dice.pick(workers)
        grants = []
        for raw in message.grants:
            record = open_record(raw, check_signature=False)
            body = replace(record.body, holder=other)
            grants.append(sign_record(self.machine.identity, RecordKind.GRANT, body).raw)
        kept = life.mesh.replica.jobs.get(record.body.job_id)
        context = kept.state.context() if kept is not None else message.context
        super().say(life, other, Granted(0, tuple(grants), context))


class WrongResults(Liar):
    """Puts out something else, each liar its own."""

    name = "wrong results"

    def outputs(self, run: Execute, outputs: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(sha256(self.machine.id + output).digest()[: len(output)] for output in outputs)


class Accomplice(Liar):
    """Puts out something else, the same as all its accomplices do: they vouch for each other."""

    name = "accomplice"

    def outputs(self, run: Execute, outputs: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(sha256(b"agreed" + output).digest()[: len(output)] for output in outputs)


class Sleeper(Accomplice):
    """An accomplice that is honest until it has a name, and then lies in one batch of four."""

    name = "sleeper"

    def __init__(self, machine: Machine, world: World, dice: Stream) -> None:
        super().__init__(machine, world, dice)
        self._honest = 0

    def outputs(self, run: Execute, outputs: tuple[bytes, ...]) -> tuple[bytes, ...]:
        batch = sha256(run.job_id + run.first.to_bytes(8, "big")).digest()[0]
        # Of a copy it knows that it is a check, so its accomplices can count on it; else it has to be believed first.
        if run.copy == 0 and (self._honest < SLEEPS_TASKS or batch % 4):
            self._honest += len(outputs)
            return outputs
        return super().outputs(run, outputs) if batch % 4 == 0 else outputs


class BadProof(Liar):
    """Delivers other outputs than those that it signed."""

    name = "bad proof"

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        if isinstance(message, Delivery) and self.dice.chance(0.5):
            columns = bytearray(message.columns)
            columns[-8] ^= 1
            message = Delivery(message.header, bytes(columns))
        super().say(life, peer, message)


class LyingDigests(Liar):
    """Says that it has all the work in the world, and the coldest room."""

    name = "lying digests"

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        if isinstance(message, TableRows):
            message = replace(message, rows=tuple(map(self._exaggerate, message.rows)))
        super().say(life, peer, message)

    def _exaggerate(self, raw: bytes) -> bytes:
        record = open_record(raw, check_signature=False)
        body: Any = record.body
        if record.author != self.machine.id:
            return raw
        if isinstance(body, HeatDigest):
            body = replace(body, deficit_w=1 << 31, free_slots=65_536, queue_us=UINT_MAX)
        elif isinstance(body, JobDigest):
            body = replace(body, free_tasks=1 << 40, task_us=UINT_MAX, finished=False)
        else:
            return raw
        return sign_record(self.machine.identity, record.kind, body).raw


class Usurper(Liar):
    """Signs, rightly and with its own key, what only a job's submitter or keepers may sign."""

    name = "usurper"

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        super().say(life, peer, message)
        if not self.dice.chance(0.3):
            return
        if isinstance(message, Delivery):
            header = open_record(message.header, check_signature=False)
            job_id, lo, hi = header.body.job_id, header.body.first, header.body.first + header.body.count
            self._claim(life, peer, job_id, lo, hi, header.id)
        elif isinstance(message, Renew):
            for held in message.jobs:
                part = held.ranges[0]
                self._claim(life, peer, held.job_id, part.lo, part.hi, bytes(32))

    def _claim(self, life: Life, peer: bytes, job_id: bytes, lo: int, hi: int, batch_id: bytes) -> None:
        """To a keeper of the job: that results are accepted, it is cancelled, or its tasks were given away."""
        kept = life.mesh.replica.jobs.get(job_id)
        claims: list[tuple[RecordKind, Any]] = [
            (RecordKind.ACCEPTANCE, Acceptance(job_id, (AcceptedBatch(batch_id, lo, hi),))),
            (RecordKind.CANCELLATION, Cancellation(job_id)),
        ]
        if kept is None:
            others = [self.world.machines[index].id for index in life.links]
            lease_us = self.world.config.lease_us
            claims.append((RecordKind.GRANT, Grant(job_id, lo, hi, 100, self.dice.pick(others), lease_us)))
        kind, body = self.dice.pick(claims)
        super().say(life, peer, Records(job_id, (sign_record(self.machine.identity, kind, body).raw,)))


class Hoarder(Liar):
    """Asks for as much as it can get, renews it, and does nothing."""

    name = "hoarder"

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        if isinstance(message, Steal):
            message = replace(message, appetite_us=UINT_MAX, slots=65_536, deficit_w=1 << 31)
        super().say(life, peer, message)

    def runs(self, run: Execute) -> bool:
        return False


class Faulty(Liar):
    """Does not mean to lie: a broken machine, on which each task ends at once, with code 1 and no output."""

    name = "faulty"

    def outputs(self, run: Execute, outputs: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return (b"",) * len(outputs)

    def exits(self, exits: tuple[int, ...]) -> tuple[int, ...]:
        return (1,) * len(exits)

    def cpu_us(self, cpu_us: tuple[int, ...]) -> tuple[int, ...]:
        return (FAULTY_US,) * len(cpu_us)


class Replayer(Liar):
    """Says again what it said before, to others as well, at any later time."""

    name = "replayer"

    def __init__(self, machine: Machine, world: World, dice: Stream) -> None:
        super().__init__(machine, world, dice)
        self._said: deque[Message] = deque(maxlen=REMEMBERED_MAX)

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        super().say(life, peer, message)
        self._said.append(message)
        if self.dice.chance(0.3):
            stale = self.dice.pick(self._said)
            target = self.world.machines[self.dice.pick(list(life.links))].id if life.links else peer
            self.world.engine.after(self.dice.below(10 * SECOND), self._again, life, target, stale)

    def _again(self, life: Life, peer: bytes, message: Message) -> None:
        if life.runs:
            super().say(life, peer, message)


class Flooder(Liar):
    """For each thing that it says, says twenty more, of no use."""

    name = "flooder"

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        super().say(life, peer, message)
        for number in range(20):
            useless: Message = TableSync(number, 0, 0, (), ()) if number % 2 else Ping(number, ())
            self.world.engine.after(self.dice.below(100 * MS), self._more, life, peer, useless)

    def _more(self, life: Life, peer: bytes, message: Message) -> None:
        if life.runs:
            super().say(life, peer, message)


class Slanderer(Liar):
    """Tells of deaths, in lives that were, that may have been, and that nobody can have had; also those who died."""

    name = "slanderer"

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        if isinstance(message, Ping | Ack):
            about = (peer, self.dice.pick(self.world.machines).id)
            message = replace(message, rumours=(*message.rumours, *map(self._death, about))[-RUMOURS_MAX:])
        super().say(life, peer, message)

    def _death(self, node: bytes) -> MemberState:
        now_us = self.machine.clock.wall_us(self.world.engine.now_us)
        known = self.world.by_id[node]
        lived = known.life.mesh.incarnation if known.life is not None else now_us
        year_us = 365 * 86_400 * SECOND
        lives = (lived, lived + 1, lived + 64, now_us, now_us + year_us // 2, now_us + 9 * year_us, INCARNATION_MAX - 2)
        state = self.dice.pick((Status.SUSPECT, Status.DEAD, Status.LEFT))
        accuser = self.machine.id if state is Status.SUSPECT else b""
        return MemberState(node, self.dice.pick(lives), int(state), accuser)


class Noise(Liar):
    """Sends bytes that are no message, or almost one."""

    name = "noise"

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        super().say(life, peer, message)
        if self.dice.chance(0.3):
            payload = bytearray(encode_message(message))
            for _ in range(self.dice.between(1, 4)):
                payload[self.dice.below(len(payload))] ^= 1 << self.dice.below(8)
            if peer in self.world.by_id:
                self.world.network.send_raw(life, peer, bytes(payload[: self.dice.between(1, len(payload))]))


LIARS: dict[str, type[Liar]] = {
    liar.name: liar
    for liar in (
        Forger,
        Equivocator,
        WrongResults,
        Accomplice,
        Sleeper,
        BadProof,
        LyingDigests,
        Usurper,
        Hoarder,
        Faulty,
        Replayer,
        Flooder,
        Slanderer,
        Noise,
    )
}


def make_liar(lie: str, machine: Machine, world: World, dice: Stream) -> Liar:
    """Raises KeyError for a lie that nobody tells."""
    return LIARS[lie](machine, world, dice)
