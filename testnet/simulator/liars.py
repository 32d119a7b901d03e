"""Admitted machines that lie. Each runs the unmodified machine, and tampers with what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...protocol.messages import Message
from .dice import Stream

if TYPE_CHECKING:
    from .life import Life
    from .machine import Machine
    from .world import World


class Liar:
    """The base of all: says what the machine says, and computes what a task computes."""

    name = "honest"

    def __init__(self, machine: Machine, world: World, dice: Stream) -> None:
        self.machine = machine
        self.world = world
        self.dice = dice

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        self.world.network.send(life, peer, message)

    def outputs(self, outputs: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return outputs


LIARS: dict[str, type[Liar]] = {}


def make_liar(lie: str, machine: Machine, world: World, dice: Stream) -> Liar:
    """Raises KeyError for a lie that nobody tells."""
    return LIARS[lie](machine, world, dice)
