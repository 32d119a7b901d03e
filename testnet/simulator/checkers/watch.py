"""All checkers together: each hook calls those that care."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....protocol.events import Received
from ....protocol.messages import Message
from .base import Checker
from .disks import KeptUntilDurable, PersistFirst, Restores, SubmittedSurvives
from .holding import HeldUntilFreed
from .jobs import AcceptedKept, AcceptedOnce, Converged, Live, NoTaskLost, ProofValid, WrongAccepted
from .leases import (
    CancelledStays,
    EpochRises,
    Fenced,
    ForgeriesKept,
    LeasesExpire,
    NoDuplicates,
    OneLease,
    OwnSection,
    RightfulAuthors,
)
from .nodes import (
    Bounded,
    Codec,
    EnergyBalances,
    FairToTheHonest,
    FaultyLeft,
    NoCrash,
    OnlyLiarsBanned,
    ViewsAgree,
    WarmStart,
)
from .recovery import Recovery
from .seats import NoFalseAlarm, SeatsFilled
from .stale import StaleStarts

if TYPE_CHECKING:
    from ..life import Life
    from ..world import World

ALL: tuple[type[Checker], ...] = (
    NoTaskLost,
    SubmittedSurvives,
    PersistFirst,
    KeptUntilDurable,
    Restores,
    SeatsFilled,
    AcceptedOnce,
    AcceptedKept,
    ProofValid,
    WrongAccepted,
    ForgeriesKept,
    RightfulAuthors,
    Converged,
    OneLease,
    NoDuplicates,
    HeldUntilFreed,
    Fenced,
    StaleStarts,
    EpochRises,
    OwnSection,
    LeasesExpire,
    CancelledStays,
    WarmStart,
    EnergyBalances,
    Bounded,
    FairToTheHonest,
    OnlyLiarsBanned,
    FaultyLeft,
    ViewsAgree,
    NoFalseAlarm,
    NoCrash,
    Codec,
    Live,
)
VIOLATIONS_MAX = 20
SAMPLE_EVERY = 16
_HOOKS = (
    "born",
    "restored",
    "died",
    "executing",
    "saved",
    "failed",
    "finished",
    "ended",
    "writing",
    "noted",
    "penalised",
    "warmed",
    "at_rest",
)


@dataclass(frozen=True, slots=True)
class Violation:
    """at_us: true time since the beginning."""

    checker: str
    at_us: int
    text: str


class Checkers:
    """All of them; each hook calls those that care. `world.checkers.executing(life, run)` and so on."""

    born: Callable[..., None]
    restored: Callable[..., None]
    died: Callable[..., None]
    executing: Callable[..., None]
    saved: Callable[..., None]
    failed: Callable[..., None]
    finished: Callable[..., None]
    ended: Callable[..., None]
    writing: Callable[..., None]
    noted: Callable[..., None]
    penalised: Callable[..., None]
    warmed: Callable[..., None]
    at_rest: Callable[..., None]

    def __init__(self, world: World) -> None:
        self._world = world
        self.violations: list[Violation] = []
        # Finds nothing wrong: it watches as they do.
        self.recovery = Recovery(world)
        checkers = [*(checker(world) for checker in ALL), self.recovery]
        for hook in _HOOKS:
            bare = getattr(Checker, hook)
            caring = [getattr(each, hook) for each in checkers if getattr(type(each), hook) is not bare]
            setattr(self, hook, _all_of(caring))
        # Events until the next look at a life.
        self.left = SAMPLE_EVERY
        self._sampled = [each.sampled for each in checkers if type(each).sampled is not Checker.sampled]
        self._heard: dict[type[Message], list[Callable[..., None]]] = {}
        self._saying: dict[type[Message], list[Callable[..., None]]] = {}
        for each in checkers:
            for kind in each.hears:
                self._heard.setdefault(kind, []).append(each.heard)
            for kind in each.says:
                self._saying.setdefault(kind, []).append(each.saying)

    def sample(self, life: Life) -> None:
        """Look at a life whose event was handled; called when `left` is down to 0."""
        self.left = SAMPLE_EVERY
        for look in self._sampled:
            look(life)

    def heard(self, life: Life, event: Received) -> None:
        """After a message was handled; costs a look-up for most."""
        for hook in self._heard.get(type(event.message), ()):
            hook(life, event.peer, event.message)

    def sending(self, life: Life, peer: bytes, message: Message) -> None:
        for hook in self._saying.get(type(message), ()):
            hook(life, peer, message)

    def fail(self, checker: str, text: str) -> None:
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(checker, self._world.engine.now_us, text))


def _all_of(hooks: list[Any]) -> Callable[..., None]:
    if len(hooks) == 1:
        only: Callable[..., None] = hooks[0]
        return only

    def call(*arguments: Any) -> None:
        for hook in hooks:
            hook(*arguments)

    return call
