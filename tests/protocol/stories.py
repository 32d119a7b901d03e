"""The stories: what a few machines say to each other when something happens, told once and kept as golden text.

`python -m tests.protocol.stories` shows their names, `… NAME` tells one, `… --write` writes all transcripts anew;
what changed is then for `git diff` to show and for a person to judge. Each story asserts its own end as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec.structs import replace as changed

from hearthmesh.crypto.certificates import Certificate, Role
from hearthmesh.crypto.revocations import revoke
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.events import (
    CancelJob,
    Drain,
    FollowJob,
    ListJobs,
    Received,
    StorageFailed,
    StorageRecovered,
    SubmitJob,
)
from hearthmesh.protocol.messages import KeyWanted, Revocations
from hearthmesh.protocol.records import Grant, RecordKind, sign_record
from tests.protocol.cluster import MS, SECOND, WARM, SimNode, cold, output_of
from tests.protocol.telling import Stage

# Short batches and early steals: a story of a few tasks has all that a job of thousands has.
STORY = replace(
    LOCAL,
    batch_target_us=150 * MS,
    queue_low_us=300 * MS,
    queue_target_us=600 * MS,
    accept_interval_us=200 * MS,
)
TRANSCRIPTS = Path(__file__).parent / "transcripts"
STORIES: dict[str, Callable[[], str]] = {}


def story(tell: Callable[[], str]) -> Callable[[], str]:
    STORIES[tell.__name__] = tell
    return tell


@dataclass
class Play:
    """A stage with its cast: a client whose job of `tasks` is kept by `keepers`, and workers."""

    stage: Stage
    client: SimNode
    nodes: dict[str, SimNode]
    tasks: int
    job_id: bytes = b""

    @property
    def keepers(self) -> list[SimNode]:
        return [self.stage.nodes[node] for node in self.client.noted("job.submitted")[-1]["replicas"]]

    @property
    def executed(self) -> list[int]:
        return sorted(index for node in self.nodes.values() for index in node.executed)

    def submit(self, *, confidential: bool = False, **changes: Any) -> None:
        if confidential:
            spec = self.stage.secret_spec(self.client, self.tasks, **changes)
        else:
            spec = self.stage.spec(self.tasks, **changes)
        self.stage.feed(self.client, SubmitJob(spec))
        self.job_id = next(iter(self.client.mesh.submitter.jobs))
        self.stage.name_job(self.job_id, "job")
        self.stage.run_until(lambda: bool(self.client.noted("job.submitted")))

    def follow(self, *have: tuple[int, int]) -> None:
        self.stage.feed(self.client, FollowJob(self.job_id, have, True, tuple(self.client.signed)))

    def wait(self, condition: Callable[[], bool]) -> None:
        self.stage.run_until(condition)

    def finish(self) -> str:
        """To the last acceptance, and until everybody has heard of it."""
        self.wait(lambda: bool(self.client.noted("job.accepted")))
        self.stage.run(10 * MS)
        text = self.stage.text()
        self.check()
        return text

    def check(self) -> None:
        """Every task has its right result once; living replicas agree, and nothing is leased any more."""
        assert sorted(self.client.results) == list(range(self.tasks))
        assert all(output == output_of(index) for index, output in self.client.results.items())
        self.stage.run(6 * SECOND)
        states = [
            node.mesh.replica.jobs[self.job_id] for node in self.living() if self.job_id in node.mesh.replica.jobs
        ]
        assert states
        for kept in states:
            assert kept.state.fully_accepted and not len(kept.ledger.live) and not kept.ledger.free.total
            assert kept.state.ids.fingerprint(b"", b"") == states[0].state.ids.fingerprint(b"", b"")
        for node in self.living():
            assert not len(node.mesh.worker.outbox) and not node.mesh.worker.unstarted
        assert not any(node.penalties for node in self.nodes.values())

    def living(self) -> list[SimNode]:
        return [node for node in self.nodes.values() if node.alive and not node.frozen]


def play(
    tasks: int,
    *workers: str,
    keepers: tuple[str, ...] = ("keeper",),
    warm: tuple[str, ...] = (),
    hear: tuple[str, ...] = (),
    ignore: tuple[str, ...] = (),
    task_ms: int = 20,
    seed: int = 1,
) -> Play:
    """A mesh that knows itself, before the first job: workers that only work, keepers that only keep."""
    stage = Stage(seed=seed, config=STORY, task_us=task_ms * MS, hear=hear, ignore=ignore)
    nodes = {name: stage.add(name, Role.WORKER, WARM if name in warm else cold()) for name in workers}
    nodes |= {name: stage.add(name, Role.REPLICA) for name in keepers}
    client = stage.add("client", Role.SUBMITTER)
    stage.run(3 * SECOND)
    return Play(stage, client, {**nodes, "client": client}, tasks)


# -- stealing -----------------------------------------------------------------------------------------------


@story
def steal() -> str:
    """One cold node, one keeper: a job is submitted, stolen, run, delivered, accepted."""
    cast = play(6, "cold")
    cast.stage.begin()
    cast.submit()
    cast.follow()
    return cast.finish()


@story
def refusal() -> str:
    """The last task is taken: whoever robs on an old digest is refused twice, parks lifelines, and waits."""
    cast = play(4, "quick", "slow", warm=("slow",), task_ms=100)
    quick, slow, keeper = cast.nodes["quick"], cast.nodes["slow"], cast.nodes["keeper"]
    cast.stage.begin()
    cast.submit()
    cast.follow()
    cast.wait(lambda: not keeper.mesh.replica.free_tasks())
    cast.stage.say("slow gets cold, but all tasks are leased")
    cast.stage.feed(slow, cold())
    text = cast.finish()
    assert "Refused" in text and not slow.executed and sorted(quick.executed) == [0, 1, 2, 3]
    return text


@story
def lifeline_push() -> str:
    """Nobody has work; both cold nodes parked. The job comes, and is pushed to the colder one first."""
    cast = play(4, "chilly", "freezing")
    stage = cast.stage
    stage.feed(cast.nodes["freezing"], cold(capacity_w=900.0))
    stage.run(3 * SECOND)
    stage.begin()
    cast.submit()
    cast.follow()
    text = cast.finish()
    assert "Granted #0" in text, "the work was not pushed"
    return text


@story
def two_choices() -> str:
    """Three keepers have work; of two drawn at random the one with more is robbed."""
    cast = play(18, "thief", keepers=("k1", "k2", "k3"), ignore=("Delivery", "Stored", "job.results"))
    cast.stage.begin()
    cast.submit()
    cast.follow()
    text = cast.finish()
    thief = cast.nodes["thief"].mesh.thief
    assert sorted(thief.stolen_from) == sorted(node.id for node in cast.keepers)
    assert max(thief.stolen_from.values()) <= 2 * min(thief.stolen_from.values()), "nobody is robbed of much more"
    return text


@story
def too_long() -> str:
    """Long tasks, a room that is nearly full, and a boiler: the room leaves them alone, the boiler takes them."""
    cast = play(3, "room", "boiler", warm=("room", "boiler"), ignore=("Stored",), task_ms=500)
    stage, room, boiler = cast.stage, cast.nodes["room"], cast.nodes["boiler"]
    cast.submit(estimate_us=500 * MS)
    cast.follow()
    stage.begin()
    stage.say("the room wants a little heat: of one slot of 50 W it would be full after 0.3 s")
    stage.feed(room, changed(cold(), buffer_wh=50.0 * 0.3 / 3600, discomfort_kh=0.01))
    stage.run(20 * MS)
    assert "none of the work known in reach is for it: 1 x too long for the sink" in (
        room.mesh.explainer.why_node(stage.now_us)
    )
    stage.say("the boiler wants heat, and is never full of it")
    stage.feed(boiler, cold())
    text = cast.finish()
    assert cast.executed == boiler.executed == [0, 1, 2]
    return text


@story
def hand_on() -> str:
    """A room gets warm: what is unstarted goes on to the coldest peer, with the grant that proves the right."""
    cast = play(24, "room", "attic", warm=("attic",), ignore=("Stored",))
    stage, room, attic = cast.stage, cast.nodes["room"], cast.nodes["attic"]
    cast.submit(estimate_us=20 * MS)
    cast.follow()
    cast.wait(lambda: room.mesh.worker.unstarted > 4)
    stage.feed(attic, cold())
    stage.run(20 * MS)
    stage.begin()
    stage.say("the room is warm enough")
    stage.feed(room, WARM)
    text = cast.finish()
    assert "HandOn grant" in text and room.noted("worker.handed-on")
    assert cast.executed == list(range(24)), "handing on costs no work"
    return text


@story
def move() -> str:
    """A room gets warm while a long task runs that makes checkpoints: it is saved, and goes on in a colder room."""
    cast = play(1, "room", "attic", warm=("attic",), ignore=("Stored",), task_ms=2_000)
    stage, room, attic = cast.stage, cast.nodes["room"], cast.nodes["attic"]
    cast.submit(estimate_us=2_000 * MS, checkpoint_us=500 * MS)
    cast.follow()
    cast.wait(lambda: room.mesh.worker.running == 1)
    stage.feed(attic, cold())
    stage.run(20 * MS)
    stage.begin()
    stage.say("the sun comes in: the room is too warm")
    stage.feed(room, WARM)
    text = cast.finish()
    assert room.mesh.worker.moved == 1 and cast.executed == attic.executed == [0]
    assert "worker.moved heir=attic" in text
    return text


# -- leases -------------------------------------------------------------------------------------------------


@story
def expiry() -> str:
    """A holder falls silent without a reset: its lease runs out, and its tasks go to another."""
    cast = play(8, "holder", "heir", warm=("heir",), task_ms=40)
    cast.submit()
    cast.follow()
    cast.wait(lambda: cast.nodes["holder"].mesh.worker.running > 0)
    cast.stage.run(2 * MS)
    cast.stage.begin()
    cast.stage.freeze(cast.nodes["holder"])
    cast.stage.feed(cast.nodes["heir"], cold())
    text = cast.finish()
    assert "lease.expired" in text or "lease.freed" in text
    assert cast.executed == list(range(8))
    return text


@story
def late_result() -> str:
    """A holder wakes after its lease went to another: its result is one more candidate, the lowest epoch counts."""
    cast = play(4, "sleeper", "heir", warm=("heir",), task_ms=40)
    stage, sleeper, heir = cast.stage, cast.nodes["sleeper"], cast.nodes["heir"]
    cast.submit()
    cast.wait(lambda: sleeper.mesh.worker.running > 0)
    stage.run(2 * MS)
    stage.begin()
    stage.freeze(sleeper)
    stage.feed(heir, cold())
    cast.wait(lambda: heir.mesh.worker.running > 0)
    stage.say("sleeper wakes")
    stage.thaw(sleeper)
    stage.run(3 * SECOND)
    stage.say("the client follows")
    cast.follow()
    text = cast.finish()
    kept = cast.keepers[0].mesh.replica.jobs[cast.job_id]
    assert kept.state.duplicates > 0 and kept.state.accepted_tasks.total == 4
    return text


@story
def stale_grant() -> str:
    """A grant arrives when a higher epoch went to another: the next renewal says so, and nothing of it starts."""
    cast = play(8, "first", "second", warm=("second",), hear=("Renew",), task_ms=1500)
    stage, first, second = cast.stage, cast.nodes["first"], cast.nodes["second"]
    cast.submit(estimate_us=100 * MS)
    cast.follow()
    cast.wait(lambda: first.mesh.worker.unstarted > 0)
    lease = first.mesh.worker._leases[0]
    lo, hi = lease.next, lease.hi
    stage.begin()
    stage.say(f"first is cut off from all, holding [{lo},{hi}) unstarted")
    stage.blocked = lambda a, b, _m: first in (a, b)
    stage.feed(second, cold())
    keeper = cast.nodes["keeper"].mesh.replica.jobs[cast.job_id]
    cast.wait(lambda: any(mark.holder == second.id and mark.epoch > 1 for _, _, mark in keeper.state.leases))
    stage.say("first is back")
    stage.blocked = lambda _a, _b, _m: False
    for other in ("keeper", "second", "client"):
        stage.connect(first, cast.nodes[other])
    text = cast.finish()
    assert "Superseded" in text
    assert len(first.executed) + len(second.executed) < 8 + (hi - lo), "what was superseded did not start"
    return text


# -- keepers ------------------------------------------------------------------------------------------------


@story
def replica_lost() -> str:
    """One of three keepers is killed: another takes its section at once, and after the grace time its place."""
    cast = play(9, "worker", keepers=("k1", "k2", "k3", "k4"), ignore=("Stored",))
    stage = cast.stage
    cast.submit()
    old = cast.keepers
    spare = next(node for node in cast.nodes.values() if node.name.startswith("k") and node not in old)
    cast.wait(lambda: len(cast.nodes["worker"].executed) >= 2)
    stage.begin()
    # Of those with work left, if any has: who has been given which task by now depends on the job's id.
    lost = next((node for node in old if node.mesh.replica.free_tasks()), old[0])
    stage.kill(lost)
    cast.wait(lambda: cast.job_id in spare.mesh.replica.jobs)
    cast.wait(lambda: spare.mesh.replica.jobs[cast.job_id].state.complete)
    stage.say("the client follows")
    cast.follow()
    text = cast.finish()
    assert spare.mesh.replica.jobs[cast.job_id].state.replica_epoch == 1
    assert cast.executed == list(range(9))
    return text


def _source(cast: Play) -> SimNode:
    return cast.stage.nodes[cast.client.mesh.submitter.jobs[cast.job_id].source or b""]


@story
def replica_frozen() -> str:
    """The keeper that the client follows freezes for good: the client turns to another and loses nothing."""
    cast = play(16, "worker", keepers=("k1", "k2", "k3"), ignore=("Stored", "Delivery", "Records"), task_ms=50)
    stage = cast.stage
    cast.submit()
    cast.follow()
    cast.wait(lambda: len(cast.client.results) >= 2)
    stage.begin()
    stage.freeze(_source(cast))
    return cast.finish()


@story
def given_back() -> str:
    """Who made a result and who handed it on are gone before it is copied: its client gives it back, and signs then."""
    cast = play(1, "worker", keepers=("k1", "k2", "k3"), hear=("Taken",))
    stage = cast.stage
    cast.submit()
    stage.begin()
    cast.follow()
    cast.wait(lambda: len(cast.client.results) == 1)
    stage.kill(cast.nodes["worker"])
    stage.kill(_source(cast))
    text = cast.finish()
    assert "Want" in text and len(cast.executed) == 1
    return text


@story
def disk_refilled() -> str:
    """A keeper comes back with an empty disk: asked to compare, it asks for the job, and gets all of it."""
    cast = play(6, "worker", keepers=("k1", "k2"), hear=("Reconcile",), ignore=("Stored",))
    stage = cast.stage
    cast.submit()
    cast.follow()
    cast.wait(lambda: bool(cast.client.noted("job.accepted")))
    stage.run(SECOND)
    empty = cast.keepers[1]
    stage.begin()
    stage.kill(empty)
    empty.rows.clear()
    stage.restart(empty)
    cast.wait(lambda: cast.job_id in empty.mesh.replica.jobs)
    cast.wait(lambda: empty.mesh.replica.jobs[cast.job_id].state.fully_accepted)
    stage.run(10 * MS)
    text = stage.text()
    cast.check()
    return text


@story
def full_disk() -> str:
    """A worker's disk is full: it gives its work back, takes none, and goes on when there is room again."""
    cast = play(16, "full", "other", ignore=("Stored", "Delivery"))
    stage, full = cast.stage, cast.nodes["full"]
    cast.submit(estimate_us=20 * MS)
    cast.follow()
    cast.wait(lambda: full.mesh.worker.unstarted > 0)
    stage.begin()
    stage.say("full's disk is full")
    stage.feed(full, StorageFailed("no space left on device"))
    done = len(full.executed) + sum(run.count for run in full.executions.values())
    stage.at(150 * MS, lambda: stage.feed(full, StorageRecovered()))
    stage.at(150 * MS, lambda: stage.say("and has room again"))
    text = cast.finish()
    assert "release" in text and cast.executed == list(range(16)) and len(full.executed) >= done
    return text


