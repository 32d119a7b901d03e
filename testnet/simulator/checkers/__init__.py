"""What must hold, by name, watched at every step where that is cheap, and at the end where it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .base import Checker
from .disks import KeptUntilDurable, PersistFirst, Restores, SubmittedSurvives
from .jobs import AcceptedOnce, Converged, Live, NoTaskLost, ProofValid
from .leases import (
    CancelledStays,
    EpochRises,
    Fenced,
    ForgeriesKept,
    LeasesExpire,
    NoDuplicates,
    OneLease,
    OwnSection,
)
from .nodes import Bounded, Codec, EnergyBalances, FairToTheHonest, NoCrash, ViewsAgree, WarmStart

if TYPE_CHECKING:
    from ..world import World

ALL: tuple[type[Checker], ...] = (
    NoTaskLost,
    SubmittedSurvives,
    PersistFirst,
    KeptUntilDurable,
    Restores,
    AcceptedOnce,
    ProofValid,
    ForgeriesKept,
    Converged,
    OneLease,
    NoDuplicates,
    Fenced,
    EpochRises,
    OwnSection,
    LeasesExpire,
    CancelledStays,
    WarmStart,
    EnergyBalances,
    Bounded,
    FairToTheHonest,
    ViewsAgree,
    NoCrash,
    Codec,
    Live,
)
VIOLATIONS_MAX = 20
_HOOKS = (
    "born",
    "restored",
    "died",
    "handled",
    "executing",
    "finished",
    "writing",
    "sending",
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
    """All of them; each hook calls those that care. `world.checkers.handled(life, event)` and so on."""

    born: Callable[..., None]
    restored: Callable[..., None]
    died: Callable[..., None]
    handled: Callable[..., None]
    executing: Callable[..., None]
    finished: Callable[..., None]
    writing: Callable[..., None]
    sending: Callable[..., None]
    noted: Callable[..., None]
    penalised: Callable[..., None]
    warmed: Callable[..., None]
    at_rest: Callable[..., None]

    def __init__(self, world: World) -> None:
        self._world = world
        self.violations: list[Violation] = []
        checkers = [checker(world) for checker in ALL]
        for hook in _HOOKS:
            bare = getattr(Checker, hook)
            caring = [getattr(each, hook) for each in checkers if getattr(type(each), hook) is not bare]
            setattr(self, hook, _all_of(caring))

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
