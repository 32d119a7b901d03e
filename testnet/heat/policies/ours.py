"""Ours: the decisions of `protocol/stealing`, by nodes that know what the mesh lets them know.

A node asks the better of two that seem to have work that fits its sink. The victim deals to those that asked at one
time: `deal` is the protocol's own function, as are appetite, urgency, longest task, price, and who inherits what a warm
node holds. Nothing is killed.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np

from ....node.heating.control.power import DUTY_MIN
from ....node.heating.foretell import HOURS_AHEAD, full_above_k
from ....protocol.stealing.appetite import FOREVER_US, Forecast, appetite_us, longest_task_us
from ....protocol.stealing.choosing import Victim, better, by_standing
from ....protocol.stealing.matching import Standing, Work, bytes_to_come, deal, fit, standing, transfer_us
from ....protocol.stealing.moving import SLOW_DUTY, Heir, heirs_for, is_late, lively, worth_moving
from ....protocol.stealing.pricing import URGENT, due_us, is_at_risk
from ....protocol.stealing.urgency import Ask, discomfort_mkh, urgency_mkh
from ..control import BAND_K
from ..floor import CHECKPOINT_BYTES
from ..scene import Scene
from ..town import WATTS_PER_SLOT, Floats, Ints
from .knowledge import Offer
from .mesh import Mesh

HORIZON_S = 900.0
# Over what time a kelvin above the setpoint is thought to fill up.
FILL_S = 3600.0
# Between two checkpoints of a task that makes any.
CHECKPOINT_US = 60_000_000
# Peers that a warm node considers for what it holds.
HEIRS_MAX = 8
# What heat costs that nobody wants, and what a job with a deadline pays; the scale is without meaning here.
PRICE_MICRO = 1000
_SINKS = {"room": "room", "boiler": "tank", "pool": "pool", "data centre": "none"}
_US = 1_000_000
ORDINARY = standing(Work(b"", 0, 0))


class Foresight:
    """What all sinks foretell, renewed each few minutes; in the protocol's numbers of those that are asked for."""

    def __init__(
        self,
        sinks: list[str],
        *,
        wanted_wh: Floats,
        buffer_wh: Floats,
        hold_w: Floats,
        later_w: Floats,
        discomfort_kh: Floats,
    ) -> None:
        """later_w: of each hour to come and node."""
        self.wanted_wh: list[float] = wanted_wh.tolist()
        self._buffer_wh: list[float] = buffer_wh.tolist()
        self._hold_w: list[float] = hold_w.tolist()
        self._later_w = later_w
        self._discomfort_kh: list[float] = discomfort_kh.tolist()
        self._sinks = sinks
        self._longest_us: dict[tuple[int, int], int] = {}
        self._discomfort_mkh: dict[int, int] = {}

    def longest_us(self, node: int, slots: int) -> int:
        """slots: that the thermostat has work now."""
        known = self._longest_us.get((node, slots))
        if known is None:
            known = longest_task_us(
                Forecast(
                    self.wanted_wh[node],
                    self._buffer_wh[node],
                    self._hold_w[node],
                    WATTS_PER_SLOT,
                    slots,
                    tuple(self._later_w[:, node].tolist()),
                )
            )
            self._longest_us[node, slots] = known
        return known

    def discomfort_mkh(self, node: int) -> int:
        known = self._discomfort_mkh.get(node)
        if known is None:
            known = self._discomfort_mkh[node] = discomfort_mkh(self._discomfort_kh[node], self._sinks[node])
        return known


