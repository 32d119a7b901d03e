"""Brings a heater's memory over a restart: when it is read, how old it is, and when it is written."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path

import structlog
import trio

from ..config import HeaterSettings
from .control.limits import CLOCK_SET_S
from .control.remembered import Remembered
from .heater import Heater
from .kept import Kept, KeptError, Moment, decode, encode, load, put_aside, save, this_moment
from .observed import OWNER

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# What somebody told is written at once, and again no sooner than after this; what was learnt, each hour.
TOLD_PERIOD_S = 5.0
LEARNT_PERIOD_S = 3600.0
# Who seems to have been down for longer had a clock of 1970 once, more likely than not.
DOWN_MAX_S = 32 * 86_400.0


class HeatKeeper:
    """Of one heater; made before its first control period, and told of each one by `look`.

    notices: what of the memory could not be used, a line each.
    """

    def __init__(
        self, path: Path, heater: Heater, settings: HeaterSettings, moment: Callable[[], Moment] = this_moment
    ) -> None:
        self._path = path
        self._heater = heater
        self._moment = moment
        # A simulated sink's clock begins anew with the machine's; where it runs faster, its dates mean nothing then.
        self._scale = settings.time_scale if settings.kind == "simulated" else 1.0
        self._sink = f"{settings.kind} {settings.sink}"
        self.notices: tuple[str, ...] = ()
        self._changed = trio.Event()
        self._failed = ""
        self._doubted: tuple[Kept, Moment, int] | None = None
        self._age_doubted: tuple[Kept, Moment] | None = None
        if heater.thermostat is not None:
            self._recall()
        # What was put aside is to be written anew.
        self._written = None if self.notices else self._state()

    def look(self) -> None:
        """Once each control period: whether there is something to write."""
        if self._heater.thermostat is None:
            return
        if self._doubted is not None:
            self._follow_clock(*self._doubted)
        if self._age_doubted is not None:
            self._follow_age(*self._age_doubted)
        if self._state() != self._written:
            self._changed.set()

    async def run(self) -> None:
        """Write until cancelled."""
        if self._heater.thermostat is None:
            return
        while True:
            with trio.move_on_after(LEARNT_PERIOD_S):
                await self._changed.wait()
            self._changed = trio.Event()
            await self.write()
            await trio.sleep(TOLD_PERIOD_S if not self._failed else 12 * TOLD_PERIOD_S)

    async def write(self) -> None:
        """What is known now. A disk that takes nothing is told of once; the heater goes on."""
        kept = self._kept()
        if kept is None:
            return
        state = self._state()
        try:
            await trio.to_thread.run_sync(save, self._path, encode(kept))
        except OSError as error:
            if self._failed != str(error):
                self._failed = str(error)
                log.warning("heater.not-kept", file=str(self._path), problem=error.strerror)
            return
        self._failed = ""
        self._written = state

    # -- steps ---------------------------------------------------------------------------------------------

    def _kept(self) -> Kept | None:
        thermostat, inputs, observed = self._heater.thermostat, self._heater.inputs(), self._heater.observed
        if thermostat is None or inputs is None or observed is None:
            return None
        remembered = thermostat.remember(inputs)
        if self._scale != 1.0:
            remembered = _undated(remembered)
        return Kept(self._moment(), self._sink, remembered, observed.said_by(OWNER), self._heater.disinfected)

    def _state(self) -> Hashable:
        """Another one whenever there is something to write at once."""
        thermostat, observed = self._heater.thermostat, self._heater.observed
        if thermostat is None or observed is None:
            return None
        return (thermostat.told, thermostat.limits.phase, observed.said_by(OWNER))

    def _recall(self) -> None:
        try:
            content = load(self._path)
            if content is None:
                return
            kept, problems = decode(content)
        except KeptError as error:
            self._tell(str(error))
            return
        now = self._moment()
        if kept.sink != self._sink:
            # Of another sink nothing is known; what the owner wishes is the same.
            kept = replace(kept, remembered=Remembered(kept.remembered.told), disinfected=None)
        self._go_on_from(kept, kept.remembered, now)
        self._go_on_since(kept, now)
        for what, value in kept.owner:
            if self._heater.observed is not None:
                self._heater.observed.tell(what, OWNER, value, ages=False)
        if problems:
            self._tell("; ".join(problems))
        assert self._heater.thermostat is not None, "who has none remembers nothing"
        if now.boot != kept.at.boot or not now.boot:
            self._doubted = (kept, now, self._heater.thermostat.orders)
            self._age_doubted = (kept, now)

    def _go_on_from(self, kept: Kept, remembered: Remembered, now: Moment) -> None:
        thermostat, inputs = self._heater.thermostat, self._heater.inputs()
        assert thermostat is not None and inputs is not None, "who has none remembers nothing"
        thermostat.recall(remembered, inputs, now.since(kept.at) * self._scale)

    def _go_on_since(self, kept: Kept, now: Moment) -> None:
        elapsed_s = now.since(kept.at)
        if kept.disinfected is not None and elapsed_s <= DOWN_MAX_S:
            self._heater.recall_disinfected(kept.disinfected.ago_s + elapsed_s, known=kept.disinfected.known)

    def _follow_age(self, kept: Kept, before: Moment) -> None:
        """The same for a tank's disinfection, whatever else was told meanwhile."""
        now = self._moment()
        if abs((now.wall_s - before.wall_s) - (now.steady_s - before.steady_s)) >= CLOCK_SET_S:
            self._go_on_since(kept, now)
            self._age_doubted = (kept, now)

    def _follow_clock(self, kept: Kept, before: Moment, orders: int) -> None:
        """The age was read from a clock on the wall: if it was behind and is set, more is over than was thought.

        Only as long as nobody told anything else. What ended since by the clock that was wrong may hold again.
        """
        thermostat, inputs = self._heater.thermostat, self._heater.inputs()
        assert thermostat is not None and inputs is not None, "who has none remembers nothing"
        if thermostat.orders != orders:
            self._doubted = None
            return
        now = self._moment()
        if (now.wall_s - before.wall_s) - (now.steady_s - before.steady_s) < CLOCK_SET_S:
            return
        told, is_told = kept.remembered.told, thermostat.remember(inputs).told
        if told is not None and is_told is not None and told.chosen.until_s is None:
            # What has no date of its own is what this life has made of it.
            told = replace(told, chosen=is_told.chosen)
        self._go_on_from(kept, Remembered(told), now)
        self._doubted = (kept, now, orders)

    def _tell(self, problem: str) -> None:
        """The owner hears of what cannot be used, and may look at it."""
        aside = put_aside(self._path)
        where = f", put aside as {aside.name}" if aside is not None else ""
        self.notices = (f"what was told before the restart is not all known: {self._path.name} {problem}{where}",)
        log.warning("heater.not-recalled", file=str(self._path), problem=problem, aside=str(aside or ""))


def _undated(remembered: Remembered) -> Remembered:
    """Without what goes by dates."""
    told = remembered.told
    if told is not None:
        chosen, limits = replace(told.chosen, until_s=None), replace(told.limits, colours=())
        told = replace(told, chosen=chosen, limits=limits)
    return replace(remembered, told=told, season=None)
