"""Somebody else's test network: one line that says so, and nothing done to it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from hearthmesh.node.cli.app import run
from hearthmesh.testnet.network import Testnet
from hearthmesh.testnet.process import Process

NOBODY = 65_534
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@contextmanager
def _another_user() -> Iterator[None]:
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def theirs() -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A network of root's, where everybody can look: of its one node's process, which is one that sleeps."""
    root = Path(tempfile.mkdtemp(prefix="hearthmesh-test-", dir="/var/tmp"))
    root.chmod(0o755)
    net = Testnet.create(root / "net", 1)
    net.nodes["h1"].log_path.write_text("said\n")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True) as process:
        net._registry.update("h1", net.nodes["h1"].entry.with_process(Process.of(process.pid)))
        yield root / "net", process
        process.kill()
    shutil.rmtree(root)


COMMANDS = (
    *(("kill", "h1"), ("freeze", "h1"), ("thaw", "h1"), ("restart", "h1"), ("down",), ("down", "--wipe")),
    *(("up",), ("partition", "h1"), ("heal",)),
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_anothers_network_is_refused_in_one_line(
    theirs: tuple[Path, subprocess.Popen[bytes]],
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    mode: int,
) -> None:
    folder, process = theirs
    run(["testnet", "ps", "--folder", str(folder)])  # what is imported then another user cannot read, perhaps
    capfd.readouterr()
    folder.chmod(mode)
    with _another_user():
        code = run(["testnet", *arguments, "--folder", str(folder)])
    structlog.reset_defaults()
    out, err = capfd.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "internal error" not in err and process.poll() is None
    assert ("testnet.lock" in err) == ("only who made the network can start and stop its nodes" in err)
    state = Process.of(process.pid)
    assert state is not None and state.state == "running"


def test_a_log_that_cannot_be_read_is_said(
    theirs: tuple[Path, subprocess.Popen[bytes]], capfd: pytest.CaptureFixture[str]
) -> None:
    folder, _ = theirs
    Testnet(folder).nodes["h1"].log_path.chmod(0o600)
    with _another_user():
        code = run(["testnet", "logs", "h1", "--folder", str(folder)])
    out, err = capfd.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1) and "node.log: cannot be read: Permission denied" in err
