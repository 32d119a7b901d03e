"""What cells tell each other: far jobs that grow old, estimates that no single liar moves."""

from __future__ import annotations

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.aggregates import FAR_JOBS_AN_AUTHOR, FAR_JOBS_MAX, FAR_JOBS_TOLD, Aggregates
from hearthmesh.protocol.config import LAN, SECOND
from hearthmesh.protocol.context import Context
from hearthmesh.protocol.effects import Penalise, Reason, Send
from hearthmesh.protocol.heat import HeatBoard
from hearthmesh.protocol.membership import Membership
from hearthmesh.protocol.messages import CellDigest, FarJob, TableRows
from hearthmesh.protocol.records import JobDigest, MemberRecord, Record, RecordKind, open_record, sign_record
from hearthmesh.protocol.tables import Tables
from tests.protocol.arena import context, identity

DEPTH = 3


def parts() -> tuple[Aggregates, Membership, Context]:
    """Node 1 in a cell of depth 3, which knows contacts at all levels."""
    ctx = context(1, LAN)
    members = Membership(ctx, 1)
    members.cell.depth = DEPTH
    tables = Tables(ctx, lambda record, now_us: None, cell=members.cell)
    members.start(0)
    for number in range(2, 60):
        members.learn(identity(number).node_id, 1, 0)
    members.on_timer(("probe", b""), 2 * SECOND)
    ctx.take_effects()
    return Aggregates(ctx, members, tables, HeatBoard(ctx, tables, 1)), members, ctx


def job_of(
    number: int,
    free: int = 10,
    sequence: int = 1,
    job: int = 0,
    priority: int = 5,
    at_risk: bool = False,
    deadline_us: int = 0,
) -> Record:
    node = identity(number).node_id
    body = JobDigest(
        bytes([job]) * 32,
        node,
        1,
        sequence,
        free,
        1000,
        "wasm",
        "",
        priority,
        False,
        at_risk=at_risk,
        deadline_us=deadline_us,
    )
    return sign_record(identity(number), RecordKind.JOB_DIGEST, body)


def member_row(number: int, sequence: int = 1, roles: Role = Role.WORKER) -> Record:
    node = identity(number).node_id
    body = MemberRecord(node, 1, sequence, int(roles), "", ("/memory/x",), (), "", False, 1, 1, b"")
    return sign_record(identity(number), RecordKind.MEMBER, body)


def far(members: Membership, count: int = 1) -> list[int]:
    """Numbers of nodes outside of the cell."""
    return [number for number in range(2, 400) if not members.cell.holds(identity(number).node_id)][:count]


def digest(*jobs: FarJob, request: int = 0, nodes: int = 100, depth: int = DEPTH) -> CellDigest:
    return CellDigest(request, depth, nodes, 0, 0, 0, 0, jobs)


