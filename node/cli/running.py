"""Running a command's async part."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from trio_typing import TaskStatus

T = TypeVar("T")

# How long a client's session may take to end after Ctrl-C; it has no process and no file to leave behind.
CLIENT_PATIENCE_S = 8.0


def run_async(function: Callable[[], Awaitable[T]]) -> T:
    """In trio. Ctrl-C arrives at a checkpoint, so that no machine is left half-way through an event."""
    import trio

    return trio.run(function, restrict_keyboard_interrupt_to_checkpoints=True)


@dataclass(slots=True)
class Interruption:
    """signal: the number of the one that ended a block; 0 if none did."""

    signal: int = 0

    @property
    def exit_code(self) -> int:
        return 128 + self.signal if self.signal else 0


def _ending() -> list[signal.Signals]:
    """The signals that end a command; not SIGHUP under nohup, which ignores it."""
    hangup = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    return [signal.SIGINT, signal.SIGTERM, *hangup]


@asynccontextmanager
async def until_signalled() -> AsyncIterator[Interruption]:
    """A block that SIGINT, SIGTERM and SIGHUP cancel, so that what it started ends with it; under nohup SIGHUP does
    nothing."""
    import trio

    ended = Interruption()
    async with trio.open_nursery() as nursery:

        async def obey(*, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            with trio.open_signal_receiver(*_ending()) as signals:
                task_status.started()
                async for number in signals:
                    ended.signal = number
                    nursery.cancel_scope.cancel()

        await nursery.start(obey)
        yield ended
        nursery.cancel_scope.cancel()


def run_client(function: Callable[[], Awaitable[T]]) -> T:
    """As `run_async`, for commands that only talk to the mesh: Ctrl-C, SIGTERM and a terminal that closes (SIGHUP)
    cancel, and end the process in any case, so that what was half done is taken back."""
    import trio

    from ..client.errors import single_error

    async def until_interrupted() -> T:
        interrupted = 0
        results: list[T] = []
        async with trio.open_nursery() as nursery:

            async def obey(*, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
                nonlocal interrupted
                with trio.open_signal_receiver(*_ending()) as signals:
                    task_status.started()
                    async for number in signals:
                        interrupted = number
                        last_resort = threading.Timer(CLIENT_PATIENCE_S, os._exit, (128 + number,))
                        last_resort.daemon = True
                        last_resort.start()
                        nursery.cancel_scope.cancel()
                        return

            await nursery.start(obey)
            results.append(await function())
            nursery.cancel_scope.cancel()
        if interrupted == signal.SIGINT:
            raise KeyboardInterrupt
        if interrupted:
            raise SystemExit(128 + interrupted)
        return results[0]

    try:
        return trio.run(until_interrupted)
    except BaseExceptionGroup as group:
        raise single_error(group) from None
