"""A thief robs the richer of two, waits within a bound when nobody has anything, and keeps its lifelines up."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.effects import SetTimer
from hearthmesh.protocol.heat import HeatBoard
from hearthmesh.protocol.messages import Refused, Steal
from hearthmesh.protocol.records import HeatDigest, JobDigest, MemberRecord, RecordKind, sign_record
from hearthmesh.protocol.tables import Tables
from hearthmesh.protocol.thief import IDLE_BACKOFF_MAX, REFUSED_US, SEARCHES_AN_INTERVAL, SEARCHES_BURST, Thief
from tests.protocol.cluster import SECOND
from tests.protocol.machines import JOB, PEERS, A, B, Bench, C, D

HUNGER = Steal(0, 600_000, 1, 400, 1 << 40, (), False)
PEOPLE = {person.node_id: person for person in (A, B, C, D)}


class Den:
    """A thief and the rows that it reads."""

    def __init__(self, **work: int) -> None:
        """work: free tasks by victim, a to d."""
        self.bench = Bench(peers=tuple(PEOPLE))
        self.tables = Tables(self.bench.ctx, lambda _record, _now_us: None)
        self.heat = HeatBoard(self.bench.ctx, self.tables, 1)
        self.thief = Thief(self.bench.ctx, self.bench.members, self.tables, self.heat)
        self.sequence = 0
        for name, tasks in work.items():
            self.digest({"a": A, "b": B, "c": C, "d": D}[name].node_id, tasks)

    def digest(
        self,
        node: bytes,
        free: int,
        *,
        runtime: str = "wasm",
        finished: bool = False,
        priority: int = 5,
        job: bytes = JOB,
        blob_bytes: int = 0,
        at_risk: bool = False,
        deadline_us: int = 0,
    ) -> None:
        self.sequence += 1
        body = JobDigest(
            job,
            node,
            1,
            self.sequence,
            free,
            10_000,
            runtime,
            "tool",
            priority,
            finished,
            blob_bytes=blob_bytes,
            at_risk=at_risk,
            deadline_us=deadline_us,
        )
        self.tables.merge(sign_record(PEOPLE[node], RecordKind.JOB_DIGEST, body).raw, node, 0)
        self.bench.effects()

    def queue(self, node: bytes, queue_us: int) -> None:
        body = HeatDigest(node, 1, 1, 400, 500, 0, queue_us, "room", 15_000)
        self.tables.merge(sign_record(PEOPLE[node], RecordKind.HEAT, body).raw, node, 0)
        self.bench.effects()

    def member(self, node: bytes, roles: Role = Role.REPLICA | Role.WORKER) -> None:
        body = MemberRecord(node, 1, 1, int(roles), "", ("/memory/x",), (), "", False, 1, 1, b"")
        self.tables.merge(sign_record(PEOPLE[node], RecordKind.MEMBER, body).raw, node, 0)
        self.bench.effects()

    def want(self, now_us: int = 0, *, idle: bool = True) -> list[tuple[bytes, Steal]]:
        """Steals that it sent: (victim, message)."""
        self.thief.want(HUNGER, idle=idle, now_us=now_us)
        return [(peer, message) for peer, message in self.bench.sent() if isinstance(message, Steal)]

    def refuse(self, victim: bytes, steal: Steal, now_us: int) -> None:
        self.thief.on_refused(victim, Refused(steal.request), now_us)
        self.bench.effects()


def test_one_steal_is_on_its_way_at_a_time() -> None:
    den = Den(a=50)
    ((victim, steal),) = den.want()
    assert victim == A.node_id and not steal.lifeline and steal.request > 0
    assert den.want() == []


def test_reply_that_never_comes_costs_a_timeout_and_nothing_else() -> None:
    den = Den(a=50)
    den.want()
    assert den.thief.on_timer(("steal", b""), LOCAL.steal_timeout_us)
    assert len(den.want(LOCAL.steal_timeout_us + REFUSED_US + 1)) == 1


def test_richer_of_two_is_robbed_so_the_richest_most_often_and_the_poorest_least() -> None:
    robbed: Counter[bytes] = Counter()
    den = Den(a=1, b=100, c=1_000)
    for _ in range(600):
        ((victim, steal),) = den.want()
        robbed[victim] += 1
        den.thief.on_granted(victim, steal.request, 1, 0)
    # Both draws are the poorest once in nine, the richest is in five of nine.
    assert robbed[C.node_id] > robbed[B.node_id] > robbed[A.node_id] > 0
    assert abs(robbed[C.node_id] / 600 - 5 / 9) < 0.1 and abs(robbed[A.node_id] / 600 - 1 / 9) < 0.06


def test_what_goes_first_is_asked_for_however_much_there_is_elsewhere() -> None:
    den = Den()
    den.digest(A.node_id, 3, priority=7)
    den.digest(B.node_id, 9_000)
    for _ in range(20):
        ((victim, steal),) = den.want()
        assert victim == A.node_id
        den.thief.on_granted(victim, steal.request, 1, 0)
    # Where that one has just said no, there is the rest.
    ((victim, steal),) = den.want()
    den.refuse(victim, steal, 0)
    assert [who for who, _ in den.want(idle=False)] == [B.node_id]


def test_of_what_may_be_late_the_keeper_of_what_is_due_first_is_asked_however_little_it_has() -> None:
    den = Den()
    den.digest(A.node_id, 9_000, at_risk=True, deadline_us=20 * SECOND)
    den.digest(B.node_id, 3, at_risk=True, deadline_us=10 * SECOND)
    den.digest(C.node_id, 9_000, deadline_us=SECOND)
    for _ in range(20):
        ((victim, steal),) = den.want()
        assert victim == B.node_id
        den.thief.on_granted(victim, steal.request, 1, 0)
    den.refuse(*den.want()[0], 0)
    assert [who for who, _ in den.want(idle=False)] == [A.node_id]


def test_what_is_said_to_be_at_risk_after_its_deadline_is_ordinary_work() -> None:
    """By an old digest, or by a keeper that names a deadline of long ago, so that it is asked first."""
    den = Den()
    now_us = 9 * SECOND
    den.digest(A.node_id, 9_000, at_risk=True, deadline_us=1)
    den.digest(B.node_id, 3, at_risk=True, deadline_us=now_us + 1)
    den.digest(C.node_id, 9_000)
    ((victim, steal),) = den.want(now_us)
    assert victim == B.node_id
    den.thief.on_granted(victim, steal.request, 1, now_us)
    asked = set()
    for _ in range(20):
        ((victim, steal),) = den.want(now_us + 1)
        asked.add(victim)
        den.thief.on_granted(victim, steal.request, 1, now_us + 1)
    assert {A.node_id, C.node_id} <= asked


def test_what_is_late_in_another_cell_goes_after_what_may_still_be_in_time() -> None:
    den, now_us = Den(), 9 * SECOND
    den.digest(A.node_id, 50, at_risk=True, deadline_us=now_us + SECOND)
    den.thief.far = OtherCells(500, far_job(9_000, 5, at_risk=True, deadline_us=now_us))
    assert [who for who, _ in den.want(now_us)] == [A.node_id]


class OtherCells:
    """Work of other cells, all in reach."""

    def __init__(self, nodes: int, *jobs: JobDigest) -> None:
        self.nodes, self.jobs = nodes, list(jobs)

    def far_jobs(self, now_us: int) -> list[JobDigest]:
        return self.jobs

    def mesh_nodes(self) -> int:
        return self.nodes

    def can_reach(self, node: bytes) -> bool:
        return True

    def reach(self, node: bytes) -> None:
        raise AssertionError("all are in reach")


class Strangers(OtherCells):
    """None is in reach, nor ever found."""

    def __init__(self, nodes: int, *jobs: JobDigest) -> None:
        super().__init__(nodes, *jobs)
        self.sought: list[bytes] = []

    def can_reach(self, node: bytes) -> bool:
        return False

    def reach(self, node: bytes) -> None:
        self.sought.append(node)


def far_job(free: int, priority: int, *, at_risk: bool = False, deadline_us: int = 0) -> JobDigest:
    told = JobDigest(bytes([9]) * 32, D.node_id, 1, 1, free, 10_000, "wasm", "", priority, False, at_risk=at_risk)
    return replace(told, deadline_us=deadline_us)


@pytest.mark.parametrize(
    ("job", "victims"),
    [
        (far_job(9_000, 5), {A.node_id}),
        (far_job(9_000, 7), {D.node_id}),
        (far_job(9_000, 5, at_risk=True), {D.node_id}),
        (far_job(9_000, 0), {A.node_id}),
    ],
)
def test_another_cell_is_asked_for_what_goes_before_all_that_is_left_here(job: JobDigest, victims: set[bytes]) -> None:
    den = Den(a=50)
    den.thief.far = OtherCells(500, job)
    asked = set()
    for _ in range(20):
        ((victim, steal),) = den.want()
        asked.add(victim)
        den.thief.on_granted(victim, steal.request, 1, 0)
    assert asked == victims


@pytest.mark.parametrize(("due_us", "asked"), [(9 * SECOND, D.node_id), (11 * SECOND, A.node_id)])
def test_another_cell_is_asked_for_what_is_due_before_all_that_may_be_late_here(due_us: int, asked: bytes) -> None:
    den = Den()
    den.digest(A.node_id, 50, at_risk=True, deadline_us=10 * SECOND)
    den.thief.far = OtherCells(500, far_job(9_000, 5, at_risk=True, deadline_us=due_us))
    assert [who for who, _ in den.want()] == [asked]


def test_the_best_that_is_left_here_is_what_another_cell_has_to_go_before() -> None:
    den = Den()
    den.digest(A.node_id, 3, priority=7)
    den.digest(B.node_id, 9_000, priority=0)
    den.thief.far = OtherCells(500, far_job(9_000, 5))
    ((victim, steal),) = den.want()
    assert victim == A.node_id
    den.refuse(victim, steal, 0)
    ((victim, steal),) = den.want(1, idle=False)
    assert victim == D.node_id
    den.refuse(victim, steal, 1)
    assert [who for who, _ in den.want(2, idle=False)] == [B.node_id]


@pytest.mark.parametrize(
    ("free", "priority", "asked"), [(300, 5, A.node_id), (300, 6, D.node_id), (9_000, 5, D.node_id)]
)
def test_a_queue_of_which_nobody_tells_what_it_is_hides_no_urgent_work_of_other_cells(
    free: int, priority: int, asked: bytes
) -> None:
    den = Den()
    den.queue(A.node_id, 60 * SECOND)
    den.thief.far = OtherCells(100, far_job(free, priority))
    assert [who for who, _ in den.want()] == [asked]


def asked_of(den: Den, count: int) -> Counter[bytes]:
    asked: Counter[bytes] = Counter()
    for _ in range(count):
        ((victim, steal),) = den.want()
        asked[victim] += 1
        den.thief.on_granted(victim, steal.request, 1, 0)
    return asked


def test_where_a_keeper_has_plenty_no_queue_is_asked_and_each_keeper_is() -> None:
    den = Den()
    den.digest(A.node_id, 9_000)
    for node in (B, C):
        den.queue(node.node_id, 60 * SECOND)
    assert set(asked_of(den, 50)) == {A.node_id}
    # Nor is a small job beside a large one left for its end.
    den.digest(D.node_id, 3, job=bytes([7]) * 32)
    assert 0 < asked_of(den, 100)[D.node_id] < 50
    ((victim, steal),) = den.want()
    while victim != A.node_id:
        den.thief.on_granted(victim, steal.request, 1, 0)
        ((victim, steal),) = den.want()
    den.refuse(A.node_id, steal, 0)
    assert [who for who, _ in den.want(idle=False)][0] in {B.node_id, C.node_id, D.node_id}


def test_where_no_keeper_has_plenty_queues_are_asked_as_well() -> None:
    den = Den(a=300)
    den.queue(B.node_id, 60 * SECOND)
    assert set(asked_of(den, 50)) == {A.node_id, B.node_id}


@pytest.mark.parametrize(
    ("priority", "victims"), [(7, {A.node_id}), (5, {A.node_id, B.node_id}), (0, {A.node_id, B.node_id})]
)
def test_a_queue_of_which_nobody_tells_what_it_is_counts_as_ordinary_beside_urgent_work(
    priority: int, victims: set[bytes]
) -> None:
    den = Den()
    den.digest(A.node_id, 3, priority=priority)
    den.queue(B.node_id, 60 * SECOND)
    asked = set()
    for _ in range(20):
        ((victim, steal),) = den.want()
        asked.add(victim)
        den.thief.on_granted(victim, steal.request, 1, 0)
    assert asked == victims
    ((victim, steal),) = den.want()
    # Where the keeper has just said no, there is the queue.
    while victim != A.node_id:
        den.thief.on_granted(victim, steal.request, 1, 0)
        ((victim, steal),) = den.want()
    den.refuse(A.node_id, steal, 0)
    assert [who for who, _ in den.want(idle=False)] == [B.node_id]


@pytest.mark.parametrize("hangs_up", [False, True])
@pytest.mark.parametrize("near", [False, True])
def test_who_never_answers_is_asked_more_and_more_seldom_whatever_others_grant(near: bool, hangs_up: bool) -> None:
    den = Den(a=50)
    if near:
        den.digest(B.node_id, 1 << 40, priority=9)
    else:
        den.thief.far = OtherCells(500, far_job(1 << 40, 9))
    now_us = lost_us = 0
    while now_us < 1_000 * SECOND:
        ((victim, steal),) = den.want(now_us, idle=False)
        if victim == A.node_id:
            den.thief.on_granted(victim, steal.request, 1, now_us)
            den.thief.on_news()
            now_us += SECOND
        else:
            now_us += LOCAL.steal_timeout_us
            lost_us += LOCAL.steal_timeout_us
            if hangs_up:
                den.thief.on_peer_gone(victim, now_us)
            else:
                den.thief.on_timer(("steal", b""), now_us)
            # What comes too late is no answer.
            den.thief.on_refused(victim, Refused(steal.request), now_us)
            den.bench.effects()
    assert 0 < lost_us <= 20 * LOCAL.steal_timeout_us


def test_another_cell_that_refuses_is_not_tried_again_at_once_while_there_is_work_here() -> None:
    den = Den(a=50)
    den.thief.far = OtherCells(500, far_job(1 << 40, 9))
    tries = []
    for second in range(600):
        ((victim, steal),) = den.want(second * SECOND)
        if victim == D.node_id:
            tries.append(second)
            den.refuse(victim, steal, second * SECOND)
            ((victim, steal),) = den.want(second * SECOND)
        assert victim == A.node_id
        den.thief.on_granted(victim, steal.request, 1, second * SECOND)
    assert 600 // 20 < len(tries) < 600 // 10
    # One grant, and it is trusted again.
    ((victim, steal),) = den.want(700 * SECOND)
    assert victim == D.node_id
    den.thief.on_granted(victim, steal.request, 1, 700 * SECOND)
    assert [who for who, _ in den.want(700 * SECOND)] == [D.node_id]


def test_invented_names_are_sought_a_few_at_a_time_and_in_turn() -> None:
    den = Den(a=50)
    names = [bytes([number]) * 32 for number in range(100, 132)]
    cells = den.thief.far = Strangers(1_000, *(replace(far_job(9_000, 9), replica=name) for name in names))
    minutes = 5
    for tenth in range(minutes * 600):
        for victim, steal in den.want(tenth * SECOND // 10):
            den.thief.on_granted(victim, steal.request, 1, tenth * SECOND // 10)
    assert set(cells.sought) == set(names)
    intervals = minutes * 60 * SECOND // LOCAL.cell_interval_us
    assert len(cells.sought) <= SEARCHES_BURST + intervals * SEARCHES_AN_INTERVAL


def test_few_of_the_mesh_go_to_another_cell_for_the_little_that_goes_first_there() -> None:
    den = Den(a=50)
    den.thief.far = OtherCells(1_000, far_job(25, 9))
    asked: Counter[bytes] = Counter()
    for _ in range(600):
        ((victim, steal),) = den.want()
        asked[victim] += 1
        den.thief.on_granted(victim, steal.request, 1, 0)
    # Four times 25 in a thousand.
    assert 0.06 < asked[D.node_id] / 600 < 0.14 and asked[A.node_id] + asked[D.node_id] == 600


def test_no_more_of_a_large_mesh_go_to_a_keeper_of_much_than_it_has_links_for() -> None:
    den = Den(a=50)
    den.thief.far = OtherCells(10_000, far_job(1_000_000, 9))
    # Four times 192 in ten thousand.
    assert 0.04 < asked_of(den, 1_000)[D.node_id] / 1_000 < 0.12


def test_who_keeps_plenty_and_always_refuses_does_not_keep_a_thief_from_queues() -> None:
    den = Den()
    den.digest(A.node_id, 9_000)
    for node in (B, C):
        den.queue(node.node_id, 600 * SECOND)
    asked: Counter[bytes] = Counter()
    for turn in range(100):
        now_us = 2 * REFUSED_US * turn
        ((victim, steal),) = den.want(now_us)
        asked[victim] += 1
        # A grant of another's makes its refusal forgotten, but not that it says more than it gives.
        den.thief.on_granted(victim, steal.request, victim != A.node_id, now_us)
    # Where queues have more to give it is asked if both draws are it: one time in nine, not every other time.
    assert 0 < asked[A.node_id] < 30


def test_who_keeps_what_goes_first_and_always_refuses_does_not_starve_a_thief_while_others_have_work() -> None:
    den = Den()
    den.digest(A.node_id, 3, priority=7)
    den.digest(B.node_id, 9_000)
    ((victim, steal),) = den.want()
    assert victim == A.node_id
    den.refuse(victim, steal, 0)
    # Long after, and without news from that one, it is the other's turn, until that one refuses too.
    later_us = 100 * REFUSED_US
    ((victim, steal),) = den.want(later_us)
    assert victim == B.node_id
    den.refuse(victim, steal, later_us)
    ((victim, steal),) = den.want(2 * later_us, idle=False)
    assert victim == A.node_id
    den.refuse(victim, steal, 2 * later_us)
    # News of a keeper are news of that keeper's; a grant makes all equal.
    den.thief.on_news(B.node_id)
    ((victim, steal),) = den.want(3 * later_us)
    assert victim == B.node_id
    den.thief.on_granted(victim, steal.request, 1, 3 * later_us)
    assert [who for who, _ in den.want(3 * later_us)] == [A.node_id]


def test_of_two_with_enough_the_one_is_asked_whose_blobs_are_here() -> None:
    robbed: Counter[bytes] = Counter()
    den = Den()
    den.digest(A.node_id, 500, blob_bytes=5_000_000)
    den.digest(B.node_id, 200, blob_bytes=5_000_000, job=bytes([7]) * 32)
    hunger = replace(HUNGER, has=(bytes([7]) * 32,))
    for _ in range(200):
        den.thief.want(hunger, idle=True, now_us=0)
        ((victim, steal),) = [(peer, each) for peer, each in den.bench.sent() if isinstance(each, Steal)]
        robbed[victim] += 1
        den.thief.on_granted(victim, steal.request, 1, 0)
    # The other one only if it is drawn twice.
    assert abs(robbed[A.node_id] / 200 - 1 / 4) < 0.1 and robbed[B.node_id] > robbed[A.node_id]


def test_a_replica_asks_others_for_the_job_whose_blobs_it_keeps_itself() -> None:
    robbed: Counter[bytes] = Counter()
    den = Den()
    kept = bytes([7]) * 32
    den.digest(A.node_id, 500, blob_bytes=5_000_000)
    den.digest(B.node_id, 200, blob_bytes=5_000_000, job=kept)
    # All that this node kept of it is given away, but its blobs are here.
    own = JobDigest(kept, den.bench.ctx.node_id, 1, 1, 0, 10_000, "wasm", "", 5, False)
    den.tables.publish(sign_record(den.bench.ctx.identity, RecordKind.JOB_DIGEST, own), 0, urgent=False)
    den.bench.effects()
    for _ in range(200):
        ((victim, steal),) = den.want()
        robbed[victim] += 1
        den.thief.on_granted(victim, steal.request, 1, 0)
    # The other one only if it is drawn twice.
    assert abs(robbed[A.node_id] / 200 - 1 / 4) < 0.1 and robbed[B.node_id] > robbed[A.node_id]


def test_victim_that_refused_is_left_alone_for_a_while() -> None:
    den = Den(a=50)
    ((victim, steal),) = den.want()
    den.refuse(victim, steal, 0)
    assert den.want(REFUSED_US - 1, idle=False) == []
    assert [who for who, _ in den.want(REFUSED_US + 1, idle=False)] == [A.node_id]


def test_finished_jobs_and_commands_that_the_owner_does_not_allow_tempt_nobody() -> None:
    den = Den()
    den.digest(A.node_id, 50, finished=True)
    den.digest(B.node_id, 0)
    den.digest(C.node_id, 50, runtime="native")
    assert den.want(idle=False) == []


def test_dead_victims_are_not_robbed() -> None:
    den = Den(a=50)
    den.thief = Thief(den.bench.ctx, Bench(peers=(B.node_id,)).members, den.tables, den.heat)
    assert den.want(idle=False) == []


def test_who_finds_nothing_parks_lifelines_at_keepers_and_looks_again_after_a_bounded_wait() -> None:
    den = Den()
    den.digest(A.node_id, 50, runtime="native")
    for node in PEERS:
        den.member(node)
    den.member(D.node_id, Role.WORKER)
    waits: list[int] = []
    lifelines: list[bytes] = []
    now_us = 0
    for _ in range(8):
        den.thief.want(HUNGER, idle=True, now_us=now_us)
        for effect in den.bench.effects():
            if isinstance(effect, SetTimer) and effect.key[0] == "steal-idle":
                waits.append(effect.at_us - now_us)
            elif getattr(effect, "message", None) is not None and isinstance(effect.message, Steal):  # type: ignore[union-attr]
                assert effect.message.lifeline  # type: ignore[union-attr]
                lifelines.append(effect.peer)  # type: ignore[union-attr]
        now_us += waits[-1]
        den.thief.on_timer(("steal-idle", b""), now_us)
    assert waits == sorted(waits) and waits[0] == LOCAL.steal_idle_us
    assert waits[-1] == IDLE_BACKOFF_MAX * LOCAL.steal_idle_us
    assert set(lifelines) == set(PEERS), "workers without the role keep no lifeline"


def test_who_sees_no_work_at_all_waits_for_news_until_a_lifeline_has_to_be_kept_up() -> None:
    den = Den()
    den.member(A.node_id)
    den.thief.want(HUNGER, idle=True, now_us=0)
    assert idle_timers(den) == [LOCAL.lifeline_ttl_us * 2 // 3]
    den.thief.on_sight(5)
    assert idle_timers(den) == [5 + LOCAL.steal_idle_us]
    den.thief.on_sight(6)
    assert idle_timers(den) == []


def test_who_waited_for_news_looks_around_again_soon_while_there_is_work_that_suits_it_not() -> None:
    den = Den()
    den.member(A.node_id)
    den.thief.want(HUNGER, idle=True, now_us=0)
    den.digest(A.node_id, 50, runtime="native")
    den.thief.want(HUNGER, idle=True, now_us=SECOND)
    assert idle_timers(den) == [SECOND + LOCAL.steal_idle_us]


def test_who_waits_need_not_look_until_somebody_says_something_or_a_lifeline_is_lost() -> None:
    den = Den()
    den.member(A.node_id)
    for _ in range(2):
        den.want()
        assert den.thief.need_not_look()
        den.thief.on_peer_gone(A.node_id, 0)
        assert not den.thief.need_not_look()
    den.want()
    # Work of another cell is in no row.
    den.thief.on_news()
    assert not den.thief.need_not_look()
    den.want()
    den.digest(A.node_id, 50, runtime="native")
    assert not den.thief.need_not_look()
    den.want()
    assert not den.thief.need_not_look(), "there is work, if none for it: it may suit what it wants next"


def idle_timers(den: Den) -> list[int]:
    return [e.at_us for e in den.bench.effects() if isinstance(e, SetTimer) and e.key[0] == "steal-idle"]


def test_lifelines_are_renewed_before_they_expire_and_not_earlier() -> None:
    den = Den()
    den.member(A.node_id)
    asked = [now_us for now_us in range(0, 3 * LOCAL.lifeline_ttl_us, SECOND) if den.want(now_us)]
    gaps = [after - before for before, after in zip(asked, asked[1:], strict=False)]
    assert gaps and all(LOCAL.lifeline_ttl_us // 3 < gap < LOCAL.lifeline_ttl_us for gap in gaps)


def test_keeper_that_has_no_room_for_lifelines_is_not_asked_again_soon() -> None:
    den = Den()
    den.member(A.node_id)
    ((victim, steal),) = den.want()
    den.refuse(victim, steal, 0)
    assert den.want(LOCAL.lifeline_ttl_us - 1) == []
    assert len(den.want(LOCAL.lifeline_ttl_us + 1)) == 1


def test_lost_peers_lifeline_is_parked_anew() -> None:
    den = Den()
    den.member(A.node_id)
    assert len(den.want()) == 1 and den.want() == []
    den.thief.on_peer_gone(A.node_id, 0)
    assert len(den.want()) == 1


def test_refusal_that_was_not_asked_for_ends_no_steal() -> None:
    den = Den(a=50)
    den.want()
    den.thief.on_refused(B.node_id, Refused(99_999), 0)
    assert den.want() == []


def test_news_of_work_end_the_waiting_at_once() -> None:
    den = Den(a=50)
    ((victim, steal),) = den.want()
    den.refuse(victim, steal, 0)
    den.thief.on_news()
    assert len(den.want(1)) == 1
