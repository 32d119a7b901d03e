"""State machines: a mesh that a hostile member talks to while all else happens, and a journal that is reopened.

Short in CI (`test_machines.py`); the fuzzer plays them for as long as it is told to.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

import trio
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from hearthmesh.node.storage.errors import StorageIncompatible
from hearthmesh.node.storage.journal import Journal
from hearthmesh.node.storage.records import Delete, Forget, Put, StoredRecord
from hearthmesh.protocol.events import (
    CancelJob,
    PeerConnected,
    PeerLost,
    Received,
    StorageFailed,
    StorageRecovered,
)
from tests.fuzz.choices import Choices
from tests.fuzz.targets import _Besieged
from tests.protocol.cluster import MS, WARM, SimNode, cold

nodes = st.integers(0, 4)
words = st.binary(min_size=8, max_size=160)


class Counted(RuleBasedStateMachine):
    """on_step: called after each step of a run, but not while a failure is being made smaller."""

    on_step: ClassVar[Callable[[], None] | None] = None
    failed: ClassVar[bool] = False

    def count(self) -> None:
        if Counted.on_step is not None and not Counted.failed:
            Counted.on_step()

    def teardown(self) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, HypothesisException):
            Counted.failed = True


class Siege(Counted):
    """A member says what Hypothesis says, while rooms get warm, disks fill, links break and nodes restart."""

    @initialize()
    def begin(self) -> None:
        self.besieged = _Besieged()

    def node(self, number: int) -> SimNode:
        return self.besieged.world[number]

    @rule(number=nodes, data=words)
    def lie(self, number: int, data: bytes) -> None:
        choices, liar = Choices(data), self.besieged.liar
        liar.dice = choices  # type: ignore[assignment]
        while choices.left:
            self.besieged.cluster.feed(self.node(number), Received(self.besieged.member.id, liar.message()))

    @rule(duration_ms=st.integers(1, 1_500))
    def wait(self, duration_ms: int) -> None:
        self.besieged.cluster.run(duration_ms * MS)

    @rule(number=st.integers(0, 3), slots=st.integers(0, 3))
    def heat(self, number: int, slots: int) -> None:
        self.besieged.cluster.feed(self.node(number), cold(slots) if slots else WARM)

    @rule(number=nodes, reset=st.booleans())
    def relink(self, number: int, reset: bool) -> None:
        member = self.besieged.member
        self.besieged.cluster.feed(self.node(number), PeerLost(member.id, reset))
        self.besieged.cluster.feed(self.node(number), PeerConnected(member.id, int(member.mesh.profile.roles)))

    @rule(number=st.integers(0, 3))
    def fill_the_disk(self, number: int) -> None:
        self.besieged.cluster.feed(self.node(number), StorageFailed("full"))
        self.besieged.cluster.run(500 * MS)
        self.besieged.cluster.feed(self.node(number), StorageRecovered())

    @rule(number=st.integers(0, 3))
    def restart(self, number: int) -> None:
        self.besieged.cluster.restart(self.node(number))

    @rule()
    def cancel(self) -> None:
        for job_id in list(self.besieged.client.mesh.submitter.jobs):
            self.besieged.cluster.feed(self.besieged.client, CancelJob(job_id))

    @invariant()
    def nothing_is_broken(self) -> None:
        if hasattr(self, "besieged"):
            self.count()
            for node in self.besieged.world:
                self.besieged.check(node)


ids = st.sampled_from([bytes([n]) * 32 for n in range(3)])
kinds = st.sampled_from([1, 5, 101])


class Reopened(Counted):
    """What a journal gives back after it was closed is what a dictionary holds."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hearth-journal-"))
        self.rows: dict[tuple[bytes, int, bytes], bytes] = {}
        self.journal = Journal.open(self.folder / "journal.db")

    def write(self, *writes: Put | Delete | Forget) -> None:
        trio.run(partial(self.journal.commit, writes, durable=True))
        self.journal.close()
        self.journal = Journal.open(self.folder / "journal.db")

    @rule(job_id=ids, kind=kinds, key=ids, body=st.binary(max_size=300))
    def put(self, job_id: bytes, kind: int, key: bytes, body: bytes) -> None:
        self.write(Put(StoredRecord(job_id, kind, key, body)))
        self.rows[job_id, kind, key] = body

    @rule(job_id=ids, kind=kinds, key=ids)
    def delete(self, job_id: bytes, kind: int, key: bytes) -> None:
        self.write(Delete(job_id, kind, key))
        self.rows.pop((job_id, kind, key), None)

    @rule(job_id=ids)
    def forget(self, job_id: bytes) -> None:
        self.write(Forget(job_id))
        self.rows = {row: body for row, body in self.rows.items() if row[0] != job_id}

    @rule(at=st.integers(0, 1 << 20), bit=st.integers(0, 7))
    def damage_a_copy(self, at: int, bit: int) -> None:
        """Opened all the same, or set aside; never other rows than were written, and writable."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        data = bytearray((self.folder / "journal.db").read_bytes())
        data[at % len(data)] ^= 1 << bit
        (copy / "journal.db").write_bytes(data)
        try:
            journal = Journal.open(copy / "journal.db")
        except StorageIncompatible:
            # Whose database it is, and of which version: another program's, or a newer one's, is not touched.
            assert at % len(data) in (*range(60, 64), *range(68, 72))
            return
        try:
            for row in journal.load():
                assert self.rows.get((row.job_id, row.kind, row.key)) == row.body
        finally:
            journal.close()

    @invariant()
    def all_is_there(self) -> None:
        if hasattr(self, "journal"):
            self.count()
            assert {(row.job_id, row.kind, row.key): row.body for row in self.journal.load()} == self.rows

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "journal"):
            self.journal.close()
            shutil.rmtree(self.folder, ignore_errors=True)


MACHINES: dict[str, type[Counted]] = {"reopened": Reopened, "siege": Siege}


def play(
    machine: type[Counted], *, examples: int, steps: int, same_each_time: bool = False, drawn_from: int | None = None
) -> None:
    """drawn_from: a seed. Raises what went wrong, with the steps that lead there as a note."""
    if drawn_from is not None:
        # Hypothesis keeps it with the class.
        machine = seed(drawn_from)(type(machine.__name__, (machine,), {}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=same_each_time,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
