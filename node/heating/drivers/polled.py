"""A sensor that is read in a thread, so that a slow or dead device never holds up the control loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import structlog
import trio

from ..control.sensor import Sample
from .interface import DriverError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Readable(Protocol):
    """source: how the owner named it."""

    source: str

    def read_c(self) -> float: ...


class PolledSensor:
    """now_s: the clock of the samples' times."""

    def __init__(self, device: Readable, now_s: Callable[[], float], period_s: float = 5.0) -> None:
        self._device = device
        self._now_s = now_s
        self._period_s = period_s
        self._sample: Sample | None = None
        self._problem = ""

    def latest(self) -> Sample | None:
        return self._sample

    async def run(self) -> None:
        """Read until cancelled. A read that hangs costs this sensor its readings, and nobody else anything."""
        while True:
            await self.read()
            await trio.sleep(self._period_s)

    async def read(self) -> None:
        """Once; what was read is `latest` then."""
        # The time before the read: what it says may be as old as that.
        begun_s = self._now_s()
        try:
            value = await trio.to_thread.run_sync(self._device.read_c, abandon_on_cancel=True)  # type: ignore[call-arg]
        except DriverError as error:
            self._tell(str(error))
        else:
            self._sample = Sample(value, begun_s)
            self._tell("")

    def _tell(self, problem: str) -> None:
        """Once a change, not once a read."""
        if problem != self._problem:
            self._problem = problem
            say = partial(log.warning, "sensor.fault", problem=problem) if problem else partial(log.info, "sensor.fine")
            say(source=self._device.source)
