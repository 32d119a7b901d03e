"""Everything that is done to a network while it works, by name.

Each is prepared before the network starts, if it needs a place of its own for some node. It is called while work is
on, and returns when all is mended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import trio

from ..errors import TestnetError
from ..rooms import RoomPlan
from . import damage, flood, places
from .scene import Scene, Settings

DAY_S = 86_400.0
FLOOD_CONNECTIONS = 400
FLOOD_FOREIGNERS = 8
FLOOD_JOINERS = 24
FLOOD_HOLD_S = 3.0
# About what all of it takes.
FLOOD_S = 8.0
DISK_MB = 96
# A full disk is felt when something is written; the node says so.
DISK_FELT_S = 30.0
_ROOM = RoomPlan(start_c=15.0)

Act = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """what: one sentence.  work: how many times the usual tasks, where the mending takes long.

    lasts_s: of these settings, how long it is on; 0 where that is not known before.
    nodes: how many there have to be; 0: as many as asked for.  why_not: why it cannot be done here; empty if it can.
    """

    name: str
    what: str
    act: Act
    prepare: Act | None = None
    work: float = 1.0
    lasts_s: Callable[[Settings], float] = lambda settings: 0.0
    nodes: int = 0
    plan: Callable[[int], Mapping[str, RoomPlan]] | None = None
    why_not: Callable[[], str] = lambda: ""

    def settings(self, asked: Settings, outlasts: float, cores: int) -> Settings:
        """What is asked for, with work that outlasts it by this factor on so many cores."""
        settings = replace(asked, nodes=self.nodes or asked.nodes, tasks=round(asked.tasks * self.work))
        return settings.lasting(outlasts * self.lasts_s(settings), cores)

    def rooms(self, nodes: int) -> Mapping[str, RoomPlan]:
        """All cold, so that every node wants to work."""
        count = self.nodes or nodes
        return self.plan(count) if self.plan is not None else rooms(count)


class _Place(TypedDict):
    """What a disturbance needs that lives in namespaces."""

    prepare: Act
    why_not: Callable[[], str]


def rooms(count: int, **special: RoomPlan) -> dict[str, RoomPlan]:
    """Cold rooms h1, h2, …; special ones by name."""
    return {f"h{number}": special.get(f"h{number}", _ROOM) for number in range(1, count + 1)}


# -- processes that end ------------------------------------------------------------------------------------------


async def kill_worker(scene: Scene) -> None:
    victim = scene.busy(scene.workers())
    await scene.kill(victim)
    await scene.noticed(victim)
    await scene.work_on(0.6)
    await scene.start(victim)


async def kill_replica(scene: Scene) -> None:
    victim = scene.busy(scene.replicas())
    await scene.kill(victim)
    await scene.noticed(victim)
    await scene.work_on(0.6)
    await scene.start(victim)


async def kill_two_replicas(scene: Scene) -> None:
    victims = scene.rng.sample(scene.replicas(), 2)
    await scene.kill(*victims)
    await scene.noticed(*victims)
    await scene.start(*victims)


async def kill_client(scene: Scene) -> None:
    for share in (0.1, 0.5):
        await scene.work_on(share)
        await scene.kill_client()
        scene.start_client()


async def kill_each(scene: Scene) -> None:
    for name in list(scene.net.nodes):
        await scene.kill(name)
        await scene.start(name)


async def kill_all(scene: Scene) -> None:
    names = list(scene.net.nodes)
    await scene.kill(*names)
    await scene.start(*names)


async def kill_all_and_the_client(scene: Scene) -> None:
    names = list(scene.net.nodes)
    await scene.kill_client()
    await scene.kill(*names)
    await scene.start(*names)
    scene.start_client()


# -- silence -------------------------------------------------------------------------------------------------------


async def freeze_worker(scene: Scene) -> None:
    await _freeze(scene, scene.busy(scene.workers()))


async def freeze_replica(scene: Scene) -> None:
    await _freeze(scene, scene.busy(scene.replicas()))


async def _freeze(scene: Scene, name: str) -> None:
    scene.freeze(name)
    await trio.sleep(scene.settings.pause_s)
    scene.thaw(name)


async def partition_by_switch(scene: Scene) -> None:
    """The nodes themselves refuse each other; clients reach all."""
    names = list(scene.net.nodes)
    half = names[: len(names) // 2]
    scene.diary.fault("partition")
    await scene.net.partition(half)
    await trio.sleep(scene.settings.pause_s)
    await scene.net.heal()
    scene.diary.mend("partition")


async def _live_apart(scene: Scene) -> None:
    made = await scene.stack.enter_async_context(places.networks(list(scene.net.nodes)))
    scene.networks = made
    for name in scene.net.nodes:
        scene.net.move(name, host=made.host(name), namespace=made.namespace(name))
    scene.client_namespace = made.client_namespace


async def partition_by_namespaces(scene: Scene) -> None:
    """Two of five, a replica among them, are on another bridge; nothing says so to anybody."""
    assert scene.networks is not None, "prepared before"
    cut = [scene.busy(scene.replicas()), scene.busy(scene.workers())]
    scene.diary.fault("partition")
    await scene.networks.cut(cut)
    await trio.sleep(scene.settings.pause_s)
    await scene.networks.heal()
    scene.diary.mend("partition")


async def unplug_replica(scene: Scene) -> None:
    assert scene.networks is not None, "prepared before"
    victim = scene.busy(scene.replicas())
    scene.diary.fault("unplug", scene.node_id(victim))
    await scene.networks.pull(victim)
    await trio.sleep(scene.settings.pause_s)
    await scene.networks.heal()
    scene.diary.mend("unplug", scene.node_id(victim))


# -- disks ---------------------------------------------------------------------------------------------------------


async def _small_disk(scene: Scene) -> None:
    """The first node's state is on a disk of its own. With three nodes each is a replica."""
    name = next(iter(scene.net.nodes))
    own = scene.node(name).state_folder.root
    disk = await scene.stack.enter_async_context(places.small_disk(own, DISK_MB))
    scene.net.move(name, state=str(disk.state), namespace=disk.namespace)
    scene.disk = disk


