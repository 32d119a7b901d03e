"""The attempts of a guest that got out of wasmtime: made by a process that is confined as a wasm worker is.

python -m hearthmesh.node.isolation.confined_attempts LAYERS ATTEMPTS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from . import attempts
from .confine import confine, limit
from .worker_sandbox import readable_paths

MEMORY_BYTES = 256 << 20


def main(arguments: list[str]) -> int:
    layers = json.loads(arguments[0])
    limit(MEMORY_BYTES, nice=0)
    confine(readable_paths(), [Path(layers["write"])], layers["landlock_abi"], layers["seccomp"])
    return attempts.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
