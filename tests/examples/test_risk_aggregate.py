"""aggregate.py on made-up results: exact, complete, and plain about what is missing."""

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from aggregate import MAGIC, OUTPUT, ResultError, aggregate, read_folder, table
from hypothesis import given
from hypothesis import strategies as st

RISK = Path(__file__).resolve().parents[2] / "examples" / "risk"
MODEL = b"12345678"


def output(task: int, tasks: int, cents: list[int], threshold: int, model: bytes = MODEL) -> bytes:
    """What risk.wasm would return for one task whose paths lost and won these cents."""
    tail = [value for value in cents if value <= threshold]
    head = OUTPUT.pack(
        MAGIC,
        model,
        tasks,
        len(cents),
        task,
        sum(cents).to_bytes(16, "little", signed=True),
        sum(value**2 for value in cents).to_bytes(16, "little"),
        min(cents),
        max(cents),
        threshold,
        len(tail),
    )
    return head + b"".join(value.to_bytes(8, "little", signed=True) for value in tail)


def job(cents: list[int], tasks: int, threshold: int = 1 << 60) -> list[tuple[int, bytes]]:
    size = len(cents) // tasks
    return [(i, output(i, tasks, cents[i * size : (i + 1) * size], threshold)) for i in range(tasks)]


def sample(count: int, seed: int = 5) -> list[int]:
    source = random.Random(seed)
    return [round(source.gauss(1000, 250_000)) for _ in range(count)]


CENTS = st.integers(-(1 << 52), 1 << 52)


@given(st.integers(0, 1 << 32), st.integers(0, 52))
def test_var_is_an_order_statistic_and_shortfall_the_exact_mean_below(seed: int, bits: int) -> None:
    source = random.Random(seed)
    cents = [source.randint(-(1 << bits), 1 << bits) for _ in range(4000)]
    ordered = sorted(cents)
    levels = aggregate(job(cents, 4)).measures()["levels"]
    for name, rank in (("0.95", 200), ("0.99", 40), ("0.999", 4)):
        assert levels[name]["var"] == -ordered[rank - 1] / 100
        assert levels[name]["es"] == -float(Fraction(sum(ordered[:rank]), rank)) / 100
        assert levels[name]["var_low"] <= levels[name]["var"] <= levels[name]["var_high"]


def test_shortfall_counts_the_fraction_of_a_path() -> None:
    cents = sample(1010)
    ordered = sorted(cents)
    weight = Fraction(1010, 100)
    expected = (sum(ordered[:10]) + (weight - 10) * ordered[10]) / weight
    level = aggregate(job(cents, 1)).measures()["levels"]["0.99"]
    assert level["var"] == -ordered[10] / 100
    assert level["es"] == pytest.approx(-float(expected) / 100, rel=1e-12)


@given(st.lists(CENTS, min_size=60, max_size=60), st.randoms(use_true_random=False))
def test_order_repetition_and_split_leave_the_digest_alone(cents: list[int], shuffler: random.Random) -> None:
    shuffled = job(cents, 12) + job(cents, 12)[:3]
    shuffler.shuffle(shuffled)
    assert aggregate(shuffled).digest() == aggregate(job(cents, 1)).digest()


@given(st.lists(st.integers(-1000, 1000), min_size=20, max_size=20), st.integers(0, 19), st.integers(1, 9))
def test_one_other_cent_changes_the_digest(cents: list[int], place: int, more: int) -> None:
    other = [*cents[:place], cents[place] + more, *cents[place + 1 :]]
    assert aggregate(job(cents, 2)).digest() != aggregate(job(other, 2)).digest()


