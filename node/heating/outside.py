"""Whether a machine's sensor outside is to be believed, and what holds while it is not."""

from __future__ import annotations

from .control.identify import Estimate
from .control.sensor import Fault, Heating, Sample, SensorJudge, SensorSettings
from .control_settings import SensorTable

# No heater moves the weather.
_UNMOVED = Heating(0.0, Estimate(1.0, 1.0, 0.0, 0.0))
_HOUR_S = 3600.0
_CONSTANT = "if it may stand still, set outside_frozen_s = 0"


class OutsideWatch:
    """Of one sensor, for which there is no second. Seconds are of a clock that never goes back.

    Weather is slow: while the sensor is lost or implausible, what it told last holds for `outside_hold_s`, and then
    nothing is known. Nor is it of one that froze, as nobody knows since when. What is away for no longer than half of
    that time is no alarm: gateways are, now and then.
    """

    def __init__(self, sensors: SensorTable, begin_s: float, *, rack: bool) -> None:
        """begin_s: who has not spoken `lost_s` after it is lost.  rack: its supply goes by this sensor."""
        self._judge = SensorJudge(
            SensorSettings(
                low_c=sensors.outside_lowest_c,
                high_c=sensors.outside_highest_c,
                rate_k_per_s=sensors.outside_jump_k / _HOUR_S,
                jump_k=sensors.outside_jump_k,
                lost_s=sensors.lost_s,
                frozen_s=sensors.outside_frozen_s,
                frozen_k=0.0,
                recover_s=sensors.recover_s,
            )
        )
        self._without = "the supply is as hot as on the coldest day" if rack else "the weather is not known"
        self._hold_s = sensors.outside_hold_s
        self._patient_until_s = begin_s + sensors.lost_s
        self._spoke = False
        self._believed: Sample | None = None
        self.temperature_c: float | None = None
        self.problems: tuple[str, ...] = ()

    def see(self, sample: Sample | None, now_s: float) -> None:
        """sample: its last, None before the first."""
        value, fault = self._judge.update(sample, now_s, _UNMOVED), self._judge.fault
        self._spoke = self._spoke or sample is not None
        if value is not None and sample is not None:
            self._believed = sample
        elif fault is Fault.FROZEN:
            self._believed = None
        held = self._believed
        if held is not None and now_s - held.at_s > self._hold_s:
            held = self._believed = None
        self.temperature_c = None if held is None else held.value
        self.problems = ()
        if held is not None:
            told = now_s - held.at_s > self._hold_s / 2
        else:
            told = self._spoke or now_s > self._patient_until_s
        if fault is not Fault.NONE and told:
            then = self._without if held is None else "what it told last still holds"
            what = f"{fault.value} ({_CONSTANT})" if fault is Fault.FROZEN else fault.value
            self.problems = (f"the outside sensor is {what}: {then}",)
