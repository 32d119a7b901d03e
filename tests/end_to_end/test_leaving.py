"""Nodes that leave hand on what runs, with its checkpoint; real processes."""

import os
from pathlib import Path

import trio
import wasmtime

from hearthmesh.node.client import JobRequest
from hearthmesh.testnet.fixture import MakeTestnet
from hearthmesh.testnet.network import Testnet
from hearthmesh.testnet.node import TestnetNode
from tests.end_to_end.jobs import WITHIN_S, cold, session

WAT = Path(__file__).parents[1] / "wasm" / "command.wat"
# Appends a letter to its checkpoint and then never ends, until there are three: so it ends on the third node alone.
PATIENT = WAT.read_text().replace("(then unreachable)", "(then (loop $on (br $on)))")


def checkpoints(node: TestnetNode) -> list[bytes]:
    """What tasks keep on its disk; of files only that are there for long enough to be read."""
    found = []
    for path in node.state_folder.checkpoints.glob("*/*/state"):
        try:
            found.append(path.read_bytes())
        except FileNotFoundError:
            continue
    return found


async def runs_with(net: Testnet, kept: bytes) -> TestnetNode:
    """The node where the task has made that checkpoint."""
    with trio.fail_after(WITHIN_S):
        while True:
            for node in net.nodes.values():
                status = await node.status_or_none()
                if status is not None and status["running"] and checkpoints(node) == [kept]:
                    return node
            await trio.sleep(0.1)


async def test_sigterm_hands_what_runs_to_a_peer_which_goes_on_from_its_checkpoint(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(5)) as net, session(net) as client:
        job = await client.submit(
            JobRequest(
                program=bytes(wasmtime.wat2wasm(PATIENT)),
                abi="command",
                inputs=[b"c"],
                checkpoint_us=1_000_000,
                # A second copy would begin with the first letter, and never end.
                verification="none",
                nonce=os.urandom(8),
            )
        )
        for letters in (b"a", b"ab"):
            leaver = await runs_with(net, letters)
            assert await leaver.end(WITHIN_S) == "left"
            assert len([line for line in leaver.log_tail(200) if "worker.moved" in line]) == 1
        with trio.fail_after(WITHIN_S):
            (result,) = [result async for result in job.results()]
        assert result.ok and result.stdout == b"abc"
        assert (await job.status()).duplicates == 0
