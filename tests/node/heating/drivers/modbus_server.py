"""A real Modbus server in a process of its own."""

import struct
import subprocess
import sys

from pymodbus.client import ModbusTcpClient

from hearthmesh.testnet.ports import ReservedPort
from tests.listening import wait_for

SERVER = """
import asyncio, sys
from pymodbus.server import StartAsyncTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
registers = [SimData(0, values=[0] * 45000, datatype=DataType.REGISTERS)]
bits = [SimData(0, values=[False] * 64, datatype=DataType.BITS)]
async def boiler(function, start, address, count, current, values):
    # Its own limit, in registers 10 and 11, is 5,000 W.
    if values is not None and function in (6, 16) and address == 10:
        values[:] = [0, min(5000, values[0] << 16 | values[1])]
    # A pump's coil, 7, that sticks while coil 8 says so.
    if values is not None and function == 5 and address == 7 and current[0] >> 8 & 1:
        values[0] = False
    # Register 20 keeps tens, rounded down; 21 is how often it was written.
    if values is not None and function in (6, 16) and address == 20:
        values[0] -= values[0] % 10
        current[address - start + 1] += 1
memory = (bits, bits, registers, registers) if sys.argv[2] == "apart" else registers
device = SimDevice(1, action=boiler, simdata=memory)
asyncio.run(StartAsyncTcpServer(device, address=("127.0.0.1", int(sys.argv[1]))))
"""


class Server:
    """Its registers are written over the wire, as a device's own maker would not."""

    def __init__(self, *, apart: bool = False) -> None:
        """apart: coils, inputs and both tables of registers are four memories, not one."""
        self._reserved = ReservedPort()
        self.port = self._reserved.port
        command = [sys.executable, "-c", SERVER, str(self.port), "apart" if apart else "one"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.client = ModbusTcpClient("127.0.0.1", port=self.port, timeout=20)
        wait_for(self.process, self.client.connect)

    def write(self, register: int, words: list[int]) -> None:
        assert not self.client.write_registers(register, words, device_id=1).isError()

    def close(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()
        self._reserved.release()


def words(layout: str, value: float) -> list[int]:
    data = struct.pack(f">{layout}", value)
    return [int.from_bytes(data[place : place + 2], "big") for place in range(0, len(data), 2)]
