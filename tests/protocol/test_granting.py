"""Sections tile the tasks, dead ranks are taken over by one, and a thief gets at most half."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.config import LAN
from hearthmesh.protocol.granting import controlled_sections, section, steal_half

members = st.lists(st.integers(0, 255).map(lambda n: bytes([n]) * 32), min_size=1, max_size=7, unique=True)


@given(st.integers(1, 7), st.integers(1, 1_000_000))
def test_sections_of_all_ranks_tile_the_tasks(replicas: int, tasks: int) -> None:
    parts = [section(rank, replicas, tasks) for rank in range(replicas)]
    assert parts[0][0] == 0 and parts[-1][1] == tasks
    assert all(left[1] == right[0] for left, right in zip(parts, parts[1:], strict=False))


@given(members, st.integers(1, 1000), st.data())
def test_living_replicas_that_agree_on_the_dead_control_each_task_once(
    nodes: list[bytes], tasks: int, data: st.DataObject
) -> None:
    dead = data.draw(st.lists(st.sampled_from(nodes), unique=True, max_size=len(nodes) - 1))
    controlled: list[int] = []
    for node in nodes:
        if node not in dead:
            for lo, hi in controlled_sections(nodes, tasks, node, lambda other: other not in dead):
                controlled.extend(range(lo, hi))
    assert sorted(controlled) == list(range(tasks))


@given(st.integers(0, 10**7), st.integers(0, 10**12), st.integers(0, 10**7), st.integers(0, 64), st.integers(1, 64))
def test_a_thief_gets_half_or_a_batch_and_what_it_can_burn(
    free: int, appetite_us: int, task_us: int, slots: int, first: int
) -> None:
    config = replace(LAN, batch_tasks_first=first)
    given_tasks = steal_half(free, appetite_us, task_us, slots, config)
    half = (free + 1) // 2
    assert given_tasks <= min(free, config.grant_tasks_max)
    # More than half only where half would be less than a batch a slot, and then that.
    assert given_tasks <= half or given_tasks * task_us <= slots * config.batch_target_us
    assert (given_tasks == 0) == (free == 0 or slots == 0)
    if given_tasks and task_us:
        assert given_tasks <= max(slots, appetite_us // task_us, 1)
    if given_tasks and not task_us:
        assert given_tasks <= min(half, slots * first)


def test_half_of_one_task_is_the_task() -> None:
    assert steal_half(1, 10**9, 0, 1, LAN) == 1


def test_the_last_few_tasks_go_in_one_grant() -> None:
    assert steal_half(10, 10**9, LAN.batch_target_us // 10, 1, LAN) == 10
    assert steal_half(40, 10**9, LAN.batch_target_us // 10, 1, LAN) == 20


def test_nobody_is_given_more_than_its_part_of_what_is_unfinished_if_that_is_worth_a_message() -> None:
    assert steal_half(40, 10**9, LAN.batch_target_us // 10, 1, LAN, 6) == 6
    assert steal_half(40, 10**9, LAN.batch_target_us // 10, 4, LAN, 0) == 4
    short_us = LAN.batch_floor_us // 20
    assert steal_half(1000, 10**9, short_us, 1, LAN, 0) == 20
    assert steal_half(1000, 10**9, short_us, 1, LAN, 30) == 30
