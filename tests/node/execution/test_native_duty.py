from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.execution.native_duty import MAX_CREDIT_US, PERIOD_US, DutyCycle


def simulate(duty: float, threads: float, overrun_us: int, periods: int) -> float:
    """The share of a core that a task gets which uses `threads` cores, and stops late, in each slice."""
    cycle, cpu_us = DutyCycle(), 0.0
    for period in range(periods):
        slice_us = cycle.slice_us(duty, PERIOD_US if period else 0, round(cpu_us))
        assert 0 <= slice_us <= PERIOD_US
        if slice_us:
            cpu_us += min(slice_us + overrun_us, PERIOD_US) * threads
    return cpu_us / (periods * PERIOD_US)


@given(duty=st.floats(0.05, 0.99), threads=st.floats(1.0, 8.0), overrun_us=st.integers(0, 30_000))
def test_a_task_that_never_waits_gets_its_share_whatever_its_threads_and_delays(
    duty: float, threads: float, overrun_us: int
) -> None:
    assert abs(simulate(duty, threads, overrun_us, 3000) - duty) < 0.02


@given(duty=st.floats(0.05, 0.99), threads=st.floats(0.0, 0.04))
def test_a_task_that_needs_less_than_its_share_is_hardly_paused(duty: float, threads: float) -> None:
    assert simulate(duty, threads, 0, 1000) >= threads * 0.95


def test_waiting_earns_one_period_at_most() -> None:
    cycle = DutyCycle()
    cycle.slice_us(0.5, 0, 0)
    assert cycle.slice_us(0.5, 60_000_000, 0) == PERIOD_US
    assert cycle.slice_us(0.5, 0, MAX_CREDIT_US + PERIOD_US) == 0


def test_full_duty_is_never_paused_and_owes_nothing() -> None:
    cycle = DutyCycle()
    assert cycle.slice_us(1.0, 0, 0) == PERIOD_US
    assert cycle.slice_us(1.0, PERIOD_US, 8 * PERIOD_US) == PERIOD_US
    assert cycle.slice_us(0.3, 0, 8 * PERIOD_US) == 30_000


def test_zero_duty_never_runs() -> None:
    cycle = DutyCycle()
    assert [cycle.slice_us(0.0, PERIOD_US, 0) for _ in range(50)] == [0] * 50