class Ours(Mesh):
    def __init__(self, scene: Scene, seed: int) -> None:
        super().__init__(scene, seed, "ours")
        town = scene.town
        self._name = [number.to_bytes(4, "big") for number in range(len(town))]
        self._sink = [_SINKS[kind] for kind in town.kinds]
        self._price = [0 if wants else PRICE_MICRO for wants in town.wants_heat.tolist()]
        self._capacity_j_per_k = scene.physics.heat_capacity_j_per_k(FILL_S)
        self._waited_s = np.zeros(len(town))
        self._foresight: Foresight | None = None
        self._foreseen_at_s = -math.inf
        # As of the last step: what others know of a node's coldness and free places.
        self._told: Foresight | None = None
        self._told_places: list[int] = [0] * len(town)
        self._told_wants: list[bool] = [False] * len(town)
        self._members: list[list[int]] = [[] for _ in range(self.knowledge.cells)]
        for node, cell in enumerate(self.knowledge.cell_of):
            self._members[cell].append(node)
        self._asks: dict[int, Ask] = {}
        # By job, and as many as are free.
        self._works: dict[tuple[int, int], Work] = {}
        self._fits: dict[tuple[int, int, int], bool] = {}
        self._ranked: dict[int, list[list[Offer]]] = {}
        self._far_ranked: dict[int, list[list[Offer]]] = {}
        # By cell, place of the group, longest task and price.
        self._suiting: dict[tuple[int, int, int, int], list[Offer]] = {}
        # By node and cell, of the step.
        self._as_heir: dict[int, Heir] = {}
        self._coldest: dict[tuple[int, bool], list[int]] = {}
        self._wanted_w: list[float] = []
        self._wanted_slots: list[int] = []
        self._begun_s: dict[int, float] = {}
        # Jobs of which a node that asks a price was given some.
        self._paid: set[int] = set()
        self._job_done = np.zeros(len(scene.work.jobs), dtype=np.int64)

    # -- what is foreseen ----------------------------------------------------------------------------------

    def _foresee(self, scene: Scene) -> Foresight:
        if self._foresight is not None and scene.now_s - self._foreseen_at_s < 300.0:
            return self._foresight
        self._foreseen_at_s = scene.now_s
        physics = scene.physics
        below_k = np.maximum(0.0, scene.target_c - scene.temperature_c)
        later_k = np.maximum(0.0, scene.target_c - physics.without_c(HORIZON_S))
        discomfort_kh = (below_k + later_k) / 2 * HORIZON_S / 3600.0
        wanted_wh = physics.wanted_w(HORIZON_S) * HORIZON_S / 3600.0
        full_k = full_above_k(BAND_K)
        buffer_wh = np.maximum(0.0, scene.target_c + full_k - scene.temperature_c) * self._capacity_j_per_k / 3600.0
        self._foresight = Foresight(
            self._sink,
            wanted_wh=wanted_wh,
            buffer_wh=buffer_wh,
            hold_w=np.maximum(0.0, physics.hold_w(full_k, sun=True)),
            later_w=physics.later_w(full_k, HOURS_AHEAD),
            discomfort_kh=discomfort_kh,
        )
        return self._foresight

    def _ask(self, node: int, slots: int) -> Ask:
        """As it goes out; its slots and appetite shrink as it is given."""
        foresight = self._foresee(self.scene)
        price = self._price[node]
        longest_us = FOREVER_US
        # What a slot can do within the horizon, where no sink says less.
        appetite = max(0, int((self.scene.town.slots[node] * HORIZON_S - self.queued_s[node]) * _US))
        if not price:
            wanted_wh = max(foresight.wanted_wh[node], self._wanted_w[node] * HORIZON_S / 3600.0)
            appetite = appetite_us(wanted_wh, WATTS_PER_SLOT, int(self.queued_s[node] * _US))
            longest_us = foresight.longest_us(node, self._wanted_slots[node])
        urgency = urgency_mkh(foresight.discomfort_mkh(node), int(self._waited_s[node] * _US))
        ask = Ask(
            self._name[node],
            urgency,
            appetite,
            slots,
            longest_us,
            price_micro=price,
            has=self.has[node],
            keeps=self.keeps[node],
        )
        return replace(ask, places=int(self.scene.town.slots[node]), busy_us=self._busy_us(node)) if price else ask

    def _busy_us(self, node: int) -> int:
        floor = self.scene.floor
        return int((floor.left_s[floor.owner == node].sum() + self.queued_s[node]) * _US)

    def _asked(self, node: int) -> Ask:
        """As of the step's begin."""
        known = self._asks.get(node)
        if known is None:
            known = self._asks[node] = self._ask(node, 1)
        return known

    def _work(self, job: int, free: int = 1) -> Work:
        known = self._works.get((job, free))
        if known is None:
            known = self._describe(job) if free == 1 else replace(self._work(job), free=free)
            self._works[job, free] = known
        return known

    def _describe(self, number: int) -> Work:
        job, now_s = self.scene.work.jobs[number], self.scene.now_s
        due = math.isfinite(job.deadline_s)
        unstarted = sum(len(self.free[home].get(number, ())) for home in self.homes[number]) if due else 0
        at_risk = due and is_at_risk(
            now_us=int(now_s * _US) + 1,
            created_us=int(job.arrival_s * _US) + 1,
            deadline_us=int(job.deadline_s * _US) + 1,
            done=int(self._job_done[number]),
            tasks=job.tasks,
            begun_us=int(self._begun_s[number] * _US) + 1 if number in self._begun_s else 0,
            task_us=int(job.length_s * _US),
            free=unstarted,
            paid=number in self._paid,
        )
        return Work(
            self.job_name[number],
            1,
            int(job.length_s * _US),
            checkpoint_us=CHECKPOINT_US if job.checkpointable else 0,
            priority=(URGENT - 1 if job.urgent else 5) if job.priority else 0,
            at_risk=at_risk,
            price_limit_micro=PRICE_MICRO if due else 0,
            deadline_us=due_us(int(job.deadline_s * _US), int(now_s * _US)) if due else 0,
            since_us=int(job.arrival_s * _US),
            blob_bytes=job.program_bytes,
            input_bytes=job.input_bytes,
            left_us=max(0, int((job.deadline_s - now_s) * _US)) if due else 0,
            unstarted=unstarted,
        )

    # -- a step --------------------------------------------------------------------------------------------

    def act(self, scene: Scene) -> None:
        for known in (self._asks, self._works, self._fits, self._as_heir, self._coldest):
            known.clear()
        for ranked in (self._ranked, self._far_ranked, self._suiting):
            ranked.clear()
        self._wanted_w = scene.wanted_w.tolist()
        self._wanted_slots = np.maximum(1, scene.wanted_slots).tolist()
        if scene.work.kind == "deadline":
            done = np.isfinite(scene.floor.done_at_s)
            self._job_done = np.bincount(scene.work.job_of[done], minlength=len(scene.work.jobs))
        super().act(scene)
        self._told = self._foresee(scene)
        self._told_places = np.clip(self.places(scene) - scene.floor.running, 0, scene.floor.free).tolist()
        self._told_wants = (scene.town.wants_heat & (scene.wanted_w > 0)).tolist()

    def suits(self, node: int, offer: Offer) -> bool:
        ask = self._asked(node)
        # Of an ask it is these two that decide.
        key = (offer.job, ask.longest_us, ask.price_micro)
        known = self._fits.get(key)
        if known is None:
            # How long it has until it is due its digest does not tell; whom it asks knows.
            known = self._fits[key] = fit(replace(self._work(offer.job), left_us=0), ask).good
        return known

    def choose(self, node: int) -> int | None:
        """The better of two that have some of what goes first."""
        found = [self._victim(node, offer) for offer in self.pick(node, 2)]
        if not found:
            return None
        chosen = better(found[0], found[-1], self._asks[node].appetite_us)
        return int.from_bytes(chosen.node, "big")

    def _victim(self, node: int, offer: Offer) -> Victim:
        """All are as near; program and input may have to come."""
        way_us = transfer_us(bytes_to_come(self._work(offer.job), self._asked(node)))
        return Victim(self._name[offer.node], int(offer.free * offer.seconds * _US), way_us)

    def pick(self, node: int, most: int) -> list[Offer]:
        """Of what goes first, wherever it is known of some; of equals its own cell's."""
        cell = self.knowledge.cell_of[node]
        near, place = self._near(node, cell, most)
        first = self._standing(self._ranked[cell][place]) if near else None
        far = self._far_ranked.get(cell)
        if far is None:
            far = self._far_ranked[cell] = by_standing(self.knowledge.far[cell], self._work_of)
        for equals in far:
            if first is not None and self._standing(equals) >= first:
                break
            found = self.some(node, self.lucky(equals), most)
            if found:
                return found
        return near

    def standing(self, job: int) -> Standing:
        return standing(self._work(job))

    def _standing(self, equals: list[Offer]) -> Standing:
        return self.standing(equals[0].job)

    def _near(self, node: int, cell: int, most: int) -> tuple[list[Offer], int]:
        """Of the best group of its cell that has any, and which one that is."""
        ranked = self._ranked.get(cell)
        if ranked is None:
            ranked = self._ranked[cell] = self._groups(self.knowledge.near[cell])
        for place in range(len(ranked)):
            found = self.some(node, self._suiting_of(node, cell, place), most)
            if found:
                return found, place
        return [], 0

    def _groups(self, offers: list[Offer]) -> list[list[Offer]]:
        """Nobody knows what goes first of what a worker has queued: it counts as ordinary, as for real thieves."""
        groups = by_standing([offer for offer in offers if not offer.queued], self._work_of)
        queued = [offer for offer in offers if offer.queued]
        if queued:
            place = next((i for i, group in enumerate(groups) if self._standing(group) >= ORDINARY), len(groups))
            groups[place : place + 1] = [[*(groups[place] if place < len(groups) else ()), *queued]]
        return groups

    def _suiting_of(self, node: int, cell: int, place: int) -> list[Offer]:
        """Of one group of its cell, what a sink like the node's takes."""
        ask = self._asked(node)
        key = (cell, place, ask.longest_us, ask.price_micro)
        found = self._suiting.get(key)
        if found is None:
            offers = self._ranked[cell][place]
            fits = {job: self.suits(node, offer) for job, offer in {offer.job: offer for offer in offers}.items()}
            found = self._suiting[key] = [offer for offer in offers if fits[offer.job]]
        return found

    def _work_of(self, offer: Offer) -> Work:
        return self._work(offer.job)

    def deal(self, victim: int, thieves: list[int], wanted: Ints) -> list[tuple[int, int]]:
        number = {self._name[thief]: thief for thief in thieves}
        asks = [self._ask(thief, int(wanted[thief])) for thief in thieves]
        works = [self._work(job, len(tasks)) for job, tasks in self.free[victim].items()]
        queued: Counter[int] = Counter()
        if self.queue[victim]:
            queued.update(int(self.scene.work.job_of[task]) for task in self.queue[victim])
            waiting = [self._work(job, -(-count // 2)) for job, count in sorted(queued.items())]
            if not works or min(map(standing, waiting)) < min(map(standing, works)):
                works = waiting
            else:
                queued.clear()
        given: list[tuple[int, int]] = []
        served: set[int] = set()
        for share in deal(asks, works):
            thief, job = number[share.thief], int.from_bytes(share.job, "big")
            tasks = (
                self._take_queued_of(victim, job, share.count) if queued else self.take_free(victim, job, share.count)
            )
            given += [(thief, task) for task in tasks]
            served.add(thief)
            if self._price[thief]:
                self._paid.add(job)
            self._begun_s.setdefault(job, self.scene.now_s)
        for thief in thieves:
            # Those that others were served before wait, and their waiting counts.
            self._waited_s[thief] = 0.0 if thief in served else self._waited_s[thief] + self.scene.step_s * bool(served)
        return given

    def _take_queued_of(self, node: int, job: int, count: int) -> list[int]:
        """From the far end of the queue, of one job."""
        queue = self.queue[node]
        found = [task for task in reversed(queue) if self.scene.work.job_of[task] == job][:count]
        for task in found:
            queue.remove(task)
            self.queued_s[node] -= self._left_s(task)
        return found

    # -- warm nodes ----------------------------------------------------------------------------------------

    def before(self, scene: Scene) -> None:
        """What is not started, and what can be saved, goes where it is colder; the rest ends here."""
        warm = (scene.wanted_w <= 0) & scene.town.wants_heat
        for node in np.flatnonzero(warm).tolist():
            if self.queue[node]:
                self._hand_on(node)
        self._move(scene, warm)

    def _hand_on(self, node: int) -> None:
        """What was begun here or elsewhere is never given back: it waits for its sink, or for an heir."""
        free, busy = self._heirs(node), self._heirs(node, busy=True)
        left: list[int] = []
        begun: list[int] = []
        progress_s = self.scene.floor.progress_s
        for task in self.take_queued(node, len(self.queue[node])):
            heirs = busy if progress_s[task] else free
            heir = self._heir(heirs, task, CHECKPOINT_BYTES if progress_s[task] else 0) if heirs else None
            if heir is not None:
                self.push(heir, task)
            elif progress_s[task]:
                begun.append(task)
            else:
                left.append(task)
        for task in begun:
            self.push(node, task)
        self.give_back(left)

    def _move(self, scene: Scene, warm: np.ndarray) -> None:
        """What can be saved of the running, where the sink is full, or leaves tasks little of their cores."""
        floor = scene.floor
        duty = np.clip(scene.wanted_w / np.maximum(1.0, floor.running * WATTS_PER_SLOT), DUTY_MIN, 1.0)
        slow = scene.town.wants_heat & (duty < SLOW_DUTY)
        busy = floor.busy()
        slots = busy[slow[floor.owner[busy]]]
        if not len(slots):
            return
        slots = slots[floor.can_checkpoint(floor.task[slots])]
        by_node: dict[int, list[Heir]] = {}
        for slot in slots.tolist():
            node, task = int(floor.owner[slot]), int(floor.task[slot])
            left_us = int(floor.left_s[slot] * _US)
            share = float(duty[node])
            if not worth_moving(left_us, share, CHECKPOINT_BYTES):
                continue
            if node not in by_node:
                by_node[node] = self._heirs(node, busy=bool(warm[node]))
            heirs = by_node[node] if warm[node] else lively(by_node[node], left_us)
            heirs = [heir for heir in heirs if worth_moving(left_us, share, CHECKPOINT_BYTES, self._queued_us(heir))]
            if not heirs:
                continue
            time_s = float(scene.work.deadline_s[task]) - scene.now_s
            late = time_s < math.inf and is_late(left_us, share, int(time_s * _US))
            heir = self._heir(heirs, task, CHECKPOINT_BYTES, late=late)
            if heir is not None:
                by_node[node] = [each for each in by_node[node] if each.ask.thief != self._name[heir]]
                floor.checkpoint(np.array([slot]))
                self.push(heir, task)

    def _heirs(self, node: int, *, busy: bool = False) -> list[Heir]:
        """Peers of the cell that wanted work a step ago and have room for some, the coldest few.

        busy: also those that had enough; it waits for its turn there.
        """
        cell = self.knowledge.cell_of[node]
        coldest = self._coldest.get((cell, busy))
        if coldest is None:
            coldest = self._coldest[cell, busy] = self._coldest_of(self._members[cell], busy=busy)
        found: list[Heir] = []
        full: list[int] = []
        for peer in coldest:
            heir = self._heir_at(peer)
            if heir.room_us <= 0:
                full.append(peer)
            elif peer != node:
                found.append(heir)
                if len(found) == HEIRS_MAX:
                    break
        for peer in full:
            coldest.remove(peer)
        return found

    def _coldest_of(self, members: list[int], *, busy: bool) -> list[int]:
        told = self._told
        if told is None:
            return []
        found = (peer for peer in members if self._told_places[peer] or (busy and self._told_wants[peer]))
        return sorted(found, key=lambda peer: (-told.discomfort_mkh(peer), peer))

    def _queued_us(self, heir: Heir) -> int:
        return int(self.queued_s[int.from_bytes(heir.ask.thief, "big")] * _US)

    def _heir_at(self, peer: int) -> Heir:
        known = self._as_heir.get(peer)
        if known is None:
            ask = self._ask(peer, max(1, self._told_places[peer]))
            known = self._as_heir[peer] = Heir(ask, ask.appetite_us)
        return known

    def push(self, node: int, task: int) -> None:
        self._as_heir.pop(node, None)
        super().push(node, task)

    def _heir(self, heirs: list[Heir], task: int, size_bytes: int, *, late: bool = False) -> int | None:
        """late: it misses its deadline where it is."""
        work = self._work(int(self.scene.work.job_of[task]))
        found = heirs_for(replace(work, at_risk=True) if late else work, heirs, size_bytes)
        if not found:
            return None
        # One task a place: the next goes to somebody else.
        heirs.remove(found[0])
        return int.from_bytes(found[0].ask.thief, "big")