async def fill_disk(scene: Scene) -> None:
    assert scene.disk is not None, "prepared before"
    name = next(iter(scene.net.nodes))
    scene.diary.fault("disk-full", scene.node_id(name))
    taken = scene.disk.fill()
    scene.notes.append(f"{name}: {taken >> 20} MiB taken, nothing left")
    with trio.move_on_after(DISK_FELT_S):
        while not ((await scene.node(name).status_or_none()) or {}).get("storage_failed"):
            await trio.sleep(0.1)
    # The others go on meanwhile.
    await scene.work_on(0.6)
    scene.disk.free()
    scene.diary.mend("disk-full", scene.node_id(name))


async def truncate_database(scene: Scene) -> None:
    await _damage_database(scene, damage.truncate)


async def flip_database(scene: Scene) -> None:
    await _damage_database(scene, lambda path: damage.flip_bits(path, scene.rng))


async def _damage_database(scene: Scene, hurt: Callable[[Path], str]) -> None:
    """A replica is killed, and its disk is not what it was when it comes back."""
    victim = scene.replicas()[0]
    journal = scene.node(victim).state_folder.journal
    await scene.kill(victim)
    scene.diary.fault("disk-lost", scene.node_id(victim))
    files = (journal, journal.with_name(f"{journal.name}-wal"))
    done = [hurt(path) for path in files if path.exists() and path.stat().st_size > 0]
    scene.notes.append(f"{victim}: {'; '.join(done) or 'its journal was empty'}")
    await scene.start(victim)


async def truncate_blob(scene: Scene) -> None:
    await _damage_blob(scene, damage.truncate)


async def flip_blob(scene: Scene) -> None:
    await _damage_blob(scene, lambda path: damage.flip_bits(path, scene.rng, count=8))


async def _damage_blob(scene: Scene, hurt: Callable[[Path], str]) -> None:
    """A replica's copy of the program, whom others ask for it: one that goes on, and one that is started again."""
    running, restarted = scene.replicas()[:2]
    await scene.kill(restarted)
    for name in (running, restarted):
        state = scene.node(name).state_folder
        scene.diary.fault("blob", scene.node_id(name))
        scene.notes.append(f"{name}: {hurt(damage.blobs_of(state.root)[0])}")
    # What it compiled is gone as well, so that it needs the blob itself.
    _remove_files(scene.node(restarted).state_folder.cache)
    await scene.start(restarted)
    # Who never had it asks the replicas for it.
    fresh = scene.workers()[0]
    await scene.kill(fresh)
    state = scene.node(fresh).state_folder
    _remove_files(state.blobs)
    _remove_files(state.cache)
    await scene.start(fresh)


# -- clocks, relays, crowds ----------------------------------------------------------------------------------------


async def jump_clocks(scene: Scene) -> None:
    """One replica is a day ahead, and is started again so; another is an hour behind. Both are set right again."""
    ahead, behind = scene.replicas()[:2]
    for name, offset_s in ((ahead, DAY_S), (behind, -3600.0)):
        scene.diary.fault("clock", scene.node_id(name))
        await scene.net.set_clock(name, offset_s)
    await trio.sleep(min(3.0, scene.settings.pause_s))
    await scene.kill(ahead)
    # To whom all certificates are of the future may have no link by now.
    await scene.start_alone(ahead)
    await scene.net.set_clock(behind, 0.0)
    # Its next life begins before its last one, by its own clock.
    await scene.kill(ahead)
    await scene.net.set_clock(ahead, 0.0)
    await scene.start(ahead)
    for name in (ahead, behind):
        scene.diary.mend("clock", scene.node_id(name))


def _relayed_rooms(count: int) -> Mapping[str, RoomPlan]:
    relay, hidden = RoomPlan(start_c=15.0, relay=True), RoomPlan(start_c=15.0, hidden=True)
    return rooms(count, **{"h1": relay, "h2": relay, f"h{count - 1}": hidden, f"h{count}": hidden})


