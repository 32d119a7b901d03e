"""What is wrong with a job or a client's settings is said in one line, before anything is sent."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime

from hearthmesh.node.cli.errors import UserError, explain
from hearthmesh.node.cli.ledger import Ledger, Submitted
from hearthmesh.node.cli.why import task_of_the_last
from hearthmesh.node.client import ClientError, JobFailed
from hearthmesh.node.client import session as client_session
from hearthmesh.node.config import load_client_config

from .conftest import Hearth

Write = Callable[..., Path]
COMMAND = '(module (memory (export "memory") 1) (func (export "_start")))'


@pytest.fixture
def client(hearth: Hearth, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A client of a mesh where nobody answers."""
    hearth("mesh", "init", "street", "--folder", "m")
    stranger = hearth("mesh", "init", "x", "--folder", "x", "--json").json["authorities"][0]
    address = f"/ip4/127.0.0.1/tcp/9/p2p/{stranger}"
    hearth("mesh", "invite", "--new", "--client", "laptop", "--folder", "m", "--bootstrap", address)
    path = tmp_path / "laptop" / "client.toml"
    monkeypatch.setenv("HEARTH_CLIENT", str(path))
    monkeypatch.setattr(client_session, "CONNECT_TIMEOUT_S", 0.2)
    return path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes job.toml and its module; returns the former."""

    def make(text: str = "tasks = 3\n", wat: str = COMMAND, module: bytes | None = None) -> Path:
        content = wasmtime.wat2wasm(wat) if module is None else module
        (tmp_path / "m.wasm").write_bytes(bytes(content))
        path = tmp_path / "job.toml"
        path.write_text(f'program = "m.wasm"\n{text}')
        return path

    return make


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tasks = 3\nprioritty = 3\n", 'job.toml:3: the file has no key "prioritty"; did you mean "priority"?'),
        ('tasks = "3"\n', 'job.toml:2: tasks: expected an integer from 1 to 10_000_000, got "3"'),
        ("tasks = 3\n[limits]\nmemory_mb = 100_000\n", "job.toml:4: limits.memory_mb: expected an integer from 1"),
        ("tasks = 10_000_001\n", "job.toml:2: tasks: expected an integer"),
        ('tasks = 3\n[files]\ninit = "gone.bin"\n', "job.toml:4: files.init: no such file gone.bin"),
        ('tasks = 3\n[files]\ninit = "/dev/zero"\n', "job.toml:4: files.init: /dev/zero is no regular file"),
        (
            'tasks = 3\ndeadline = "2020-01-31T18:00:00Z"\n',
            'job.toml:3: deadline: "2020-01-31T18:00:00Z" is past; give',
        ),
        ("tasks = = 3\n", "job.toml:2: not TOML"),
    ],
)
def test_a_wrong_job_file_is_named_with_file_line_and_key(
    hearth: Hearth, client: Path, write: Write, text: str, complaint: str
) -> None:
    write(text)
    assert hearth("submit", "job.toml").complaint.startswith(complaint)


def test_a_comparator_that_is_none_is_told_of_modules_by_path(hearth: Hearth, client: Path, write: Write) -> None:
    write('tasks = 3\ncomparator = "same"\n')
    assert 'or a WebAssembly module: "x.wasm" in a job file' in hearth("submit", "job.toml").complaint


def test_a_missing_job_file_or_module_is_named(hearth: Hearth, client: Path, write: Write) -> None:
    assert hearth("submit", "none.toml").complaint == "none.toml: no such file"
    write()
    Path("m.wasm").unlink()
    assert "job.toml:1: program: no such file m.wasm" in hearth("submit", "job.toml").complaint


@pytest.mark.parametrize(
    ("text", "wat", "complaint"),
    [
        (
            "tasks = 3\n",
            '(module (import "env" "sleep" (func)))',
            "job.toml:1: program: m.wasm: the module wants env.sleep, which is not offered",
        ),
        (
            'tasks = 3\nabi = "function"\n',
            COMMAND,
            "job.toml:1: program: m.wasm: the function ABI needs an export hearth_task: (i64, i32, i32) -> i64, "
            "there is none; it fits abi = 'command'",
        ),
        (
            "tasks = 3\n",
            '(module (func (export "_start")))',
            "job.toml:1: program: m.wasm: the command ABI needs an export memory",
        ),
        (
            "tasks = 3\n[limits]\nmemory_mb = 2\n",
            '(module (memory (export "memory") 100) (func (export "_start")))',
            "job.toml:4: limits.memory_mb: 2, but m.wasm starts with 7 MiB; give at least that",
        ),
    ],
)
def test_a_module_that_no_node_could_run_is_refused(
    hearth: Hearth, client: Path, write: Write, text: str, wat: str, complaint: str
) -> None:
    write(text, wat)
    found = hearth("submit", "job.toml").complaint
    assert complaint in found


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        (b"MZ", "m.wasm is not a WebAssembly module"),
        (b"\0asm\x0d\0\x01\0", "m.wasm is a component; only core modules run"),
        (b"\0asm\x01\0\0\0\x03\x05junk", "job.toml:1: program: m.wasm: not a valid wasm module"),
        # Sections are in order, and the body of its one function is not: only a compiler finds that.
        (
            b"\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0\5\3\1\0\1\7\x13\2\6memory\2\0\6_start\0\0\x0a\5\1\3\0\x6a\x0b",
            "job.toml:1: program: m.wasm: ",
        ),
    ],
)
def test_a_module_that_does_not_validate_is_refused(
    hearth: Hearth, client: Path, write: Write, module: bytes, complaint: str
) -> None:
    write(module=module)
    found = hearth("submit", "job.toml").complaint
    assert complaint in found and "cannot reach" not in found


@pytest.mark.parametrize(
    "command", [["submit", "job.toml"], ["status", "abcd"], ["jobs"], ["peers"], ["watch", "abcd"]]
)
def test_a_mesh_where_nobody_answers_is_an_error(
    hearth: Hearth, client: Path, write: Write, command: list[str]
) -> None:
    write()
    assert "cannot reach the mesh within 0.2 s: none of the bootstrap addresses" in hearth(*command).complaint


def test_settings_that_are_not_there_are_named(hearth: Hearth) -> None:
    complaint = hearth("peers").complaint
    assert ".config/hearth/client.toml: no such client settings; name them with --client or HEARTH_CLIENT" in complaint
    assert hearth("peers", "--client", "gone.toml").complaint.startswith("gone.toml: no such client settings")


def test_an_unknown_key_in_the_clients_settings_is_named(hearth: Hearth, client: Path) -> None:
    client.write_text(client.read_text() + "\n[clinet]\n")
    assert 'the file has no key "clinet"; did you mean "client"?' in hearth("peers").complaint


def test_a_missing_or_foreign_certificate_is_named(hearth: Hearth, client: Path) -> None:
    certificate = client.parent / "state" / "certificate"
    content = certificate.read_bytes()
    certificate.unlink()
    assert "no certificate" in hearth("peers").complaint
    (invited,) = hearth("mesh", "invite", "--new", "--client", "other", "--folder", "m", "--json").json["invited"]
    certificate.write_bytes(Path(invited["certificate"]).read_bytes())
    assert "of another node" in hearth("peers").complaint
    certificate.write_bytes(content[:-1])
    assert "malformed" in hearth("peers").complaint


@pytest.mark.parametrize("command", ["status", "watch", "results", "logs", "cancel"])
def test_a_job_has_to_be_named_once(hearth: Hearth, client: Path, command: str) -> None:
    assert hearth(command).complaint == "name one job: its id or the beginning of it, or --last"
    assert hearth(command, "abcd", "--last").complaint == "name one job: its id or the beginning of it, or --last"
    assert "nothing was submitted from here yet" in hearth(command, "--last").complaint


def test_why_asks_after_a_task_of_the_job_that_was_submitted_last(hearth: Hearth, client: Path) -> None:
    assert "nothing was submitted from here yet" in hearth("why", "--last").complaint
    ledger = Ledger(load_client_config(client).client.state)
    for number in (1, 2):
        ledger.add(Submitted(bytes([number]).hex() * 32, "job", ""))
    assert task_of_the_last(None, client) == "02" * 32 + ":0"
    assert task_of_the_last("12", client) == "02" * 32 + ":12"
    assert '--last "kitchen": the number of a task' in hearth("why", "--last", "kitchen").complaint
    assert "--last is of what was submitted from here" in hearth("why", "--last", "--node", "node.toml").complaint


def test_errors_are_found_in_the_groups_that_nurseries_make() -> None:
    inner = ClientError("no mesh\nhere")
    assert explain(ExceptionGroup("", [ExceptionGroup("", [inner])])) == ("no mesh\\nhere", 2)
    assert explain(ExceptionGroup("", [JobFailed(bytes(32), "was cancelled")])) == (
        "job 0000000000000000: was cancelled",
        1,
    )
    assert explain(UserError("x", 7)) == ("x", 7)


def test_an_interruption_is_silent_and_has_its_code() -> None:
    assert explain(KeyboardInterrupt()) == ("", 130)
    assert explain(BaseExceptionGroup("", [ClientError("x"), KeyboardInterrupt()])) == ("", 130)
    assert explain(BrokenPipeError()) == ("", 141)


def test_our_own_faults_are_owned_up_to() -> None:
    line, code = explain(ExceptionGroup("", [ClientError("x"), RuntimeError("oops")]))
    assert code == 70 and "internal error: RuntimeError('oops')" in line


@pytest.mark.parametrize("command", ["status", "watch", "results", "logs", "cancel"])
@pytest.mark.parametrize("job", ["abc", "xyzw", "", "12g4", "a" * 65, "../../etc"])
def test_what_cannot_be_a_jobs_id_is_refused_before_anybody_is_asked(
    hearth: Hearth, client: Path, command: str, job: str
) -> None:
    assert hearth(command, job).complaint == (
        f'"{job}" is no job id: give 4 to 64 hex digits of it; hearth jobs lists them'
    )


def test_a_client_whose_settings_name_no_peer_is_told_so(hearth: Hearth, client: Path) -> None:
    text = re.sub(r"(?m)^#?bootstrap = .*$", "bootstrap = []", client.read_text())
    client.write_text(re.sub(r"(?m)^#?mdns = .*$", "mdns = false", text))
    assert "client.bootstrap: empty, and mdns is off" in hearth("peers").complaint
    client.write_text(client.read_text().replace("mdns = false", "mdns = true"))
    assert "no peer was found on the local network" in hearth("peers").complaint


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_somebody_who_looks_is_told_what_is_waited_for(
    hearth: Hearth, client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    hearth("watch", "abcd")
    said, *rest = screen.getvalue().split("\r")
    assert said == "connecting to the mesh by 1 address …" and rest[0] == " " * len(said)
    assert rest[1].startswith("hearth: cannot reach the mesh")
