"""Whether a tank's disinfection came about, and since when it did not."""

from __future__ import annotations

from dataclasses import dataclass

# A slow heater may need half a day for what is due; beyond that somebody has to know.
GRACE_S = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Disinfected:
    """ago_s: since the last disinfection, or, where none is known of, since somebody looks.  due: it is asked for."""

    ago_s: float
    known: bool
    due: bool = False

    def problems(self, every_s: float, *, off: bool) -> tuple[str, ...]:
        """An alarm, where one was due GRACE_S ago. off: the owner wants none now."""
        if off or self.ago_s <= every_s + GRACE_S:
            return ()
        return (f"the tank was not disinfected for {int(self.ago_s // 3600)} h: it is due every {every_s / 3600:g} h",)
