"""Nobody gets more than its part of what is left, by what each delivers; two that are alike end together."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.config import LAN
from hearthmesh.protocol.effects import Effect, Execute
from hearthmesh.protocol.events import SubmitJob
from hearthmesh.protocol.progress import HOLDERS_MAX, SLOTS_COUNTED_MAX, Progress
from tests.protocol.cluster import MS, SECOND, Cluster, SimNode, cold

A, B, C = (bytes([letter]) * 32 for letter in b"abc")


def test_without_news_the_parts_are_equal() -> None:
    progress = Progress()
    assert progress.fair_share(A, 1, 100, {}, 50 * MS, 0) == 100
    assert progress.fair_share(B, 1, 60, {A: 40}, 0, 0) == 50
    assert progress.fair_share(A, 1, 60, {A: 40}, 0, 0) == 60
    assert progress.fair_share(B, 1, 10, {A: 20, B: 50}, 0, 0) == 0


def test_what_a_holder_has_done_since_it_was_heard_of_counts_as_done() -> None:
    progress = Progress()
    progress.began(A, 0, had=False)
    assert progress.fair_share(B, 1, 20, {A: 20}, 50 * MS, 500 * MS) == 15
    progress.delivered(A, 10, 500 * MS)
    assert progress.fair_share(B, 1, 20, {A: 10}, 50 * MS, 500 * MS) == 15
    # What it was given while it had some does not begin until that is done.
    progress.began(A, 600 * MS, had=True)
    assert progress.fair_share(B, 1, 0, {A: 20}, 50 * MS, SECOND) == 5


def test_a_room_at_a_quarter_of_a_core_gets_a_fifth_beside_a_whole_one() -> None:
    progress = Progress()
    for holder in (A, B):
        progress.began(holder, 0, had=False)
    progress.delivered(A, 5, SECOND)
    progress.delivered(B, 20, SECOND)
    assert progress.task_us(A, 1) == 200 * MS and progress.task_us(B, 1) == 50 * MS
    assert progress.fair_share(A, 1, 100, {}, 50 * MS, SECOND) == 100
    held = {B: 0}
    assert progress.fair_share(A, 1, 100, held, 50 * MS, SECOND) == 20
    assert progress.fair_share(B, 1, 100, {A: 0}, 50 * MS, SECOND) == 80


def test_a_rack_of_four_slots_counts_for_four_before_anybody_saw_it_work() -> None:
    assert Progress().fair_share(A, 4, 100, {B: 0}, 50 * MS, 0) == 80


def test_half_of_what_a_holder_did_is_forgotten_with_each_delivery() -> None:
    progress = Progress()
    progress.began(A, 0, had=False)
    now_us = 0
    for each_us in (100 * MS, 50 * MS, 50 * MS, 50 * MS, 50 * MS):
        now_us += 10 * each_us
        progress.delivered(A, 10, now_us)
    assert 50 * MS < progress.task_us(A, 1) < 55 * MS


def node(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_it_forgets_first_of_whom_it_heard_longest_ago() -> None:
    progress = Progress()
    for number in range(HOLDERS_MAX):
        progress.began(node(number), 0, had=False)
    progress.delivered(node(0), 10, SECOND)
    progress.began(node(1), SECOND, had=True)
    for number in range(HOLDERS_MAX, HOLDERS_MAX + 10):
        progress.began(node(number), SECOND, had=False)
    assert len(progress._holders) == HOLDERS_MAX
    assert progress.task_us(node(0), 1) == 100 * MS and node(1) in progress._holders
    assert not {node(number) for number in range(2, 12)} & set(progress._holders)


def test_nobody_is_believed_to_be_faster_than_the_biggest_rack() -> None:
    """Ten results a microsecond after their grant are worth as much as the node that sent them."""
    progress = Progress()
    progress.began(A, 0, had=False)
    progress.delivered(A, 10, 1)
    assert progress.task_us(A, 50 * MS) == 50 * MS // SLOTS_COUNTED_MAX


def test_what_is_caught_up_with_at_one_moment_tells_nothing_of_speed() -> None:
    progress = Progress()
    progress.began(A, SECOND, had=False)
    progress.delivered(A, 10, SECOND)
    assert progress.task_us(A, 50 * MS) == 50 * MS


news = st.tuples(st.sampled_from([A, B, C]), st.booleans(), st.integers(0, 1 << 40), st.integers(-SECOND, 1 << 50))


@given(
    st.lists(news, max_size=20),
    st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 1 << 40), max_size=3),
    st.integers(0, 1 << 40),
    st.integers(0, 1 << 17),
    st.integers(0, 1 << 50),
    st.integers(-SECOND, 1 << 51),
)
def test_a_share_is_within_what_there_is(
    told: list[tuple[bytes, bool, int, int]],
    held: dict[bytes, int],
    free: int,
    slots: int,
    task_us: int,
    now_us: int,
) -> None:
    progress = Progress()
    for holder, began, tasks, at_us in told:
        if began:
            progress.began(holder, at_us, had=tasks % 2 == 0)
        else:
            progress.delivered(holder, tasks, at_us)
    for thief in (A, B, C):
        share = progress.fair_share(thief, slots, free, held, task_us, now_us)
        assert 0 <= share <= free + sum(held.values())
        if set(held) <= {thief}:
            assert share == free


# -- all of it, in virtual time ------------------------------------------------------------------------------


class Race(Cluster):
    """Two workers of one slot; what each takes for a task varies by 3 %. slower: how much slower the first one is."""

    def __init__(self, seed: int, slower: int) -> None:
        super().__init__(seed=seed, config=LAN, task_us=50 * MS)
        self._noise = Random(seed)
        self._slower = slower
        for number in range(3):
            self.add(f"r{number}", Role.REPLICA)
        self._racers = [self.add(f"w{number}", Role.WORKER, cold()) for number in range(2)]
        self._client = self.client()
        self.ended_us: dict[str, int] = {}
        self.executions = 0

    def _perform(self, node: SimNode, effect: Effect) -> None:
        if not isinstance(effect, Execute):
            super()._perform(node, effect)
            return
        self.executions += 1
        node.executions[effect.execution_id] = effect
        took_us = round(effect.count * self.task_us * self._noise.uniform(0.97, 1.03)) + 3 * MS
        took_us *= self._slower if node is self._racers[0] else 1
        self.ended_us[node.name] = self.now_us + took_us
        self.at(took_us, lambda: self._finish(node, effect))

    def run_job(self, tasks: int) -> int:
        """How long it took: microseconds."""
        self.run(20 * SECOND)
        began_us = self.now_us
        spec = self.spec(tasks, certificate=self._client.mesh.ctx.certificate)
        self.feed(self._client, SubmitJob(spec, follow=True))
        self.run_until(lambda: len(self._client.results) == tasks)
        return self.now_us - began_us


def test_two_alike_end_together_and_with_few_batches() -> None:
    races = [Race(seed, 1) for seed in range(6)]
    for race in races:
        race.run_job(200)
    apart_us = [abs(race.ended_us["w0"] - race.ended_us["w1"]) for race in races]
    assert sum(apart_us) / len(apart_us) < 100 * MS
    assert max(race.executions for race in races) <= 24


def test_a_keeper_that_slept_takes_nobody_for_slow() -> None:
    race = Race(1, 1)
    race.run(20 * SECOND)
    spec = race.spec(2_000, certificate=race._client.mesh.ctx.certificate)
    race.feed(race._client, SubmitJob(spec, follow=True))
    race.run(5 * SECOND)
    keeper = next(iter(race.nodes.values()))
    (kept,) = keeper.mesh.replica.jobs.values()
    workers = [each.id for each in race._racers]
    assert all(kept.progress.task_us(worker, 0) < 100 * MS for worker in workers)
    keeper.frozen = True
    race.run(60 * SECOND)
    race.thaw(keeper)
    race.run(2 * SECOND)
    assert all(kept.progress.task_us(worker, 50 * MS) < 100 * MS for worker in workers)


@pytest.mark.parametrize("slower", [2, 4])
def test_a_slow_room_is_not_waited_for(slower: int) -> None:
    for seed in range(4):
        ideal_us = 200 * 50 * MS * slower // (slower + 1)
        assert Race(seed, slower).run_job(200) < 1.15 * ideal_us
