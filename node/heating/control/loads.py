"""Whose the heat is: paid work before volunteer work before none at all; each is metered apart, and standby too."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Load(Enum):
    """In the order in which it is taken."""

    PAID = "paid"
    VOLUNTEER = "volunteer"
    BURN = "burn"


def load_of(priority: int) -> Load:
    """Of a job, by its priority: 0 is volunteer work."""
    return Load.VOLUNTEER if priority == 0 else Load.PAID


@dataclass(slots=True)
class LoadMeter:
    """Millijoules of the executions that have ended, since the start, by whose they were. What is burnt has no receipt:
    the heater's meter counts it.
    """

    paid_mj: int = 0
    volunteer_mj: int = 0

    @property
    def total_mj(self) -> int:
        return self.paid_mj + self.volunteer_mj

    def charge(self, load: Load, energy_mj: int) -> None:
        """energy_mj >= 0, as the execution's receipt says it."""
        assert load is not Load.BURN, "no job's energy is burnt"
        if load is Load.PAID:
            self.paid_mj += energy_mj
        else:
            self.volunteer_mj += energy_mj