def test_each_contact_is_asked_once_an_interval_while_work_is_known_and_in_eight_while_none_is() -> None:
    aggregates, members, ctx = parts()
    contacts = members.circle.contacts
    assert len(contacts) == DEPTH * LAN.contacts_a_level
    asked: list[bytes] = []
    for second in range(3, 3 + 2 * LAN.rest_factor * LAN.cell_interval_us // SECOND):
        aggregates.tick(second * SECOND)
        asked += [effect.peer for effect in ctx.take_effects() if isinstance(effect, Send)]
    assert sorted(asked) == sorted(contacts * 2)
    began = second + 1
    [number] = far(members)
    aggregates.take(job_of(number).raw, 0, contacts[0], began * SECOND)
    asked.clear()
    for second in range(began, began + 2 * LAN.cell_interval_us // SECOND):
        aggregates.tick(second * SECOND)
        asked += [effect.peer for effect in ctx.take_effects() if isinstance(effect, Send)]
    assert sorted(asked) == sorted(contacts * 2)


def test_question_is_answered_once_and_an_answer_is_not() -> None:
    aggregates, members, ctx = parts()
    peer = members.circle.contacts[0]
    aggregates.on_message(peer, digest(request=5), SECOND)
    [answer] = ctx.take_effects()
    assert isinstance(answer, Send) and isinstance(answer.message, CellDigest) and answer.message.request == 0
    aggregates.on_message(peer, answer.message, SECOND)
    assert ctx.take_effects() == []


def test_far_job_grows_old_on_its_way_and_is_gone_in_the_end() -> None:
    aggregates, members, _ = parts()
    peer, [number] = members.circle.contacts[0], far(members)
    record = job_of(number)
    assert aggregates.on_message(peer, digest(FarJob(record.raw, 60)), 0)
    assert aggregates.far_jobs(0) == [record.body]
    told = aggregates._best_jobs(20 * SECOND)
    assert told == (FarJob(record.raw, 80),)
    assert not aggregates.on_message(peer, digest(told[0]), 20 * SECOND), "no news, and no younger by coming back"
    assert aggregates.far_jobs(30 * SECOND) == [] and aggregates._best_jobs(30 * SECOND) == ()
    assert not aggregates.on_message(peer, digest(FarJob(record.raw, 90)), 0)


def test_later_word_that_nothing_is_left_silences_earlier_word() -> None:
    aggregates, members, _ = parts()
    peer, [number] = members.circle.contacts[0], far(members)
    assert aggregates.take(job_of(number).raw, 0, peer, 0)
    assert not aggregates.take(job_of(number, 0, 2).raw, 0, peer, 1)
    assert not aggregates.take(job_of(number).raw, 0, peer, 2)
    assert aggregates.far_jobs(3) == []


def test_far_jobs_are_bounded_and_those_with_most_work_stay_and_are_told() -> None:
    aggregates, members, _ = parts()
    peer = members.circle.contacts[0]
    aggregates.knows = lambda _node: True
    for free, number in enumerate(far(members, FAR_JOBS_MAX + 10), 1):
        aggregates.take(job_of(number, free).raw, 0, peer, 0)
    frees = [body.free_tasks for body in aggregates.far_jobs(0)]
    assert frees == list(range(FAR_JOBS_MAX + 10, 10, -1))
    assert len(aggregates._best_jobs(0)) == FAR_JOBS_TOLD


def test_a_small_job_that_goes_first_is_told_before_many_large_ones_that_do_not() -> None:
    aggregates, members, _ = parts()
    peer = members.circle.contacts[0]
    aggregates.knows = lambda _node: True
    *others, urgent, risky = far(members, FAR_JOBS_MAX + 10)
    aggregates.take(job_of(urgent, 1, priority=7).raw, 0, peer, 0)
    aggregates.take(job_of(risky, 2, at_risk=True).raw, 0, peer, 0)
    for number in others:
        aggregates.take(job_of(number, 1000).raw, 0, peer, 0)
    assert [body.free_tasks for body in aggregates.far_jobs(0)][:3] == [1, 2, 1000]
    assert len(aggregates.far_jobs(0)) == FAR_JOBS_MAX
    told = [open_record(job.record).body.free_tasks for job in aggregates._best_jobs(0)]
    assert told == [1, 2, 1000, 1000]


def test_what_came_to_be_late_goes_first_of_what_is_far_no_more() -> None:
    aggregates, members, ctx = parts()
    peer, now_us = members.circle.contacts[0], 5 * SECOND
    aggregates.knows = lambda _node: True
    late, soon, later, vague, much = far(members, 5)
    due_us = ctx.wall_us(now_us)
    jobs = [(much, 1000, False, 0), (late, 1, True, 1), (vague, 2, True, 0), (later, 3, True, due_us + 1)]
    for number, free, at_risk, deadline_us in [*jobs, (soon, 4, True, due_us)]:
        aggregates.take(job_of(number, free, at_risk=at_risk, deadline_us=deadline_us).raw, 0, peer, 1)

    def told(at_us: int) -> list[int]:
        ranked = [body.free_tasks for body in aggregates.far_jobs(at_us)]
        assert [open_record(job.record).body.free_tasks for job in aggregates._best_jobs(at_us)] == ranked[:4]
        return ranked

    assert told(now_us - 1) == [4, 3, 2, 1000, 1]
    assert told(now_us) == [3, 2, 1000, 4, 1]
    assert told(now_us + 1) == [2, 1000, 4, 3, 1]


def test_one_author_takes_a_few_of_the_places_only_however_urgent_its_jobs_are() -> None:
    aggregates, members, _ = parts()
    peer = members.circle.contacts[0]
    loud, other = far(members, 2)
    for job in range(FAR_JOBS_MAX):
        aggregates.take(job_of(loud, 1 + job, job=job, priority=9).raw, 0, peer, 0)
    aggregates.take(job_of(other, priority=0).raw, 0, peer, 0)
    frees = [body.free_tasks for body in aggregates.far_jobs(0)]
    assert frees == [*range(FAR_JOBS_MAX, FAR_JOBS_MAX - FAR_JOBS_AN_AUTHOR, -1), 10]


def test_names_that_anybody_can_invent_leave_room_for_the_jobs_of_those_that_are_known() -> None:
    aggregates, members, _ = parts()
    peer = members.circle.contacts[0]
    *known, _ = numbers = far(members, 9)
    names = {identity(number).node_id for number in known}
    aggregates.knows = lambda node: node in names
    for number in known:
        aggregates.take(job_of(number, priority=0).raw, 0, peer, 0)
    for number in far(members, 9 + 2 * FAR_JOBS_MAX)[len(numbers) :]:
        aggregates.take(job_of(number, 1000, priority=9).raw, 0, peer, 0)
    told = aggregates.far_jobs(0)
    assert len(told) == FAR_JOBS_MAX and names <= {body.replica for body in told}


def test_job_of_one_that_is_known_not_to_be_a_replica_is_not_taken() -> None:
    aggregates, members, ctx = parts()
    peer, [number] = members.circle.contacts[0], far(members)
    for roles, taken in ((Role.WORKER, False), (Role.WORKER | Role.REPLICA, True)):
        aggregates._tables.merge(member_row(number, 1 + taken, roles).raw, peer, 0)
        assert aggregates.take(job_of(number).raw, 0, peer, 0) == taken
    assert not any(isinstance(effect, Penalise) for effect in ctx.take_effects())


def test_forged_job_is_a_fault_and_one_of_the_own_cell_is_none() -> None:
    aggregates, members, ctx = parts()
    peer, [number] = members.circle.contacts[0], far(members)
    raw = bytearray(job_of(number).raw)
    raw[-1] ^= 1
    assert not aggregates.take(bytes(raw), 0, peer, 0)
    assert ctx.take_effects() == [Penalise(peer, Reason.BAD_SIGNATURE)]
    mate = next(number for number in range(2, 60) if members.cell.holds(identity(number).node_id))
    assert not aggregates.take(job_of(mate).raw, 0, peer, 0)
    assert ctx.take_effects() == []


def test_one_who_exaggerates_does_not_move_the_estimate() -> None:
    aggregates, members, _ = parts()
    first, *others = members.circle.contacts
    for peer in others:
        aggregates.on_message(peer, digest(nodes=100), 0)
    aggregates.on_message(first, digest(nodes=1 << 20, depth=20), 0)
    assert aggregates.mesh_nodes() == 100 << DEPTH


def introduces(level: int, depth: int) -> bool:
    """Whether node 1, of depth 3, gives a peer of that depth, which shares so many first bits, its own row."""
    ctx = context(1, LAN)
    members = Membership(ctx, 1)
    members.cell.depth = DEPTH
    tables = Tables(ctx, lambda record, now_us: None, cell=members.cell)
    tables.put_own(member_row(1), 0)
    aggregates = Aggregates(ctx, members, tables, HeatBoard(ctx, tables, 1))
    nodes = (identity(number).node_id for number in range(2, 4000))
    peer = next(node for node in nodes if members.cell.level(node) == level)
    tables.peer_connected(peer, 0)
    ctx.take_effects()
    aggregates.on_message(peer, digest(depth=depth), SECOND)
    return Send(peer, TableRows(0, False, (member_row(1).raw,), (), (), ())) in ctx.take_effects()


def test_node_is_introduced_where_no_tables_tell_of_it() -> None:
    assert introduces(level=1, depth=3), "another cell"
    assert introduces(level=3, depth=4), "the half of its cell that it is not in"
    assert not introduces(level=3, depth=3), "its own cell"
    assert not introduces(level=4, depth=4), "its own half"
    assert not introduces(level=2, depth=2), "a cell that holds its own"
