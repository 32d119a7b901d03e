"""Python tasks on the component itself. `make python-runtime` builds it and runs these: a build takes half a minute."""

import hashlib
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from hearthmesh.node.client import Client
from hearthmesh.node.client.errors import ClientError, JobFailed
from hearthmesh.node.execution.outcome import BatchOutcome, BatchRequest, Exit, Limits
from hearthmesh.node.execution.pool import WasmPool
from hearthmesh.node.execution.wasm_child import ChildConfig
from hearthmesh.node.isolation.layers import detect
from hearthmesh.node.isolation.worker_sandbox import WorkerFolders
from hearthmesh.node.python.guest.hearth_values import pack, unpack
from hearthmesh.node.python.runtime import built_component, default_cache
from tests.end_to_end.inside import inside

COMPONENT = built_component()
pytestmark = pytest.mark.skipif(COMPONENT is None, reason="the Python component is not built: make python-runtime")
LIMITS = Limits(memory_bytes=256 << 20, wall_us=20_000_000)


async def run(source: str, arguments: list[Any], *, count: int = 0, **limits: int) -> BatchOutcome:
    """The batch's outcome on a worker of its own."""
    from dataclasses import replace

    assert COMPONENT is not None
    folders = WorkerFolders((COMPONENT.parent,))
    pool = WasmPool(ChildConfig(default_cache() / "compiled", confinement=detect(), folders=folders), 1)
    digest = hashlib.sha256(COMPONENT.read_bytes()).digest()
    request = BatchRequest(
        job_id=bytes(32),
        runtime="wasm",
        abi="function",
        program=COMPONENT,
        program_digest=digest,
        first=5,
        count=count or len(arguments),
        seed=b"s" * 32,
        entry="f",
        inputs=[pack(argument) for argument in arguments] if arguments else None,
        init=source.encode(),
        limits=replace(LIMITS, **limits),
    )
    try:
        return await pool.run(request)
    finally:
        await pool.aclose()


async def test_values_go_in_and_come_out() -> None:
    outcome = await run("def f(x): return [x, type(x).__name__]", [1, 2.5, "x", b"y", None, (1, [2]), {"a": 2**99}])
    assert [unpack(output) for output in outcome.outputs] == [
        [1, "int"],
        [2.5, "float"],
        ["x", "str"],
        [b"y", "bytes"],
        [None, "NoneType"],
        [(1, [2]), "tuple"],
        [{"a": 2**99}, "dict"],
    ]


async def test_without_arguments_a_task_gets_its_index() -> None:
    assert [unpack(output) for output in (await run("def f(i): return i", [], count=3)).outputs] == [5, 6, 7]


ODD = """
import random, time, datetime, uuid, secrets, os
seen = []
def f(x):
    seen.append(x)
    return [len(seen), list({"a", "b", "c"}), id(object()), hash("x"), random.random(), time.time(), time.monotonic(),
            str(datetime.datetime.now()), str(uuid.uuid4()), secrets.token_hex(4), os.urandom(3)]
"""


async def test_a_task_is_the_same_whatever_ran_before_it_and_wherever() -> None:
    together, apart = await run(ODD, [0, 0, 0]), await run(ODD, [0])
    assert together.outputs[0] == apart.outputs[0]
    assert together.fuels[0] == apart.fuels[0]
    values = [unpack(output) for output in together.outputs]
    assert isinstance(values[0], list) and isinstance(values[1], list)
    assert values[0][:4] == values[1][:4]
    assert values[0][4] != values[1][4]  # by its index
    assert values[0][5:7] == pytest.approx([1577836800.001, 1577836800.002], abs=1e-6)
    assert values[0][7] == "2020-01-01 00:00:00.003000"


@pytest.mark.parametrize(
    ("body", "exit", "words"),
    [
        ("return 1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("return open('/etc/passwd')", 1, "no files and no system"),
        ("import os; return os.listdir('/')", 1, "no files and no system"),
        ("import socket", 1, "socket is not among the modules"),
        ("import numpy", 1, "numpy is not among the modules"),
        ("import subprocess", 1, "not among the modules"),
        ("return object()", 3, "a builtins.object cannot travel"),
        ("raise SystemExit(0)", 1, "SystemExit"),
        ("return f(x)", 1, "RecursionError"),
        ("return bytearray(1 << 30)", Exit.MEMORY, ""),
        ("import posix; return posix.getpid()", 1, "no files and no system"),
    ],
)
async def test_what_goes_wrong_is_the_tasks_and_the_next_one_runs(body: str, exit: int, words: str) -> None:
    outcome = await run(f"def f(x):\n    if x: return x\n    {body}\n", [0, 1])
    assert outcome.exits == [exit, 0]
    assert words in outcome.stderrs.get(0, b"").decode()
    assert [*map(len, outcome.outputs)][0] == 0 and unpack(outcome.outputs[1]) == 1


async def test_an_endless_loop_meets_the_wall_limit_and_fuel_its_own() -> None:
    loop = "def f(x):\n    while x: pass\n    return x\n"
    assert (await run(loop, [1, 0], wall_us=300_000)).exits == [Exit.WALL, 0]
    assert (await run(loop, [1, 0], fuel=60_000_000)).exits == [Exit.FUEL, 0]


async def test_what_is_printed_is_kept_apart_from_the_result() -> None:
    outcome = await run("def f(x):\n    print('hot', x)\n    return x\n", [1])
    assert (outcome.stderrs, unpack(outcome.outputs[0])) == ({0: b"hot 1\n"}, 1)


@pytest.mark.parametrize(
    ("source", "words"), [("x = 1", "has no function f"), ("f = 1", "no function f"), ("1 / 0", "ZeroDivisionError")]
)
async def test_a_source_that_does_not_load_fails_each_task(source: str, words: str) -> None:
    outcome = await run(source, [1, 2])
    assert outcome.exits == [3, 3] and words in outcome.stderrs[1].decode()


def estimate(throws: int) -> float:
    """Pi, by throwing darts."""
    hits = sum(random.random() ** 2 + random.random() ** 2 < 1 for _ in range(throws))
    return 4 * hits / throws


def fails_at_two(x: int) -> float:
    return math.sqrt(2 - x - 1)


async def test_a_function_is_mapped_over_the_mesh_and_checked(tmp_path: Path) -> None:
    state = tmp_path / "only"
    state.mkdir(mode=0o700)
    compiled = default_cache() / "compiled"
    if compiled.is_dir():  # it takes some 30 s of processor, and was done for the tests above
        shutil.copytree(compiled, state / "cache")
    async with inside(tmp_path) as mesh:
        await mesh.start("only", state=state)
        async with Client.connect(mesh.client()) as client:
            found = await client.map(estimate, [1000] * 4, verification="none")
            assert all(2.8 < value < 3.5 for value in found) and len(set(found)) > 1
            assert await client.map(estimate, [1000] * 4, verification="none") == found
            with pytest.raises(JobFailed, match="task 2 ended with exit code 1: ValueError"):
                await client.map(fails_at_two, range(3), verification="none")
            with pytest.raises(ClientError, match="argument 1: a builtins.set"):
                await client.map(estimate, [1, {2}])
            with pytest.raises(ClientError, match="a lambda cannot be shipped"):
                await client.map(lambda x: x, [1])
