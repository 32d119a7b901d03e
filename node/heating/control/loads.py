"""Whose work the heat comes from: paid first, volunteer next, burnt for nothing last; each is metered apart."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Load(Enum):
    """In the order in which it is taken."""

    PAID = "paid"
    VOLUNTEER = "volunteer"
    BURN = "burn"


ORDER = tuple(Load)


@dataclass(frozen=True, slots=True)
class LoadShares:
    """Watts of each kind; missing_w: wanted, and had from none."""

    paid_w: float
    volunteer_w: float
    burn_w: float
    missing_w: float

    @property
    def total_w(self) -> float:
        return self.paid_w + self.volunteer_w + self.burn_w


def divide_load(request_w: float, paid_w: float, volunteer_w: float, burn_w: float) -> LoadShares:
    """Fill a request, >= 0, from what there is of each kind, >= 0, in order.

    Burning is only ever for a demand: burn_w is what the burner could give, 0 where the owner forbids it.
    """
    left_w = max(0.0, request_w)
    given = {load: 0.0 for load in ORDER}
    for load, offered_w in zip(ORDER, (paid_w, volunteer_w, burn_w), strict=True):
        given[load] = min(left_w, max(0.0, offered_w))
        left_w -= given[load]
    return LoadShares(given[Load.PAID], given[Load.VOLUNTEER], given[Load.BURN], left_w)


@dataclass(slots=True)
class LoadMeter:
    """Microjoules since the start, by whose load they were."""

    paid_uj: int = 0
    volunteer_uj: int = 0
    burn_uj: int = 0
    standby_uj: int = 0

    @property
    def total_uj(self) -> int:
        return self.paid_uj + self.volunteer_uj + self.burn_uj + self.standby_uj

    def add(self, total_uj: int, cpu_us: dict[Load, int], standby_uj: int) -> None:
        """One step: standby first, and the rest by CPU time. The parts add up to total_uj exactly.

        Energy with no CPU time to bear it is standby.
        """
        standby_uj = min(total_uj, standby_uj)
        work_uj, used_us = total_uj - standby_uj, sum(cpu_us.values())
        if used_us == 0:
            self.standby_uj += total_uj
            return
        paid_uj = work_uj * cpu_us.get(Load.PAID, 0) // used_us
        burn_uj = work_uj * cpu_us.get(Load.BURN, 0) // used_us
        self.paid_uj += paid_uj
        self.burn_uj += burn_uj
        self.volunteer_uj += work_uj - paid_uj - burn_uj
        self.standby_uj += standby_uj