# -- clients ------------------------------------------------------------------------------------------------


@story
def client_returns() -> str:
    """The client goes once two keepers have the job; it comes back with its key alone, and finds all results."""
    cast = play(6, "worker", keepers=("k1", "k2"), ignore=("Stored",))
    stage, client = cast.stage, cast.client
    stage.begin()
    cast.submit()
    stage.kill(client)
    cast.wait(lambda: all(node.mesh.replica.jobs[cast.job_id].state.complete for node in cast.keepers))
    stage.restart(client)
    stage.run(SECOND)
    stage.feed(client, ListJobs(b""))
    cast.wait(lambda: cast.job_id in client.mesh.submitter.jobs)
    cast.follow()
    return cast.finish()


@story
def cancel() -> str:
    """The client cancels: the unstarted is dropped, what runs is stopped, nothing is granted any more."""
    cast = play(40, "worker", "other", ignore=("Stored", "Delivery"), task_ms=50)
    stage = cast.stage
    cast.submit()
    cast.follow()
    cast.wait(lambda: len(cast.client.results) >= 4)
    stage.begin()
    stage.say("the client cancels")
    stage.feed(cast.client, CancelJob(cast.job_id))
    stage.run(5 * SECOND)
    text = stage.text()
    done = len(cast.executed)
    stage.run(10 * SECOND)
    assert len(cast.executed) == done < 40, "work went on after the cancellation"
    for node in cast.nodes.values():
        assert not node.executions and not node.mesh.worker.unstarted and not node.penalties
    for keeper in cast.keepers:
        kept = keeper.mesh.replica.jobs[cast.job_id]
        assert kept.state.cancellation is not None and not len(kept.ledger.live)
    return text


