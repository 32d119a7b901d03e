"""Many new members at once, full nodes all of them, in one process: each has a key, a certificate and a warm room.

    python -m hearthmesh.testnet.chaos.joiners NET_FOLDER COUNT PARENT BOOTSTRAP…

They join as soon as they run, and leave in order at SIGTERM. Their files lie beside those of the network's nodes, and
each has a history of its own there.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import trio

from ...node.cli.node_commands import die_with
from ...node.config import NodeConfig, load_node_config
from ...node.logs import configure_logs
from ...node.service import run_node
from ..provision import admit_node
from ..rooms import RoomPlan

# It is a member like others, and takes no work.
WARM = RoomPlan(start_c=25.0)


def joiner_name(number: int) -> str:
    return f"joiner-{number}"


def _config(folder: Path, number: int, bootstrap: Sequence[str]) -> NodeConfig:
    config = load_node_config(admit_node(folder, joiner_name(number), WARM))
    return replace(config, node=replace(config.node, bootstrap=tuple(bootstrap)))


async def _serve(folder: Path, count: int, bootstrap: Sequence[str]) -> None:
    configs = [_config(folder, number, bootstrap) for number in range(count)]
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            for config in configs:
                nursery.start_soon(lambda config: run_node(config, stop=stop), config)
            async for _ in signals:
                break
            stop.set()


def main(arguments: Sequence[str]) -> int:
    folder, count, parent, *bootstrap = arguments
    die_with(int(parent))
    configure_logs("warning", json_lines=False)
    trio.run(_serve, Path(folder), int(count), bootstrap)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
