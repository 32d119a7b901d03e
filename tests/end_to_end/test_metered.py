"""A real heater whose meter tells nonsense goes on working, and neither its books nor its receipts believe it."""

from pathlib import Path

import trio

from hearthmesh.testnet.network import Testnet, running
from hearthmesh.testnet.provision import node_folder
from tests.end_to_end.jobs import WITHIN_S, cold, session, spinning
from tests.node.heating.drivers.modbus_server import Server, words

HEATER = """
[heater]
kind = "machine"
cores = 1
watts_per_core = 50.0
idle_watts = 10.0
[heater.machine]
sensor = "file:{sensor}"
poll_s = 0.2
meter = "modbus"
[heater.machine.modbus]
host = "127.0.0.1"
port = {port}
map = "eastron-sdm630"
"""


async def test_meter_of_1e30_watts_ends_no_node_and_enters_no_books(tmp_path: Path) -> None:
    server = Server()
    try:
        server.write(52, words("f", 1e30))
        sensor = tmp_path / "probe"
        sensor.write_text("15000")
        folder = tmp_path / "net"
        Testnet.create(folder, rooms=cold(2))
        path = node_folder(folder, "h1") / "node.toml"
        before, _, after = path.read_text().partition("[heater]")
        rest = after[after.index("\n[storage]") :] if "\n[storage]" in after else ""
        path.write_text(before + HEATER.format(sensor=sensor, port=server.port) + rest)
        async with running(folder) as net, session(net) as client:
            job = await client.submit(spinning(100))
            with trio.fail_after(WITHIN_S):
                async for progress in job.watch():
                    if progress.state == "accepted":
                        break
            assert 0 < {share.node.hex(): share.done for share in progress.workers}[net.nodes["h1"].node_id]
            assert sum(share.energy_mj for share in progress.workers) < 100 * 100_000
            status = await net.nodes["h1"].status()
            # Estimated, as without a meter: 50 W at most, and 10 W of the idle machine.
            lived_s = status["uptime_s"] + 1.0
            assert 0 < status["meter"]["work_j"] <= 50.0 * lived_s
            assert 0 < status["meter"]["idle_j"] <= 10.0 * lived_s
    finally:
        server.close()