def test_mean_and_deviation_are_those_of_the_paths() -> None:
    cents = sample(2000)
    measures = aggregate(job(cents, 40)).measures()
    mean = sum(cents) / 2000
    deviation = math.sqrt(sum((value - mean) ** 2 for value in cents) / 1999)
    assert measures["mean"] == pytest.approx(mean / 100)
    assert measures["sd"] == pytest.approx(deviation / 100)
    assert measures["sd_se"] == pytest.approx(deviation / math.sqrt(2 * 2000) / 100, rel=0.4)
    assert (measures["worst"], measures["best"]) == (min(cents) / 100, max(cents) / 100)


def test_one_task_has_no_error_of_its_deviation() -> None:
    measures = aggregate(job(sample(2000), 1)).measures()
    assert measures["sd_se"] is None
    assert "sd" in table(measures)


def test_interval_of_var_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = -(1000 - 1.6448536269514722 * 250_000) / 100
    inside = 0
    for seed in range(200):
        level = aggregate(job(sample(1000, seed), 1)).measures()["levels"]["0.95"]
        inside += level["var_low"] <= truth <= level["var_high"]
    assert 180 <= inside <= 200


def test_missing_tasks_are_named() -> None:
    results = job(sample(100), 10)
    with pytest.raises(ResultError, match="2 of 10 tasks are missing, task 3 is the first"):
        aggregate(results[:3] + results[4:7] + results[8:])


def test_nothing_is_not_a_result() -> None:
    with pytest.raises(ResultError, match="no results"):
        aggregate([])


def test_two_results_of_one_task_must_be_equal() -> None:
    results = job(sample(100), 10)
    with pytest.raises(ResultError, match="task 0: two results that differ"):
        aggregate([*results, (0, results[1][1])])


def test_a_result_under_another_index_is_refused() -> None:
    results = job(sample(100), 10)
    with pytest.raises(ResultError, match="task 1: holds the result of task 0"):
        aggregate([(1, results[0][1])])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:50], "50 bytes are not a result"),
        (lambda data: b"x" + data[1:], "not a result of risk.wasm"),
        (lambda data: data + b"12345678", "do not fit"),
        (lambda data: data[:88] + b"\xff" * 8 + data[96:], "do not fit"),
    ],
)
def test_damaged_results_are_refused(damage: Callable[[bytes], bytes], reason: str) -> None:
    with pytest.raises(ResultError, match=reason):
        aggregate([(0, damage(output(0, 1, [1, 2, 3], 2)))])


def test_results_of_two_models_do_not_mix() -> None:
    with pytest.raises(ResultError, match="model_id differs"):
        aggregate([(0, output(0, 2, [1], 0)), (1, output(1, 2, [1], 0, b"another."))])
    with pytest.raises(ResultError, match="other parameters"):
        aggregate([(0, output(0, 1, [1], 0))], model_id=b"another.")


def test_a_short_tail_says_what_to_change() -> None:
    cents = sample(2000)
    threshold = sorted(cents)[99]
    with pytest.raises(ResultError, match=r"tail holds 100 of the 12\d values .* with --tail 0\.1"):
        aggregate(job(cents, 4, threshold)).measures()


def test_tail_long_enough_gives_the_same_answer_as_all_paths() -> None:
    cents = sample(2000)
    short = aggregate(job(cents, 4, sorted(cents)[299])).measures()
    assert short["levels"] == aggregate(job(cents, 4)).measures()["levels"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RISK / "aggregate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_reads_a_folder(tmp_path: Path) -> None:
    results = job(sample(2000), 4)
    for (_, data), name in zip(results, ("0", "000001.bin", "task-2.out", "task_3"), strict=True):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "job.json").write_text("{}")
    assert list(read_folder(tmp_path)) == sorted(results)
    found = run(str(tmp_path), "--json")
    assert json.loads(found.stdout) == aggregate(results).measures()
    assert "expected" not in run(str(tmp_path)).stderr


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    found = run(str(tmp_path))
    assert (found.returncode, found.stderr) == (2, "no results\n")
    found = run(str(tmp_path / "nowhere"))
    assert found.returncode == 2 and "nowhere" in found.stderr and "Traceback" not in found.stderr
