import errno
import platform
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.execution import seccomp

MACHINES = tuple(seccomp.ARCHITECTURES)


def evaluate(program: bytes, machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the kernel would answer: an interpreter of the classic BPF subset that filters use."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    audit = seccomp.ARCHITECTURES[machine].audit if audit is None else audit
    data = struct.pack("<IIQ6Q", number, audit, 0x1000, *padded)
    instructions = list(struct.iter_unpack("<HBBI", program))
    accumulator = counter = 0
    for _ in instructions:  # jumps only go forward
        code, when_true, when_false, operand = instructions[counter]
        counter += 1
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, operand)[0]
            continue
        holds = {
            0x15: accumulator == operand,
            0x25: accumulator > operand,
            0x35: accumulator >= operand,
            0x45: bool(accumulator & operand),
        }[code]
        counter += when_true if holds else when_false
    raise AssertionError("the program ends without a verdict")


def refused(verdict: int) -> int:
    """The errno of a refusal."""
    assert verdict & 0xFFFF0000 == seccomp.REFUSE
    return verdict & 0xFFFF


@pytest.mark.parametrize("machine", MACHINES)
def test_every_denied_call_is_refused_with_its_errno(machine: str) -> None:
    program = seccomp.filter_program(machine)
    column = seccomp.ARCHITECTURES[machine].column
    for name, numbers in seccomp.DENIED.items():
        number = numbers[column]
        if number is not None:
            assert refused(evaluate(program, machine, number)) == numbers[2], name


@given(machine=st.sampled_from(MACHINES), number=st.integers(0, seccomp.NEWEST_REVIEWED))
def test_every_other_call_is_allowed(machine: str, number: int) -> None:
    architecture = seccomp.ARCHITECTURES[machine]
    denied = {numbers[architecture.column] for numbers in seccomp.DENIED.values()}
    if number not in denied | {architecture.socket}:
        assert evaluate(seccomp.filter_program(machine), machine, number) == seccomp.ALLOW


@given(number=st.integers(seccomp.X32_BIT, 2**32 - 1))
def test_x32_calls_are_refused(number: int) -> None:
    assert refused(evaluate(seccomp.filter_program("x86_64"), "x86_64", number)) == errno.EPERM


@given(machine=st.sampled_from(MACHINES), number=st.integers(seccomp.NEWEST_REVIEWED + 1, seccomp.X32_BIT - 1))
def test_calls_newer_than_the_review_do_not_exist(machine: str, number: int) -> None:
    assert refused(evaluate(seccomp.filter_program(machine), machine, number)) == errno.ENOSYS


@given(machine=st.sampled_from(MACHINES), audit=st.integers(0, 2**32 - 1), number=st.integers(0, 2**32 - 1))
def test_another_architecture_is_killed(machine: str, audit: int, number: int) -> None:
    if audit != seccomp.ARCHITECTURES[machine].audit:
        assert evaluate(seccomp.filter_program(machine), machine, number, audit=audit) == seccomp.KILL_PROCESS


@given(machine=st.sampled_from(MACHINES), flags=st.integers(0, 2**64 - 1))
def test_clone_makes_threads_and_processes_but_no_namespace(machine: str, flags: int) -> None:
    verdict = evaluate(seccomp.filter_program(machine), machine, seccomp.ARCHITECTURES[machine].clone, flags)
    if flags & 0x7E020000:
        assert refused(verdict) == errno.EPERM
    else:
        assert verdict == seccomp.ALLOW


@given(machine=st.sampled_from(MACHINES), high=st.integers(0, 2**32 - 1), domain=st.integers(0, 2**32 - 1))
def test_only_unix_sockets_can_be_made(machine: str, high: int, domain: int) -> None:
    program, call = seccomp.filter_program(machine), seccomp.ARCHITECTURES[machine].socket
    assert evaluate(program, machine, call, high << 32 | 1) == seccomp.ALLOW
    if domain != 1:
        assert refused(evaluate(program, machine, call, high << 32 | domain)) == errno.EACCES


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("request_code", [seccomp.TIOCSTI, seccomp.TIOCLINUX, 1 << 32 | seccomp.TIOCSTI])
def test_the_terminal_cannot_be_typed_into(machine: str, request_code: int) -> None:
    program, call = seccomp.filter_program(machine), seccomp.ARCHITECTURES[machine].ioctl
    assert refused(evaluate(program, machine, call, 0, request_code)) == errno.EPERM
    assert evaluate(program, machine, call, 0, 0x5401) == seccomp.ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_the_program_fits_the_kernels_limit(machine: str) -> None:
    assert len(seccomp.filter_program(machine)) // 8 <= 4096


def test_an_unknown_processor_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(seccomp.UnsupportedMachine, match="riscv64; known: x86_64, aarch64"):
        seccomp.filter_program("riscv64")


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", f"/usr/include/{platform.machine()}-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip(f"{header} is not installed (linux-libc-dev)")
    text = Path(header).read_text()
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    architecture = seccomp.ARCHITECTURES[machine]
    ours = {name: numbers[architecture.column] for name, numbers in seccomp.DENIED.items()}
    ours |= {"clone": architecture.clone, "socket": architecture.socket, "ioctl": architecture.ioctl}
    assert ours == {name: known.get(name) for name in ours}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_worker_is_refused_what_it_needs_no_more(machine: str) -> None:
    program = seccomp.worker_filter_program(1, machine)
    column = seccomp.ARCHITECTURES[machine].column
    for name, numbers in {**seccomp.DENIED, **seccomp.WORKER_DENIED}.items():
        number = numbers[column]
        if number is not None and name != "memfd_create":
            assert refused(evaluate(program, machine, number, 1 << 20)) == numbers[2], name
    assert len(program) // 8 < 4096


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("flags", "error"), [(seccomp.NEW_THREAD, 0), (0x11, 1), (seccomp.NEW_THREAD | 0x10000000, 1)])
def test_a_worker_makes_threads_and_no_process(machine: str, flags: int, error: int) -> None:
    verdict = evaluate(seccomp.worker_filter_program(1, machine), machine, seccomp.ARCHITECTURES[machine].clone, flags)
    assert verdict == (seccomp.REFUSE | error if error else seccomp.ALLOW)


@given(machine=st.sampled_from(MACHINES), own=st.integers(1, 1 << 22), other=st.integers(0, 1 << 22))
def test_a_worker_signals_and_limits_itself_alone(machine: str, own: int, other: int) -> None:
    program, architecture = seccomp.worker_filter_program(own, machine), seccomp.ARCHITECTURES[machine]
    for number, itself in ((architecture.kill, {own}), (architecture.tgkill, {own}), (architecture.prlimit, {0, own})):
        for target in (own, other, 0):
            verdict = evaluate(program, machine, number, target)
            assert verdict == (seccomp.ALLOW if target in itself else seccomp.REFUSE | 1)
