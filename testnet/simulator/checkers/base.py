"""A checker: one named property, told of everything, and free to look at everything but to change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ....protocol.effects import Execute, Notify, Reason
from ....protocol.events import HeatReading, TaskFinished
from ....protocol.messages import Message
from ..disk import Write

if TYPE_CHECKING:
    from ..life import Life
    from ..world import World


class Checker:
    """Subclasses set `name` and `invariant` (its number in the design, 0 for none), and override what they need.

    hears, says: the kinds of messages for which `heard` and `saying` are called.
    """

    name = ""
    invariant = 0
    hears: ClassVar[tuple[type[Message], ...]] = ()
    says: ClassVar[tuple[type[Message], ...]] = ()

    def __init__(self, world: World) -> None:
        self.world = world

    def fail(self, text: str) -> None:
        self.world.checkers.fail(self.name, text)

    def born(self, life: Life) -> None:
        """Before it is given its rows."""

    def restored(self, life: Life) -> None:
        """After it was."""

    def died(self, life: Life) -> None:
        pass

    def sampled(self, life: Life) -> None:
        """After an event and its effects, for one event in sixteen of all."""

    def heard(self, life: Life, peer: bytes, message: Message) -> None:
        """After a message of `hears` was handled."""

    def executing(self, life: Life, run: Execute) -> None:
        pass

    def saved(self, life: Life, run: Execute) -> None:
        """It was stopped at a checkpoint; before the machine hears of it."""

    def failed(self, life: Life, run: Execute) -> None:
        """It could not be run here; before the machine hears of it."""

    def finished(self, life: Life, run: Execute, event: TaskFinished) -> None:
        """Before the machine hears of it."""

    def ended(self, life: Life, run: Execute, event: TaskFinished) -> None:
        """The same, after the machine heard of it."""

    def writing(self, life: Life, write: Write) -> None:
        pass

    def saying(self, life: Life, peer: bytes, message: Message) -> None:
        """A message of `says` leaves now: what had to be durable before is."""

    def noted(self, life: Life, note: Notify) -> None:
        pass

    def penalised(self, life: Life, peer: bytes, reason: Reason) -> None:
        pass

    def warmed(self, life: Life, reading: HeatReading) -> None:
        """Before the machine hears of it."""

    def at_rest(self) -> None:
        """The run is over: faults are mended, and everything had time to settle."""
