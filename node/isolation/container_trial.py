"""Whether podman starts a container here, as the container runtime does: one is started, of the machine's programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..execution.bubblewrap import SandboxUnavailable, Tools, last_line
from ..execution.oci_config import OciRuntimeConfig
from ..execution.oci_enclosure import Enclosure, find_podman, trial_argv, write_settings

TIMEOUT_S = 60.0


def try_container() -> str:
    """Why not, in one line; "" if it does. Takes some 200 ms."""
    try:
        find_podman()
        tools = Tools.find()
        folder = Path(tempfile.mkdtemp(prefix="hearth-podman-", dir="/var/tmp"))
    except (SandboxUnavailable, OSError) as error:
        return str(error)
    try:
        folder.chmod(0o711)
        write_settings(folder / "podman")
        config = OciRuntimeConfig()
        uid = config.uid if os.geteuid() == 0 else None
        enclosure = Enclosure(folder / "podman", config.nice, uid, folder.name)
        command = trial_argv(tools, enclosure, Tools.locate("true"))
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S)
    except (SandboxUnavailable, OSError) as error:
        return str(error)
    except subprocess.TimeoutExpired:
        return f"it did not end within {TIMEOUT_S:g} s"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return "" if ran.returncode == 0 else last_line(ran.stderr)