async def kill_relay(scene: Scene) -> None:
    """Two relays carry two hidden nodes: each relay dies once."""
    for name in ("h1", "h2"):
        await scene.kill(name)
        await scene.noticed(name)
        await scene.start(name)


async def join_flood(scene: Scene) -> None:
    """Hundreds of strangers at all doors at once, members of another mesh, and new members of this one, who leave."""
    entries = [node.entry for node in scene.net.nodes.values()]
    addresses = [(entry.host, entry.port) for entry in entries]
    bootstrap = tuple(f"/ip4/{entry.host}/tcp/{entry.port}/p2p/{entry.peer_id}" for entry in entries[:2])
    scene.diary.fault("flood")
    opened: list[int] = []
    told: list[str] = []
    problems: list[str] = []

    async def many() -> None:
        opened.append(await flood.strangers(addresses, FLOOD_CONNECTIONS, FLOOD_HOLD_S))

    async def others() -> None:
        told.extend(await flood.foreigners(scene.folder / "elsewhere", bootstrap, FLOOD_FOREIGNERS))

    async def members() -> None:
        problems.append(await scene.join_and_leave(FLOOD_JOINERS, bootstrap))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(many)
        nursery.start_soon(others)
        nursery.start_soon(members)
    scene.diary.mend("flood")
    scene.notes.append(f"{sum(opened)} connections were opened; members of another mesh were told: {told[:1]}")
    if "let in" in told:
        raise TestnetError("a member of another mesh was let in")
    if any(problems):
        raise TestnetError("; ".join(problems))


def _pause_s(settings: Settings) -> float:
    return settings.pause_s


# -- the table -----------------------------------------------------------------------------------------------------

_APART: _Place = {"prepare": _live_apart, "why_not": places.why_no_networks}
_SMALL: _Place = {"prepare": _small_disk, "why_not": places.why_no_disks}
_ALL = (
    Disturbance(name="kill-worker", what="A worker is killed, and comes back later.", act=kill_worker),
    Disturbance(name="kill-replica", what="A replica is killed, and comes back later.", act=kill_replica),
    Disturbance(name="kill-two-replicas", what="Two of three replicas are killed at once.", act=kill_two_replicas),
    Disturbance(name="kill-client", what="The client is killed twice, and comes back with its state.", act=kill_client),
    Disturbance(name="kill-each", what="All nodes are killed and started, one after another.", act=kill_each, work=2.0),
    Disturbance(name="kill-all", what="All nodes are killed at once, and started.", act=kill_all),
    Disturbance(
        name="kill-everything",
        what="All nodes and the client are killed at once, and started.",
        act=kill_all_and_the_client,
    ),
    Disturbance(
        name="freeze-worker",
        what="A worker is frozen (SIGSTOP), and goes on.",
        act=freeze_worker,
        lasts_s=_pause_s,
    ),
    Disturbance(
        name="freeze-replica",
        what="A replica is frozen (SIGSTOP), and goes on.",
        act=freeze_replica,
        lasts_s=_pause_s,
    ),
    Disturbance(
        name="partition-switch",
        what="The nodes of two halves refuse each other; the client reaches all.",
        act=partition_by_switch,
        lasts_s=_pause_s,
    ),
    Disturbance(
        name="partition",
        what="A replica and a worker are on a network of their own (network namespaces).",
        act=partition_by_namespaces,
        lasts_s=_pause_s,
        **_APART,
    ),
    Disturbance(
        name="unplug-replica",
        what="A replica's link is down (network namespaces).",
        act=unplug_replica,
        lasts_s=_pause_s,
        **_APART,
    ),
    Disturbance(
        name="disk-full",
        what="A replica's disk has no room, and has some again (a tmpfs of its own).",
        act=fill_disk,
        nodes=3,
        **_SMALL,
    ),
    Disturbance(name="database-truncated", what="A killed replica's journal is cut in half.", act=truncate_database),
    Disturbance(name="database-flipped", what="Bits of a killed replica's journal flip.", act=flip_database),
    Disturbance(name="blob-truncated", what="Two replicas' copies of the program are cut in half.", act=truncate_blob),
    Disturbance(name="blob-flipped", what="Bits of two replicas' copies of the program flip.", act=flip_blob),
    Disturbance(
        name="clock-jump",
        what="Two replicas' clocks jump by a day and an hour, and back, over restarts.",
        act=jump_clocks,
    ),
    Disturbance(
        name="kill-relay",
        what="Two relays that carry hidden nodes are killed, one after the other.",
        act=kill_relay,
        plan=_relayed_rooms,
        nodes=6,
    ),
    Disturbance(
        name="join-flood",
        what="Hundreds of strangers knock at once, and some tens of new members join and leave.",
        act=join_flood,
        lasts_s=lambda settings: FLOOD_S,
    ),
)
DISTURBANCES: Mapping[str, Disturbance] = {each.name: each for each in _ALL}


def _remove_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()
