"""job.toml: what is right becomes a job, what is wrong is said in one line before anything is sent."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.client import JobRequest
from hearthmesh.node.jobfile import (
    ARGUMENT_BYTES_MAX,
    TASKS_MAX,
    JobFile,
    JobLimits,
    ResultSettings,
    WorkerTerms,
    load_job_file,
)
from hearthmesh.node.toml import ConfigError
from hearthmesh.protocol.config import LAN
from hearthmesh.protocol.inputs import INPUT_BYTES_MAX, input_packs
from hearthmesh.protocol.records import ResourceLimits
from tests.node.execution.images import Archive, layer

ROOT = Path(__file__).parents[2]
MODULE = b"\0asm\x01\0\0\0"
PROGRAM = 'program = "m.wasm"\n'
SECOND_US = 1_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.wasm").write_bytes(MODULE)
    return tmp_path


def load(folder: Path, text: str) -> JobFile:
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return load_job_file(path)


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{folder}/")


def test_smallest_job_runs_a_wasi_command(folder: Path) -> None:
    job = load(folder, PROGRAM + "tasks = 3\n")
    assert job == JobFile(name="job", program="m.wasm", tasks=3, folder=folder)
    assert (job.runtime, job.abi, job.module) == ("wasm", "command", folder / "m.wasm")
    assert job.limits.resources() == ResourceLimits()
    assert (job.has_inputs, list(job.read_inputs()), job.deadline_us(5)) == (False, [], 0)


def test_whole_job_file_is_read(folder: Path) -> None:
    (folder / "params.bin").touch()
    job = load(
        folder,
        PROGRAM
        + """
        name = "risk"
        abi = "function"
        entry = "my_task"
        arguments = ["-v", "{index}"]
        tasks = 2_400
        priority = 9
        deadline = "+90m"
        estimate_ms = 10
        nonce = "again"
        verification = "none"
        [files]
        init = "params.bin"
        [limits]
        memory_mb = 64
        wall_s = 1.5
        fuel = 9_000_000_000
        output_kb = 2
        scratch_mb = 0
        [results]
        folder = "out"
        """,
    )
    assert (job.name, job.entry, job.arguments) == ("risk", "my_task", ("-v", "{index}"))
    assert job.files == {"init": folder / "params.bin"}
    assert job.limits.resources() == ResourceLimits(64 << 20, 1_500_000, 9_000_000_000, 2048, 0)
    assert job.results.folder == folder / "out"
    assert job.deadline_us(7) == 7 + 90 * 60 * SECOND_US


def test_container_job_names_an_archive_of_one_image(folder: Path) -> None:
    archive = Archive([layer({"bin/tool": b"#!"})])
    archive.seal()
    archive.write(folder / "image.tar")
    text = 'runtime = "oci"\nprogram = "image.tar"\ntasks = 1\narguments = ["tool", "{index}"]\n'
    job = load(folder, text)
    assert (job.module, job.image_archive) == (None, folder / "image.tar")
    request = JobRequest.from_file(job, now_us=0)
    assert (request.program, request.runtime, request.abi) == (folder / "image.tar", "oci", "command")
    (folder / "image.tar").write_bytes(b"no tar")
    assert complaint(folder, text).startswith("job.toml:2: program: image.tar is no image: no OCI archive: it has no")


def test_native_job_names_a_command_instead_of_a_file(folder: Path) -> None:
    job = load(folder, 'runtime = "native"\nprogram = "povray"\ntasks = 1\n')
    assert (job.program, job.module, job.abi) == ("povray", None, "command")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tasks = 1", "job.toml: program: is missing; wanted: a text. WebAssembly module, relative to the file; or"),
        (
            'tasks = 1\nname = "risk"\nabi = "function"\n\nprogram = "risk.wasm"',
            "job.toml:5: program: no such file risk.wasm; paths are relative to the job file",
        ),
        ('program = "."\ntasks = 1', "job.toml:1: program: . is no regular file"),
        ('program = "text.wasm"\ntasks = 1', "job.toml:1: program: text.wasm is not a WebAssembly module; compile it"),
        ('program = "component.wasm"\ntasks = 1', "job.toml:1: program: component.wasm is a component; only core"),
        (PROGRAM, "job.toml: tasks: is missing; give the number of tasks, or inputs_from or inputs_lines"),
        (PROGRAM + "tasks = 0", "job.toml:2: tasks: expected an integer from 1 to 10_000_000, got 0"),
        (PROGRAM + f"tasks = {TASKS_MAX + 1}", "job.toml:2: tasks: expected an integer from 1 to 10_000_000, got 100"),
        (
            PROGRAM + 'runtime = "docker"',
            'job.toml:2: runtime: expected one of "wasm", "native", "oci", "python", got "docker"',
        ),
        (
            'program = "x"\nruntime = "oci"\nconfidential = true\ntasks = 1',
            "job.toml:2: runtime: is not for confidential jobs",
        ),
        (
            'program = "x"\nruntime = "native"\nabi = "function"\ntasks = 1',
            'job.toml:3: abi: "function" is not possible for runtime "native"; use "command"',
        ),
        (
            'program = "/bin/sh"\nruntime = "native"\ntasks = 1',
            "job.toml:1: program: expected a command's name of letters, digits, _ . -; native jobs name a command",
        ),
        (PROGRAM + "task = 1", 'job.toml:2: the file has no key "task"; did you mean "tasks"? allowed: name, '),
        (PROGRAM + "tasks = 1\npriority = 10", "job.toml:3: priority: expected an integer from 0 to 9, got 10"),
        (PROGRAM + "tasks = 1\nverification = 'quorum'", 'job.toml:3: verification: expected "none", "spot(0.05)"'),
        (
            PROGRAM + "tasks = 1\ncomparator = 'numeric(abs=x)'",
            'job.toml:3: comparator: "abs=x" is no tolerance',
        ),
        (PROGRAM + "tasks = 1\nnonce = 'ééééééééééééééééé'", "job.toml:3: nonce: longer than 32 bytes, got"),
        (PROGRAM + "tasks = 1\n[files]\na = 'absent'", "job.toml:4: files.a: no such file absent; paths are relative"),
        (PROGRAM + "tasks = 1\n[files]\n'../a' = 'm.wasm'", 'job.toml:4: files."../a": not a usable name; letters'),
        (PROGRAM + "tasks = 1\n[limits]\nwall_s = 0", "job.toml:4: limits.wall_s: expected a number from 0.001 to"),
        (
            PROGRAM + "tasks = 1\n[limits]\nmemory = 0",
            'job.toml:4: [limits] has no key "memory"; did you mean "memory_mb"',
        ),
        (PROGRAM + "inputs_from = 'absent'", "job.toml:2: inputs_from: no such folder absent; paths are relative"),
        (PROGRAM + "inputs_from = 'm.wasm'", "job.toml:2: inputs_from: m.wasm is no folder"),
        (PROGRAM + "inputs_from = 'empty'", "job.toml:2: inputs_from: there are no files in empty"),
        (PROGRAM + "inputs_from = 'nested'", "job.toml:2: inputs_from: sub is no file; the folder may hold files only"),
        (PROGRAM + "inputs_from = 'long'", "job.toml:2: inputs_from: long.txt is too long for a task's input; at most"),
        (PROGRAM + "inputs_lines = 'long/long.txt'", "job.toml:2: inputs_lines: line 1 is too long for a task's input"),
        (PROGRAM + "inputs_lines = 'none.txt'", "job.toml:2: inputs_lines: none.txt is empty"),
        (
            PROGRAM + "inputs_lines = 'two.txt'\ntasks = 3",
            "job.toml:3: tasks: 3, but there are 2 inputs; leave tasks out",
        ),
        (
            PROGRAM + "inputs_lines = 'two.txt'\ninputs_from = 'nested'",
            "job.toml:2: inputs_lines: given together with inputs_from; keep one of the two",
        ),
    ],
)
def test_wrong_job_is_said_with_its_line_and_what_to_do(folder: Path, text: str, expected: str) -> None:
    (folder / "text.wasm").write_text("(module)")
    (folder / "component.wasm").write_bytes(b"\0asm\x0d\0\x01\0")
    (folder / "empty").mkdir()
    (folder / "empty" / ".hidden").touch()
    (folder / "nested" / "sub").mkdir(parents=True)
    (folder / "long").mkdir()
    (folder / "long" / "long.txt").write_bytes(b"x" * (INPUT_BYTES_MAX + 1))
    (folder / "none.txt").touch()
    (folder / "two.txt").write_bytes(b"a\nb")
    assert complaint(folder, text).startswith(expected)


def test_arguments_are_bounded_as_a_whole(folder: Path) -> None:
    argument = "é" * 2048
    text = PROGRAM + f"tasks = 1\narguments = {[argument] * (ARGUMENT_BYTES_MAX // 4096)}"
    assert len(load(folder, text).arguments) == 32
    too_many = text.replace("]", ", 'x']")
    assert complaint(folder, too_many).startswith("job.toml:3: arguments: longer than 131072 bytes in all")


def test_each_file_of_a_folder_is_a_task_in_the_order_of_names(folder: Path) -> None:
    inputs = folder / "in"
    inputs.mkdir()
    for name in ["b", "a10", "a2", "é", "Z", ".hidden"]:
        (inputs / name).write_text(name)
    job = load(folder, PROGRAM + 'inputs_from = "in"\n')
    assert [entry.decode() for entry in job.read_inputs()] == ["Z", "a10", "a2", "b", "é"]
    assert (job.tasks, job.has_inputs) == (5, True)


@given(st.lists(st.binary(max_size=5).map(lambda line: line.translate(None, b"\r\n")), min_size=1))
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_each_line_is_a_task_whatever_ends_it(
    tmp_path_factory: pytest.TempPathFactory, end: bytes, lines: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    (folder / "m.wasm").write_bytes(MODULE)
    (folder / "lines.txt").write_bytes(end.join(lines) + end)
    job = load(folder, PROGRAM + 'inputs_lines = "lines.txt"\n')
    assert list(job.read_inputs()) == lines
    assert job.tasks == len(lines)


def test_last_line_needs_no_end_and_the_longest_line_may_have_any(folder: Path) -> None:
    longest = b"x" * INPUT_BYTES_MAX
    (folder / "lines.txt").write_bytes(longest + b"\r\n" + longest + b"\n\n" + longest)
    job = load(folder, PROGRAM + 'inputs_lines = "lines.txt"\n')
    assert list(job.read_inputs()) == [longest, longest, b"", longest]
    assert [count for _, count, _ in input_packs(job.read_inputs())] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "expected_us"),
    [
        ("+30s", 1_000 + 30 * SECOND_US),
        ("+2h", 1_000 + 7_200 * SECOND_US),
        ("+1d", 1_000 + 86_400 * SECOND_US),
        ("2000-01-01T00:01:00Z", (946_684_800 + 60) * SECOND_US),
        ("2000-01-01T02:01:00.5+02:00", 946_684_860_500_000),
    ],
)
def test_deadline_is_a_span_or_a_moment(text: str, expected_us: int) -> None:
    assert JobFile(program="x", tasks=1, deadline=text).deadline_us(1_000) == expected_us


@pytest.mark.parametrize("text", ["2h", "+2", "+2w", "+-2h", "tomorrow", "2026-01-31", "2026-01-31T18:00:00", "+٢h"])
def test_deadline_that_is_neither_is_refused(folder: Path, text: str) -> None:
    found = complaint(folder, PROGRAM + f'tasks = 1\ndeadline = "{text}"')
    assert found == (
        'job.toml:3: deadline: expected "+2h" (s, m, h, d) or a time like "2026-01-31T18:00:00Z", ' + f'got "{text}"'
    )


def test_bounds_agree_with_the_protocols() -> None:
    assert TASKS_MAX == LAN.tasks_per_job_max
    assert JobLimits().resources() == ResourceLimits()
    assert ResultSettings().folder is None


PAGE = (ROOT / "docs" / "jobfile.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", PAGE, re.S), ids=["risk", "lines", "native"])
def test_examples_of_the_page_load(folder: Path, text: str) -> None:
    (folder / "risk.wasm").write_bytes(MODULE)
    (folder / "params.bin").touch()
    (folder / "words.txt").write_text("one\ntwo\n")
    (folder / "scenes").mkdir()
    (folder / "scenes" / "a.pov").touch()
    assert load(folder, text).tasks in (1, 2, 2400)


@pytest.mark.parametrize(
    ("source", "more", "words"),
    [
        ("def f(x: return", "entry = 'f'", "is no Python: "),
        ("def g(x): return x", "entry = 'f'", "has no function f"),
        ("def f(x): return x", "", 'is missing for runtime "python"'),
        ("class f: pass", "entry = 'f'", "has no function f"),
        ("x = 1 # \0", "entry = 'f'", "is no Python"),
    ],
)
def test_a_python_file_that_cannot_run_is_refused(tmp_path: Path, source: str, more: str, words: str) -> None:
    (tmp_path / "f.py").write_text(source)
    (tmp_path / "job.toml").write_text(f"runtime = 'python'\nprogram = 'f.py'\ntasks = 1\n{more}\n")
    with pytest.raises(ConfigError, match=words):
        load_job_file(tmp_path / "job.toml")


def test_a_python_job_keeps_what_its_file_says_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the component, which takes a tool that need not be here."""
    monkeypatch.setattr("hearthmesh.node.client.python_job.component", lambda: tmp_path / "python.wasm")
    (tmp_path / "f.py").write_text("def f(x): return x")
    (tmp_path / "same.wasm").write_bytes(MODULE)
    (tmp_path / "job.toml").write_text(
        "runtime = 'python'\nprogram = 'f.py'\nentry = 'f'\ntasks = 3\n"
        "price_limit = 0.5\ncomparator = 'same.wasm'\nverification = 'quorum(2)'\npriority = 7\nnonce = 'n'\n"
    )
    request = JobRequest.from_file(load_job_file(tmp_path / "job.toml"), now_us=0)
    assert request.price_limit_micro == 500_000
    assert request.comparator == tmp_path / "same.wasm"
    assert (request.verification, request.priority, request.tasks, request.nonce) == ("quorum(2)", 7, 3, b"n")


