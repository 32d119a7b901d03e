"""Ours: the decisions of `protocol/stealing`, by nodes that know what the mesh lets them know.

A node asks the better of two that seem to have work that fits its sink. The victim deals to those that asked at one
time: `deal` is the protocol's own function, as are appetite, urgency, longest task, price, and who inherits what a warm
node holds. Nothing is killed.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from ....node.heating.control.power import DUTY_MIN
from ....protocol.stealing.appetite import FOREVER_US, Forecast, appetite_us, longest_task_us
from ....protocol.stealing.matching import Work, deal, fit, standing
from ....protocol.stealing.moving import Heir, heirs_for, worth_moving
from ....protocol.stealing.pricing import URGENT, is_at_risk
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


@dataclass
class Foresight:
    """What all sinks foretell, renewed each few minutes; arrays of one entry a node."""

    wanted_wh: Floats
    discomfort_mkh: list[int]
    longest_us: list[int]


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
        self._told_mkh: list[int] = [0] * len(town)
        self._told_places: Ints = np.zeros(len(town), dtype=np.int64)
        self._members: list[list[int]] = [[] for _ in range(self.knowledge.cells)]
        for node, cell in enumerate(self.knowledge.cell_of):
            self._members[cell].append(node)
        self._asks: dict[int, Ask] = {}
        self._works: dict[int, Work] = {}
        self._begun_s: dict[int, float] = {}
        self._job_done = np.zeros(len(scene.work.jobs), dtype=np.int64)

    # -- what is foreseen ----------------------------------------------------------------------------------

    def _foresee(self, scene: Scene) -> Foresight:
        if self._foresight is not None and scene.now_s - self._foreseen_at_s < 300.0:
            return self._foresight
        self._foreseen_at_s = scene.now_s
        physics, town = scene.physics, scene.town
        below_k = np.maximum(0.0, scene.target_c - scene.temperature_c)
        later_k = np.maximum(0.0, scene.target_c - physics.without_c(HORIZON_S))
        discomfort_kh = (below_k + later_k) / 2 * HORIZON_S / 3600.0
        wanted_wh = physics.wanted_w(HORIZON_S) * HORIZON_S / 3600.0
        hold_w = np.maximum(0.0, physics.hold_w(BAND_K, sun=True))
        buffer_wh = np.maximum(0.0, scene.limit_c - scene.temperature_c) * self._capacity_j_per_k / 3600.0
        forecasts = [
            Forecast(float(wanted_wh[i]), float(buffer_wh[i]), float(hold_w[i]), WATTS_PER_SLOT, int(town.slots[i]))
            for i in range(len(town))
        ]
        self._foresight = Foresight(
            wanted_wh,
            [discomfort_mkh(float(kh), sink) for kh, sink in zip(discomfort_kh, self._sink, strict=True)],
            [longest_task_us(forecast) for forecast in forecasts],
        )
        return self._foresight

    def _ask(self, node: int, slots: int) -> Ask:
        """As it goes out; its slots and appetite shrink as it is given."""
        foresight = self._foresee(self.scene)
        wants = self._price[node] == 0
        appetite = FOREVER_US
        if wants:
            wanted_wh = max(float(foresight.wanted_wh[node]), self.scene.wanted_w[node] * HORIZON_S / 3600.0)
            appetite = appetite_us(wanted_wh, WATTS_PER_SLOT, int(self.queued_s[node] * _US))
        return Ask(
            self._name[node],
            urgency_mkh(foresight.discomfort_mkh[node], int(self._waited_s[node] * _US)),
            appetite,
            slots,
            foresight.longest_us[node] if wants else FOREVER_US,
            price_micro=self._price[node],
            has=self.has[node],
        )

    def _work(self, job: int, free: int = 1) -> Work:
        known = self._works.get(job)
        if known is None:
            known = self._works[job] = self._describe(job)
        return known if free == known.free else replace(known, free=free)

    def _describe(self, number: int) -> Work:
        job, now_s = self.scene.work.jobs[number], self.scene.now_s
        due = math.isfinite(job.deadline_s)
        at_risk = due and is_at_risk(
            now_us=int(now_s * _US) + 1,
            created_us=int(job.arrival_s * _US) + 1,
            deadline_us=int(job.deadline_s * _US) + 1,
            done=int(self._job_done[number]),
            tasks=job.tasks,
            elapsed_us=int((now_s - self._begun_s.get(number, now_s)) * _US),
        )
        return Work(
            self.job_name[number],
            1,
            int(job.length_s * _US),
            checkpoint_us=CHECKPOINT_US if job.checkpointable else 0,
            priority=(URGENT - 1 if job.urgent else 5) if job.priority else 0,
            at_risk=at_risk,
            price_limit_micro=PRICE_MICRO if due else 0,
            deadline_us=int(job.deadline_s * _US) if due else 0,
            since_us=int(job.arrival_s * _US),
        )

    # -- a step --------------------------------------------------------------------------------------------

    def act(self, scene: Scene) -> None:
        self._asks.clear()
        self._works.clear()
        if scene.work.kind == "deadline":
            done = np.isfinite(scene.floor.done_at_s)
            self._job_done = np.bincount(scene.work.job_of[done], minlength=len(scene.work.jobs))
        super().act(scene)
        self._told_mkh = list(self._foresee(scene).discomfort_mkh)
        self._told_places = np.clip(scene.wanted_slots - scene.floor.running, 0, scene.floor.free)

    def suits(self, node: int, offer: Offer) -> bool:
        ask = self._asks.get(node)
        if ask is None:
            ask = self._asks[node] = self._ask(node, 1)
        return fit(self._work(offer.job), ask).good

    def choose(self, node: int) -> int | None:
        """Of two that have some of what goes first, the one with more."""
        found = self.pick(node, 2)
        return max(found, key=lambda offer: offer.free * offer.seconds).node if found else None

    def _some(self, node: int, offers: list[Offer], most: int) -> list[Offer]:
        by_standing: dict[tuple[int, bool], list[Offer]] = {}
        for offer in offers:
            by_standing.setdefault(standing(self._work(offer.job)), []).append(offer)
        for _, equals in sorted(by_standing.items()):
            found = super()._some(node, equals, most)
            if found:
                return found
        return []

    def deal(self, victim: int, thieves: list[int], wanted: Ints) -> list[tuple[int, int]]:
        number = {self._name[thief]: thief for thief in thieves}
        asks = [self._ask(thief, int(wanted[thief])) for thief in thieves]
        works = [self._work(job, len(tasks)) for job, tasks in self.free[victim].items()]
        queued: Counter[int] = Counter()
        if not works and self.queue[victim]:
            queued.update(int(self.scene.work.job_of[task]) for task in self.queue[victim])
            works = [self._work(job, -(-count // 2)) for job, count in sorted(queued.items())]
        given: list[tuple[int, int]] = []
        served: set[int] = set()
        for share in deal(asks, works):
            thief, job = number[share.thief], int.from_bytes(share.job, "big")
            tasks = (
                self._take_queued_of(victim, job, share.count) if queued else self.take_free(victim, job, share.count)
            )
            given += [(thief, task) for task in tasks]
            served.add(thief)
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
        heirs = self._heirs(node)
        left: list[int] = []
        for task in self.take_queued(node, len(self.queue[node])):
            heir = self._heir(heirs, task, self.scene.work.jobs[int(self.scene.work.job_of[task])].input_bytes)
            if heir is None:
                left.append(task)
            else:
                self.push(heir, task)
        self.give_back(left)

    def _move(self, scene: Scene, warm: np.ndarray) -> None:
        floor = scene.floor
        busy = floor.busy()
        slots = busy[warm[floor.owner[busy]]]
        if not len(slots):
            return
        slots = slots[floor.can_checkpoint(floor.task[slots])]
        by_node: dict[int, list[Heir]] = {}
        for slot in slots.tolist():
            node, task = int(floor.owner[slot]), int(floor.task[slot])
            if not worth_moving(int(floor.left_s[slot] * _US), DUTY_MIN, CHECKPOINT_BYTES):
                continue
            if node not in by_node:
                by_node[node] = self._heirs(node)
            heir = self._heir(by_node[node], task, CHECKPOINT_BYTES)
            if heir is not None:
                floor.checkpoint(np.array([slot]))
                self.push(heir, task)

    def _heirs(self, node: int) -> list[Heir]:
        """Peers of the cell that wanted work a step ago and had none, the coldest few."""
        peers = [peer for peer in self._members[self.knowledge.cell_of[node]] if self._told_places[peer] > 0]
        peers = sorted((peer for peer in peers if peer != node), key=lambda peer: (-self._told_mkh[peer], peer))
        return [
            Heir(self._ask(peer, int(self._told_places[peer])), int(self._told_places[peer]) * int(HORIZON_S) * _US)
            for peer in peers[:HEIRS_MAX]
        ]

    def _heir(self, heirs: list[Heir], task: int, size_bytes: int) -> int | None:
        found = heirs_for(self._work(int(self.scene.work.job_of[task])), heirs, size_bytes)
        if not found:
            return None
        # One task a place: the next goes to somebody else.
        heirs.remove(found[0])
        return int.from_bytes(found[0].ask.thief, "big")
