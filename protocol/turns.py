"""Whose turn it is among thieves that ask at the same time, and who was passed over too long.

One that asks alone, or where there is plenty, or while nobody is much colder, is answered at once. Else who asks within
`steal_window_us` of another waits for the end of the window, and the most urgent is served first.
"""

from __future__ import annotations

from collections.abc import Callable

from .appraisal import ask_of
from .context import Context
from .messages import Steal
from .stealing.urgency import by_urgency, urgency_mkh

# Who is colder by less is not waited for; 2 % of what a room has that is a kelvin too cold.
MARGIN_MKH = 5


class Turns:
    """Bounded by `members_max` thieves that wait, or were passed over."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._waiting: dict[bytes, Steal] = {}
        # When it was passed over first, and when it asked last.
        self._passed: dict[bytes, tuple[int, int]] = {}
        self._asked: tuple[bytes, int] | None = None
        self._served: tuple[bytes, int] | None = None

    def must_wait(
        self,
        thief: bytes,
        steal: Steal,
        offered_us: Callable[[], int],
        coldest_mkh: Callable[[bytes], int],
        now_us: int,
    ) -> bool:
        """Whether it has to wait for the end of a window; then it is answered when `due` names it.

        offered_us: CPU time of what there is to give here.  coldest_mkh: the discomfort of the coldest other node that
        has a free slot. Both are asked for only while several ask.
        """
        self._heard(thief, now_us)
        if steal.lifeline:
            return False
        last, self._asked = self._asked, (thief, now_us)
        window_us = self._ctx.config.steal_window_us
        if not self._waiting:
            if last is None or last[0] == thief or now_us - last[1] >= window_us:
                return False
            # Nothing is said at once as well. Halves of halves: enough for all is what leaves each its appetite.
            offered = offered_us()
            if offered == 0 or offered >= 4 * steal.appetite_us:
                return False
            own_mkh = self.urgency(thief, steal, now_us)
            if coldest_mkh(thief) <= own_mkh + max(MARGIN_MKH, own_mkh // 4):
                return False
            self._ctx.set_timer(("window", b""), now_us + window_us)
        elif thief not in self._waiting and len(self._waiting) >= self._ctx.config.members_max:
            return False
        self._waiting[thief] = steal
        return True

    def due(self, now_us: int, rtt_us: Callable[[bytes], int]) -> list[tuple[bytes, Steal]]:
        """The window is over: those who waited, the most urgent first, of equals the nearest."""
        waiting, self._waiting = self._waiting, {}
        asks = [ask_of(thief, steal, self.waited_us(thief, now_us), rtt_us(thief)) for thief, steal in waiting.items()]
        return [(ask.thief, waiting[ask.thief]) for ask in by_urgency(asks)]

    def served(self, thief: bytes, now_us: int) -> None:
        self._served = (thief, now_us)
        self._passed.pop(thief, None)

    def refused(self, thief: bytes, now_us: int) -> None:
        """It got nothing; if another one did of late, it was passed over."""
        if self._served is None or self._served[0] == thief:
            return
        if now_us - self._served[1] < self._ctx.config.steal_idle_us:
            self._passed.setdefault(thief, (now_us, now_us))
            while len(self._passed) > self._ctx.config.members_max:
                del self._passed[next(iter(self._passed))]

    def _heard(self, thief: bytes, now_us: int) -> None:
        """It asks, so it still waits; what it waited for before it fell silent is forgotten."""
        if thief in self._passed:
            waited_us = self.waited_us(thief, now_us)
            del self._passed[thief]
            if waited_us:
                self._passed[thief] = (now_us - waited_us, now_us)

    def waited_us(self, thief: bytes, now_us: int) -> int:
        """Since it was passed over; 0 if it was silent for so long that its lifeline would have been renewed twice."""
        passed_us, heard_us = self._passed.get(thief, (now_us, now_us))
        return now_us - passed_us if now_us - heard_us <= 2 * self._ctx.config.lifeline_ttl_us else 0

    def urgency(self, thief: bytes, steal: Steal, now_us: int) -> int:
        return urgency_mkh(steal.discomfort_mkh, self.waited_us(thief, now_us))

    def forget(self, thief: bytes) -> None:
        self._waiting.pop(thief, None)
