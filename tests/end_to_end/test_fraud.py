"""A node that lies, among real ones: compared, accused, tried by each in the sandbox, and convicted."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from hearthmesh.node.client import Client
from hearthmesh.node.control import ask
from hearthmesh.node.execution.outcome import BatchOutcome, BatchRequest
from hearthmesh.node.service import Node
from tests.end_to_end.inside import inside, until_linked

HASH = Path(__file__).parents[1] / "wasm" / "hash.wasm"
WITHIN_S = 240


def make_a_liar(node: Node) -> None:
    """It runs what it is given, and says something else."""
    assert node.wasm is not None
    honestly = node.wasm.run

    async def run(request: BatchRequest) -> BatchOutcome:
        outcome = await honestly(request)
        return replace(
            outcome, outputs=[b"a lie about %d" % (outcome.first + at) for at in range(len(outcome.outputs))]
        )

    wasm: Any = node.wasm
    wasm.run = run


async def test_who_lies_is_convicted_by_each_node_for_itself_and_nobody_takes_the_lie(tmp_path: Path) -> None:
    async with inside(tmp_path) as mesh:
        liar, *honest = [await mesh.start(name) for name in ("liar", "hall", "bath", "attic")]
        make_a_liar(liar)
        for node in honest:
            await until_linked(node, 3)
        found = liar.membership.identity.node_id
        async with Client.connect(mesh.client()) as client:
            with trio.fail_after(WITHIN_S):
                while not all(found in node.mesh.ctx.convicted for node in honest):
                    inputs = [os.urandom(32) for _ in range(40)]
                    outputs = await client.map(HASH, inputs, verification="quorum(2)")
                    assert outputs == [hashlib.sha256(each).digest() for each in inputs]
        for node in honest:
            assert set(node.mesh.ctx.convicted) == {found}
            told = await ask(node.folder.control_socket, {"do": "trust", "node": "liar"})
            assert told["convicted"] and told["proof"]["accuser"] != liar.membership.identity.peer_id
