"""The page of shared memory between a worker process and its parent: wishes one way, signs of life the other."""

from __future__ import annotations

import mmap
import struct

PAGE_BYTES = mmap.PAGESIZE
FULL_DUTY_PPM = 1_000_000

_U64 = struct.Struct("<Q")
_CANCELLED, _DUTY, _HEARTBEAT, _RESIDENT, _LOADED = 0, 8, 64, 72, 80


class ControlPage:
    """One page shared by a worker and its parent. Each word has one writer."""

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, PAGE_BYTES)

    def close(self) -> None:
        self._page.close()

    def cancel(self, batch: int) -> None:
        """Stop batches numbered up to `batch`."""
        _U64.pack_into(self._page, _CANCELLED, batch)

    def set_duty(self, fraction: float) -> None:
        _U64.pack_into(self._page, _DUTY, round(min(max(fraction, 0.0), 1.0) * FULL_DUTY_PPM))

    def cancelled_up_to(self) -> int:
        return int(_U64.unpack_from(self._page, _CANCELLED)[0])

    def duty_ppm(self) -> int:
        return int(_U64.unpack_from(self._page, _DUTY)[0])

    def beat(self) -> None:
        _U64.pack_into(self._page, _HEARTBEAT, (self.heartbeat() + 1) & (1 << 64) - 1)

    def heartbeat(self) -> int:
        return int(_U64.unpack_from(self._page, _HEARTBEAT)[0])

    def report_resident(self, size_bytes: int) -> None:
        _U64.pack_into(self._page, _RESIDENT, size_bytes)

    def resident_bytes(self) -> int:
        return int(_U64.unpack_from(self._page, _RESIDENT)[0])

    def report_loaded(self, batch: int) -> None:
        """The batch's module is compiled; from here on the wall limit of each task bounds the worker."""
        _U64.pack_into(self._page, _LOADED, batch)

    def loaded_batch(self) -> int:
        """The last batch whose module was compiled."""
        return int(_U64.unpack_from(self._page, _LOADED)[0])
