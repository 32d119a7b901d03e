"""Which temperature to believe, and what to do without one: the second sensor, a bounded open loop, then off.

Never the last value: a sensor that fell silent, jumped or froze tells nothing of the room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Fault(Enum):
    NONE = "fine"
    LOST = "lost"
    IMPLAUSIBLE = "implausible"
    FROZEN = "frozen"


class Trust(Enum):
    """What the control goes by."""

    FIRST = "first sensor"
    SECOND = "second sensor"
    OPEN_LOOP = "open loop"
    OFF = "off"


class Found(Enum):
    """What there is to go by."""

    FIRST = "the first is fine"
    SECOND = "only the second is fine"
    NOTHING = "none is fine"
    NOTHING_LONG = "none was fine for long"


TRANSITIONS: dict[tuple[Trust, Found], Trust] = {
    (Trust.OFF, Found.FIRST): Trust.FIRST,
    (Trust.OFF, Found.SECOND): Trust.SECOND,
    (Trust.OFF, Found.NOTHING): Trust.OFF,
    (Trust.OFF, Found.NOTHING_LONG): Trust.OFF,
    (Trust.FIRST, Found.FIRST): Trust.FIRST,
    (Trust.FIRST, Found.SECOND): Trust.SECOND,
    (Trust.FIRST, Found.NOTHING): Trust.OPEN_LOOP,
    (Trust.FIRST, Found.NOTHING_LONG): Trust.OFF,
    (Trust.SECOND, Found.FIRST): Trust.FIRST,
    (Trust.SECOND, Found.SECOND): Trust.SECOND,
    (Trust.SECOND, Found.NOTHING): Trust.OPEN_LOOP,
    (Trust.SECOND, Found.NOTHING_LONG): Trust.OFF,
    (Trust.OPEN_LOOP, Found.FIRST): Trust.FIRST,
    (Trust.OPEN_LOOP, Found.SECOND): Trust.SECOND,
    (Trust.OPEN_LOOP, Found.NOTHING): Trust.OPEN_LOOP,
    (Trust.OPEN_LOOP, Found.NOTHING_LONG): Trust.OFF,
}


@dataclass(frozen=True, slots=True)
class SensorSettings:
    """low_c … high_c and rate_k_per_s are what is plausible.  lost_s: age of a sample that counts as lost.

    frozen_s: a value that did not change in any digit for so long is frozen, 0 for never.  frozen_k: so it is, sooner,
    when the heat given since it stood still, beside the heat given then, would have moved the sink by so much.
    recover_s: a sensor that was at fault has to be fine for so long.  open_loop_s: how long power flows unseen.
    disagree_k: two sensors that differ by more are both told of, and the warmer is believed.
    """

    low_c: float = -40.0
    high_c: float = 110.0
    rate_k_per_s: float = 0.1
    lost_s: float = 120.0
    frozen_s: float = 43_200.0
    frozen_k: float = 2.0
    recover_s: float = 60.0
    open_loop_s: float = 3600.0
    disagree_k: float = 3.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A reading and when it was taken."""

    value: float
    at_s: float


