"""What a policy sees and may change, in one step of the comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...node.heating.control.power import DUTY_MIN
from .control import BAND_K, Thermostats
from .floor import Floor
from .physics import Physics
from .town import WATTS_PER_SLOT, Floats, Ints, Town
from .work import Work

# Heat without work is made once a sink is so much too cold, and work for it was looked for and not found for a while.
BURN_BELOW_K = 0.05
BURN_AFTER_S = 120.0


@dataclass
class Scene:
    """now_s: since the begin of the window.  wanted_w: by the thermostats.  burn_w: heat without work, of each node.

    Temperatures and targets are true and of this moment; a policy that would not know them has to keep old ones.
    """

    town: Town
    work: Work
    floor: Floor
    physics: Physics
    thermostats: Thermostats
    step_s: float
    now_s: float = 0.0

    def __post_init__(self) -> None:
        count = len(self.town)
        self.temperature_c: Floats = self.physics.temperature_c.copy()
        self.target_c: Floats = self.physics.target_c()
        self.wanted_w: Floats = np.zeros(count)
        self.burn_w: Floats = np.zeros(count)
        self._known_w: Floats = np.zeros(count)
        self._known_at: object = None
        self._short_s: Floats = np.zeros(count)

    def feel(self) -> None:
        """Sensors, then thermostats."""
        self.temperature_c = self.physics.temperature_c.copy()
        weather = self.physics.weather
        if self._known_at is not weather:
            self._known_at, self._known_w = weather, self.physics.hold_w(sun=False)
        self.wanted_w = self.thermostats.update(self.temperature_c, self.step_s, self._known_w)

    @property
    def wanted_slots(self) -> Ints:
        """As few tasks as can make the wanted watts, as on real nodes."""
        load = self.wanted_w / WATTS_PER_SLOT
        return np.minimum(self.town.slots, np.ceil(load - 1e-9).astype(np.int64))

    def follow_thermostats(self) -> None:
        """Duty of what runs, so that it makes the wanted watts; where work lacks, heat without work."""
        floor, wanted_w = self.floor, self.wanted_w
        running_w = floor.running * WATTS_PER_SLOT
        share = np.divide(wanted_w, running_w, out=np.ones_like(wanted_w), where=running_w > 0)
        floor.duty = np.where(self.town.wants_heat, np.clip(share, DUTY_MIN, 1.0), 1.0)
        lack_w = np.maximum(0.0, wanted_w - running_w)
        cold = self.target_c - self.temperature_c > BURN_BELOW_K
        self._short_s = np.where(lack_w > 0, self._short_s + self.step_s, 0.0)
        cold &= self.thermostats.law.burns
        self.burn_w = np.where(cold & (self._short_s > BURN_AFTER_S) & self.town.wants_heat, lack_w, 0.0)

    @property
    def limit_c(self) -> Floats:
        return self.target_c + BAND_K


class Policy(Protocol):
    """Who runs what. It changes the floor and the burning; nothing else."""

    def arrive(self, tasks: Ints, job: int) -> None:
        """A job is submitted: its tasks, numbered from the first."""
        ...

    def act(self, scene: Scene) -> None:
        """Once a step, before it passes."""
        ...
