"""A process of the simulator, driven as the driver of real nodes drives it."""

from typing import get_args

from hearthmesh.protocol.effects import CompareOutputs, Effect, Persist
from hearthmesh.protocol.events import Event, OutputsCompared
from hearthmesh.testnet.simulator.engine import MS, SECOND
from hearthmesh.testnet.simulator.life import _HANDS, Life
from hearthmesh.testnet.simulator.plan import JobPlan, Plan
from hearthmesh.testnet.simulator.run import play_world

QUIET = Plan(seed=1, nodes=3, jobs=(), active_us=SECOND, bound_us=0, stops_early=False)


def test_whatever_a_machine_wants_is_done() -> None:
    assert set(_HANDS) == set(get_args(Effect))


def test_a_comparators_module_wants_the_same_bytes(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    told: list[Event] = []
    with play_world(QUIET) as world:
        life = world.nodes[0].life
        assert life is not None
        monkeypatch.setattr(Life, "feed", lambda _life, event, _checksum=0: told.append(event))
        pairs = ((b"a", b"b", b"same", b"same"), (b"a", b"c", b"same", b"other"))
        _HANDS[CompareOutputs](life, CompareOutputs(b"job", b"module", (), pairs))
        world.engine.run(world.engine.now_us + SECOND)
    assert OutputsCompared(b"job", ((b"a", b"b", True), (b"a", b"c", False))) in told


def test_what_a_full_disk_did_not_take_takes_its_time_when_there_is_room_again() -> None:
    write = Persist(bytes(32), 1, b"row", b"body")
    key = (write.job_id, write.kind, b"row")
    with play_world(QUIET) as world:
        machine, now_us = world.nodes[0], world.engine.now_us
        life, disk = machine.life, machine.disk
        assert life is not None
        disk.full = True
        life._pipeline.append(write)
        life._linger()
        world.engine.run(now_us + SECOND)
        assert life._unwritten == [write]
        disk.full = False
        while not disk.syncing:
            world.engine.run(world.engine.now_us + MS // 2)
        assert disk.syncing == (write,) and key not in disk.rows
        world.engine.run(world.engine.now_us + SECOND)
        assert key in disk.rows and not life._unwritten


def test_tasks_that_fail_are_accepted_with_the_code_that_they_ended_with() -> None:
    plan = Plan(seed=1, nodes=4, jobs=(JobPlan(tasks=100, verification="quorum(2)"),))
    with play_world(plan) as world:
        assert not world.checkers.violations
        (order,) = world.orders.values()
        codes = [world.exit_of(order.job_id, index) for index in range(100)]
        assert order.complete and not order.wrong and 0 < sum(codes) < 20
