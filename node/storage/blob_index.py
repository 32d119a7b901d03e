"""What the blob store holds, who needs it, and what may go: the bookkeeping, without the files."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from .errors import BlobMissing, QuotaExceeded

BLOCK_BYTES = 4096


def footprint_bytes(size_bytes: int) -> int:
    """What a blob costs of the quota: whole blocks, at least one: so the quota bounds the count too."""
    return max(1, -(-size_bytes // BLOCK_BYTES)) * BLOCK_BYTES


@dataclass(slots=True, eq=False)
class BlobEntry:
    """A blob that is here. used_s: the use that its file's time records, in unix seconds."""

    size_bytes: int
    used_s: float
    durable: bool


class BlobIndex:
    """Sizes, pins and order of use. Not locked: the store does that.

    A pin may come before its blob, which is then pinned on arrival, and outlives it if the file is lost. Pins
    of one owner on one blob are counted.
    """

    def __init__(self, quota_bytes: int) -> None:
        self.quota_bytes = quota_bytes
        self.reserved_bytes = 0
        self.pinned_bytes = 0
        self.idle_bytes = 0
        self._idle: OrderedDict[bytes, BlobEntry] = OrderedDict()  # least recently used first
        self._pinned: dict[bytes, BlobEntry] = {}
        self._pins: dict[bytes, dict[bytes, int]] = {}  # digest -> owner -> count
        self._owned: dict[bytes, dict[bytes, None]] = {}  # owner -> digests

    def __len__(self) -> int:
        return len(self._idle) + len(self._pinned)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._idle or digest in self._pinned

    def digests(self) -> list[bytes]:
        """The pinned ones, then the others from the least recently used."""
        return [*self._pinned, *self._idle]

    def entry(self, digest: bytes) -> BlobEntry:
        """Raises BlobMissing."""
        entry = self._pinned.get(digest) or self._idle.get(digest)
        if entry is None:
            raise BlobMissing(digest)
        return entry

    def use(self, digest: bytes) -> BlobEntry:
        """The entry, now the most recently used. Raises BlobMissing."""
        entry = self.entry(digest)
        if digest in self._idle:
            self._idle.move_to_end(digest)
        return entry

    def add(self, digest: bytes, entry: BlobEntry) -> None:
        """Note a new blob, as the most recently used. The caller has made room."""
        assert digest not in self, "added twice"
        if digest in self._pins:
            self._pinned[digest] = entry
            self.pinned_bytes += footprint_bytes(entry.size_bytes)
        else:
            self._idle[digest] = entry
            self.idle_bytes += footprint_bytes(entry.size_bytes)

    def drop(self, digest: bytes) -> BlobEntry:
        """Forget a blob whose file is gone; its pins stay. Raises BlobMissing."""
        entry = self.entry(digest)
        if digest in self._pinned:
            del self._pinned[digest]
            self.pinned_bytes -= footprint_bytes(entry.size_bytes)
        else:
            del self._idle[digest]
            self.idle_bytes -= footprint_bytes(entry.size_bytes)
        return entry

    def is_pinned(self, digest: bytes) -> bool:
        return digest in self._pins

    def pin(self, digest: bytes, owner: bytes) -> None:
        owners = self._pins.setdefault(digest, {})
        owners[owner] = owners.get(owner, 0) + 1
        self._owned.setdefault(owner, {})[digest] = None
        entry = self._idle.pop(digest, None)
        if entry is not None:
            self._pinned[digest] = entry
            self.idle_bytes -= footprint_bytes(entry.size_bytes)
            self.pinned_bytes += footprint_bytes(entry.size_bytes)

    def owned(self, owner: bytes) -> list[bytes]:
        """What `owner` has pins on, here or yet to come."""
        return list(self._owned.get(owner, ()))

    def unpin(self, digest: bytes, owner: bytes) -> None:
        """Take one pin back; the last one makes the blob idle. Raises ValueError if there is none."""
        count = self._pins.get(digest, {}).get(owner, 0)
        if count == 0:
            raise ValueError(f"{owner.hex()} holds no pin on blob {digest.hex()}")
        if count > 1:
            self._pins[digest][owner] = count - 1
        else:
            self._unpin_all(digest, owner)

    def unpin_owner(self, owner: bytes) -> int:
        """Take back every pin of `owner`. Returns on how many blobs it had some."""
        digests = self.owned(owner)
        for digest in digests:
            self._unpin_all(digest, owner)
        return len(digests)

    def _unpin_all(self, digest: bytes, owner: bytes) -> None:
        del self._pins[digest][owner]
        del self._owned[owner][digest]
        if not self._owned[owner]:
            del self._owned[owner]
        if self._pins[digest]:
            return
        del self._pins[digest]
        entry = self._pinned.pop(digest, None)
        if entry is not None:
            self._idle[digest] = entry
            self.pinned_bytes -= footprint_bytes(entry.size_bytes)
            self.idle_bytes += footprint_bytes(entry.size_bytes)

    def reserve(self, cost_bytes: int) -> list[tuple[bytes, BlobEntry]]:
        """Set `cost_bytes` aside. Returns the idle blobs that left the index; the caller removes them.

        Raises QuotaExceeded, having changed nothing, if even all idle blobs would not make enough room.
        """
        free_bytes = self.quota_bytes - self.pinned_bytes - self.reserved_bytes
        if cost_bytes > free_bytes:
            raise QuotaExceeded(cost_bytes, max(0, free_bytes), self.pinned_bytes)
        victims: list[tuple[bytes, BlobEntry]] = []
        while self.idle_bytes + cost_bytes > free_bytes:
            digest, entry = self._idle.popitem(last=False)
            self.idle_bytes -= footprint_bytes(entry.size_bytes)
            victims.append((digest, entry))
        self.reserved_bytes += cost_bytes
        return victims

    def release(self, cost_bytes: int) -> None:
        """Give a reservation back, unused or because its blob was added."""
        assert 0 <= cost_bytes <= self.reserved_bytes, "released more than was reserved"
        self.reserved_bytes -= cost_bytes
