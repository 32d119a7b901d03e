"""When heat is made of nothing: what work does not give, once work has lacked for a while, where the owner wants it."""

from __future__ import annotations

from dataclasses import dataclass

# Work that gives this share of what is wanted does not lack: batches begin and end, and clocks tick.
ENOUGH_SHARE = 0.9
# Tasks that use less than this share of what they are allowed wait for something, and heat nothing.
STILL_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class BurnSettings:
    """after_s: how long work has to lack first.  most_load: in cores; 0 for never."""

    after_s: float
    most_load: float


class BurnControl:
    """Seconds are of a clock that never goes back."""

    def __init__(self, settings: BurnSettings) -> None:
        self._settings = settings
        self._lacking_since_s: float | None = None
        self.load = 0.0

    def update(self, now_s: float, wanted_load: float, work_load: float, running_load: float = 0.0) -> float:
        """Cores to burn on until the next update. wanted_load: for heat.  work_load: what tasks gave of it.

        running_load: what those that run now are allowed: their cores are theirs, also where others are in their way.
        It never adds up to more than is wanted, and is lowered at once when work comes.
        """
        if work_load > STILL_SHARE * running_load:
            work_load = max(work_load, running_load)
        lacks = wanted_load > 0 and work_load < ENOUGH_SHARE * wanted_load
        if not lacks:
            self._lacking_since_s = None
        elif self._lacking_since_s is None:
            self._lacking_since_s = now_s
        waited = self._lacking_since_s is not None and now_s - self._lacking_since_s >= self._settings.after_s
        self.load = min(self._settings.most_load, max(0.0, wanted_load - work_load)) if waited else 0.0
        return self.load
