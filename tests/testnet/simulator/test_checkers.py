"""What checkers make of a run that no plan and no mutant brings about."""

from dataclasses import replace

import pytest

from hearthmesh.protocol.granting import Ledger
from hearthmesh.protocol.messages import Granted, HeldJob, HeldRange, Message, Renew
from hearthmesh.protocol.outbox import Outbox
from hearthmesh.protocol.records import Grant, RecordKind, sign_record
from hearthmesh.testnet.simulator.broken import drop_late, renew_silently
from hearthmesh.testnet.simulator.checkers.seats import SeatsFilled
from hearthmesh.testnet.simulator.checkers.stale import StaleStarts
from hearthmesh.testnet.simulator.engine import MS, SECOND
from hearthmesh.testnet.simulator.life import Life
from hearthmesh.testnet.simulator.mutants import patched
from hearthmesh.testnet.simulator.plan import Fault, FaultKind, JobPlan, Plan
from hearthmesh.testnet.simulator.run import play, play_world
from hearthmesh.testnet.simulator.scenarios import scenario_named
from hearthmesh.testnet.simulator.world import World

CALM = Plan(seed=1, nodes=6, jobs=(JobPlan(tasks=60, task_us=100 * MS),), active_us=6 * SECOND, bound_us=30 * SECOND)
LONG_TASKS = Plan(seed=1, nodes=5, jobs=(JobPlan(tasks=40, task_us=60 * SECOND),))


def _a_lease(world: World) -> tuple[Life, Life, bytes, HeldRange]:
    """A replica, another who holds some of a job that it keeps, and what."""
    for replica in world.nodes:
        assert replica.life is not None
        for job_id, kept in replica.life.mesh.replica.jobs.items():
            for lo, hi, mark in kept.state.leases:
                holder = world.by_id[mark.holder].life
                if holder is not None and holder is not replica.life and kept.ledger.live.get(lo) is not None:
                    return replica.life, holder, job_id, HeldRange(lo, hi, mark.epoch)
    raise AssertionError("nobody holds anything")


def test_a_lease_is_not_renewed_behind_a_range_that_no_job_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with World.opened(LONG_TASKS) as world:
        world.engine.run(world.settled_us + 2 * SECOND)
        replica, holder, job_id, held = _a_lease(world)
        say = Life._say

        def say_no_renewals(life: Life, peer: bytes, message: Message) -> None:
            if life is not holder or not isinstance(message, Renew):
                say(life, peer, message)

        monkeypatch.setattr(Life, "_say", say_no_renewals)
        world.engine.run(world.engine.now_us + SECOND)
        no_range = HeldRange(1 << 30, 1 << 31, held.epoch)
        replica.receive(holder.machine.id, Renew((HeldJob(job_id, (no_range, held)),)), 0)
        world.engine.run(world.engine.now_us + 2 * world.config.lease_us)
        live = replica.mesh.replica.jobs[job_id].ledger.live.get(held.lo)
        assert live is None or live.holder != holder.machine.id
        assert "held-until-freed" not in [violation.checker for violation in world.checkers.violations]


def test_of_two_grants_of_a_task_the_one_under_the_higher_epoch_counts_in_whatever_order_they_come() -> None:
    with World.opened(replace(LONG_TASKS, jobs=())) as world:
        world.engine.run(world.settled_us)
        checker, job_id = StaleStarts(world), bytes(32)
        for replica, holder, epoch in ((0, 2, 5), (1, 3, 4)):
            life = world.nodes[replica].life
            assert life is not None
            grant = Grant(job_id, 0, 8, epoch, world.nodes[holder].id, SECOND)
            record = sign_record(world.nodes[replica].identity, RecordKind.GRANT, grant)
            checker.saying(life, grant.holder, Granted(1, (record.raw,), ()))
        (given,) = [given for _, _, given in checker._anew[job_id]]
        assert (given.epoch, given.holder, given.machine) == (5, world.nodes[2].id, 0)


def test_who_was_given_a_lease_just_now_is_given_time_to_hear_that_it_is_anothers() -> None:
    """A replica that was cut off grants what others granted long ago, and its holder starts it before it can ask."""
    plan = replace(
        scenario_named("same-address").plan, seed=3, jobs=(JobPlan(tasks=60, task_us=400 * MS),), active_us=9 * SECOND
    )
    cut, kill = (
        Fault(FaultKind.CUT, 1200 * MS, 6 * SECOND, (3, 4)),
        Fault(FaultKind.KILL, 4500 * MS, 300 * MS, (3, 4)),
    )
    outcome = play(replace(plan, faults=(*plan.faults, cut, kill)))
    assert not outcome.violations, outcome.violations[0]


