"""An admitted member that says anything: every message, with values that this mesh would take seriously.

Ids, nodes and records come from pools of what exists here, so that most messages get past the first check.
"""

from __future__ import annotations

import random
from typing import Any

from msgspec import inspect
from msgspec.structs import replace

from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.batches import Batch, encode_columns
from hearthmesh.protocol.codec import decode_message, encode_message
from hearthmesh.protocol.messages import Message
from hearthmesh.protocol.records import (
    Acceptance,
    AcceptedBatch,
    Accusation,
    BatchHeader,
    Cancellation,
    Grant,
    HeatDigest,
    JobDigest,
    MemberRecord,
    Recheck,
    Record,
    RecordKind,
    Release,
    ReplicaSet,
    SignedResult,
    sign_record,
)
from tests.protocol.cluster import SimNode
from tests.protocol.wire import MESSAGES


class Liar:
    """Draws messages and records by its own dice; identity: the key with which it signs."""

    def __init__(self, seed: int, identity: Identity, world: list[SimNode], certificate: bytes) -> None:
        self.dice = random.Random(seed)
        self.identity = identity
        self.certificate = certificate
        self.nodes = [node.id for node in world] + [identity.node_id, bytes(32)]
        self.job_ids: list[bytes] = [bytes(32)]
        self.records: list[bytes] = []
        self.columns: list[bytes] = [b"", b"\x00" * 20]
        for node in world:
            for (job_id, kind, _), body in node.rows.items():
                self.job_ids.append(job_id)
                if 0 < kind <= len(RecordKind):
                    self.records.append(body)
                elif kind == 101:
                    self.columns.append(body)
        self.job_ids = list(dict.fromkeys(self.job_ids))

    def message(self) -> Message:
        """As it comes off the wire: types and bounds hold, nothing else."""
        struct = self.dice.choice(MESSAGES)
        message: Message = self._value(inspect.type_info(struct), "")
        return decode_message(encode_message(message))

    def _value(self, info: inspect.Type, name: str) -> Any:
        match info:
            case inspect.StructType():
                return info.cls(*(self._value(field.type, field.name) for field in info.fields))
            case inspect.IntType():
                return self._number(int(info.ge or 0), int(info.le or 0))
            case inspect.BoolType():
                return self.dice.random() < 0.5
            case inspect.BytesType():
                return self._bytes(info, name)
            case inspect.StrType():
                return self.dice.choice(["wasm", "accepted", "unknown-job", "running", "done", "not-admitted", ""])
            case inspect.VarTupleType():
                count = self.dice.choice([0, 1, 1, 2, 5])
                return tuple(self._value(info.item_type, name) for _ in range(min(count, info.max_length or 5)))
            case inspect.TupleType():
                return tuple(self._value(each, name) for each in info.item_types)
        raise AssertionError(f"no value for {info}")

    def _number(self, least: int, most: int) -> int:
        number = self.dice.choice([least, most, 0, 1, 2, 3, 5, 8, 20, 64, self.dice.randrange(1 << 20)])
        return max(least, min(most, number))

    def _bytes(self, info: inspect.BytesType, name: str) -> bytes:
        if name in ("header", "spec", "replica_set", "grant", "grants", "context", "records", "rows", "accusation"):
            return self.raw_record()
        if name == "columns":
            return self.dice.choice(self.columns)
        if name == "job_id":
            return self.dice.choice(self.job_ids)
        if info.min_length == 32 or (info.max_length == 32 and self.dice.random() < 0.7):
            return self.dice.choice([*self.nodes, *self.job_ids, self.dice.randbytes(32)])
        return self.dice.randbytes(max(info.min_length or 0, min(12, info.max_length or 12)))

    # -- records -------------------------------------------------------------------------------------------

    def raw_record(self) -> bytes:
        """One that exists, damaged or not, or one of the liar's own."""
        luck = self.dice.random()
        if self.records and luck < 0.35:
            raw = self.dice.choice(self.records)
            if luck < 0.05:
                at = self.dice.randrange(len(raw))
                raw = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
            return raw
        record = self.record()
        self.records.append(record.raw)
        self.records = self.records[-200:]
        return record.raw

    def record(self) -> Record:
        """Signed by the liar, about a job or a node that exists."""
        job_id, node = self.dice.choice(self.job_ids), self.dice.choice(self.nodes)
        lo = self._number(0, 70)
        hi = lo + self._number(1, 70)
        epoch = self._number(0, (1 << 31) - 1)
        kind = self.dice.choice([kind for kind in RecordKind if kind is not RecordKind.SPEC])
        body: Any
        match kind:
            case RecordKind.REPLICA_SET:
                members = tuple(dict.fromkeys(self.dice.choices(self.nodes, k=3)))
                body = ReplicaSet(job_id, epoch, members, tuple(self.dice.choices(self.nodes, k=2)))
            case RecordKind.GRANT:
                parent = self.dice.choice([b"", *[raw for raw in self.records if len(raw) < 4096][:20]])
                body = Grant(job_id, lo, hi, epoch, node, self._number(0, (1 << 63) - 1), parent)
            case RecordKind.RELEASE:
                grants = [raw for raw in self.records if len(raw) < 4096] or [b""]
                body = Release(job_id, lo, hi, self.dice.choice(grants))
            case RecordKind.BATCH:
                body = self._batch(job_id, lo, epoch)
            case RecordKind.ACCEPTANCE:
                body = Acceptance(job_id, (AcceptedBatch(self.dice.randbytes(32), lo, self._number(0, 90)),))
            case RecordKind.CANCELLATION:
                body = Cancellation(job_id)
            case RecordKind.MEMBER:
                sequence = self._number(0, (1 << 63) - 1)
                body = MemberRecord(
                    node, sequence, sequence, 7, "liar", ("/memory/liar",), (), "", True, 1, 1, self.certificate
                )
            case RecordKind.HEAT:
                sequence = self._number(0, (1 << 63) - 1)
                body = HeatDigest(node, sequence, sequence, 1 << 31, sequence, 65_536, sequence, "room", 20_000)
            case RecordKind.ACCUSATION:
                result = SignedResult(
                    self.raw_record()[:8192], 0, self.dice.randbytes(32), bytes(32), 1, 1, (self.dice.randbytes(32),)
                )
                body = Accusation(job_id, self.raw_record(), lo, result, replace(result, exit_code=1))
            case RecordKind.RECHECK:
                body = Recheck(job_id, lo, hi, self._number(1, 15), self.dice.randbytes(16), (node,))
            case _:
                sequence = self._number(0, (1 << 63) - 1)
                body = JobDigest(job_id, node, sequence, sequence, 1 << 40, sequence, "wasm", "", 9, False)
        return sign_record(self.identity, kind, body)

    def _batch(self, job_id: bytes, first: int, epoch: int) -> BatchHeader:
        """Honest in form, so that its columns may even fit."""
        count = self._number(1, 12)
        nothing = (0,) * count
        batch = Batch(first, epoch, nothing, (b"lie",) * count, nothing, nothing, {}, {})
        self.columns.append(encode_columns(batch))
        self.columns = self.columns[-50:]
        header = BatchHeader(job_id, first, count, epoch, batch.root(), 0, 1, 0, 0, 0, False, self.certificate)
        if self.dice.random() < 0.5:
            grants = [raw for raw in self.records if len(raw) < 4096] or [b""]
            header = replace(header, copy=self._number(1, 15), grant=self.dice.choice(grants))
        return header
