"""What a plain node does not load: a heater in a hall need not have, or pay for, what only some owners use."""

import subprocess
import sys

CODE = """
import sys
import hearthmesh.node.service, hearthmesh.node.cli.app
from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.heating.choose import heater_of
from hearthmesh.node.heating.control_settings import MachineTable
for settings in (
    HeaterSettings(kind="none", cores=1),
    HeaterSettings(kind="simulated", cores=1),
    HeaterSettings(kind="machine", cores=1, machine=MachineTable(sensor="file:/nowhere")),
):
    heater_of(settings, 0).advance(1, 0)
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"numpy", "paho", "pymodbus", "amqtt", "scipy"}))
"""


def test_plain_node_loads_no_library_of_an_extra() -> None:
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("\n", "")
