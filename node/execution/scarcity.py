"""What a machine lacks for a moment, and no task is to blame for: descriptors, processes, threads, memory, disk."""

from __future__ import annotations

_NO_THREAD = "can't start new thread"


def machine_fault(error: BaseException) -> str | None:
    """What is lacking, in a few words that name no file; None if the error is of another kind, so a bug of ours.

    Of a group that is so if all in it are.
    """
    if isinstance(error, BaseExceptionGroup):
        reasons = [machine_fault(each) for each in error.exceptions]
        return None if None in reasons else reasons[0]
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, RuntimeError) and str(error).startswith(_NO_THREAD):
        return "no thread can be started"
    return None
