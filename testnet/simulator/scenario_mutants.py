"""The protocol broken just as others' was, to show that their failure would show in the scenario that plays it.

Each is patched in from outside, for one run of that scenario as it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ...protocol.effects import Disconnect
from ...protocol.granting import Ledger
from ...protocol.jobs import JobState
from ...protocol.membership import Membership
from ...protocol.outbox import Outbox
from ...protocol.pace import Pace
from ...protocol.replica import Replica
from ...protocol.thief import Thief
from ...protocol.verification.court import Court
from ...protocol.worker import Worker
from .broken import nothing, renew_silently
from .engine import SECOND
from .life import Life
from .memory import RememberedIdentity
from .mutants import patched
from .run import play
from .scenarios import scenario_named
from .world import World

_Patch = tuple[Any, str, Any]
# When whoever had some of an early job has long been idle; and the first machine.
_LATER_US = 100 * SECOND
_FIRST = RememberedIdentity(sha256(b"machine 0").digest()).node_id


@dataclass(frozen=True, slots=True)
class Broken:
    """what: is broken.  caught_by: the checkers that may catch it in the scenario of that name."""

    scenario: str
    what: str
    caught_by: tuple[str, ...]
    patches: Callable[[], list[_Patch]]


@dataclass(frozen=True, slots=True)
class CaughtThere:
    """caught_by: the first checker that should, and did; empty if none."""

    scenario: str
    what: str
    caught_by: str


def catch(broken: Broken) -> CaughtThere:
    with patched(broken.patches()):
        violations = play(scenario_named(broken.scenario).plan).violations
    found = [each.checker for each in violations if each.checker in broken.caught_by]
    return CaughtThere(broken.scenario, broken.what, found[0] if found else "")


def catch_number(number: int) -> CaughtThere:
    """`catch` of one of BROKEN, for a process of a pool."""
    return catch(BROKEN[number])


# -- what is broken --------------------------------------------------------------------------------------------


def _none_of_them(*_: Any, **__: Any) -> list[Any]:
    return []


def _wait_for_ever(self: Thief, key: Any, now_us: int) -> bool:
    return key[0] == "steal" or bool(_ON_TIMER(self, key, now_us))


def _drop_all(self: Any, now_us: int) -> None:
    """What nobody had taken when it was to be sent again is forgotten."""
    for owed in list(self._owed.values()):
        self._settle(owed)


def _never_again(self: Thief, hunger: Any, *, idle: bool, now_us: int) -> None:
    """After some time without work all but one look for none any more."""
    if now_us < _LATER_US or self._ctx.node_id == _FIRST:
        _WANT(self, hunger, idle=idle, now_us=now_us)


def _boot_once(self: World, life: Life, known: list[int], redial_us: int = 0) -> None:
    for index in known:
        life.knows(index)
        self.network.dial(life, self.machines[index])


def _ban_the_house(self: Life, peer: bytes, reason: Any) -> None:
    """Whoever is banned takes along all of its house."""
    before = dict(self.banned_until_us)
    _PENALISE(self, peer, reason)
    if self.banned_until_us == before:
        return
    banned = self.world.by_id[peer]
    for other in self.world.nodes:
        if other.site == banned.site and other is not banned and other is not self.machine:
            self.banned_until_us[other.index] = self.banned_until_us[banned.index]
            self._disconnect(Disconnect(other.id, "as bad as its neighbour"))


_ON_TIMER: Any = Thief.on_timer
_WANT: Any = Thief.want
_PENALISE: Any = Life._penalise

BROKEN: tuple[Broken, ...] = (
    Broken(
        "stale-steal-reply",
        "wait for a lost reply for ever",
        ("liveness",),
        lambda: [(Thief, "on_timer", _wait_for_ever)],
    ),
    Broken(
        "same-address",
        "never believe that one came back",
        ("views-agree",),
        lambda: [(Membership, "_renew", nothing)],
    ),
    Broken(
        "vanished-holder",
        "let leases stand for ever",
        ("lease-expiry",),
        lambda: [
            (Ledger, "expire", _none_of_them),
            (Ledger, "free_holder", _none_of_them),
            (Pace, "overran", _none_of_them),
        ],
    ),
    Broken(
        "result-dropped-at-upload",
        "drop what nobody took at once",
        ("kept-until-durable",),
        lambda: [(Outbox, "retry", _drop_all)],
    ),
    Broken(
        "result-dropped-at-upload",
        "come back without what is owed",
        ("restore",),
        lambda: [(Worker, "restore", nothing)],
    ),
    Broken(
        "back-off-without-bound",
        "look for work no more after a while without",
        ("liveness",),
        lambda: [(Thief, "want", _never_again)],
    ),
    Broken(
        "faulty-host-eats-the-queue",
        "take the next tasks of a job that cannot be run",
        ("faulty-left-alone",),
        lambda: [(Worker, "_give_back", nothing)],
    ),
    Broken(
        "faulty-host-fails-every-task",
        "give more to whoever was found wrong",
        ("faulty-left-alone",),
        lambda: [(Court, "_convict", nothing)],
    ),
    Broken(
        "orchestrator-and-worker-disagree",
        "go on with tasks that are another's",
        ("fencing",),
        lambda: [(Worker, "on_superseded", nothing)],
    ),
    Broken(
        "orchestrator-and-worker-disagree",
        "tell nobody that its lease is another's",
        ("stale-start",),
        lambda: [(Ledger, "renew", renew_silently)],
    ),
    Broken(
        "split-views-at-bootstrap",
        "dial the first addresses once",
        ("views-agree",),
        lambda: [(World, "_bootstrap", _boot_once)],
    ),
    Broken(
        "partition-outlasts-suspicion",
        "dial the first addresses once, and the dead never",
        ("views-agree",),
        lambda: [(World, "_bootstrap", _boot_once), (Membership, "_look_for_the_dead", nothing)],
    ),
    Broken(
        "hoarded-leases",
        "let leases be renewed for ever",
        ("liveness",),
        lambda: [(Pace, "overran", _none_of_them)],
    ),
    Broken(
        "ban-too-broad",
        "ban the whole house for one of its machines",
        ("honest-banned",),
        lambda: [(Life, "_penalise", _ban_the_house)],
    ),
    Broken(
        "expired-tasks-still-run",
        "go on with tasks that are another's",
        ("fencing",),
        lambda: [(Worker, "on_superseded", nothing)],
    ),
    Broken(
        "cancelled-tasks-still-run",
        "grant what was cancelled",
        ("cancelled",),
        lambda: [
            (JobState, "open", property(lambda self: not self.complete)),
            (Replica, "_on_cancelled", nothing),
        ],
    ),
)
