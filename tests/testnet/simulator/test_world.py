"""The parts of the world, each alone."""

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.config import ProtocolConfig
from hearthmesh.protocol.effects import Persist
from hearthmesh.protocol.row_facts import KEPT, kept_most
from hearthmesh.testnet.simulator.clock import Clock
from hearthmesh.testnet.simulator.dice import machine_dice, stream
from hearthmesh.testnet.simulator.disk import Disk
from hearthmesh.testnet.simulator.engine import Engine
from hearthmesh.testnet.simulator.memory import FACTS_MAX, remembering
from hearthmesh.testnet.simulator.trace import Trace

WRITES = tuple(Persist(bytes(32), 1, bytes([number]), b"body") for number in range(5))


def test_what_is_planned_for_one_time_happens_in_the_order_of_planning() -> None:
    engine, seen = Engine(0), list[str]()
    engine.at(5, seen.append, "second")
    engine.at(3, seen.append, "first")
    engine.at(5, seen.append, "third")
    engine.at(9, seen.append, "too late")
    engine.run(8)
    assert seen == ["first", "second", "third"]
    assert engine.now_us == 8 and len(engine) == 1


@given(st.integers(-50_000, 50_000), st.integers(0, 10**12), st.integers(1, 10**12))
def test_a_timer_fires_at_the_first_moment_at_which_its_own_clock_shows_it(drift: int, origin: int, local: int) -> None:
    clock = Clock(drift_ppm=drift, origin_us=origin)
    at_us = clock.true_us(local)
    assert clock.local_us(at_us) >= local
    assert at_us == origin or clock.local_us(at_us - 2) < local


def test_a_crash_keeps_a_first_part_of_the_commit_on_its_way() -> None:
    kept = set()
    for seed in range(60):
        disk = Disk(syncing=WRITES)
        disk.crash(stream(seed, "disk"))
        assert list(disk.rows) == [(bytes(32), 1, bytes([number])) for number in range(len(disk.rows))]
        kept.add(len(disk.rows))
    assert kept == set(range(6))


def test_what_was_synced_survives() -> None:
    disk = Disk(syncing=WRITES)
    disk.sync()
    disk.crash(stream(1, "disk"))
    assert len(disk.rows) == 5


def test_streams_of_different_purposes_share_nothing() -> None:
    one, other = stream(1, "network"), stream(1, "disk")
    before = stream(1, "disk").random()
    one.random()
    assert other.random() == before


@given(st.integers(0, 1 << 40), st.integers(1, 1000))
def test_a_machines_dice_stay_within_their_range(seed: int, stop: int) -> None:
    dice = machine_dice(seed, "mesh")
    assert all(0 <= dice.randrange(stop) < stop for _ in range(20))
    assert all(3 <= dice.randrange(3, 3 + stop) < 3 + stop for _ in range(20))


def test_a_trace_tells_the_order_of_events() -> None:
    one, other = Trace(), Trace()
    for trace, order in ((one, (1, 2)), (other, (2, 1))):
        for number in order:
            trace.add(10, number, 0, 0)
    assert one.events == other.events == 2
    assert one.digest != other.digest


def test_only_a_process_that_plays_many_nodes_remembers_the_rows_of_many() -> None:
    assert kept_most() == KEPT == 4 * ProtocolConfig().table_entries_max
    with remembering():
        assert kept_most() == FACTS_MAX
    assert kept_most() == KEPT
