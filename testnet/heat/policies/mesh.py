"""Many nodes and no dispatcher: replicas keep tasks, nodes that want heat ask. What is alike in ours and random.

A step is as long as many messages take, so a node may ask a few others in it; what they have is what they have at that
moment, while whom it asks it decides by digests of the last step. What it gets it may start at once: its inputs come
while it asks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque

import numpy as np

from ....protocol.stealing.matching import Standing
from ...simulator.dice import stream
from ..floor import NOBODY
from ..scene import Scene
from ..town import Ints
from .knowledge import TRIES_A_TASK, Knowledge, Offer

REPLICAS = 3
# Victims that a node may ask in a step, one after the other.
ROUNDS = 6


class Mesh(ABC):
    """free: by node and job, tasks that a replica keeps.  queue: of each node, what it took and has not started.
    has, keeps: of each node, jobs whose programs it has, and whose replica it is."""

    def __init__(self, scene: Scene, seed: int, name: str) -> None:
        self.scene = scene
        self.dice = stream(seed, "policy", name)
        nodes = len(scene.town)
        self.knowledge = Knowledge.of_mesh(nodes, stream(seed, "places"))
        self.free: list[dict[int, deque[int]]] = [{} for _ in range(nodes)]
        self.queue: list[deque[int]] = [deque() for _ in range(nodes)]
        self.queued_s = np.zeros(nodes)
        self.homes: dict[int, list[int]] = {}
        self.has: list[frozenset[bytes]] = [frozenset()] * nodes
        self.keeps: list[frozenset[bytes]] = [frozenset()] * nodes
        self.job_name = [number.to_bytes(4, "big") for number in range(len(scene.work.jobs))]
        self._home_dice = stream(seed, "homes")
        self._starts: list[tuple[int, int]] = []

    # -- jobs ----------------------------------------------------------------------------------------------

    def arrive(self, tasks: Ints, job: int) -> None:
        """Three replicas, one of them on a sink that wants heat all year if there is one; a section for each."""
        count = len(self.scene.town)
        homes = self._home_dice.some(range(count), min(REPLICAS, count))
        steady = np.flatnonzero(self.scene.town.year_round).tolist()
        if steady and not any(node in steady for node in homes):
            homes[-1] = self._home_dice.pick(steady)
        self.homes[job] = homes
        for home, section in zip(homes, np.array_split(tasks, len(homes)), strict=True):
            self.free[home].setdefault(job, deque()).extend(section.tolist())
            self.keeps[home] |= {self.job_name[job]}

    def give_back(self, tasks: list[int]) -> None:
        """To the first replica of each task's job."""
        for task in tasks:
            job = int(self.scene.work.job_of[task])
            self.free[self.homes[job][0]].setdefault(job, deque()).append(task)

    def offers(self) -> list[Offer]:
        """What all nodes tell of themselves."""
        jobs_of = self.scene.work.jobs
        found: list[Offer] = []
        for node, jobs in enumerate(self.free):
            if jobs:
                found += [Offer(node, job, len(tasks), jobs_of[job].length_s) for job, tasks in jobs.items() if tasks]
        for node, queue in enumerate(self.queue):
            if queue:
                job = int(self.scene.work.job_of[queue[-1]])
                found.append(Offer(node, job, len(queue), jobs_of[job].length_s, queued=True))
        return found

    # -- a step --------------------------------------------------------------------------------------------

    def act(self, scene: Scene) -> None:
        self.before(scene)
        wanted = np.clip(self.places(scene) - scene.floor.running, 0, scene.floor.free)
        hungry = [node for node in np.flatnonzero(wanted).tolist() if not self._start_own(node, wanted)]
        knowledge = self.knowledge
        informed = [bool(near or far) for near, far in zip(knowledge.near, knowledge.far, strict=True)]
        hungry = [node for node in hungry if informed[knowledge.cell_of[node]]]
        for _ in range(ROUNDS):
            if not hungry:
                break
            hungry = self._round(hungry, wanted)
        self._start_all()
        self.knowledge.tell(self.offers(), self.standing)
        scene.follow_thermostats()

    def before(self, scene: Scene) -> None:
        """What is done with warm nodes: nothing, if a policy does not say."""
        return

    def places(self, scene: Scene) -> Ints:
        """How many tasks each node wants to run."""
        return np.where(scene.town.wants_heat, scene.wanted_slots, scene.town.slots)

    def _start_own(self, node: int, wanted: Ints) -> bool:
        """From the queue; whether that was enough."""
        queue = self.queue[node]
        while queue and wanted[node] > 0:
            task = queue.popleft()
            self.queued_s[node] -= self._left_s(task)
            self._starts.append((node, task))
            wanted[node] -= 1
        return bool(wanted[node] <= 0)

    def _round(self, hungry: list[int], wanted: Ints) -> list[int]:
        """Each asks one victim; the victims deal. Who still wants some, and knows of somebody that might have it."""
        asked: dict[int, list[int]] = {}
        for node in hungry:
            victim = self.choose(node)
            if victim is not None:
                asked.setdefault(victim, []).append(node)
        still: list[int] = []
        for victim, thieves in asked.items():
            for thief, task in self.deal(victim, thieves, wanted):
                self.push(thief, task)
            still += [thief for thief in thieves if not self._start_own(thief, wanted)]
        return still

    @abstractmethod
    def choose(self, node: int) -> int | None:
        """A victim to ask; None if it knows of nobody that might have something."""

    @abstractmethod
    def deal(self, victim: int, thieves: list[int], wanted: Ints) -> list[tuple[int, int]]:
        """(thief, task) of all that it gives; they are its no longer."""

    def pick(self, node: int, most: int) -> list[Offer]:
        """At random, at most so many that suit: of the own cell; else of others."""
        cell = self.knowledge.cell_of[node]
        found = self.some(node, self.knowledge.near[cell], most)
        return found or self.some(node, self.lucky(self.knowledge.far[cell]), most)

    def lucky(self, offers: list[Offer]) -> list[Offer]:
        """Of other cells' offers, each with a chance by its free tasks, so that not the whole mesh comes."""
        count = len(self.queue)
        return [offer for offer in offers if self.dice.below(count) < TRIES_A_TASK * offer.free]

    def some(self, node: int, offers: list[Offer], most: int) -> list[Offer]:
        """Drawn without putting back, so that each that suits is as likely."""
        found: list[Offer] = []
        # What lies in a drawn place now; the list itself stays as it is, for others.
        moved: dict[int, Offer] = {}
        for last in range(len(offers) - 1, -1, -1):
            if len(found) == most:
                break
            place = self.dice.below(last + 1)
            offer = moved.get(place) or offers[place]
            moved[place] = moved.get(last) or offers[last]
            if offer.node != node and self.suits(node, offer):
                found.append(offer)
        return found

    def suits(self, node: int, offer: Offer) -> bool:
        return True

    def standing(self, job: int) -> Standing:
        """What cells tell each other of first."""
        return (0, False, 0)

    def take_free(self, node: int, job: int, count: int) -> list[int]:
        """Tasks of a job that a replica keeps, from the front."""
        tasks = self.free[node].get(job)
        if not tasks:
            return []
        found = [tasks.popleft() for _ in range(min(count, len(tasks)))]
        if not tasks:
            del self.free[node][job]
        return found

    def push(self, node: int, task: int) -> None:
        """Onto its queue; what was begun goes first."""
        self.knows(node, int(self.scene.work.job_of[task]))
        if self.scene.floor.progress_s[task] > 0:
            self.queue[node].appendleft(task)
        else:
            self.queue[node].append(task)
        self.queued_s[node] += self._left_s(task)

    def knows(self, node: int, job: int) -> None:
        """It has the job's blobs, or will have."""
        name = self.job_name[job]
        if name not in self.has[node]:
            self.has[node] |= {name}

    def take_queued(self, node: int, count: int) -> list[int]:
        """From the far end of a worker's queue."""
        queue = self.queue[node]
        found = [queue.pop() for _ in range(min(count, len(queue)))]
        self.queued_s[node] -= sum(self._left_s(task) for task in found)
        return found

    def _left_s(self, task: int) -> float:
        return float(self.scene.work.length_s[task] - self.scene.floor.progress_s[task])

    def _start_all(self) -> None:
        if not self._starts:
            return
        nodes, tasks = (np.array(each, dtype=np.int64) for each in zip(*self._starts, strict=True))
        assert (self.scene.floor.ran_on[tasks] == NOBODY).all() or self.scene.floor.progress_s[tasks].any()
        jobs = self.scene.work.job_of[tasks].tolist()
        local = np.array([node in self.homes[job] for node, job in zip(nodes.tolist(), jobs, strict=True)])
        self.scene.floor.start(nodes, tasks, local)
        self._starts.clear()
