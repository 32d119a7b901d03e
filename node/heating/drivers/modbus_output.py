"""What a Modbus device is told: a boiler's limit or setpoint, a relay, a pump; bounded, read back, and safe without us.

Values are written in a thread, and only where the device says something else: memories of small controllers wear out.
What it says afterwards is compared; a device that does not do as it was told is an alarm, and is told again and again,
at growing intervals while it says the same: it wears out as well.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import trio

from .interface import Allowed, DriverError, PowerActuator, SafeWrite
from .modbus import ModbusDevice
from .register_map import Output

# Of the requests that a watchdog sends; any number will do.
_TRANSACTION = 0x4845
# One that says the same other thing again is told again after twice as long, up to this.
AGAIN_S_MAX = 300.0
# After so many looks in a row at which its device does not answer, a pump counts as one that does not run.
SILENT_LOOKS = 3
_WRITE_COIL, _WRITE_REGISTER, _WRITE_REGISTERS = 5, 6, 16


@dataclass(frozen=True, slots=True)
class Refusal:
    """The device was told one thing, and says another. again_s: when it is told once more, after pause_s."""

    told: list[int]
    said: list[int]
    again_s: float
    pause_s: float


class RefusedError(DriverError):
    """The device answers, and says something else than it was told."""


class ModbusOutput(PowerActuator):
    """name: in the register map.  now_s: of a clock that never goes back.  period_s: between two looks.

    pump: the output that this one requires; only while its device says that it is on, heat is let through.
    One that said so counts as on until it says otherwise, or has been silent at `SILENT_LOOKS` looks.
    """

    def __init__(
        self,
        device: ModbusDevice,
        name: str,
        output: Output,
        now_s: Callable[[], float],
        period_s: float = 5.0,
        *,
        pump: ModbusOutput | None = None,
    ) -> None:
        self._pump = pump
        self._dependents: list[ModbusOutput] = []
        if pump is not None:
            pump._dependents.append(self)
        self._device = device
        self._name = name
        self._output = output
        self._now_s = now_s
        self._period_s = period_s
        self._allowed: Allowed | None = None
        self._wake = trio.Event()
        self._runs, self._silent = False, 0
        self._on = False
        self._begun_s: float | None = None
        self._off_since_s: float | None = None
        self._problem = ""
        self._refusal: Refusal | None = None

    @property
    def problem(self) -> str:
        return self._problem

    def apply(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._wake.set()

    def release(self) -> None:
        self._refusal = None
        self.settle(self._output.at_rest)

    def safe_writes(self) -> tuple[SafeWrite, ...]:
        return (SafeWrite(self._device.address, self._request(self._output.at_rest).hex(), device=True),)

    async def run(self) -> None:
        while True:
            self._wake = trio.Event()
            if self._allowed is not None and not self._waits(self._allowed):
                value = self.value(self._allowed, self._now_s())
                before = (self._runs, self._problem)
                try:
                    # Not left behind: what is released afterwards has to be the last word.
                    await trio.to_thread.run_sync(self.settle, value)
                except RefusedError as error:
                    self._runs, self._silent, self._problem = False, 0, str(error)
                except DriverError as error:
                    self._silent += 1
                    # What it does after it was told to go off, nobody knows.
                    self._runs = self._runs and value > 0 and self._silent < SILENT_LOOKS
                    self._problem = str(error)
                else:
                    self._runs, self._silent, self._problem = value > 0, 0, ""
                if (self._runs, self._problem) != before:
                    for each in self._dependents:
                        each._wake.set()
            with trio.move_on_after(self._period_s):
                await self._wake.wait()

    def value(self, allowed: Allowed, now_s: float) -> float:
        """What the device is to be told now, within the output's bounds."""
        output = self._output
        dry = self._pump is not None and not self._pump._runs
        if dry and allowed.share > 0 and output.follows != "on":
            return output.low
        match output.follows:
            case "watts":
                value = allowed.watts
            case "percent":
                value = 100 * allowed.share
            case "setpoint":
                value = allowed.setpoint_c
            case _:
                value = float(self._switched(allowed.share > 0 and not dry, now_s))
        return min(output.high, max(output.low, value))

    def settle(self, value: float) -> None:
        """The device says this value. Blocks, some seconds at most.

        Raises RefusedError if it says another one, DriverError if it is silent.
        """
        wanted, said = self._output.words(value), self._read()
        if self._output.is_kept(value, said):
            self._refusal = None
            return
        before, now_s = self._refusal, self._now_s()
        same = before is not None and (before.told, before.said) == (wanted, said)
        if before is None or not same or now_s >= before.again_s:
            try:
                self._write(wanted)
                said = self._read()
            except DriverError as error:
                # Silent now, but what it said last was something else.
                raise RefusedError(str(error)) from error
            if self._output.is_kept(value, said):
                self._refusal = None
                return
            pause_s = min(AGAIN_S_MAX, 2 * before.pause_s) if before is not None and same else self._period_s
            self._refusal = Refusal(wanted, said, now_s + pause_s, pause_s)
        raise RefusedError(f"{self._name}: was told {value:g}, and says {self._output.quantity.value(said):g}")

    def _waits(self, allowed: Allowed) -> bool:
        """Its pump was just told to come on, and has not answered yet."""
        pump = self._pump
        return pump is not None and allowed.share > 0 and not pump._runs and not pump._problem

    def _switched(self, wanted: bool, now_s: float) -> bool:
        """Off at once but for a pump's overrun; on again only after hold_s.

        What heat there was before the node's start, nobody knows: a pump runs on then, too.
        """
        output = self._output
        if self._begun_s is None:
            self._begun_s = now_s
        if wanted:
            held = self._off_since_s is not None and now_s - self._off_since_s < output.hold_s
            if self._on or not held:
                self._on, self._off_since_s = True, None
                return True
        if self._on:
            self._on, self._off_since_s = False, now_s
        since_s = self._begun_s if self._off_since_s is None else self._off_since_s
        return output.follows == "pump" and now_s - since_s < output.overrun_s

    def _read(self) -> list[int]:
        quantity = self._output.quantity
        return self._device.read(quantity.table, quantity.register, quantity.count)

    def _write(self, words: list[int]) -> None:
        self._device.write(self._output.table, self._output.register, words, single=self._output.single)

    def _request(self, value: float) -> bytes:
        """A whole frame, for whoever has no library."""
        output, words = self._output, self._output.words(value)
        if output.table == "coil":
            pdu = struct.pack(">BHH", _WRITE_COIL, output.register, 0xFF00 if words[0] else 0)
        elif output.single:
            pdu = struct.pack(">BHH", _WRITE_REGISTER, output.register, words[0])
        else:
            pdu = struct.pack(">BHHB", _WRITE_REGISTERS, output.register, len(words), 2 * len(words))
            pdu += b"".join(word.to_bytes(2, "big") for word in words)
        return struct.pack(">HHHB", _TRANSACTION, 0, len(pdu) + 1, self._device.unit) + pdu
