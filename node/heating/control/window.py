"""An open window, told from a contact where there is one, else from how fast the room cools.

A window that stays open longer than open_max_s is not believed any more: heating goes on (frost is worse than waste),
until the temperature was steady once. A contact is believed for as long as it tells, and its last word for open_max_s.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum


class Window(Enum):
    CLOSED = "closed"
    OPEN = "open"
    DOUBTED = "doubted"


class Draught(Enum):
    """What the temperature does."""

    FALLING = "falls fast"
    STEADY = "steady"
    RISING = "rises again"
    OVERDUE = "open too long"


TRANSITIONS: dict[tuple[Window, Draught], Window] = {
    (Window.CLOSED, Draught.FALLING): Window.OPEN,
    (Window.CLOSED, Draught.STEADY): Window.CLOSED,
    (Window.CLOSED, Draught.RISING): Window.CLOSED,
    (Window.CLOSED, Draught.OVERDUE): Window.CLOSED,
    (Window.OPEN, Draught.FALLING): Window.OPEN,
    (Window.OPEN, Draught.STEADY): Window.OPEN,
    (Window.OPEN, Draught.RISING): Window.CLOSED,
    (Window.OPEN, Draught.OVERDUE): Window.DOUBTED,
    (Window.DOUBTED, Draught.FALLING): Window.DOUBTED,
    (Window.DOUBTED, Draught.STEADY): Window.CLOSED,
    (Window.DOUBTED, Draught.RISING): Window.CLOSED,
    (Window.DOUBTED, Draught.OVERDUE): Window.DOUBTED,
}


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """A fall of drop_k within span_s opens; a rise of half of it above the lowest since closes. drop_k 0: never.

    open_max_s: how long a window is open by that, or by what a contact said that has been silent since.
    """

    drop_k: float
    span_s: float
    open_max_s: float


class WindowDetector:
    """Times are seconds of a clock that never goes back."""

    SAMPLES_MAX = 64

    def __init__(self, settings: WindowSettings) -> None:
        self._settings = settings
        self._samples: deque[tuple[float, float]] = deque(maxlen=self.SAMPLES_MAX)
        self._since_s = 0.0
        self._lowest_c = math.inf
        self.state = Window.CLOSED

    def update(self, now_s: float, temperature_c: float | None, contact_open: bool | None = None) -> bool:
        """Whether a window is taken to be open. contact_open is believed; temperature_c None: no sensor is."""
        if contact_open is not None:
            self.state = Window.OPEN if contact_open else Window.CLOSED
            self._since_s, self._lowest_c = now_s, temperature_c if temperature_c is not None else math.inf
            self._samples.clear()
            return contact_open
        before = self.state
        if self._overdue(now_s):
            self.state = TRANSITIONS[before, Draught.OVERDUE]
        if temperature_c is None:
            return self.state is Window.OPEN
        if self._settings.drop_k > 0:
            self._sample(now_s, temperature_c)
        if self.state is before:
            self.state = TRANSITIONS[before, self._draught(temperature_c)]
        if self.state is Window.OPEN and before is not Window.OPEN:
            self._since_s, self._lowest_c = now_s, temperature_c
        self._lowest_c = min(self._lowest_c, temperature_c)
        return self.state is Window.OPEN

    def begin_anew(self) -> None:
        """What was shown so far is of another sensor, or of one at fault: no fall counts from there."""
        self._samples.clear()

    def _sample(self, now_s: float, temperature_c: float) -> None:
        # Thinned, so that the bounded memory always covers the span.
        if not self._samples or now_s - self._samples[-1][0] >= 2 * self._settings.span_s / self.SAMPLES_MAX:
            self._samples.append((now_s, temperature_c))
        while self._samples and now_s - self._samples[0][0] > self._settings.span_s:
            self._samples.popleft()

    def _overdue(self, now_s: float) -> bool:
        return self.state is Window.OPEN and now_s - self._since_s >= self._settings.open_max_s

    def _draught(self, temperature_c: float) -> Draught:
        if self._settings.drop_k <= 0:
            return Draught.STEADY
        if self.state is Window.OPEN and temperature_c >= self._lowest_c + self._settings.drop_k / 2:
            return Draught.RISING
        highest_c = max((sample_c for _, sample_c in self._samples), default=temperature_c)
        falls = highest_c - temperature_c >= self._settings.drop_k
        return Draught.FALLING if falls else Draught.STEADY
