"""When a guest may run: wall limit, duty cycle, pause and cancel, decided at each epoch tick.

The parent's wishes lie in a page of shared memory (`ControlPage`), so they reach a running guest within one
tick and cost an idle worker nothing.
"""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any

import wasmtime

from . import wasm_ffi
from .outcome import Exit
from .wasm_control import FULL_DUTY_PPM, ControlPage

# While the guest is throttled; and at full duty, where ticks only notice limits and wishes, and each costs a switch of
# threads: at 5 ms they took 0.9 % of a core.
THROTTLED_TICK_S = 0.005
TICK_S = 0.02
IDLE_TICKS = 10
CREDIT_NS = 20_000_000
PAUSE_STEP_S = 0.005


class Pacer:
    """Owns the ticker thread and the callback that each store asks at a tick.

    Set `task` to another number at the start of each task: the wall limit counts from the first tick of
    a task, so a task that is shorter than a tick costs no look at the clock. Time spent throttled or
    paused does not count.
    """

    def __init__(self, engine: wasmtime.Engine, page: ControlPage) -> None:
        self.task = 0
        self.batch = 0
        self.wall_ns = 0
        self.stop: Exit | None = None
        self._page = page
        self._timed_task = -1
        self._deadline_ns = 0
        self._debt_ns = 0
        self._wall_mark_ns = time.monotonic_ns()
        self._cpu_mark_ns = time.thread_time_ns()
        self._engines: tuple[wasmtime.Engine, ...] = (engine,)
        self._ticking: tuple[wasm_ffi.Address, ...] = (_address_of(engine),)
        self._active = False
        self._awake = threading.Event()
        self._callback = wasm_ffi.EpochCall(self._on_tick)
        threading.Thread(target=self._tick_forever, daemon=True, name="epoch").start()

    def begin_batch(self, batch: int, wall_us: int) -> None:
        """Start to watch a batch; waits here while the last one's debt, or a pause, lasts."""
        self.batch = batch
        self.wall_ns = wall_us * 1_000
        self.stop = None
        self.task += 1
        self._active = True
        self._awake.set()
        self._settle()

    def end_batch(self) -> None:
        self._active = False

    def watch(self, engine: wasmtime.Engine) -> None:
        """Let the stores of another engine hear the ticks as well."""
        if engine not in self._engines:
            self._engines += (engine,)
            self._ticking += (_address_of(engine),)

    def attach(self, store: wasm_ffi.Address, context: wasm_ffi.Address) -> None:
        """Put a fresh store under this pacer."""
        wasm_ffi.set_epoch_callback(store, self._callback)
        wasm_ffi.set_epoch_deadline(context, 1)

    def _tick_forever(self) -> None:
        quiet = 0
        while True:
            time.sleep(TICK_S if self._page.duty_ppm() >= FULL_DUTY_PPM else THROTTLED_TICK_S)
            for engine in self._ticking:
                wasm_ffi.increment_epoch(engine)
            quiet = 0 if self._active else quiet + 1
            if quiet > IDLE_TICKS:
                self._awake.clear()
                if not self._active:
                    self._awake.wait()
                quiet = 0

    def _on_tick(self, context: int, env: int, ticks: Any, kind: Any) -> int:
        ticks[0] = 1
        kind[0] = 0
        now_ns = time.monotonic_ns()
        if self._timed_task != self.task:
            self._timed_task = self.task
            self._deadline_ns = now_ns + self.wall_ns
        slept_ns = self._settle()
        self._deadline_ns += slept_ns
        if self.stop is None and now_ns + slept_ns >= self._deadline_ns:
            self.stop = Exit.WALL
        return 0 if self.stop is None else wasm_ffi.new_error(b"stopped by the node")

    def _settle(self) -> int:
        """Sleep off what was used beyond the duty. Returns nanoseconds slept; sets `stop` on cancel."""
        self._page.beat()
        slept_ns = 0
        while True:
            if self._page.cancelled_up_to() >= self.batch:
                self.stop = Exit.CANCELLED
                return slept_ns
            duty_ppm = self._page.duty_ppm()
            wall_ns, cpu_ns = time.monotonic_ns(), time.thread_time_ns()
            earned_ns = (wall_ns - self._wall_mark_ns) * duty_ppm // FULL_DUTY_PPM
            self._debt_ns = max(self._debt_ns + cpu_ns - self._cpu_mark_ns - earned_ns, -CREDIT_NS)
            self._wall_mark_ns, self._cpu_mark_ns = wall_ns, cpu_ns
            if duty_ppm >= FULL_DUTY_PPM:
                self._debt_ns = 0
                return slept_ns
            if self._debt_ns <= 0 and duty_ppm > 0:
                return slept_ns
            time.sleep(PAUSE_STEP_S if duty_ppm == 0 else min(PAUSE_STEP_S, self._debt_ns / duty_ppm / 1e3))
            slept_ns += time.monotonic_ns() - wall_ns
            self._page.beat()


def _address_of(engine: wasmtime.Engine) -> wasm_ffi.Address:
    return int(ctypes.cast(engine.ptr(), ctypes.c_void_p).value or 0)
