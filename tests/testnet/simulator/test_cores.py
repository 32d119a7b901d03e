"""Work that goes over all cores ends with whoever asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CORES = "from hearthmesh.testnet.simulator import cores; cores.cores = lambda: 2"
# At once, as both write to one pipe.
PLAY = "import os, signal\ndef play(number):\n    os.write(1, b'%d\\n' % os.getpid())\n    signal.pause()\n"
ASK = {
    "pool": "cores.over_all_cores(play, 2)",
    "new processes": "list(cores.each_in_a_new_process(play, 2))",
}


@pytest.mark.parametrize("way", list(ASK))
def test_killed_parent_leaves_no_process_behind(way: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"{PLAY}\nif __name__ == '__main__':\n    {CORES}\n    {ASK[way]}\n", encoding="utf-8")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            ends = [os.pidfd_open(int(parent.stdout.readline())) for _ in range(2)]
        finally:
            parent.kill()
        try:
            # What they have of the pipe is closed when the last of them has ended.
            assert parent.communicate(timeout=60)[0] == ""
        finally:
            for end in ends:
                try:
                    signal.pidfd_send_signal(end, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                os.close(end)
