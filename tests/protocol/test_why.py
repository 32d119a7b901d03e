"""Why a heater is idle and why a task waits: the sentence says what was decided, and is true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from msgspec.structs import replace as changed

from hearthmesh.crypto.certificates import Role
from hearthmesh.crypto.identity import peer_id_text
from hearthmesh.protocol.effects import Send
from hearthmesh.protocol.events import AskWhy, Drain, Received, StorageFailed, SubmitJob
from hearthmesh.protocol.messages import Because, Granted, Steal, Why
from tests.protocol.cluster import SECOND, WARM, Cluster, SimNode, cold


class House:
    """A keeper, workers, and a client whose job nobody but they run."""

    def __init__(self, tasks: int = 0, **workers: Any) -> None:
        self.cluster = Cluster(config=replace(Cluster().config, replicas=1, durable_replicas=1), task_us=SECOND)
        self.keeper = self.cluster.add("keeper", Role.REPLICA)
        self.workers = {name: self.cluster.add(name, Role.WORKER, heat) for name, heat in workers.items()}
        self.client = self.cluster.client()
        self.cluster.run(3 * SECOND)
        self.job = b""
        if tasks:
            self.submit(tasks)

    def submit(self, tasks: int, **spec: Any) -> None:
        self.cluster.feed(self.client, SubmitJob(self.cluster.spec(tasks, **spec)))
        self.cluster.run_until(lambda: bool(self.keeper.mesh.replica.jobs))
        self.job = next(iter(self.keeper.mesh.replica.jobs))

    def idle(self, name: str) -> str:
        return self.workers[name].mesh.explainer.why_node(self.cluster.now_us)

    def waits(self, index: int, at: SimNode | None = None) -> str:
        return (at or self.keeper).mesh.explainer.why_task(self.job, index, self.cluster.now_us)[1]


# -- a heater -----------------------------------------------------------------------------------------------


def test_a_warm_room_says_how_warm() -> None:
    reason = "too warm: 21.4 of 21.0 °C"
    assert House(room=changed(WARM, reason=reason)).idle("room") == f"it wants no work: {reason}"


def test_a_cold_room_without_work_says_where_it_waits() -> None:
    sentence = House(room=cold()).idle("room")
    assert sentence.startswith("no work is known in reach (")
    assert sentence.endswith("it waits to be given work by keeper")


def test_a_room_that_works_is_not_idle() -> None:
    house = House(4, room=cold())
    house.cluster.run(SECOND // 10)
    assert house.idle("room").startswith("it is not idle: 1 execution on 1 slot, of job " + house.job.hex()[:12])


def test_a_room_too_full_for_the_tasks_in_reach_says_so() -> None:
    house = House(room=changed(cold(), buffer_wh=50.0 * 30 / 3600))
    house.submit(9, estimate_us=60 * SECOND)
    house.cluster.run(5 * SECOND)
    sentence = house.idle("room")
    assert "none of the work known in reach is for it: 1 x too long for the sink" in sentence
    assert sentence.endswith("its sink takes tasks of at most 30.0 s now")
    assert "it is free" in house.waits(3)


def test_what_an_owner_does_not_allow_is_named() -> None:
    house = House(room=cold())
    house.workers["room"].mesh.worker.wasm = False
    house.submit(9)
    house.cluster.run(5 * SECOND)
    assert "none of the work known in reach is for it: 1 x its owner does not allow WebAssembly" in house.idle("room")
    assert 'room asked and got none, because "the job needs what that node does not offer"' in house.waits(0)


def test_a_full_disk_and_a_leave_are_named() -> None:
    house = House(room=cold(), hall=cold())
    house.cluster.feed(house.workers["room"], StorageFailed("no space left on /srv"))
    house.cluster.feed(house.workers["hall"], Drain())
    assert house.idle("room") == "it takes no work: no space left on /srv"
    assert house.idle("hall").startswith("it is leaving: ")


def test_a_sink_that_wants_no_more_within_the_horizon_says_so() -> None:
    assert House(room=changed(cold(), horizon_wh=0.0)).idle("room").startswith("its sink wants no more heat within")


# -- a task -------------------------------------------------------------------------------------------------


def test_a_task_says_who_has_it_and_then_that_it_is_done() -> None:
    house = House(2, room=cold())
    house.cluster.run(SECOND // 10)
    assert house.waits(0).startswith("it is leased to room")
    assert house.waits(0, at=house.workers["room"]) == "it is in the queue of room, or runs there"
    house.cluster.run(6 * SECOND)
    assert house.waits(0).startswith("it does not wait: it is done")
    assert house.waits(7) == "there is no such task: the job has 2, numbered from 0"


def test_a_free_task_says_who_asked_last_and_why_it_got_none() -> None:
    house = House(room=WARM)
    house.submit(9, estimate_us=600 * SECOND)
    hungry = Steal(7, SECOND, 1, 400, 1 << 40, (), False, longest_us=SECOND)
    house.keeper.mesh.handle(Received(house.workers["room"].id, hungry), house.cluster.now_us)
    assert house.waits(0).startswith(
        'it is free: room asked and got none, because "too long for the sink" (0.0 s ago); 1 node known there runs'
    )
    house.keeper.mesh.handle(
        Received(house.workers["room"].id, changed(hungry, longest_us=1 << 50)), house.cluster.now_us
    )
    assert house.waits(8) == (
        "it is free, and nobody that could run it has asked keeper for work; "
        "1 node known there runs WebAssembly with its memory, 0 with a free slot"
    )


# -- over the mesh ------------------------------------------------------------------------------------------


def test_a_client_asks_and_only_those_who_were_asked_answer() -> None:
    house = House(2, room=WARM)
    ask = AskWhy((house.keeper.id,), house.job, 1)
    house.cluster.feed(house.client, ask)
    house.cluster.run_until(lambda: bool(house.client.noted("why.answered")))
    (answer,) = house.client.noted("why.answered")
    assert answer["sure"] and answer["text"] == house.waits(1) and answer["peer"] == house.keeper.id
    request = house.client.noted("why.asked")[-1]["request"]
    for peer in (house.workers["room"], house.keeper):
        house.client.mesh.handle(Received(peer.id, Because(request, True, "a lie")), house.cluster.now_us)
    assert house.client.noted("why.answered") == [answer]


def test_who_asks_too_often_gets_no_answer_for_a_while() -> None:
    house = House(2, room=cold())
    told = []
    for request in range(50):
        question = Received(house.client.id, Why(request, b"", 0))
        told += [e for e in house.keeper.mesh.handle(question, house.cluster.now_us) if isinstance(e, Send)]
    assert len(told) == 32 and not any(isinstance(e.message, Granted) for e in told)


def test_a_peer_without_a_name_is_called_by_the_end_of_its_id_and_oneself_by_name() -> None:
    house = House(2, room=cold())
    explainer = house.workers["room"].mesh.explainer
    stranger = bytes(31) + b"\x01"
    assert explainer._name(stranger) == peer_id_text(stranger)[-8:]
    assert explainer._name(house.workers["room"].mesh.ctx.node_id) == "room"


def test_nobody_waits_to_be_given_work_by_itself() -> None:
    house = House(room=cold())
    mesh = house.workers["room"].mesh
    mesh.thief._lifelines[mesh.ctx.node_id] = house.cluster.now_us + SECOND
    assert house.idle("room").endswith("it waits to be given work by keeper")


def test_a_task_that_failed_says_so() -> None:
    house = House(2, room=cold())
    house.workers["room"].fails = True
    house.cluster.run(6 * SECOND)
    house.client.mesh.submitter.jobs.clear()
    assert house.waits(0).startswith("it does not wait: it is done")
    assert "failed" in house.waits(0) and "hearth logs" in house.waits(0)
