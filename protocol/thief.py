"""Whom to steal from: the better of two that have what goes first; refused several times, lifelines, not polling.

One steal is on its way at a time. A reply to an older one is still taken (a grant is a grant), but never awaited: a
lost reply costs `steal_timeout_us`, nothing more.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from ..crypto.certificates import Role
from .appraisal import as_keeper, ask_of, has_plenty, work_of_digest
from .budget import Budget
from .config import ProtocolConfig
from .context import Context
from .effects import TimerKey
from .heat import HeatBoard
from .membership import Membership
from .messages import Refused, Steal
from .records import JobDigest, Record, RecordKind
from .stealing.appetite import FOREVER_US
from .stealing.choosing import Victim, better, by_standing
from .stealing.matching import Standing, Work, bytes_to_come, fit, standing, transfer_us
from .tables import Tables

# After a refusal a victim is left alone this long, unless its digest says that it has more.
REFUSED_US = 500_000
# Who fails again is left alone for twice as long, so many times: who does not answer, and other cells' work as a whole.
SILENT_DOUBLINGS = 8
FAR_DOUBLINGS = 5
# Searches for far replicas: a burst, then so many in `cell_interval_us`, since anybody can invent names; one name once
# in `SEARCH_AGAIN_US`.
SEARCHES_BURST = 8
SEARCHES_AN_INTERVAL = 8
SEARCH_AGAIN_US = 2_000_000
SOUGHT_MAX = 64
IDLE_BACKOFF_MAX = 4
# Of the idle nodes of other cells so many a free task try their luck at a job, and a link of its keeper's, not all.
TRIES_A_TASK = 4
_REPLICA = int(Role.REPLICA)
# Of what a worker has queued: what most jobs have.
_ORDINARY = standing(Work(b"", 0, 0))


@dataclass(slots=True)
class _Backoff:
    """After failures in a row: until when it is not tried again."""

    failures: int = 0
    until_us: int = 0

    def failed(self, now_us: int, doublings_max: int) -> None:
        self.until_us = now_us + (REFUSED_US << min(self.failures, doublings_max))
        self.failures += 1


@dataclass(frozen=True, slots=True)
class _Group:
    """Victims that have something that goes equally well first.

    keepers: whoever has some of it to give, and not only queued.  rich: those of them that have plenty.
    """

    standing: Standing
    victims: Sequence[Victim]
    keepers: Container[bytes]
    rich: Container[bytes]

    def without(self, nodes: Container[bytes]) -> _Group:
        return _Group(self.standing, [each for each in self.victims if each.node not in nodes], self.keepers, self.rich)

    def to_ask(self, stingy: Container[bytes]) -> Sequence[Victim]:
        """Keepers alone while one has plenty: what is queued has somebody who will run it, and is mostly refused.

        stingy: who refuses, whatever it says to have.
        """
        if any(victim.node in self.rich and victim.node not in stingy for victim in self.victims):
            return [victim for victim in self.victims if victim.node in self.keepers]
        return self.victims

    @property
    def is_queued(self) -> bool:
        """Whether nobody keeps any of it."""
        return all(victim.node not in self.keepers for victim in self.victims)


def _group(stands: Standing, digests: Sequence[JobDigest], victims: Sequence[Victim], config: ProtocolConfig) -> _Group:
    """digests: of jobs that stand alike.  victims: who keeps them, and others that have some queued."""
    rich = [digest.replica for digest in digests if has_plenty(digest.free_tasks, digest.task_us, config)]
    return _Group(stands, victims, frozenset(digest.replica for digest in digests), frozenset(rich))


class FarWork(Protocol):
    """Work of other cells, and the way to it."""

    def far_jobs(self, now_us: int) -> list[JobDigest]: ...

    def mesh_nodes(self) -> int: ...

    def can_reach(self, node: bytes) -> bool: ...

    def reach(self, node: bytes) -> None: ...


class Thief:
    """Sub-machine of `Worker`: sends `Steal`, holds lifelines, backs off within a bound."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables, heat: HeatBoard) -> None:
        self._ctx = ctx
        self._members = members
        self._tables = tables
        self._heat = heat
        self._jobs_of: list[Record] = []
        self._jobs: list[JobDigest] = []
        # Its request, whom it went to, and whether that was for work of another cell.
        self._outstanding: tuple[int, bytes, bool] | None = None
        self._lifelines: dict[bytes, int] = {}
        self._refused_until: dict[bytes, int] = {}
        # Who refused since the last grant, and has told of no work since.
        self._vain: dict[bytes, None] = {}
        # Who refused since it last granted anything, or told of work.
        self._stingy: dict[bytes, None] = {}
        # Who did not answer the last time; what others grant says nothing of them.
        self._silent: dict[bytes, _Backoff] = {}
        # Since another cell has granted anything: what is told of their work is their replicas' word alone.
        self._far_first = _Backoff()
        self._searches = Budget(SEARCHES_BURST, SEARCHES_AN_INTERVAL, ctx.config.cell_interval_us, 0)
        self._sought_us: dict[bytes, int] = {}
        self._full_until: dict[bytes, int] = {}
        self._refusals = 0
        self._idle_rounds = 0
        # Until when it waits for news; None if it does not.
        self._waits_until_us: int | None = None
        # Changes of the tables as of its last look around; -1 if that found somebody with work.
        self._seen = -1
        self.steals = 0
        self.granted = 0
        self.stolen_from: dict[bytes, int] = {}
        self.far: FarWork | None = None

    def want(self, hunger: Steal, *, idle: bool, now_us: int) -> None:
        """Steal, unless a steal is on its way or the last round found nothing and the wait is not over.

        hunger: the steal to send; its request number and lifeline are set here.  idle: nothing runs or waits.
        """
        if self._outstanding is not None:
            return
        victim, far = self._choose(hunger, now_us)
        if victim is not None and (self._refusals < self._ctx.config.refusals_before_lifeline or not idle):
            request = self._ctx.next_request()
            self._outstanding = (request, victim, far)
            self._ctx.set_timer(("steal", b""), now_us + self._ctx.config.steal_timeout_us)
            self.steals += 1
            self._ctx.reasons.sought("it asks {peer} for work", now_us, victim)
            self._ctx.send(victim, replace(hunger, request=request, lifeline=False))
            return
        if not idle:
            return
        if victim is None:
            self._ctx.reasons.sought(self._why_none(hunger, now_us), now_us)
        self._register_lifelines(hunger, now_us)
        self._wait_for_news(now_us)

    def _wait_for_news(self, now_us: int) -> None:
        """Look around again after one to four times `steal_idle_us`; where no work is in sight, which others tell at
        once when there is any, only as soon as a lifeline has to be kept up.
        """
        rounds = self._idle_rounds
        if self._waits_until_us is None:
            rounds = self._idle_rounds = min(rounds + 1, IDLE_BACKOFF_MAX)
        until_us = now_us + self._ctx.config.steal_idle_us * rounds
        sees_work = self._sees_work(now_us)
        self._seen = -1 if sees_work else self._tables.offers
        if not sees_work:
            until_us = max(until_us, min(self._lifelines.values(), default=0))
        if self._waits_until_us is None or until_us < self._waits_until_us:
            self._wait_until(until_us)

    def need_not_look(self) -> bool:
        """Whether to `want` now would do nothing, whatever is wanted: a steal is on its way; or it waits, nobody had
        work when it looked, and nobody has said since that he has any, or keeps jobs.
        """
        return self._outstanding is not None or (self._waits_until_us is not None and self._seen == self._tables.offers)

    def _wait_until(self, at_us: int) -> None:
        self._waits_until_us = at_us
        self._ctx.set_timer(("steal-idle", b""), at_us)

    def _sees_work(self, now_us: int) -> bool:
        """Whether anybody has any, be it of no use here."""
        far = self.far is not None and self.far.far_jobs(now_us)
        return bool(self._open_jobs() or self._heat.queueing() or far)

    def on_sight(self, now_us: int) -> None:
        """Somebody has a queue to share: whoever waits looks around soon."""
        soon_us = now_us + self._ctx.config.steal_idle_us
        if self._waits_until_us is not None and self._waits_until_us > soon_us:
            self._wait_until(soon_us)

    def _choose(self, hunger: Steal, now_us: int) -> tuple[bytes | None, bool]:
        """Power of two choices among those that seem to have some of what goes first; and whether for far work.

        Another cell's is asked for what goes before all that is left here, unless that failed lately, and where nothing
        is; also for what goes as well, where it has plenty and what is here is queued. Who has refused may go on
        refusing for as long as there is something left, whatever the reason: it is asked again when nobody else is left
        to ask, of this cell or another.
        """
        near = self._victims(hunger, now_us)
        best = _first_of(near, without=self._vain)
        far: list[_Group] = []
        if best is None or self._far_first.until_us <= now_us:
            far = self._far_victims(hunger, now_us, beside=best)
        ahead = _first_of(far, without=self._vain)
        group = ahead or best or _first_of(near)
        is_far = ahead is not None or group is None
        group = group or _first_of(far)
        if group is None:
            return None, False
        victims = group.to_ask(self._stingy)
        first = victims[self._ctx.rng.randrange(len(victims))]
        second = victims[self._ctx.rng.randrange(len(victims))]
        return better(first, second, hunger.appetite_us).node, is_far

    def _victims(self, hunger: Steal, now_us: int) -> list[_Group]:
        """Of this cell, the group first that has what goes first.

        What a worker has queued nobody tells: it counts as ordinary, and among volunteers' work where no other is. What
        is known to go before that lies at its keepers, who are asked for it alone: from a queue may come anything.
        """
        wall_us = self._ctx.wall_us(now_us)
        runs = [each for each in self._open_jobs() if _runs(hunger, each, wall_us)]
        groups = by_standing(runs, lambda each: work_of_digest(each, wall_us))
        stands = [standing(work_of_digest(digests[0], wall_us)) for digests in groups]
        queues = [Victim(heat.node, heat.queue_us, self._members.rtt_us(heat.node)) for heat in self._heat.queueing()]
        place = next((each for each, known in enumerate(stands) if known >= _ORDINARY), len(groups))
        if place == len(groups):
            groups, stands = [*groups, []], [*stands, _ORDINARY]
        found: list[_Group] = []
        for number, digests in enumerate(groups):
            known = {victim.node: victim for victim in queues} if number == place else {}
            for digest in digests:
                victim = self._victim(hunger, digest, wall_us)
                last = known.get(victim.node)
                known[victim.node] = victim if last is None else _both(last, victim)
            allowed = [known[node] for node in sorted(known) if self._may_ask(node, now_us)]
            found.append(_group(stands[number], digests, allowed, self._ctx.config))
        return found

    def _victim(self, hunger: Steal, digest: JobDigest, wall_us: int) -> Victim:
        """One that keeps a job."""
        ask = ask_of(b"", hunger)
        if self._tables.get(RecordKind.JOB_DIGEST, self._ctx.node_id + digest.job_id) is not None:
            # This node is a replica of it as well.
            ask = as_keeper(ask, digest.job_id)
        come_us = transfer_us(bytes_to_come(work_of_digest(digest, wall_us), ask))
        work_us = digest.free_tasks * (digest.task_us or self._ctx.config.batch_target_us)
        return Victim(digest.replica, work_us, self._members.rtt_us(digest.replica) + come_us)

    def _may_ask(self, node: bytes, now_us: int) -> bool:
        if self._is_left_alone(node, now_us):
            return False
        return node == self._ctx.node_id or self._members.is_alive(node)

    def _is_left_alone(self, node: bytes, now_us: int) -> bool:
        return self._refused_until.get(node, 0) > now_us or self._is_silent(node, now_us)

    def _is_silent(self, node: bytes, now_us: int) -> bool:
        silence = self._silent.get(node)
        return silence is not None and silence.until_us > now_us

    def _why_none(self, hunger: Steal, now_us: int) -> str:
        """Nobody was found to ask: what of the known work was left aside, and why."""
        verdicts: dict[str, int] = {}
        for record in self._tables.rows(RecordKind.JOB_DIGEST):
            digest: JobDigest = record.body
            if not digest.finished and digest.free_tasks and digest.replica != self._ctx.node_id:
                verdict = self._verdict(hunger, digest, now_us)
                verdicts[verdict] = verdicts.get(verdict, 0) + 1
        if not verdicts:
            return "no work is known in reach"
        told = [f"{count} x {verdict}" for verdict, count in sorted(verdicts.items())]
        return f"none of the work known in reach is for it: {', '.join(told)}"

    def _verdict(self, hunger: Steal, digest: JobDigest, now_us: int) -> str:
        if not (hunger.wasm if digest.runtime == "wasm" else digest.command in hunger.native):
            needs = "WebAssembly" if digest.runtime == "wasm" else f'the command "{digest.command}"'
            return f"its owner does not allow {needs}"
        if digest.job_id in hunger.excluded:
            return "it failed here just now"
        fitting = fit(work_of_digest(digest, self._ctx.wall_us(now_us)), ask_of(b"", hunger))
        if not fitting.good:
            return fitting.value
        if self._is_silent(digest.replica, now_us):
            return "its keeper has not answered"
        if self._refused_until.get(digest.replica, 0) > now_us:
            return "its keeper has just said no"
        return "its keeper is not to be reached"

    def _open_jobs(self) -> list[JobDigest]:
        """Digests of this cell that have free tasks. The table gives the same list until one changes."""
        rows = self._tables.rows(RecordKind.JOB_DIGEST)
        if rows is not self._jobs_of:
            self._jobs_of = rows
            self._jobs = [each.body for each in rows if not each.body.finished and each.body.free_tasks]
        return self._jobs

    def _far_victims(self, hunger: Steal, now_us: int, beside: _Group | None) -> list[_Group]:
        """Replicas of other cells: each with a chance that goes with its free tasks, so that not the whole mesh comes.
        Where one is that is no member is asked first.

        beside: only those of whom something goes before this, if it is given; where all of this is queued, also those
        that have plenty that goes as well.
        """
        if self.far is None:
            return []
        found: list[JobDigest] = []
        strangers: list[bytes] = []
        nodes = 0
        wall_us = self._ctx.wall_us(now_us)
        for digest in self.far.far_jobs(now_us):
            if beside is not None and (stands := standing(work_of_digest(digest, wall_us))) >= beside.standing:
                if stands > beside.standing or not beside.is_queued:
                    break  # they come in that order
                if not has_plenty(digest.free_tasks, digest.task_us, self._ctx.config):
                    continue
            if digest.finished or not _runs(hunger, digest, wall_us) or self._is_left_alone(digest.replica, now_us):
                continue
            nodes = nodes or self.far.mesh_nodes()
            if self._ctx.rng.randrange(nodes) >= TRIES_A_TASK * min(digest.free_tasks, self._ctx.config.links_most):
                continue
            if self.far.can_reach(digest.replica):
                found.append(digest)
            else:
                strangers.append(digest.replica)
        if strangers:
            self._seek(self.far, strangers, now_us)
        return [
            _group(
                standing(work_of_digest(group[0], wall_us)),
                group,
                [self._victim(hunger, each, wall_us) for each in group],
                self._ctx.config,
            )
            for group in by_standing(found, lambda each: work_of_digest(each, wall_us))
        ]

    def _seek(self, far: FarWork, strangers: list[bytes], now_us: int) -> None:
        """Who was not sought yet first, then who was longest ago: invented names leave the others their turn."""
        for node in sorted(dict.fromkeys(strangers), key=lambda each: self._sought_us.get(each, -SEARCH_AGAIN_US)):
            if now_us - self._sought_us.get(node, -SEARCH_AGAIN_US) < SEARCH_AGAIN_US:
                break
            if not self._searches.spend(1, now_us):
                break
            self._sought_us.pop(node, None)
            self._sought_us[node] = now_us
            far.reach(node)
        while len(self._sought_us) > SOUGHT_MAX:
            del self._sought_us[next(iter(self._sought_us))]

    def _register_lifelines(self, hunger: Steal, now_us: int) -> None:
        """Park at replicas of this cell, some of which the next job will have; this node counts too."""
        self._lifelines = {
            node: until for node, until in self._lifelines.items() if until > now_us and self._members.is_alive(node)
        }
        wanted = self._ctx.config.lifelines_max - len(self._lifelines)
        if wanted <= 0:
            return
        rows = [record.body for record in self._tables.rows(RecordKind.MEMBER)]
        keepers = [
            row.node
            for row in rows
            if row.roles & _REPLICA
            and row.node not in self._lifelines
            and self._full_until.get(row.node, 0) <= now_us
            and (row.node == self._ctx.node_id or self._members.is_alive(row.node))
        ]
        # Whoever has a link costs none.
        linked = [node for node in keepers if node == self._ctx.node_id or self._members.has_link(node)]
        for node in self._ctx.sample(linked if len(linked) >= wanted else keepers, wanted):
            self._lifelines[node] = now_us + self._ctx.config.lifeline_ttl_us * 2 // 3
            request = self._ctx.next_request()
            self._ctx.send(node, replace(hunger, request=request, lifeline=True))

    def lifelines(self, now_us: int) -> list[bytes]:
        """Where it waits to be given work."""
        return [node for node, until_us in self._lifelines.items() if until_us > now_us]

    def on_granted(self, peer: bytes, request: int, taken: int, now_us: int) -> None:
        self._lifelines.pop(peer, None)
        self._seen = -1
        far = False
        if self._outstanding is not None and request == self._outstanding[0]:
            far = self._outstanding[2]
            self._outstanding = None
            self._ctx.cancel_timer(("steal", b""))
            self._silent.pop(peer, None)
        if taken:
            self._silent.pop(peer, None)
            self._stingy.pop(peer, None)
            if far:
                self._far_first = _Backoff()
            self.granted += taken
            self.stolen_from[peer] = self.stolen_from.get(peer, 0) + taken
            while len(self.stolen_from) > self._ctx.config.members_max:
                del self.stolen_from[next(iter(self.stolen_from))]
            self._refusals = 0
            self._idle_rounds = 0
            self._vain.clear()
        else:
            self._count_refusal(peer, now_us, far=far)

    def on_refused(self, peer: bytes, message: Refused, now_us: int) -> None:
        if self._outstanding is not None and message.request == self._outstanding[0]:
            far = self._outstanding[2]
            self._outstanding = None
            self._ctx.cancel_timer(("steal", b""))
            self._silent.pop(peer, None)
            self._ctx.reasons.was_refused(peer, message.reason, now_us)
            self._count_refusal(peer, now_us, far=far)
        else:
            self._lifelines.pop(peer, None)
            self._seen = -1
            self._full_until[peer] = now_us + self._ctx.config.lifeline_ttl_us
            while len(self._full_until) > self._ctx.config.members_max:
                del self._full_until[next(iter(self._full_until))]

    def _count_silence(self, peer: bytes, now_us: int) -> None:
        silence = self._silent.pop(peer, None) or _Backoff()
        silence.failed(now_us, SILENT_DOUBLINGS)
        self._silent[peer] = silence
        while len(self._silent) > self._ctx.config.members_max:
            del self._silent[next(iter(self._silent))]

    def _count_refusal(self, peer: bytes, now_us: int, *, far: bool) -> None:
        self._refusals += 1
        if far:
            self._far_first.failed(now_us, FAR_DOUBLINGS)
        self._refused_until[peer] = now_us + REFUSED_US
        while len(self._refused_until) > self._ctx.config.members_max:
            del self._refused_until[next(iter(self._refused_until))]
        for told in (self._vain, self._stingy):
            told[peer] = None
            while len(told) > self._ctx.config.members_max:
                del told[next(iter(told))]

    def on_news(self, peer: bytes = b"") -> None:
        """There is work, some of it at this peer if one is named: whoever waited looks again at once."""
        self._seen = -1
        self._refusals = 0
        self._refused_until.clear()
        self._vain.pop(peer, None)
        self._stingy.pop(peer, None)

    def on_timer(self, key: TimerKey, now_us: int) -> bool:
        match key[0]:
            case "steal":
                if self._outstanding is not None:
                    _, victim, far = self._outstanding
                    self._outstanding = None
                    self._ctx.reasons.was_refused(victim, "no answer in time", now_us)
                    self._count_silence(victim, now_us)
                    self._count_refusal(victim, now_us, far=far)
            case "steal-idle":
                self._waits_until_us = None
                self._refusals = 0
            case _:
                return False
        return True

    def on_peer_gone(self, peer: bytes, now_us: int) -> None:
        """Its lifeline is gone with it, and it will not answer: who hangs up when it is asked is as good as silent."""
        self._seen = -1
        self._lifelines.pop(peer, None)
        if self._outstanding is not None and self._outstanding[1] == peer:
            far = self._outstanding[2]
            self._outstanding = None
            self._ctx.cancel_timer(("steal", b""))
            self._count_silence(peer, now_us)
            self._count_refusal(peer, now_us, far=far)

    def stop(self) -> None:
        self._outstanding = self._waits_until_us = None
        self._ctx.cancel_timer(("steal", b""))
        self._ctx.cancel_timer(("steal-idle", b""))


def _runs(hunger: Steal, digest: JobDigest, wall_us: int) -> bool:
    """Whether tasks of the job are of any use to the thief, as far as its digest says."""
    runs = hunger.wasm if digest.runtime == "wasm" else digest.command in hunger.native
    if not runs or digest.job_id in hunger.excluded:
        return False
    # Most sinks take anything; then there is nothing to weigh, for each job and each steal.
    anything = hunger.longest_us >= FOREVER_US and not hunger.price_micro
    return anything or fit(work_of_digest(digest, wall_us), ask_of(b"", hunger)).good


def _both(one: Victim, other: Victim) -> Victim:
    """What a peer has of several jobs."""
    return Victim(one.node, one.work_us + other.work_us, min(one.way_us, other.way_us))


def _first_of(groups: list[_Group], without: Container[bytes] = ()) -> _Group | None:
    """The first group in which there is any, some nodes apart."""
    for group in groups:
        found = group.without(without)
        if found.victims:
            return found
    return None
