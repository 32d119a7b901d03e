"""Paid work before volunteer work before burning; and no joule is lost or counted twice."""

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.loads import Load, LoadMeter, LoadShares, divide_load

watts = st.floats(0, 1e5)
us = st.integers(0, 1 << 40)


def test_paid_work_comes_first_and_burning_last() -> None:
    assert divide_load(500, 300, 100, 400) == LoadShares(300, 100, 100, 0)
    assert divide_load(500, 600, 100, 400) == LoadShares(500, 0, 0, 0)
    assert divide_load(500, 100, 100, 0) == LoadShares(100, 100, 0, 300)


@given(watts, watts, watts, watts)
def test_later_kind_is_taken_only_when_the_earlier_is_used_up(
    request_w: float, paid_w: float, volunteer_w: float, burn_w: float
) -> None:
    found = divide_load(request_w, paid_w, volunteer_w, burn_w)
    assert abs(found.total_w + found.missing_w - request_w) <= 1e-9 * max(1.0, request_w)
    assert found.volunteer_w == 0 or found.paid_w == paid_w
    assert found.burn_w == 0 or found.volunteer_w == volunteer_w
    assert found.missing_w == 0 or found.burn_w == burn_w


@given(st.lists(st.tuples(us, st.dictionaries(st.sampled_from(Load), us), us), max_size=20))
def test_meters_add_up_to_the_whole(steps: list[tuple[int, dict[Load, int], int]]) -> None:
    meter = LoadMeter()
    for total_uj, cpu_us, standby_uj in steps:
        before = LoadMeter(meter.paid_uj, meter.volunteer_uj, meter.burn_uj, meter.standby_uj)
        meter.add(total_uj, cpu_us, standby_uj)
        assert meter.total_uj - before.total_uj == total_uj
        assert meter.paid_uj >= before.paid_uj and meter.volunteer_uj >= before.volunteer_uj
        assert meter.burn_uj >= before.burn_uj and meter.standby_uj >= before.standby_uj


def test_energy_goes_by_cpu_time() -> None:
    meter = LoadMeter()
    meter.add(1000, {Load.PAID: 3, Load.VOLUNTEER: 1}, standby_uj=200)
    assert meter == LoadMeter(paid_uj=600, volunteer_uj=200, burn_uj=0, standby_uj=200)
