"""How far a long run is, in a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...node.cli.output import duration, note
from .engine import SECOND
from .world import START_US, World

SAID_EVERY_S = 10.0


class Progress:
    """Shown a world often, it says each ten seconds of the wall's clock how far that is: on standard error."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._began_s = self._said_s = clock_s()

    def __call__(self, world: World) -> None:
        now_s = self._clock_s()
        if now_s - self._said_s >= SAID_EVERY_S:
            self._said_s = now_s
            note(f"{how_far(world)}; {duration(now_s - self._began_s)}")


def how_far(world: World) -> str:
    """In one line."""
    orders = world.orders.values()
    tasks, done = sum(order.spec.tasks for order in orders), sum(len(order.taken) for order in orders)
    virtual_s, most_s = (world.engine.now_us - START_US) / SECOND, (world.calm_us - START_US) / SECOND
    accepted = f", {done:,} of {tasks:,} tasks accepted" if tasks else ""
    if virtual_s < most_s:
        return f"{duration(virtual_s)} of {duration(most_s)} played, {world.trace.events:,} events{accepted}"
    return f"{duration(virtual_s)} played, until all is accepted, {world.trace.events:,} events{accepted}"
