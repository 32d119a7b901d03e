"""Modbus TCP, with pymodbus's blocking client in the threads that poll. Needs the extra `hearthmesh[modbus]`."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from .interface import DriverError
from .register_map import BITS, Quantity

TIMEOUT_S = 2.0
RETRIES = 1
READ_REGISTERS_MAX = 125


class ModbusDevice:
    """One unit behind one address, "HOST:PORT". Methods block, some seconds at most; several threads may call them."""

    def __init__(self, host: str, port: int, unit: int) -> None:
        self.address = f"{host}:{port}"
        self._where = f"{self.address} unit {unit}"
        self._client = ModbusTcpClient(host, port=port, timeout=TIMEOUT_S, retries=RETRIES)
        self.unit = unit
        self._lock = threading.Lock()

    def read(self, table: str, register: int, count: int) -> list[int]:
        """Registers of the "holding" or "input" table, or bits of "coil" or "discrete". Raises DriverError."""
        assert 0 < count <= READ_REGISTERS_MAX
        with self._lock:
            try:
                if not self._client.connected and not self._client.connect():  # type: ignore[no-untyped-call]
                    raise DriverError(f"{self._where}: does not answer")
                asks = {
                    "holding": self._client.read_holding_registers,
                    "input": self._client.read_input_registers,
                    "coil": self._client.read_coils,
                    "discrete": self._client.read_discrete_inputs,
                }
                answer = asks[table](register, count=count, device_id=self.unit)
            except (ModbusException, OSError, ValueError) as error:
                # A ValueError is the resolver's, of a name that is none.
                self._client.close()  # type: ignore[no-untyped-call]
                raise DriverError(f"{self._where}: {error}") from error
        # Bits come in whole bytes.
        found = [] if answer.isError() else answer.bits[:count] if table in BITS else answer.registers
        if len(found) != count:
            raise DriverError(f"{self._where}: {table} {register} to {register + count - 1} cannot be read")
        return [int(word) for word in found]

    def write(self, table: str, register: int, words: list[int], *, single: bool = False) -> None:
        """Registers of the "holding" table, or one "coil". single: by the function for one. Raises DriverError."""
        with self._lock:
            try:
                if not self._client.connected and not self._client.connect():  # type: ignore[no-untyped-call]
                    raise DriverError(f"{self._where}: does not answer")
                if table == "coil":
                    answer = self._client.write_coil(register, bool(words[0]), device_id=self.unit)
                elif single:
                    answer = self._client.write_register(register, words[0], device_id=self.unit)
                else:
                    answer = self._client.write_registers(register, words, device_id=self.unit)
            except (ModbusException, OSError, ValueError) as error:
                self._client.close()  # type: ignore[no-untyped-call]
                raise DriverError(f"{self._where}: {error}") from error
        if answer.isError():
            raise DriverError(f"{self._where}: {table} {register} cannot be written")

    def value(self, quantity: Quantity) -> float:
        """Raises DriverError."""
        return quantity.value(self.read(quantity.table, quantity.register, quantity.count))

    def close(self) -> None:
        with self._lock:
            self._client.close()  # type: ignore[no-untyped-call]


class ModbusValue:
    """A quantity as something that a polled sensor or meter reads."""

    def __init__(self, device: ModbusDevice, quantity: Quantity, source: str, *, meter: bool = False) -> None:
        """meter: what a meter says for "not available" is no reading."""
        self.source = source
        self._meter = meter
        self._device = device
        self._quantity = quantity

    def read_c(self) -> float:
        """Raises DriverError."""
        quantity = self._quantity
        registers = self._device.read(quantity.table, quantity.register, quantity.count)
        if self._meter and quantity.is_unavailable(registers):
            raise DriverError(f"{self.source}: the meter tells no power")
        return quantity.value(registers)


# Where SunSpec's devices may begin, and the marks of a begin ("SunS") and an end.
SUNSPEC_BASES = (40_000, 50_000, 0)
SUNSPEC_MARK = [0x5375, 0x6E53]
SUNSPEC_END = 0xFFFF
MODELS_MAX = 64
# Meters with scaled integers, and with floats: where their total power stands, after the model's id and length.
INTEGER_METERS, INTEGER_W, INTEGER_W_SCALE = range(201, 205), 16, 20
FLOAT_METERS, FLOAT_W = range(211, 215), 26
NOT_IMPLEMENTED = 0x8000


class SunSpecMeter:
    """The total power of the first meter among a device's models (201 to 204, 211 to 214), found once.

    Source: SunSpec Alliance, Device Information Model specification, and its meter models.
    """

    def __init__(self, device: ModbusDevice, source: str = "sunspec") -> None:
        self.source = source
        self._device = device
        self._read: Callable[[], float] | None = None

    def read_c(self) -> float:
        """Watts. Raises DriverError."""
        if self._read is None:
            self._read = self._find()
        return self._read()

    def _find(self) -> Callable[[], float]:
        for base in SUNSPEC_BASES:
            try:
                mark = self._device.read("holding", base, 2)
            except DriverError:
                continue
            if mark == SUNSPEC_MARK:
                return self._among_models(base + 2)
        raise DriverError("sunspec: the device has no SunSpec models")

    def _among_models(self, register: int) -> Callable[[], float]:
        for _ in range(MODELS_MAX):
            model, length = self._device.read("holding", register, 2)
            data = register + 2
            if model in INTEGER_METERS:
                return lambda: self._integer(data)
            if model in FLOAT_METERS:
                power = Quantity(register=data + FLOAT_W, type="float32")
                return lambda: self._device.value(power)
            register = data + length
            if model == SUNSPEC_END or register > 65_533:
                break
        raise DriverError("sunspec: the device has no meter among its models")

    def _integer(self, data: int) -> float:
        words = self._device.read("holding", data + INTEGER_W, INTEGER_W_SCALE - INTEGER_W + 1)
        power, scale = _signed(words[0]), _signed(words[-1])
        if NOT_IMPLEMENTED in (words[0], words[-1]) or not -10 <= scale <= 10:
            raise DriverError("sunspec: the meter tells no power")
        return float(power * 10.0**scale)


def _signed(word: int) -> int:
    return word - 0x10000 if word & 0x8000 else word