# -- members ------------------------------------------------------------------------------------------------


@story
def drain() -> str:
    """A node leaves in order: gives back, finishes what runs, waits for two acknowledgments, says goodbye."""
    cast = play(24, "leaver", "other")
    stage, leaver = cast.stage, cast.nodes["leaver"]
    cast.submit(estimate_us=20 * MS)
    cast.follow()
    cast.wait(lambda: leaver.mesh.worker.unstarted > 0)
    stage.begin()
    stage.say("leaver is asked to go")
    stage.feed(leaver, Drain())
    cast.wait(lambda: bool(leaver.noted("node.drained")))
    stage.run(10 * MS)
    text = stage.text()
    assert leaver.noted("node.drained") == [{"owed": 0}]
    stage.kill(leaver, links_reset=False)
    cast.finish()
    assert cast.executed == list(range(24)), "leaving in order costs no work"
    return text


@story
def revocation() -> str:
    """A worker's certificate is revoked: what it delivers from then on is refused and done by another."""
    cast = play(8, "rogue", "honest", warm=("honest",), task_ms=40)
    stage, rogue, honest = cast.stage, cast.nodes["rogue"], cast.nodes["honest"]
    cast.submit()
    cast.follow()
    cast.wait(lambda: rogue.mesh.worker.running > 0)
    stage.begin()
    stage.say("the authority revokes rogue's certificate")
    serial = Certificate.from_bytes(rogue.mesh.ctx.certificate).serial
    revocations = revoke(stage.authority, stage.mesh_definition, (serial,)).to_bytes()
    for name in ("keeper", "honest", "client"):
        stage.feed(cast.nodes[name], Received(cast.nodes["keeper"].id, Revocations(revocations)))
    stage.run(200 * MS)
    stage.say("the links to rogue are closed")
    stage.disconnect(rogue)
    stage.feed(honest, cold())
    cast.wait(lambda: bool(cast.client.noted("job.accepted")))
    stage.run(10 * MS)
    assert sorted(cast.client.results) == list(range(8))
    kept = cast.nodes["keeper"].mesh.replica.jobs[cast.job_id]
    assert all(batch.worker == honest.id for batch in kept.state.batches.values())
    assert cast.nodes["keeper"].penalties, "a revoked worker's delivery is held against it"
    return stage.text()


