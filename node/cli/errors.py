"""From whatever went wrong to one line for the user and an exit code. Codes are in docs/cli.md."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator

from ..toml import one_line

SUCCESS = 0
JOB_FAILED = 1
BAD_INPUT = 2
INTERNAL = 70
INTERRUPTED = 130
BROKEN_PIPE = 141


class UserError(Exception):
    """What the user can mend. The text is one line: what is wrong, where, what to do."""

    def __init__(self, text: str, code: int = BAD_INPUT) -> None:
        super().__init__(text)
        self.code = code


def explain(error: BaseException) -> tuple[str, int]:
    """The line to print (empty for none) and the exit code, of any exception that ended a command."""
    leaves = list(_leaves(error))
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return "", INTERRUPTED
    if all(isinstance(leaf, BrokenPipeError) for leaf in leaves):
        return "", BROKEN_PIPE
    if all(is_full(leaf) for leaf in leaves):
        return "what it has to print or keep cannot be written: no space left; make room and run it again", BAD_INPUT
    for leaf in leaves:
        code = _exit_code(leaf)
        if code is None:
            return f"internal error: {one_line(repr(leaf))}; run it again with HEARTH_DEBUG=1 and report it", INTERNAL
    return one_line(str(leaves[0])), _exit_code(leaves[0]) or BAD_INPUT


def is_full(error: BaseException) -> bool:
    """Whether a disk is full of which nobody said more: the one behind standard output."""
    return isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The single errors in nested groups, which is how nurseries hand them on."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


# Errors that are the user's, by module: what was not imported was not raised, and importing it
# here would make each small mistake wait for libp2p.
_KNOWN = {
    "node.toml": ("ConfigError",),
    "node.client.errors": ("ClientError",),
    "node.control": ("ControlError",),
    "node.execution.outcome": ("ExecutionError",),
    "node.heating.calibration": ("CalibrationError",),
    "node.heating.drivers.interface": ("DriverError",),
    "node.heating.weather.files": ("WeatherError",),
    "node.membership_files": ("MembershipError",),
    "node.storage.errors": ("StorageError",),
    "testnet.errors": ("TestnetError",),
    "crypto.mesh": ("CertificateError",),
    "crypto.keyfile": ("IdentityError",),
}
_PACKAGE = __package__.removesuffix(".node.cli")


def _exit_code(error: BaseException) -> int | None:
    """None if it is not the user's."""
    if isinstance(error, UserError):
        return error.code
    if _is(error, "node.client.errors", "JobFailed"):
        return JOB_FAILED
    if any(_is(error, module, name) for module, names in _KNOWN.items() for name in names):
        return BAD_INPUT
    return None


def _is(error: BaseException, module: str, name: str) -> bool:
    loaded = sys.modules.get(f"{_PACKAGE}.{module}")
    return loaded is not None and isinstance(error, getattr(loaded, name))
