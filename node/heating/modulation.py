"""Between a decision and the cores: what tasks do with it is learnt from, and what they leave is burnt."""

from __future__ import annotations

from .control.burn import BurnControl, BurnSettings
from .control.power import DUTY_MIN, PowerLoop, Work
from .control.thermostat import Decision
from .heater import UsageStep

_SECOND_US = 1_000_000


class Modulation:
    """One heater's. burn_load: cores at full speed to burn on until the next step.  load: busy cores in the last."""

    def __init__(self, settings: BurnSettings) -> None:
        self._burn = BurnControl(settings)
        self._ran = 0
        self.load = 0.0

    @property
    def burn_load(self) -> float:
        return self._burn.load

    def tasks(self, work: Work) -> int:
        """That may run now, or do: no task is ended because fewer are wanted than before."""
        return max(work.slots, self._ran)

    def duty(self, work: Work) -> float:
        """Of each task; 0 pauses. More than are wanted share what is wanted, with the least duty for each, unless a
        limit leaves them less."""
        if work.stopped:
            return 0.0
        tasks = self.tasks(work)
        duty = max(DUTY_MIN, work.duty * work.slots / tasks) if tasks > work.slots else work.duty
        return min(duty, work.most_load / tasks) if tasks else duty

    def learn(self, loop: PowerLoop, before: Decision, duty: float, step: UsageStep, running: int) -> None:
        """before: the decision that held in the step.  duty: as tasks were given it.  running: tasks at its end."""
        slots, tasks = before.work.slots, self.tasks(before.work)
        lacks_work = min(running, self._ran) < slots
        self._ran, self.load = running, step.load
        loop.saw_cores(tasks * duty, step.work_load, step.duration_us / _SECOND_US, lacks_work=lacks_work)

    def burn(self, now_us: int, after: Decision, step: UsageStep, speed: float = 1.0) -> None:
        """after: the decision that holds from now on.  speed: of the cores in the step; 1 is full speed."""
        running_load = self._ran * self.duty(after.work)
        self._burn.update(now_us / _SECOND_US, after.heat_load, step.work_load * speed, running_load)