@story
def key_for_a_lease() -> str:
    """A confidential job: who shows no lease of its own is refused; who was granted tasks gets shares and runs them."""
    cast = play(2, "worker", "curious", keepers=("one", "two", "three"), warm=("worker", "curious"))
    stage, curious, worker = cast.stage, cast.nodes["curious"], cast.nodes["worker"]
    cast.submit(confidential=True)
    stage.run(4 * SECOND)
    stage.begin()
    stage.say("curious grants itself a task, and asks for the key")
    keeper = cast.keepers[0]
    forged = Grant(cast.job_id, 0, 1, 50, curious.id, 3 * SECOND)
    raw = sign_record(curious.identity, RecordKind.GRANT, forged).raw
    stage._send(curious, keeper.id, KeyWanted(1, cast.job_id, raw, curious.mesh.ctx.certificate))
    stage.run(10 * MS)
    assert [note["reason"] for note in keeper.noted("share.refused")] == ["stale-epoch"]
    stage.say("worker gets cold, and steals")
    stage.feed(worker, cold())
    cast.follow()
    text = cast.finish()
    assert not curious.noted("key.had") and worker.noted("key.wiped")
    return text


@story
def share_for_a_newcomer() -> str:
    """The client is away, a replica dies: the two that are left make a share for the next one, which alone sees it."""
    cast = play(4, "worker", keepers=("one", "two", "three", "four"), warm=("worker",))
    stage = cast.stage
    cast.submit(confidential=True)
    dead, *staying = cast.keepers
    stage.disconnect(cast.client)
    stage.begin()
    stage.kill(dead)
    newcomer = next(node for node in cast.living() if node not in (*staying, cast.client, cast.nodes["worker"]))
    cast.wait(lambda: bool(newcomer.noted("share.kept")))
    stage.run(10 * MS)
    return stage.text()


def main() -> None:
    parser = argparse.ArgumentParser(description="tell the protocol's stories")
    parser.add_argument("names", nargs="*", metavar="NAME", help="stories to tell")
    parser.add_argument("--write", action="store_true", help="write all transcripts anew")
    wanted = parser.parse_args()
    for name in wanted.names:
        if name not in STORIES:
            parser.error(f"there is no story {name!r}; there are: {', '.join(STORIES)}")
    if wanted.write:
        for name, tell in STORIES.items():
            (TRANSCRIPTS / f"{name}.txt").write_text(transcript(name), encoding="utf-8")
            print(f"{name}: {tell.__doc__}")
    for name in wanted.names or ([] if wanted.write else STORIES):
        print(transcript(name) if wanted.names else f"{name}: {STORIES[name].__doc__}")


def transcript(name: str) -> str:
    """What the file of a story has: what it tells, and the telling."""
    return f"{STORIES[name].__doc__}\n\n{STORIES[name]()}"


if __name__ == "__main__":
    main()