def test_a_confidential_job_says_who_may_be_shown_it(folder: Path) -> None:
    terms = '[workers]\nclasses = ["clinic"]\nowners = ["St. Anna"]\nstreak = 50\n'
    job = load(folder, PROGRAM + "tasks = 1\nconfidential = true\n" + terms)
    assert job.confidential and job.workers == WorkerTerms(classes=("clinic",), owners=("St. Anna",), streak=50)
    request = JobRequest.from_file(job, now_us=0)
    assert request.confidential and (request.trust_classes, request.trust_owners) == (("clinic",), ("St. Anna",))
    assert "is for confidential jobs" in complaint(folder, PROGRAM + "tasks = 1\n" + terms)
    assert "no class" in complaint(folder, PROGRAM + "tasks = 1\nconfidential = true\n[workers]\nclasses = ['A b']\n")


def test_a_comparator_of_ones_own_is_a_module_beside_the_file(folder: Path) -> None:
    own = 'tasks = 1\ncomparator = "c.wasm"\n'
    assert complaint(folder, PROGRAM + own).endswith(
        "comparator: no such file c.wasm; paths are relative to the job file"
    )
    (folder / "c.wasm").write_bytes(b"not one")
    assert "c.wasm is not a WebAssembly module" in complaint(folder, PROGRAM + own)
    (folder / "c.wasm").write_bytes(MODULE)
    job = load(folder, PROGRAM + own)
    assert job.comparator_module == folder / "c.wasm"
    assert JobRequest.from_file(job, now_us=0).comparator == folder / "c.wasm"
    assert "who keeps the job would read" in complaint(folder, PROGRAM + "confidential = true\n" + own)
