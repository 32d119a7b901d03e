"""risk.wasm against Python: the same random numbers, the same prices; no parameter file breaks it."""

import hashlib
import json
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import wasmtime
from aggregate import Aggregate, TaskResult, aggregate
from hypothesis import given, settings
from hypothesis import strategies as st
from local import Instance, TaskFailed, compiled_module, run_tasks
from params import HEADER, Parameters
from portfolio import History, Portfolio, read_history, read_portfolio
from prepare import parameters
from reference import TRADING_DAYS, World, base_value

RISK = Path(__file__).resolve().parents[2] / "examples" / "risk"
WASM = Path(__file__).resolve().parents[1] / "wasm"
EVERY_PATH = 1 << 60
M32 = 0xFFFFFFFF


@cache
def shipped() -> tuple[Portfolio, History]:
    history = read_history(RISK / "prices.csv")
    return read_portfolio(RISK / "portfolio.csv", history), history


@cache
def shipped_model() -> Parameters:
    return replace(parameters(*shipped()), threshold_cents=EVERY_PATH)


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> list[int]:
    """Philox4x32-10, written from the paper a second time."""
    c = list(counter)
    k = list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & M32, (a >> 32) ^ c[3] ^ k[1], a & M32]
        k = [(k[0] + 0x9E3779B9) & M32, (k[1] + 0xBB67AE85) & M32]
    return c


