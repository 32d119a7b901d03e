"""The function ABI: one instance for a batch, every attack ends with its code, the rest of the batch goes on."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from hearthmesh.node.execution.outcome import Exit
from hearthmesh.node.execution.pool import WasmPool

ECHO, TRAP, LOOP, RECURSE, BOMB, FLOOD, FAIL, OUTSIDE, BURN, LEAK, DIVIDE, TABLE, CALLS = range(13)


def act(number: int, *more: int) -> bytes:
    return bytes([number, *more])


def index_bytes(index: int) -> bytes:
    return index.to_bytes(8, "little")


async def test_outputs_come_in_the_order_of_the_inputs(pool: WasmPool, wasm: Any) -> None:
    inputs = [bytes([n]) * (n * 37) for n in range(200)]
    outcome = await pool.run(wasm.request("echo", inputs, first=1_000))
    assert outcome.first == 1_000
    assert outcome.outputs == inputs
    assert outcome.exits == [Exit.SUCCESS] * 200
    assert outcome.stderrs == {}
    assert len(outcome.cpu_us) == 200


async def test_a_batch_without_inputs_gets_the_indices(pool: WasmPool, wasm: Any) -> None:
    outcome = await pool.run(wasm.request("acts", None, first=(1 << 40) + 5, count=3))
    assert outcome.outputs == [index_bytes((1 << 40) + 5 + n) for n in range(3)]


@pytest.mark.parametrize(
    ("attack", "limits", "exit"),
    [
        pytest.param(act(TRAP), {}, Exit.TRAP, id="unreachable"),
        pytest.param(act(LOOP), {"fuel": 100_000}, Exit.FUEL, id="endless loop under a fuel limit"),
        pytest.param(act(BOMB), {}, Exit.MEMORY, id="memory bomb"),
        pytest.param(act(FLOOD), {}, Exit.OUTPUT, id="too much output"),
        pytest.param(act(OUTSIDE), {}, Exit.OUTPUT, id="output outside of the memory"),
        pytest.param(act(DIVIDE), {}, Exit.TRAP, id="division by zero"),
        pytest.param(act(TABLE), {}, Exit.TRAP, id="huge table"),
        pytest.param(act(FAIL), {}, 7, id="a failure of its own"),
    ],
)
async def test_an_attack_ends_one_task_and_the_batch_goes_on(
    pool: WasmPool, wasm: Any, attack: bytes, limits: dict[str, int], exit: int
) -> None:
    inputs = [act(ECHO), attack, act(ECHO), attack, act(ECHO)]
    outcome = await pool.run(wasm.request("acts", inputs, first=10, limits=limits))
    assert outcome.exits == [0, exit, 0, exit, 0]
    assert outcome.outputs == [index_bytes(10), b"", index_bytes(12), b"", index_bytes(14)]
    again = await pool.run(wasm.request("acts", [act(ECHO)]))
    assert again.exits == [0]


@pytest.mark.parametrize(
    ("attack", "exits"),
    [
        pytest.param(LOOP, [[0, 0, Exit.WALL], [0, 0]], id="endless loop"),
        pytest.param(RECURSE, [[0, 0], [Exit.TRAP], [0, 0]], id="endless recursion"),
    ],
)
async def test_an_end_that_hangs_on_the_machine_is_the_last_of_its_batch(
    pool: WasmPool, wasm: Any, attack: int, exits: list[list[int]]
) -> None:
    """What runs after it would have a fresh instance here, and the old one on a machine that is faster."""
    inputs = [act(CALLS), act(CALLS), act(attack), act(CALLS), act(CALLS)]
    for expected in exits:
        outcome = await pool.run(wasm.request("acts", inputs, limits={"wall_us": 50_000}))
        assert outcome.exits == expected + [Exit.CANCELLED] * (len(inputs) - len(expected))
        counted = [output for exit, output in zip(outcome.exits, outcome.outputs, strict=True) if exit == 0]
        assert counted == [index_bytes(n + 1) for n in range(len(counted))]
        inputs = inputs[len(expected) :]
    assert not inputs


async def test_a_batch_up_to_a_task_is_what_any_batch_from_there_comes_to(pool: WasmPool, wasm: Any) -> None:
    """Through failures that are repeated in a fresh instance, and instances that grew too large."""
    inputs = [act(kind) for kind in (CALLS, LEAK, FAIL, CALLS, BOMB, LEAK, DIVIDE, FLOOD)] * 12
    whole = await pool.run(wasm.request("acts", inputs))
    for index in range(0, len(inputs), 7):
        part = await pool.run(wasm.request("acts", inputs[: index + 1]))
        assert (part.exits[index], part.outputs[index]) == (whole.exits[index], whole.outputs[index])


async def test_a_trap_is_explained_on_stderr(pool: WasmPool, wasm: Any) -> None:
    outcome = await pool.run(wasm.request("acts", [act(ECHO), act(DIVIDE), act(RECURSE)]))
    assert outcome.stderrs == {1: b"hearth: integer division by zero\n", 2: b"hearth: stack overflow\n"}


async def test_the_wall_limit_holds_for_each_task(pool: WasmPool, wasm: Any) -> None:
    outcome = await pool.run(wasm.request("acts", [act(LOOP)] * 3, limits={"wall_us": 40_000}))
    assert outcome.exits == [Exit.WALL, Exit.CANCELLED, Exit.CANCELLED]
    assert 0 < outcome.cpu_us[0] < 2_000_000


async def test_fuel_is_exact_and_does_not_depend_on_the_neighbours(pool: WasmPool, wasm: Any) -> None:
    one, two = act(BURN, 1), act(BURN, 2)
    alone = [(await pool.run(wasm.request("acts", [what]))).fuels[0] for what in (one, two)]
    outcome = await pool.run(wasm.request("acts", [one, two, act(TRAP), two, one]))
    limited = await pool.run(wasm.request("acts", [one, two], limits={"fuel": alone[1]}))
    short = await pool.run(wasm.request("acts", [one, two], limits={"fuel": alone[1] - 1}))
    assert [outcome.fuels[n] for n in (0, 1, 3, 4)] == [alone[0], alone[1], alone[1], alone[0]]
    assert limited.exits == [0, 0]
    assert short.exits == [0, Exit.FUEL]
    assert alone[1] > alone[0] > 1_000


async def test_an_instance_serves_the_whole_batch_and_no_other(pool: WasmPool, wasm: Any) -> None:
    for _ in range(2):
        outcome = await pool.run(wasm.request("acts", [act(CALLS)] * 5))
        assert outcome.outputs == [index_bytes(n + 1) for n in range(5)]


async def test_a_failed_task_is_repeated_in_a_fresh_instance(pool: WasmPool, wasm: Any) -> None:
    """30 MiB leaked by 30 tasks, 16 MiB allowed: each task has room in an instance of its own."""
    outcome = await pool.run(wasm.request("acts", [act(LEAK)] * 30))
    assert outcome.exits == [0] * 30


async def test_init_is_given_to_every_instance(pool: WasmPool, wasm: Any) -> None:
    outcome = await pool.run(wasm.request("init", [bytes([n]) for n in range(4)], init=b"\x20rest"))
    assert outcome.outputs == [bytes([0x20 + n]) for n in range(4)]


async def test_without_init_bytes_init_gets_none(pool: WasmPool, wasm: Any) -> None:
    outcome = await pool.run(wasm.request("init", [b"\5"]))
    assert outcome.outputs == [b"\5"]


@pytest.mark.parametrize(("init", "exit"), [(b"\x09", 9), (b"\x01", Exit.TRAP)], ids=["refused", "trapped"])
async def test_a_failed_init_is_every_tasks_exit(pool: WasmPool, wasm: Any, init: bytes, exit: int) -> None:
    outcome = await pool.run(wasm.request("init", [b"a", b"b"], init=init))
    assert outcome.exits == [exit, exit]
    assert outcome.stderrs[0].startswith(b"hearth: at the instance's start: ")


async def test_a_start_function_that_never_ends_hits_the_wall(pool: WasmPool, wasm: Any) -> None:
    outcome = await pool.run(wasm.request("start_loop", [b""] * 20, limits={"wall_us": 50_000}))
    assert outcome.exits == [Exit.WALL] * 20


async def test_bits_do_not_depend_on_the_worker_or_on_how_the_batch_is_cut(make_pool: Any, wasm: Any) -> None:
    whole = await make_pool().run(wasm.request("seeded", count=12, first=100))
    second = make_pool()
    parts = [await second.run(wasm.request("seeded", count=n, first=at)) for at, n in ((100, 5), (105, 1), (106, 6))]
    assert [output for part in parts for output in part.outputs] == whole.outputs
    assert [fuel for part in parts for fuel in part.fuels] == whole.fuels
    assert len(set(whole.outputs)) == 12


async def test_randomness_follows_from_the_seed_and_time_does_not_pass(pool: WasmPool, wasm: Any) -> None:
    one = await pool.run(wasm.request("seeded"))
    other = await pool.run(wasm.request("seeded", seed=b"t" * 32))
    assert one.outputs[0][:16] != other.outputs[0][:16]
    start_ns = 1_577_836_800_000_000_000
    clocks = [int.from_bytes(one.outputs[0][at : at + 8], "little") - start_ns for at in (16, 24)]
    assert clocks == [1_000_000, 2_000_000]
    assert other.outputs[0][16:] == one.outputs[0][16:]


async def test_a_module_whose_memory_is_over_the_limit_is_stopped_at_its_start(pool: WasmPool, wasm: Any) -> None:
    outcome = await pool.run(wasm.request("echo", [b"x"], limits={"memory_bytes": 65_536}))
    assert outcome.exits == [Exit.MEMORY]


async def test_outputs_over_a_batchs_bound_give_the_rest_back_unrun(pool: WasmPool, wasm: Any) -> None:
    big = bytes(9 << 20)
    limits = {"output_bytes": 10 << 20, "memory_bytes": 32 << 20}
    module = """(module (memory (export "memory") 200)
      (func (export "hearth_alloc") (param i32) (result i32) i32.const 65536)
      (func (export "hearth_task") (param i64 i32 i32) (result i64) (i64.const 0x900000)))"""
    outcome = await pool.run(wasm.request(module, count=20, limits=limits))
    done = outcome.exits.count(0)
    assert outcome.exits == [0] * done + [Exit.CANCELLED] * (20 - done)
    assert outcome.outputs == [big] * done + [b""] * (20 - done)
    assert 7 <= done <= 9


# Out of what is given, a zero and a NaN with a payload: their quotient with itself, and their sum with itself.
NANS = """
(module
  (memory (export "memory") 1)
  (func (export "hearth_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "hearth_task") (param $index i64) (param $at i32) (param $length i32) (result i64)
    (f64.store (i32.const 16) (f64.div (f64.load (local.get $at)) (f64.load (local.get $at))))
    (f64.store (i32.const 24) (f64.add (f64.load offset=8 (local.get $at)) (f64.load offset=8 (local.get $at))))
    (i64.or (i64.shl (i64.const 16) (i64.const 32)) (i64.const 16))))
"""
GIVEN = struct.pack("<dQ", 0.0, 0xFFF8_0000_0000_0007)
CANONICAL = struct.pack("<Q", 0x7FF8_0000_0000_0000)


async def test_nans_are_the_processors_own_or_where_it_is_asked_for_the_same_everywhere(
    pool: WasmPool, wasm: Any
) -> None:
    usual, careful, again = [
        await pool.run(wasm.request(NANS, [GIVEN], canonical_nans=canonical)) for canonical in (False, True, False)
    ]
    assert careful.exits == usual.exits == [0] and bytes(careful.outputs[0]) == 2 * CANONICAL
    assert bytes(usual.outputs[0]) == bytes(again.outputs[0]) and bytes(usual.outputs[0])[8:] == GIVEN[8:]
    assert careful.fuels == usual.fuels


@pytest.mark.parametrize("module", ["echo", "seeded", "acts"])
async def test_what_hangs_on_no_nan_comes_to_the_same_either_way(pool: WasmPool, wasm: Any, module: str) -> None:
    usual, careful = [
        await pool.run(wasm.request(module, [act(0)] * 3, canonical_nans=canonical)) for canonical in (False, True)
    ]
    assert [*map(bytes, usual.outputs)] == [*map(bytes, careful.outputs)] and usual.exits == careful.exits


async def test_a_wall_limit_holds_for_canonical_nans_as_well(pool: WasmPool, wasm: Any) -> None:
    outcome = await pool.run(wasm.request("start_loop", [b""], canonical_nans=True, limits={"wall_us": 100_000}))
    assert outcome.exits == [Exit.WALL]
