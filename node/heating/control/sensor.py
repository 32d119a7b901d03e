"""Which temperature to believe, and what to do without one: the second sensor, a bounded open loop, then off.

Never the last value: a sensor that fell silent, jumped or froze tells nothing of the room.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from .identify import Estimate


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
    """low_c … high_c, and jump_k at once with rate_k_per_s, are what is plausible.  lost_s: age of a lost sample.

    frozen_s: a value that did not change in any digit for so long is frozen, if the sensor tells fine steps, and later
    if its steps are coarse; 0 for never.  frozen_k: so it is, sooner, when the sink must have moved by so much
    and a step meanwhile.
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
    jump_k: float = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A reading and when it was taken."""

    value: float
    at_s: float


class HotWatch:
    """Readings above a limit, of each sensor of one place, which count although they are not believed.

    From the second in a row on: a single one may be a glitch. One that is out of range, which nothing can have, counts
    only while no other sensor is believed and tells less.
    """

    def __init__(self, settings: SensorSettings, over_c: float, sensors: int = 1) -> None:
        self._settings = settings
        self._over_c = over_c
        # Of each sensor: its last reading's time, and how many were too hot until then.
        self._last_s: list[float | None] = [None] * sensors
        self._hot = [0] * sensors

    def update(self, samples: Sequence[Sample | None], now_s: float, believed_c: float | None) -> float | None:
        """What to go by: the hottest reading that counts, or else believed_c."""
        counting_c = [] if believed_c is None else [believed_c]
        for place, sample in enumerate(samples):
            if sample is None:
                continue
            if sample.at_s != self._last_s[place]:
                self._last_s[place] = sample.at_s
                self._hot[place] = self._hot[place] + 1 if sample.value > self._over_c else 0
            if self._hot[place] >= 2 and self._counts(sample, now_s, believed_c):
                counting_c.append(sample.value)
        return max(counting_c, default=None)

    def _counts(self, sample: Sample, now_s: float, believed_c: float | None) -> bool:
        if now_s - sample.at_s > self._settings.lost_s:
            return False
        cool = believed_c is not None and believed_c <= self._over_c
        return sample.value <= self._settings.high_c or not cool


@dataclass(frozen=True, slots=True)
class Heating:
    """What must move a sensor. power_w: into the sink since the last update.  estimate: what is known of the sink.

    outside_c: None where that, or the sink, is not known well enough to say where it settles: then only power beside
    that of the standstill's begin moves it.  doubt: how many times heavier it may be than the estimate.
    """

    power_w: float
    estimate: Estimate
    outside_c: float | None = None
    doubt: float = 1.0


_NOTHING = Heating(0.0, Estimate(1.0, 1.0, 0.0, 0.0))


class SensorJudge:
    """Watches one sensor. Seconds are of a clock that never goes back.

    A coarse sensor in a steady room stands still for days and is fine; a fine one never does. Where the sink was learnt
    time may count for less: one that froze elsewhere than where the sink settles is found by that.
    """

    # A sensor's step is the third smallest of its last ones: a value that came and went makes two that are none.
    STEPS, GLITCH_STEPS = 32, 2
    # Steps with which no sensor stands still for frozen_s; coarser ones have longer in proportion.
    FINE_K = 0.01
    UNLEARNT_FINE_K = 0.05
    UNLEARNT_LONGER_MAX = 2.0

    def __init__(self, settings: SensorSettings) -> None:
        self._settings = settings
        self._last: Sample | None = None
        self._still_since_s = 0.0
        self._still = _NOTHING
        self._drift_k = 0.0
        self._steps_k: deque[float] = deque(maxlen=self.STEPS)
        self._seen_s: float | None = None
        self._bad_at_s: float | None = None
        self.fault = Fault.LOST

    @property
    def step_k(self) -> float | None:
        """By how much this sensor moves at least; None before it has moved."""
        if not self._steps_k:
            return None
        return sorted(self._steps_k)[min(self.GLITCH_STEPS, (len(self._steps_k) - 1) // 2)]

    def recall(self, step_k: float) -> None:
        """What was known of the sensor in an earlier life."""
        self._steps_k.extend([step_k] * (2 * self.GLITCH_STEPS + 1))

    def update(self, sample: Sample | None, now_s: float, heating: Heating) -> float | None:
        """The temperature if it may be believed."""
        found = self._examine(sample, now_s, heating)
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

    def _examine(self, sample: Sample | None, now_s: float, heating: Heating) -> Fault:
        settings = self._settings
        if sample is None or now_s - sample.at_s > settings.lost_s:
            return Fault.LOST
        if not (math.isfinite(sample.value) and settings.low_c <= sample.value <= settings.high_c):
            return Fault.IMPLAUSIBLE
        last, self._last = self._last, sample
        step_k = 0.0 if last is None else abs(sample.value - last.value)
        if last is None or step_k > 0:
            self._still_since_s, self._still, self._drift_k = now_s, heating, 0.0
        if last is not None and step_k > self._jump_k(sample, last):
            return Fault.IMPLAUSIBLE
        if step_k > 0:
            self._steps_k.append(step_k)
        return Fault.FROZEN if self._stands_still(sample, now_s, heating) else Fault.NONE

    def _stands_still(self, sample: Sample, now_s: float, heating: Heating) -> bool:
        settings, elapsed_s = self._settings, now_s - self._seen_s if self._seen_s is not None else 0.0
        if heating.outside_c is None and self._still.outside_c is not None:
            self._still, self._drift_k = heating, 0.0
        # By what was known of the sink then: from a frozen sensor anything may have been learnt since.
        still, sink = self._still, self._still.estimate
        step_k = self.step_k or 0.0
        if still.outside_c is not None and heating.outside_c is not None:
            settles_k = heating.outside_c + sink.resistance_k_per_w * (heating.power_w + sink.gain_w) - sample.value
            longer = max(1.0, step_k / self.FINE_K)
        else:
            settles_k = sink.resistance_k_per_w * (heating.power_w - still.power_w)
            longer = min(self.UNLEARNT_LONGER_MAX, max(1.0, step_k / self.UNLEARNT_FINE_K))
        tau_s = sink.resistance_k_per_w * sink.capacity_j_per_k * still.doubt
        # How far the sink must have moved from what is shown.
        self._drift_k += (settles_k - self._drift_k) * -math.expm1(-elapsed_s / tau_s)
        if settings.frozen_k > 0 and abs(self._drift_k) >= settings.frozen_k + step_k:
            return True
        return settings.frozen_s > 0 and now_s - self._still_since_s >= settings.frozen_s * longer

    def _jump_k(self, sample: Sample, last: Sample) -> float:
        # A sensor's last digit, and a draught, may move it at once.
        return self._settings.jump_k + self._settings.rate_k_per_s * max(0.0, sample.at_s - last.at_s)


@dataclass(frozen=True, slots=True)
class Believed:
    """What the control goes by: the temperature, None in OPEN_LOOP and OFF. alarms: one line each.

    coldest_c: the least that any sensor shows; None where not all of them are fine.
    """

    trust: Trust
    temperature_c: float | None
    alarms: tuple[str, ...] = ()
    coldest_c: float | None = None


class SensorSupervisor:
    """One or two sensors of a sink. It begins OFF: nothing heats before something was measured."""

    def __init__(self, settings: SensorSettings, sensors: int = 1) -> None:
        if sensors not in (1, 2):
            raise ValueError(f"one or two sensors, not {sensors}")
        self._settings = settings
        self._judges = tuple(SensorJudge(settings) for _ in range(sensors))
        self._blind_since_s: float | None = None
        self.trust = Trust.OFF

    @property
    def steps_k(self) -> tuple[float | None, ...]:
        """Of each sensor, in order: its step, None before it has moved."""
        return tuple(judge.step_k for judge in self._judges)

    def recall(self, steps_k: Sequence[float | None]) -> None:
        """Of another number of sensors nothing is known."""
        if len(steps_k) != len(self._judges):
            return
        for judge, step_k in zip(self._judges, steps_k, strict=True):
            if step_k is not None:
                judge.recall(step_k)

    def update(self, samples: tuple[Sample | None, ...], now_s: float, heating: Heating) -> Believed:
        """samples: one of each sensor, in order."""
        values = [judge.update(sample, now_s, heating) for judge, sample in zip(self._judges, samples, strict=True)]
        self.trust = TRANSITIONS[self.trust, self._found(values, now_s)]
        alarms = [
            f"sensor {number} is {judge.fault.value}"
            for number, judge in enumerate(self._judges, 1)
            if judge.fault is not Fault.NONE
        ]
        fine = [value for value in values if value is not None]
        if not fine or self.trust in (Trust.OFF, Trust.OPEN_LOOP):
            return Believed(self.trust, None, tuple(alarms))
        coldest_c = min(fine) if len(fine) == len(values) else None
        if max(fine) - min(fine) > self._settings.disagree_k:
            alarms.append(f"the sensors differ by {max(fine) - min(fine):.1f} K; the warmer one is believed")
            return Believed(self.trust, max(fine), tuple(alarms), coldest_c)
        return Believed(self.trust, fine[0], tuple(alarms), coldest_c)

    def _found(self, values: list[float | None], now_s: float) -> Found:
        if any(value is not None for value in values):
            self._blind_since_s = None
            return Found.FIRST if values[0] is not None else Found.SECOND
        if self._blind_since_s is None:
            self._blind_since_s = now_s
        long = now_s - self._blind_since_s >= self._settings.open_loop_s
        return Found.NOTHING_LONG if long else Found.NOTHING
