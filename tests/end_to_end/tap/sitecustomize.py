"""Put in a node's way by PYTHONPATH: what it sends is appended to a file, as it is before the connection encrypts it.

HEARTH_TAP names the folder. Only `hearthmesh.node node` is tapped, not the processes that it starts.
"""

import os
import sys


def tap(folder: str) -> None:
    from hearthmesh.node.transport import noise

    capture = open(os.path.join(folder, f"{os.getpid()}.sent"), "ab", buffering=0)
    seal = noise.NoiseSession._seal

    def tapped(session: noise.NoiseSession, plaintext: bytes | memoryview) -> bytes:
        capture.write(plaintext)
        return seal(session, plaintext)

    noise.NoiseSession._seal = tapped  # type: ignore[method-assign]


folder = os.environ.get("HEARTH_TAP")
if folder and sys.orig_argv[1:5] == ["-P", "-m", "hearthmesh.node", "node"]:
    tap(folder)
