"""What checkers make of a run that no plan and no mutant brings about."""

import pytest

from hearthmesh.protocol.messages import HeldJob, HeldRange, Message, Renew
from hearthmesh.testnet.simulator.engine import SECOND
from hearthmesh.testnet.simulator.life import Life
from hearthmesh.testnet.simulator.plan import JobPlan, Plan
from hearthmesh.testnet.simulator.world import World

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