def normals(seed: int, path: int, count: int) -> list[float]:
    """The stream of one path. CPython's inverse normal is Wichura's AS 241 as well."""
    found: list[float] = []
    for block in range((count + 1) // 2):
        words = philox((block, 0, path & M32, path >> 32), (seed & M32, seed >> 32))
        for low, high in (words[:2], words[2:]):
            found.append(NormalDist().inv_cdf((((high << 32 | low) >> 12) + 0.5) * 2.0**-52))
    return found[:count]


def shocks(model: Parameters, paths: range) -> np.ndarray:
    """shocks[path, factor] as the module draws them."""
    count = len(model.spot) + len(model.yields) + model.has_vol
    factor = np.zeros((count, count))
    factor[np.tril_indices(count)] = model.cholesky
    rows = []
    for path in paths:
        drawn = np.array(normals(model.seed, path, count + model.dof))
        mix = min(8.0, np.sqrt(model.dof / np.sum(drawn[count:] ** 2))) if model.dof else 1.0
        rows.append(factor @ drawn[:count] * mix)
    return np.array(rows)


def profits_in_cents(model: Parameters, paths: int) -> list[int]:
    """What the module finds on each path, in order."""
    (_, data), *_ = run_tasks(model.pack(1, paths), [0])
    return list(TaskResult.decode(0, data).tail)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((M32,) * 4, (M32,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_vectors(
    counter: tuple[int, int, int, int], key: tuple[int, int], words: str
) -> None:
    assert " ".join(f"{word:08x}" for word in philox(counter, key)) == words


@pytest.mark.parametrize(
    ("horizon_days", "dof", "with_vol"),
    [(10.0, 6, True), (1.0, 0, True), (60.0, 3, True), (10.0, 0, False), (250.0, 5, False)],
)
def test_each_path_is_priced_as_the_reference_prices_it_to_the_cent(
    horizon_days: float, dof: int, with_vol: bool
) -> None:
    portfolio, history = shipped()
    if not with_vol:
        history = replace(history, has_vol=False, values=tuple(row[:-1] for row in history.values))
    model = replace(
        parameters(portfolio, history, horizon_days=horizon_days, dof=dof, seed=(7 << 33) + 5),
        threshold_cents=EVERY_PATH,
    )
    world = World.shocked(history, shocks(model, range(40)), horizon_days / TRADING_DAYS)
    expected = (world.value(portfolio) - base_value(portfolio, history)) * 100
    assert np.abs(np.array(profits_in_cents(model, 40)) - expected).max() <= 1.0


def test_nothing_moves_when_no_time_passes_and_nothing_is_shocked() -> None:
    portfolio, history = shipped()
    model = parameters(portfolio, history, horizon_days=1e-9, dof=0)
    still = replace(model, threshold_cents=EVERY_PATH, cholesky=[0.0] * len(model.cholesky))
    assert all(abs(cents) <= 1 for cents in profits_in_cents(still, 5))


def test_sums_and_extremes_are_those_of_the_paths() -> None:
    (_, data), *_ = run_tasks(shipped_model().pack(1, 64), [0])
    result = TaskResult.decode(0, data)
    assert len(result.tail) == 64
    assert result.sum_cents == sum(result.tail)
    assert result.sum_squares == sum(cents**2 for cents in result.tail)
    assert (result.min_cents, result.max_cents) == (min(result.tail), max(result.tail))


def test_only_paths_at_or_below_the_threshold_are_kept() -> None:
    everything = profits_in_cents(shipped_model(), 64)
    threshold = sorted(everything)[9]
    kept = profits_in_cents(replace(shipped_model(), threshold_cents=threshold), 64)
    assert kept == [cents for cents in everything if cents <= threshold]


@cache
def unsplit() -> Aggregate:
    return aggregate(run_tasks(shipped_model().pack(1, 240), [0]))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([tasks for tasks in range(1, 241) if 240 % tasks == 0]), st.randoms(use_true_random=False))
def test_the_answer_does_not_depend_on_the_split_or_the_order(tasks: int, shuffler: random.Random) -> None:
    order = list(range(tasks))
    shuffler.shuffle(order)
    found = aggregate(run_tasks(shipped_model().pack(tasks, 240 // tasks), order))
    assert found.digest() == unsplit().digest()
    assert found.sum_squares == unsplit().sum_squares


def test_a_fresh_instance_and_a_used_one_give_the_same_bytes() -> None:
    params = (RISK / "params.bin").read_bytes()
    used = Instance(RISK / "risk.wasm", params)
    first = [used.run(index) for index in (3, 0, 3)]
    assert first[0] == first[2] == Instance(RISK / "risk.wasm", params).run(3)


def test_the_shipped_job_gives_the_recorded_bits() -> None:
    """Equal on every CPU: if this fails, nodes would disagree with each other."""
    params = (RISK / "params.bin").read_bytes()
    digest = hashlib.sha256()
    for _, data in run_tasks(params, (0, 1, 1200, 2399)):
        digest.update(data)
    assert digest.hexdigest() == "f09499d458806cb560fd99ce095bf5d00f8cd6cbc85335157db54f08b029ce15"


def test_shipped_answer_is_of_the_shipped_parameters() -> None:
    answer = json.loads((RISK / "answer.json").read_text())
    assert bytes.fromhex(answer["model"]) == (RISK / "params.bin").read_bytes()[8:16]
    assert answer["paths"] == 2400 * 512
    assert answer["digest"] in (RISK / "README.md").read_text()


@pytest.mark.parametrize(
    "module",
    [RISK / "risk.wasm", RISK.parent / "hello" / "hello.wasm", WASM / "hash.wasm", WASM / "spin.wasm"],
)
def test_modules_have_their_recorded_digest(module: Path) -> None:
    line = module.with_name(module.name + ".sha256").read_text()
    assert line == f"{hashlib.sha256(module.read_bytes()).hexdigest()}  {module.name}\n"


@pytest.mark.parametrize("module", [RISK / "risk.wasm", WASM / "hash.wasm", WASM / "spin.wasm"])
def test_function_modules_import_nothing(module: Path) -> None:
    _, compiled = compiled_module(module)
    assert list(compiled.imports) == []
    assert {"memory", "hearth_alloc", "hearth_task"} <= {export.name for export in compiled.exports}


def test_a_second_init_replaces_the_first() -> None:
    instance = Instance(RISK / "risk.wasm", shipped_model().pack(1, 8))
    other = replace(shipped_model(), seed=99).pack(1, 8)
    instance.init(other)
    assert instance.run(0) == Instance(RISK / "risk.wasm", other).run(0)


def test_a_task_before_init_or_outside_the_job_fails_with_its_code() -> None:
    with pytest.raises(TaskFailed, match="code 6"):
        Instance(RISK / "risk.wasm").run(0)
    instance = Instance(RISK / "risk.wasm", shipped_model().pack(3, 8))
    for index in (3, -1, 1 << 62):
        with pytest.raises(TaskFailed, match="code 7"):
            instance.run(index)


def test_a_price_that_is_not_finite_fails_the_task() -> None:
    broken = replace(shipped_model(), spot=[float("inf"), *shipped_model().spot[1:]])
    with pytest.raises(TaskFailed, match="code 8"):
        Instance(RISK / "risk.wasm", broken.pack(1, 8)).run(0)


def cut(blob: bytearray) -> None:
    del blob[-1]


def grow(blob: bytearray) -> None:
    blob += bytes(8)


def empty(blob: bytearray) -> None:
    blob.clear()


def other_magic(blob: bytearray) -> None:
    blob[0] ^= 1


def many_factors(blob: bytearray) -> None:
    struct.pack_into("<I", blob, 16, 0xFFFFFFFF)


def no_paths(blob: bytearray) -> None:
    struct.pack_into("<I", blob, 40, 0)


def option_on_nothing(blob: bytearray) -> None:
    struct.pack_into("<I", blob, len(blob) - 4, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (cut, 1),
        (grow, 1),
        (empty, 1),
        (other_magic, 2),
        (many_factors, 3),
        (no_paths, 3),
        (option_on_nothing, 4),
    ],
)
def test_damaged_parameters_are_refused_with_a_code(damage: Callable[[bytearray], None], code: int) -> None:
    blob = bytearray(shipped_model().pack(1, 8))
    damage(blob)
    with pytest.raises(TaskFailed, match=f"code {code}"):
        Instance(RISK / "risk.wasm", bytes(blob))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, HEADER.size - 1) | st.integers(0, 27_055), st.integers(1, 255))
def test_no_single_wrong_byte_makes_a_task_trap(place: int, flip: int) -> None:
    blob = bytearray(shipped_model().pack(1, 2))
    blob[place % len(blob)] ^= flip
    if int.from_bytes(blob[40:44], "little") > 1000:
        return
    try:
        Instance(RISK / "risk.wasm", bytes(blob)).run(0)
    except TaskFailed:
        pass


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_hash_module_gives_sha256(data: bytes) -> None:
    assert Instance(WASM / "hash.wasm").run(0, data) == hashlib.sha256(data).digest()


def test_hash_module_takes_a_megabyte_and_keeps_its_memory() -> None:
    instance = Instance(WASM / "hash.wasm")
    data = bytes(range(256)) * 4096
    for _ in range(3):
        assert instance.run(0, data) == hashlib.sha256(data).digest()
    assert instance.memory_bytes() < 3 << 20


def spun(index: int, rounds: int) -> bytes:
    mask = (1 << 64) - 1
    x = 0x9E3779B97F4A7C15 ^ index
    for _ in range(rounds):
        x ^= x >> 12
        x ^= x << 25 & mask
        x ^= x >> 27
        x = x * 0x2545F4914F6CDD1D & mask
    return x.to_bytes(8, "little")


@given(st.integers(0, 1000), st.integers(0, 200))
@settings(deadline=None)
def test_spin_module_runs_its_rounds(index: int, rounds: int) -> None:
    assert Instance(WASM / "spin.wasm").run(index, rounds.to_bytes(4, "little")) == spun(index, rounds)


def test_spin_module_refuses_an_input_of_another_size() -> None:
    with pytest.raises(TaskFailed, match="code 1"):
        Instance(WASM / "spin.wasm").run(0, b"12345")


def test_hello_greets_and_leaves_a_file(tmp_path: Path) -> None:
    engine, compiled = compiled_module(RISK.parent / "hello" / "hello.wasm")
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    config = wasmtime.WasiConfig()
    config.argv = ["hello", "7"]
    config.stdout_file = str(tmp_path / "stdout")
    (tmp_path / "out").mkdir()
    config.preopen_dir(str(tmp_path / "out"), "/out")
    store = wasmtime.Store(engine)
    store.set_wasi(config)
    start = linker.instantiate(store, compiled).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    try:
        start(store)
    except wasmtime.ExitTrap as trap:
        assert trap.code == 0
    assert (tmp_path / "stdout").read_text() == "hello from task 7\n"
    assert (tmp_path / "out" / "hello.txt").read_text() == "hello from task 7\n"