def _empty_seats(world: World) -> int:
    (checker,) = [look.__self__ for look in world.checkers._sampled if isinstance(look.__self__, SeatsFilled)]
    return len(checker._empty_since_us)


@pytest.mark.parametrize("ends", ["the one who saw it dies", "the job is cancelled"])
def test_an_empty_seat_is_not_kept_in_mind_for_ever(ends: str) -> None:
    with World.opened(LONG_TASKS) as world:
        world.engine.run(world.settled_us + 2 * SECOND)
        replica, _, job_id, _ = _a_lease(world)
        members = replica.mesh.replica.jobs[job_id].state.replicas
        first, last = world.by_id[members[0]], world.by_id[members[-1]]
        world.cut_power(last)
        assert world.engine.run(world.engine.now_us + 15 * SECOND, lambda: _empty_seats(world) > 0, check_every=1)
        if ends == "the job is cancelled":
            world.customers[0].cancel()
            world.engine.run(world.engine.now_us + 6 * SECOND)
        else:
            world.kill(first)
        assert not _empty_seats(world)


def test_nothing_is_awaited_of_a_job_that_is_over() -> None:
    faults = Fault(FaultKind.FREEZE, 2 * SECOND, 0, (1, 2)), Fault(FaultKind.CANCEL, 3 * SECOND)
    with World.opened(replace(LONG_TASKS, faults=faults)) as world:
        world.engine.run(world.settled_us + 2_900_000)
        assert world.checkers.recovery._awaited
        world.engine.run(world.settled_us + 5 * SECOND)
        assert not world.checkers.recovery._awaited


@pytest.mark.parametrize("lost", [1, 2])
def test_a_replica_that_has_nothing_of_its_job_is_not_alike(lost: int) -> None:
    with play_world(CALM) as world:
        job_id = world.customers[0].orders[0].job_id
        kept = [life.mesh.replica.jobs for node in world.nodes if (life := node.life) is not None]
        having = [jobs for jobs in kept if job_id in jobs]
        assert len(having) == world.config.replicas
        for jobs in having[:lost]:
            del jobs[job_id]
        world.checkers.at_rest()
        found = {violation.checker for violation in world.checkers.violations}
        assert {"replicas-converge", "liveness"} <= found


@pytest.mark.parametrize(
    ("policy", "liars", "is_claimed"),
    [
        ("quorum(2)", ("wrong results", "wrong results"), True),
        ("quorum(3)", ("accomplice", "sleeper"), True),
        ("quorum(2)", ("accomplice", "accomplice"), False),
        ("adaptive", ("wrong results",), False),
        ("none", (), True),
    ],
)
def test_a_wrong_result_is_nobodys_fault_where_those_who_lied_are_a_quorum(
    policy: str, liars: tuple[str, ...], is_claimed: bool
) -> None:
    plan = replace(CALM, liars=liars, jobs=(replace(CALM.jobs[0], verification=policy),))
    with World.opened(plan) as world:
        world.engine.run(world.settled_us + 2 * SECOND)
        for node in world.nodes:
            if node.liar is not None:
                node.liar.lied_us = world.engine.now_us
        world.customers[0].orders[0].wrong[0] = world.nodes[0].id
        world.checkers.at_rest()
        assert ("wrong-accepted" in [violation.checker for violation in world.checkers.violations]) == is_claimed


def _give_up_all(outbox: Outbox, now_us: int) -> None:
    for owed in list(outbox._owed.values()):
        outbox._give_up(owed, "too tired")


@pytest.mark.parametrize("retry", [drop_late, _give_up_all])
@pytest.mark.parametrize("liars", [(), ("noise",)])
def test_a_result_is_not_dropped_whether_or_not_somebody_lies(retry: object, liars: tuple[str, ...]) -> None:
    plan = replace(CALM, liars=liars, faults=(Fault(FaultKind.CUT, SECOND, 6 * SECOND, (0, 1)),))
    with patched([(Outbox, "retry", retry)]):
        assert "kept-until-durable" in [violation.checker for violation in play(plan).violations]
    assert not play(plan).violations


def test_a_start_is_stale_in_a_run_that_had_foul_weather_before() -> None:
    sleep = [Fault(FaultKind.FREEZE, 1200 * MS + 300 * MS * at, 6 * SECOND, (at,)) for at in range(2)]
    plan = replace(
        CALM,
        nodes=5,
        jobs=(JobPlan(tasks=400, task_us=400 * MS),),
        faults=(Fault(FaultKind.WEATHER, 0, 500 * MS), *sleep),
        active_us=9 * SECOND,
    )
    with patched([(Ledger, "renew", renew_silently)]):
        runs = (play(replace(plan, seed=seed)).violations for seed in range(1, 13))
        assert any(violation.checker == "stale-start" for violations in runs for violation in violations)
