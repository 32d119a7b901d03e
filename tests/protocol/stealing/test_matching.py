"""Who gets which tasks, and how many: the victim's whole decision."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.stealing.appetite import FOREVER_US, in_units_of
from hearthmesh.protocol.stealing.matching import (
    Fit,
    Work,
    bytes_to_come,
    deal,
    fit,
    half,
    in_line,
    preference,
    suitable,
)
from hearthmesh.protocol.stealing.urgency import Ask, by_urgency

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US

asks = st.builds(
    Ask,
    thief=st.binary(min_size=1, max_size=2),
    urgency_mkh=st.integers(0, 20_000),
    appetite_us=st.integers(0, 10 * HOUR_US),
    slots=st.integers(0, 8),
    longest_us=st.sampled_from((0, SECOND_US, HOUR_US, FOREVER_US)),
    speed_permille=st.integers(100, 10_000),
    price_micro=st.sampled_from((0, 10, 1000)),
    has=st.frozensets(st.binary(min_size=1, max_size=1), max_size=2),
    keeps=st.frozensets(st.binary(min_size=1, max_size=1), max_size=2),
)
works = st.builds(
    Work,
    job=st.binary(min_size=1, max_size=1),
    free=st.integers(0, 1000),
    task_us=st.integers(0, 2 * HOUR_US),
    checkpoint_us=st.sampled_from((0, SECOND_US, HOUR_US)),
    priority=st.integers(0, 9),
    at_risk=st.booleans(),
    price_limit_micro=st.sampled_from((0, 100)),
    deadline_us=st.sampled_from((0, HOUR_US)),
    since_us=st.integers(0, 100),
    blob_bytes=st.integers(0, 1 << 30),
    input_bytes=st.integers(0, 1 << 30),
)
many_asks = st.lists(asks, max_size=6, unique_by=lambda ask: ask.thief)
many_works = st.lists(works, max_size=5, unique_by=lambda work: work.job)

ROOM = Ask(b"room", 100, HOUR_US, 2, longest_us=60 * SECOND_US)
BOILER = Ask(b"boiler", 50, 8 * HOUR_US, 8)
SHORT = Work(b"short", 100, 10 * SECOND_US)
LONG = Work(b"long", 100, HOUR_US)
SAVED = Work(b"saved", 100, HOUR_US, checkpoint_us=20 * SECOND_US)


def test_long_tasks_go_to_the_boiler_and_short_ones_to_the_room() -> None:
    offered = [LONG, SAVED, SHORT]
    assert [work.job for work in suitable(offered, ROOM)] == [b"short", b"saved"]
    assert [work.job for work in suitable(offered, BOILER)] == [b"long", b"saved", b"short"]
    assert fit(LONG, ROOM) is Fit.TOO_LONG
    assert fit(SAVED, ROOM) is Fit.SAVES


def test_a_fast_node_may_take_what_is_too_long_for_a_slow_one() -> None:
    task = Work(b"task", 1, 90 * SECOND_US)
    assert fit(task, ROOM) is Fit.TOO_LONG
    assert fit(task, replace(ROOM, speed_permille=1500)) is Fit.FINISHES


def test_of_short_tasks_those_come_first_that_came_first() -> None:
    first, second = Work(b"b", 9, 900_000, since_us=1), Work(b"a", 9, 3_000, since_us=2)
    for ask in (ROOM, BOILER):
        assert suitable([second, first], ask) == [first, second]


def test_volunteer_work_waits_for_paid_and_paid_for_what_may_be_late() -> None:
    volunteer = replace(SHORT, job=b"v", priority=0)
    late = replace(SHORT, job=b"l", at_risk=True)
    timed = replace(SHORT, job=b"t", deadline_us=HOUR_US)
    assert [work.job for work in suitable([volunteer, SHORT, timed, late], ROOM)] == [b"l", b"t", b"short", b"v"]


def test_who_has_the_blobs_gets_that_job_first() -> None:
    later = replace(SHORT, job=b"later", since_us=1)
    assert suitable([SHORT, later], replace(ROOM, has=frozenset((b"later",))))[0] is later


def test_a_replica_has_the_inputs_too_and_others_fetch_each_task_s_own() -> None:
    fed = replace(SHORT, job=b"fed", blob_bytes=50_000_000, input_bytes=9_000_000)
    assert bytes_to_come(fed, ROOM) == 59_000_000
    assert bytes_to_come(fed, replace(ROOM, has=frozenset((b"fed",)))) == 9_000_000
    assert bytes_to_come(fed, replace(ROOM, keeps=frozenset((b"fed",)))) == 0
    # 9 s for each task are too many for who has the program alone, beside a job of which all comes in one second.
    near = replace(SHORT, blob_bytes=1_000_000)
    assert suitable([fed, near], replace(ROOM, has=frozenset((b"fed",))))[0] is near
    assert suitable([near, fed], replace(ROOM, keeps=frozenset((b"fed",))))[0] is fed


@given(works, asks, st.integers(0, 1 << 30), st.integers(0, 1 << 30))
def test_less_to_come_never_makes_a_job_worse(work: Work, ask: Ask, blob: int, own: int) -> None:
    heavier = replace(work, blob_bytes=work.blob_bytes + blob, input_bytes=work.input_bytes + own)
    assert bytes_to_come(work, ask) <= bytes_to_come(heavier, ask)
    assert preference(work, ask) <= preference(heavier, ask)
    assert preference(work, replace(ask, keeps=frozenset((work.job,)))) <= preference(work, ask)


def test_heatless_capacity_is_for_those_who_pay_and_are_in_a_hurry() -> None:
    centre = replace(BOILER, thief=b"centre", price_micro=40_000)
    paying = replace(SHORT, price_limit_micro=50_000)
    assert fit(paying, centre) is Fit.TOO_DEAR
    assert fit(replace(paying, at_risk=True), centre) is Fit.FINISHES
    assert fit(replace(paying, priority=8), centre) is Fit.FINISHES
    assert fit(replace(SHORT, priority=9, at_risk=True), centre) is Fit.TOO_DEAR
    assert fit(SHORT, replace(centre, price_micro=0)) is Fit.FINISHES


def test_what_may_be_late_waits_in_line_where_it_pays() -> None:
    soon = Work(b"soon", 4, 10 * SECOND_US, at_risk=True, price_limit_micro=50, deadline_us=1)
    later = replace(soon, job=b"later", unstarted=6, deadline_us=2)
    equal, calm = replace(later, job=b"equal", free=1, unstarted=0), replace(soon, job=b"calm", at_risk=False)
    poor = replace(soon, job=b"poor", price_limit_micro=30)
    offered = [later, calm, soon, poor, equal]
    ahead_s = {work.job: work.ahead_us // SECOND_US for work in in_line(offered, price_micro=40)}
    assert ahead_s == {b"soon": 0, b"later": 40 + 10, b"equal": 40 + 60, b"calm": 0, b"poor": 0}
    assert in_line(offered, price_micro=0) == offered


def test_the_last_slot_that_four_jobs_wait_for_is_paid_in_time_for_all() -> None:
    centre = replace(BOILER, slots=1, price_micro=40)
    jobs = [
        Work(bytes([n]), 1, HOUR_US, at_risk=True, price_limit_micro=50, deadline_us=1, left_us=5 * HOUR_US)
        for n in range(4)
    ]
    assert deal([centre], jobs[:2]) == []
    assert deal([centre], jobs) != []


def test_a_centre_whose_slots_run_but_one_is_no_centre_of_one_slot() -> None:
    # Eight tasks of an hour are one round of eight slots; and as much again while those that run are half done.
    job = Work(b"job", 8, HOUR_US, at_risk=True, price_limit_micro=50, deadline_us=1)
    idle = replace(BOILER, slots=8, price_micro=40)
    busy = replace(idle, slots=1, places=8, busy_us=4 * HOUR_US)

    def presses(ask: Ask, left_hours: float) -> bool:
        return fit(replace(job, left_us=int(left_hours * HOUR_US)), ask).good

    assert [presses(idle, hours) for hours in (3, 3.1)] == [True, False]
    assert [presses(busy, hours) for hours in (3.5, 3.6)] == [True, False]
    assert not presses(replace(busy, busy_us=0), 3.1) and presses(replace(idle, slots=1), 9)


def test_whoever_says_that_it_is_busy_for_ever_is_at_worst_a_place_of_one_slot() -> None:
    liar = Ask(b"liar", 1, HOUR_US, slots=1, price_micro=40, places=40, busy_us=1 << 62)
    job = Work(b"job", 3, HOUR_US, at_risk=True, price_limit_micro=50, deadline_us=1)

    def presses(ask: Ask, left_hours: float) -> bool:
        return fit(replace(job, left_us=int(left_hours * HOUR_US)), ask).good

    # Three tasks there, one after another, and two for the last place that wants heat.
    assert [presses(liar, hours) for hours in (5, 5.1, 10)] == [True, False, False]
    alone = replace(liar, places=1, busy_us=0)
    assert [presses(alone, hours) for hours in (5, 5.1, 10)] == [True, False, False]


def test_the_coldest_gets_half_and_the_next_half_of_the_rest() -> None:
    thieves = [Ask(bytes([n]), urgency_mkh=n, appetite_us=10 * HOUR_US, slots=1) for n in range(1, 4)]
    shares = deal(thieves, [replace(SHORT, free=80)])
    assert [(share.thief, share.count) for share in shares] == [(b"\3", 40), (b"\2", 20), (b"\1", 10)]


def test_nobody_gets_more_than_it_can_burn() -> None:
    shares = deal([replace(ROOM, appetite_us=35 * SECOND_US)], [SHORT])
    assert [share.count for share in shares] == [3]
    assert deal([replace(ROOM, appetite_us=0)], [SHORT]) == []


def test_an_appetite_that_one_job_does_not_fill_goes_on_to_the_next() -> None:
    shares = deal([BOILER], [replace(LONG, free=4), SHORT], jobs_each=2)
    assert [(share.job, share.count) for share in shares] == [(b"long", 2), (b"short", 50)]


@given(many_asks, many_works)
def test_what_is_dealt_is_there_fits_and_can_be_burnt(hungry: list[Ask], offered: list[Work]) -> None:
    shares = deal(hungry, offered, jobs_each=3)
    by_job, by_thief = {work.job: work for work in offered}, {ask.thief: ask for ask in hungry}
    for work in offered:
        assert sum(share.count for share in shares if share.job == work.job) <= work.free
    for ask in hungry:
        mine = [share for share in shares if share.thief == ask.thief]
        eaten = [s.count * in_units_of(by_job[s.job].task_us, ask.speed_permille) for s in mine]
        # The last task may be begun with any appetite left.
        last_us = in_units_of(by_job[mine[-1].job].task_us, ask.speed_permille) if mine else 0
        assert sum(eaten) <= ask.appetite_us + last_us
    for share in shares:
        assert share.count > 0
        assert fit(by_job[share.job], by_thief[share.thief]).good


@given(many_asks, many_works, st.permutations(range(5)), st.permutations(range(6)))
def test_the_order_of_asks_and_jobs_does_not_matter(
    hungry: list[Ask], offered: list[Work], of_jobs: list[int], of_asks: list[int]
) -> None:
    distinct = [replace(work, since_us=at) for at, work in enumerate(offered)]
    other_works = [distinct[at] for at in of_jobs if at < len(distinct)]
    other_asks = [hungry[at] for at in of_asks if at < len(hungry)]
    assert deal(hungry, distinct) == deal(other_asks, other_works)


@given(many_works, st.integers(0, 20_000), st.integers(1, 20_000))
def test_of_two_equals_the_more_urgent_gets_no_less(offered: list[Work], urgency: int, more: int) -> None:
    warm = Ask(b"warm", urgency, 5 * HOUR_US, 4)
    cold = Ask(b"cold", urgency + more, 5 * HOUR_US, 4)
    shares = deal([warm, cold], [replace(work, price_limit_micro=0) for work in offered])
    first = [share for share in shares if share.thief == b"cold"]
    second = [share for share in shares if share.thief == b"warm"]
    assert by_urgency([warm, cold])[0] is cold
    if second and first and first[0].job == second[0].job:
        assert first[0].count >= second[0].count
    assert first or not second


@given(works, asks)
def test_half_is_at_least_a_task_and_at_most_half(work: Work, ask: Ask) -> None:
    count = half(work, ask)
    assert count <= -(-work.free // 2)
    assert (count == 0) == (work.free == 0 or ask.slots == 0 or ask.appetite_us == 0)
