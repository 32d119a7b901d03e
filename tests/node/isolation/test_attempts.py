"""What a task tries that got out of its runtime, natively, in the sandboxes that wasm workers and native tasks have."""

import sys

import pytest
import trio

from hearthmesh.node.isolation.attempts import Attempts
from hearthmesh.node.isolation.layers import detect, lacking, layers
from hearthmesh.node.isolation.selftest import Attempt, SelfTest, try_native, try_oci, try_worker
from hearthmesh.node.isolation.worker_sandbox import Confinement

ATTEMPTS = tuple(name.replace("_", " ") for name in vars(Attempts) if not name.startswith("_"))
NATIVE_MAY = ("start a program",)
ALL = detect()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandboxes need Linux")


@pytest.fixture(scope="module")
def in_worker() -> dict[str, Attempt]:
    if not (ALL.bwrap and ALL.seccomp):
        pytest.skip("; ".join(ALL.missing))
    return by_name(trio.run(try_worker, ALL))


@pytest.fixture(scope="module")
def in_native() -> dict[str, Attempt]:
    missing = lacking(layers(), "native")
    if missing:
        pytest.skip("; ".join(f"{layer.name}: {layer.detail}" for layer in missing))
    return by_name(trio.run(try_native))


@pytest.fixture(scope="module")
def in_container() -> dict[str, Attempt]:
    missing = lacking(layers(), "oci")
    if missing:
        pytest.skip("; ".join(f"{layer.name}: {layer.detail}" for layer in missing))
    return by_name(trio.run(try_oci))


def by_name(test: SelfTest) -> dict[str, Attempt]:
    assert test.skipped == ""
    return {attempt.what: attempt for attempt in test.attempts}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_guest_that_left_wasmtime_is_refused(in_worker: dict[str, Attempt], attempt: str) -> None:
    assert in_worker[attempt].was_refused, in_worker[attempt].how


@pytest.mark.parametrize("attempt", [name for name in ATTEMPTS if name not in NATIVE_MAY])
def test_a_native_task_is_refused(in_native: dict[str, Attempt], attempt: str) -> None:
    assert in_native[attempt].was_refused, in_native[attempt].how


@pytest.mark.parametrize("attempt", [name for name in ATTEMPTS if name not in NATIVE_MAY])
def test_a_container_is_refused(in_container: dict[str, Attempt], attempt: str) -> None:
    assert in_container[attempt].was_refused, in_container[attempt].how


@pytest.mark.skipif(not (ALL.bwrap and ALL.seccomp), reason="needs bubblewrap and seccomp")
def test_each_layer_alone_stops_what_is_its_own() -> None:
    """So none of them is there for show: without the others it refuses what it is for, and lets other things pass."""
    enclosed, filtered, locked = (
        by_name(trio.run(try_worker, layer))
        for layer in (Confinement(bwrap=ALL.bwrap), Confinement(seccomp=True), Confinement(landlock_abi=1))
    )
    files = ("read a file of the owner", "write beside it", "write to the system")
    calls = ("set up io uring", "use the key rings", "start a program", "send a datagram")
    assert all(enclosed[name].was_refused for name in (*files, "reach the network", "signal the node"))
    assert not any(enclosed[name].was_refused for name in ("set up io uring", "start a program"))
    assert all(filtered[name].was_refused for name in (*calls, "reach the network", "signal the node"))
    assert not filtered["read a file of the owner"].was_refused
    if ALL.landlock_abi:
        assert all(locked[name].was_refused for name in (*files, "see the nodes environment"))
        assert not locked["send a datagram"].was_refused


def test_attempts_get_through_where_there_is_no_layer() -> None:
    """The attempts themselves work, so that a refusal means something."""
    free = by_name(trio.run(try_worker, Confinement()))
    for name in ("read a file of the owner", "write beside it", "reach the network", "send a datagram"):
        assert not free[name].was_refused
    for name in ("follow a symlink out", "signal the node", "list other processes", "start a program"):
        assert not free[name].was_refused
