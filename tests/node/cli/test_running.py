"""What ends a client's command from outside."""

import subprocess
import sys

import pytest

CODE = """
import os, signal, sys
import trio
from hearthmesh.node.cli.running import run_client

signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "ignored" else signal.SIG_DFL)

async def work():
    os.kill(os.getpid(), signal.SIGHUP)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        try:
            await trio.sleep_forever()
        finally:
            print("taken back", flush=True)
    print("done")

run_client(work)
"""


@pytest.mark.parametrize(("hangup", "code", "said"), [("obeyed", 129, "taken back\n"), ("ignored", 0, "done\n")])
def test_a_terminal_that_closes_ends_a_command_in_order_but_not_under_nohup(hangup: str, code: int, said: str) -> None:
    ran = subprocess.run([sys.executable, "-c", CODE, hangup], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, said, "")
