"""`hearth`, and `python -m hearthmesh.node`."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130
# Of the layer above node/: found by name, since imports run down only.
_COMPILED = "..testnet.simulator.compiled"


def main() -> None:
    """The imports take some tenths of a second: Ctrl-C ends those without a word."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # It was closed before we began: what we print has no reader.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (as long as the process)
    asked = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if asked:
        signal.signal(signal.SIGINT, _end_at_once)
    if sys.argv[1:2] == ["sim"] and sys.argv[2:3] not in (["mutants"], ["scenarios"]):
        # Before anything imports the protocol. Mutants are patched in, which compiled modules do not allow.
        importlib.import_module(_COMPILED, __package__).use()
    from .cli.app import run

    if asked:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


def _end_at_once(_signal: int, _frame: FrameType | None) -> None:
    # An exception could be raised inside a weak reference's callback, which prints it; nothing is open yet.
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