class SensorJudge:
    """Watches one sensor. Seconds are of a clock that never goes back."""

    def __init__(self, settings: SensorSettings) -> None:
        self._settings = settings
        self._last: Sample | None = None
        self._still_since_s = 0.0
        self._still_w = 0.0
        self._still_j = 0.0
        self._seen_s: float | None = None
        self._bad_at_s: float | None = None
        self.fault = Fault.LOST

    def update(self, sample: Sample | None, now_s: float, power_w: float, capacity_j_per_k: float) -> float | None:
        """The temperature if it may be believed. power_w: into the sink since the last update."""
        found = self._examine(sample, now_s, power_w, capacity_j_per_k)
        self._seen_s = now_s
        if found is not Fault.NONE:
            self.fault = found
            if self._last is not None or found is not Fault.LOST:
                # One that has not spoken yet is only waited for: what it says first is believed.
                self._bad_at_s = now_s
            return None
        if self._bad_at_s is not None and now_s - self._bad_at_s < self._settings.recover_s:
            return None
        self.fault, self._bad_at_s = Fault.NONE, None
        assert sample is not None
        return sample.value

    def _examine(self, sample: Sample | None, now_s: float, power_w: float, capacity_j_per_k: float) -> Fault:
        settings = self._settings
        if sample is None or now_s - sample.at_s > settings.lost_s:
            return Fault.LOST
        if not (math.isfinite(sample.value) and settings.low_c <= sample.value <= settings.high_c):
            return Fault.IMPLAUSIBLE
        last, self._last = self._last, sample
        if last is None or last.value != sample.value:
            self._still_since_s, self._still_w, self._still_j = now_s, power_w, 0.0
        else:
            elapsed_s = now_s - self._seen_s if self._seen_s is not None else 0.0
            self._still_j += (power_w - self._still_w) * elapsed_s
        if last is not None and abs(sample.value - last.value) > self._jump_k(sample, last):
            return Fault.IMPLAUSIBLE
        if settings.frozen_s > 0 and now_s - self._still_since_s >= settings.frozen_s:
            return Fault.FROZEN
        if settings.frozen_k > 0 and abs(self._still_j) >= settings.frozen_k * capacity_j_per_k:
            return Fault.FROZEN
        return Fault.NONE

    def _jump_k(self, sample: Sample, last: Sample) -> float:
        # A sensor's last digit, and a draught, may move it at once.
        return 1.0 + self._settings.rate_k_per_s * max(0.0, sample.at_s - last.at_s)


@dataclass(frozen=True, slots=True)
class Believed:
    """What the control goes by: the temperature, None in OPEN_LOOP and OFF. alarms: one line each."""

    trust: Trust
    temperature_c: float | None
    alarms: tuple[str, ...] = ()


class SensorSupervisor:
    """One or two sensors of a sink. It begins OFF: nothing heats before something was measured."""

    def __init__(self, settings: SensorSettings, sensors: int = 1) -> None:
        if sensors not in (1, 2):
            raise ValueError(f"one or two sensors, not {sensors}")
        self._settings = settings
        self._judges = tuple(SensorJudge(settings) for _ in range(sensors))
        self._blind_since_s: float | None = None
        self.trust = Trust.OFF

    def update(
        self,
        samples: tuple[Sample | None, ...],
        now_s: float,
        power_w: float,
        capacity_j_per_k: float,
    ) -> Believed:
        """samples: one of each sensor, in order. power_w: into the sink since the last update."""
        values = [
            judge.update(sample, now_s, power_w, capacity_j_per_k)
            for judge, sample in zip(self._judges, samples, strict=True)
        ]
        self.trust = TRANSITIONS[self.trust, self._found(values, now_s)]
        alarms = [
            f"sensor {number} is {judge.fault.value}"
            for number, judge in enumerate(self._judges, 1)
            if judge.fault is not Fault.NONE
        ]
        fine = [value for value in values if value is not None]
        if not fine or self.trust in (Trust.OFF, Trust.OPEN_LOOP):
            return Believed(self.trust, None, tuple(alarms))
        if max(fine) - min(fine) > self._settings.disagree_k:
            alarms.append(f"the sensors differ by {max(fine) - min(fine):.1f} K; the warmer one is believed")
            return Believed(self.trust, max(fine), tuple(alarms))
        return Believed(self.trust, fine[0], tuple(alarms))

    def _found(self, values: list[float | None], now_s: float) -> Found:
        if any(value is not None for value in values):
            self._blind_since_s = None
            return Found.FIRST if values[0] is not None else Found.SECOND
        if self._blind_since_s is None:
            self._blind_since_s = now_s
        long = now_s - self._blind_since_s >= self._settings.open_loop_s
        return Found.NOTHING_LONG if long else Found.NOTHING
