"""What mutants put in the place of the protocol's own functions: each is wrong in one thing."""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec
from msgspec.structs import replace as replace_struct

from ...protocol import records
from ...protocol.accepting import Accepting
from ...protocol.codec import encode_message
from ...protocol.effects import Reason, Unpersist
from ...protocol.granting import Ledger
from ...protocol.holder import Holder
from ...protocol.jobs import JobState
from ...protocol.messages import Refused, Stored
from ...protocol.outbox import OWED_HEADER_ROW, Outbox
from ...protocol.replica import Replica
from ...protocol.submission import Submission
from ...protocol.submitter import Submitter
from ...protocol.worker import Worker
from .memory import is_genuine

# Of machines whose rooms want some of them, as they get warmer.
MILD_SLOTS = 4


def nothing(*_: Any, **__: Any) -> None:
    return None


def always(*_: Any, **__: Any) -> bool:
    return True


def acknowledge_first(self: Replica, header: Any, message: Any, peer: bytes, now_us: int) -> None:
    """The worker hears that its batch is on disk before anything is written."""
    self._ctx.send(header.author, Stored(header.body.job_id, (header.id,)))
    _STORE(self, header, message, peer, now_us)


def settle_at_once(self: Outbox, peer: bytes, batch_ids: tuple[bytes, ...]) -> None:
    for batch_id in batch_ids:
        owed = self._owed.get(batch_id)
        if owed is not None:
            self._settle(owed)


def sign_at_once(self: Accepting, own: Any, now_us: int) -> None:
    for batch_id, held in own.custody:
        for lo, hi in held.tasks:
            own.sign(lo, hi)
        own.custody.let_go(batch_id)


def whole_job(members: Any, tasks: int, me: bytes, is_alive: Any) -> list[tuple[int, int]]:
    return [(0, tasks)]


def take_again(self: Holder, *arguments: Any) -> int:
    self._taken.clear()
    return int(_TAKE_GRANT(self, *arguments))


def always_cold(self: Worker, reading: Any, now_us: int) -> None:
    if not reading.slots:
        # All that it says of the sink: what it has no buffer for is not begun either.
        cold = {"deficit_w": 10.0, "horizon_wh": 10.0, "useful": True, "buffer_wh": inf}
        reading = replace_struct(reading, slots=1, **cold)
    _ON_HEAT(self, reading, now_us)


def one_slot_more(self: Worker, reading: Any, now_us: int) -> None:
    """In a room that wants some heat, and not all."""
    more = 0 < reading.slots < MILD_SLOTS
    _ON_HEAT(self, replace_struct(reading, slots=reading.slots + more), now_us)


def all_went_well(self: Worker, event: Any, now_us: int) -> None:
    _ON_FINISHED(self, replace_struct(event, exits=(0,) * len(event.exits)), now_us)


def drop_late(self: Outbox, now_us: int) -> None:
    """What nobody acknowledged in time, without a word."""
    self._owed.clear()


def drop_on_disk(self: Outbox, owed: Any) -> None:
    """Its row goes as soon as it is there."""
    _PERSIST_OWED(self, owed)
    self._ctx.emit(Unpersist(owed.job_id, OWED_HEADER_ROW, owed.header.id))


def hand_again(self: Submitter, own: Any, header: Any) -> tuple[tuple[int, int], ...]:
    return ((header.body.first, header.body.first + header.body.count),)


def unwritten_spec(self: Replica, record: Any) -> None:
    if record.kind is not records.RecordKind.SPEC:
        _PERSIST(self, record)


def unchecked(header: Any, columns: bytes) -> Any:
    from ...protocol.batches import decode_columns

    return decode_columns(header, columns)


def count_twice(identity: Any, kind: Any, body: Any) -> Any:
    if kind is records.RecordKind.BATCH:
        body = replace_struct(body, energy_mj=2 * body.energy_mj + 1)
    return records.sign_record(identity, kind, body)


def count_half(identity: Any, kind: Any, body: Any) -> Any:
    if kind is records.RecordKind.BATCH:
        body = replace_struct(body, energy_mj=body.energy_mj // 2, useful_mj=body.useful_mj // 2)
    return records.sign_record(identity, kind, body)


def nothing_of_use(identity: Any, kind: Any, body: Any) -> Any:
    if kind is records.RecordKind.BATCH:
        body = replace_struct(body, useful_mj=0)
    return records.sign_record(identity, kind, body)


def count_and_keep(self: JobState, info: Any, tasks: int) -> None:
    """What is canonical no more stays in the sums."""
    if tasks > 0:
        _COUNT(self, info, tasks)


def settle_half(self: Ledger, lo: int, hi: int) -> None:
    self.free.discard(lo, hi)


def fall_over(*_: Any) -> None:
    raise KeyError("lifeline")


def blame_authors(self: Replica, peer: bytes, message: Any, now_us: int) -> None:
    """For a forged record whoever it names is penalised, along with whoever brought it."""
    for raw in message.records:
        if not is_genuine(raw):
            self._ctx.penalise(msgspec.msgpack.decode(raw)[1], Reason.BAD_SIGNATURE)
    _ON_RECORDS(self, peer, message, now_us)


def renew_silently(self: Ledger, *held: Any) -> list[tuple[int, int, int]]:
    _RENEW(self, *held)
    return []


def expire_all(self: Ledger, now_us: int) -> list[tuple[int, int, bytes]]:
    """One that ran out takes all others along."""
    gone = [(lo, hi, lease.holder) for lo, hi, lease in self.live]
    if not any(lease.expires_at_us <= now_us for _, _, lease in self.live):
        return []
    self._free_all(gone)
    return gone


def free_everybody(self: Ledger, holder: bytes) -> list[tuple[int, int, bytes]]:
    gone = [(lo, hi, holder) for lo, hi, _ in self.live]
    self._free_all(gone)
    return gone


def rebuild_without_leases(self: Ledger, now_us: int, lease_us: int) -> None:
    _REBUILD(self, now_us, lease_us)
    self._free_all([(lo, hi, lease.holder) for lo, hi, lease in self.live])


def one_is_enough(self: Submission, peer: bytes, message: Any, now_us: int) -> None:
    own = self.jobs.get(message.job_id)
    _ON_SUBMITTED(self, peer, message, now_us)
    if own is not None and peer in own.stored_by and not own.durable:
        own.durable = True
        self._notify_submitted(own)


def give_back_what_ran(self: Worker, execution: Any, *arguments: Any) -> None:
    """Its result comes after its tasks are free, and somebody waits for tasks."""
    self._release(execution.grant, execution.first, execution.first + execution.count)
    _TAKE_OUTCOME(self, execution, *arguments)


def without_reasons(message: Any) -> bytes:
    return encode_message(replace_struct(message, reason="") if isinstance(message, Refused) else message)


def cancelled_by_anybody(self: JobState, record: Any) -> bool:
    if self.cancellation is not None:
        return False
    self.cancellation = record
    self.ids.add(record.id)
    return True


_STORE: Any = Replica._store
_TAKE_GRANT: Any = Holder._take_grant
_ON_HEAT: Any = Worker.on_heat
_ON_FINISHED: Any = Worker.on_finished
_PERSIST_OWED: Any = Outbox._persist
_REBUILD: Any = Ledger.rebuild
_ON_SUBMITTED: Any = Submission.on_submitted
_TAKE_OUTCOME: Any = Worker._take_outcome
_COUNT: Any = JobState._count
_PERSIST: Any = Replica._persist
_RENEW: Any = Ledger.renew
_ON_RECORDS: Any = Replica.on_records
