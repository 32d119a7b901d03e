"""The blob store against a model: a dict, a list in order of use, and a bag of pins."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hearthmesh.node.storage.blob_index import footprint_bytes
from hearthmesh.node.storage.blobs import USE_GRAIN_S, BlobStore, Reservation
from hearthmesh.node.storage.errors import QuotaExceeded

QUOTA_BYTES = 10 * 4096
CONTENTS = [bytes([number]) * size for number, size in enumerate([0, 1, 4096, 4097, 8192, 9000, 12288, 20000])]
DIGESTS = [hashlib.sha256(content).digest() for content in CONTENTS]
OWNERS = [b"lease", b"result", b"job"]

numbers = st.integers(0, len(CONTENTS) - 1)
owners = st.sampled_from(OWNERS)


class BlobStoreModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now_s = 1e9
        self.order: list[int] = []  # those that are here, least recently used first
        self.pins: Counter[tuple[int, bytes]] = Counter()
        self.reservations: list[tuple[Reservation, int]] = []
        self.store = self.open()

    def open(self) -> BlobStore:
        return BlobStore(Path(self.folder.name), QUOTA_BYTES, min_free_bytes=0, now_s=self.tick)

    def tick(self) -> float:
        """Each use lies so far after the last that its time is kept."""
        self.now_s += 2 * USE_GRAIN_S
        return self.now_s

    def cost(self, number: int) -> int:
        return footprint_bytes(len(CONTENTS[number]))

    def pinned(self, number: int) -> bool:
        return any(self.pins[number, owner] for owner in OWNERS)

    def use(self, number: int) -> None:
        if not self.pinned(number):
            self.order.remove(number)
            self.order.append(number)

    def becomes_idle(self, number: int) -> None:
        if number in self.order:
            self.order.remove(number)
            self.order.append(number)

    def make_room(self, cost: int) -> bool:
        """Evict as the store should; False, with nothing changed, if it should refuse."""
        firm = sum(self.cost(n) for n in self.order if self.pinned(n)) + sum(c for _, c in self.reservations)
        if firm + cost > QUOTA_BYTES:
            return False
        while firm + cost + sum(self.cost(n) for n in self.order if not self.pinned(n)) > QUOTA_BYTES:
            self.order.remove(next(n for n in self.order if not self.pinned(n)))
        return True

    @rule(number=numbers, pieces=st.booleans(), durable=st.booleans())
    def put(self, number: int, pieces: bool, durable: bool) -> None:
        if number in self.order:
            self.use(number)
            expected = True
        else:
            expected = self.make_room(self.cost(number))
            if expected:
                self.order.append(number)
        try:
            if pieces and not self.store.has(DIGESTS[number]):
                self.put_in_pieces(number, durable)
            else:
                assert self.store.put_bytes(CONTENTS[number], durable=durable) == DIGESTS[number]
        except QuotaExceeded:
            assert not expected
        else:
            assert expected

    def put_in_pieces(self, number: int, durable: bool) -> None:
        size_bytes = len(CONTENTS[number])
        with self.store.writer(expected_size_bytes=size_bytes, durable=durable) as writer:
            for start in range(0, size_bytes, 1000):
                writer.write(CONTENTS[number][start : start + 1000])
            assert writer.finish() == DIGESTS[number]

    @rule(number=numbers)
    def read(self, number: int) -> None:
        if number in self.order:
            self.use(number)
            assert self.store.read(DIGESTS[number]) == CONTENTS[number]

    @rule(number=numbers, owner=owners)
    def pin(self, number: int, owner: bytes) -> None:
        assert self.store.pin(DIGESTS[number], owner) == (number in self.order)
        self.pins[number, owner] += 1

    @rule(number=numbers, owner=owners)
    def unpin(self, number: int, owner: bytes) -> None:
        if not self.pins[number, owner]:
            with pytest.raises(ValueError):
                self.store.unpin(DIGESTS[number], owner)
            return
        self.store.unpin(DIGESTS[number], owner)
        self.pins[number, owner] -= 1
        if not self.pinned(number):
            self.becomes_idle(number)

    @rule(number=numbers)
    def discard(self, number: int) -> None:
        free = number in self.order and not self.pinned(number)
        assert self.store.discard(DIGESTS[number]) == free
        if free:
            self.order.remove(number)

    @rule(owner=owners)
    def unpin_owner(self, owner: bytes) -> None:
        held = {number for number, holder in +self.pins if holder == owner}
        assert self.store.unpin_owner(owner) == len(held)
        for number in held:
            del self.pins[number, owner]
        # Which of them is used last is the store's choice; follow it.
        place = {digest: rank for rank, digest in enumerate(self.store.digests())}
        idle = [number for number in held if not self.pinned(number) and number in self.order]
        for number in sorted(idle, key=lambda n: place[DIGESTS[n]]):
            self.becomes_idle(number)

    @rule(size_bytes=st.integers(0, QUOTA_BYTES))
    def reserve(self, size_bytes: int) -> None:
        expected = self.make_room(footprint_bytes(size_bytes))
        try:
            reservation = self.store.reserve(size_bytes)
        except QuotaExceeded:
            assert not expected
        else:
            assert expected
            self.reservations.append((reservation, footprint_bytes(size_bytes)))

    @rule()
    def release(self) -> None:
        if self.reservations:
            self.reservations.pop()[0].release()

    @rule()
    def restart(self) -> None:
        self.store = self.open()
        self.pins.clear()
        self.reservations.clear()
        assert set(self.store.digests()) == {DIGESTS[number] for number in self.order}
        self.order = [DIGESTS.index(digest) for digest in self.store.digests()]

    @invariant()
    def the_same_blobs_are_here(self) -> None:
        assert sorted(self.store.digests()) == sorted(DIGESTS[number] for number in self.order)
        idle = [DIGESTS[number] for number in self.order if not self.pinned(number)]
        assert self.store.digests()[len(self.order) - len(idle) :] == idle

    @invariant()
    def the_books_balance(self) -> None:
        usage = self.store.usage()
        assert usage.pinned_bytes == sum(self.cost(n) for n in self.order if self.pinned(n))
        assert usage.idle_bytes == sum(self.cost(n) for n in self.order if not self.pinned(n))
        assert usage.reserved_bytes == sum(cost for _, cost in self.reservations)
        assert usage.pinned_bytes + usage.idle_bytes + usage.reserved_bytes <= QUOTA_BYTES + max(
            0, usage.pinned_bytes - QUOTA_BYTES
        )

    @invariant()
    def the_files_are_the_blobs(self) -> None:
        names = {path.name for path in Path(self.folder.name, "sha256").glob("*/*")}
        assert names == {f"{DIGESTS[number].hex()}.{len(CONTENTS[number])}" for number in self.order}
        assert list(Path(self.folder.name, "tmp").iterdir()) == []

    def teardown(self) -> None:
        self.folder.cleanup()


TestBlobStoreAgainstItsModel = BlobStoreModel.TestCase
TestBlobStoreAgainstItsModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
