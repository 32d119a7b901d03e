"""The node's end of its watchdog: start it, beat, start it again if it is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from . import watchdog
from .drivers.interface import SafeWrite

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

RESTART_S = 10.0


class Guard:
    """limit_s: without a beat for so long, the heat goes off.  safe: what is written then."""

    def __init__(self, limit_s: float, safe: Sequence[SafeWrite]) -> None:
        self._limit_s = limit_s
        self._safe = [(write.where, write.text, write.device) for write in safe]
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._started_s: float | None = None

    @property
    def alive(self) -> bool:
        """Whether somebody watches."""
        return self._process is not None and self._process.poll() is None

    def beat(self, now_s: float) -> None:
        """Each control period. now_s: of a clock that never goes back."""
        if not self.alive and (self._started_s is None or now_s - self._started_s >= RESTART_S):
            self._start(now_s)
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, watchdog.BEAT)
        except BlockingIOError:
            pass  # it is stopped; the pipe is full of beats that it has not read
        except OSError:
            self._close()

    def leave(self) -> None:
        """The node ends in order."""
        if self._pipe >= 0:
            try:
                os.write(self._pipe, watchdog.LEAVING)
            except OSError:
                pass
        self._close()
        if self._process is not None:
            try:
                self._process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _start(self, now_s: float) -> None:
        self._close()
        self._started_s = now_s
        # By its file, not its name: it needs none of the packages around it.
        command = [sys.executable, "-I", "-S", str(Path(watchdog.__file__)), str(os.getpid())]
        reader, self._pipe = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe, False)
        try:
            self._process = subprocess.Popen(
                [*command, str(self._limit_s), json.dumps(self._safe)],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            log.error("heater.watchdog-lost", problem=str(error))
            self._close()
        finally:
            os.close(reader)

    def _close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
