"""The PI law: within its bounds, no offset in the end, and off a limit as soon as the error says so."""

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.pi import PiController, PiSettings
from tests.node.heating.control.lumped import Lumped

SETTINGS = PiSettings(gain_w_per_k=500.0, integral_s=7200.0, capacity_w=500.0)
steps = st.lists(
    st.tuples(st.floats(-30, 30), st.floats(0, 7200), st.floats(-200, 700), st.floats(0, 800)), max_size=40
)


@given(steps)
def test_output_and_integral_stay_within_their_bounds(path: list[tuple[float, float, float, float]]) -> None:
    control = PiController(SETTINGS)
    for error_k, duration_s, feed_w, limit_w in path:
        assert 0 <= control.update(error_k, duration_s, feed_w, limit_w) <= min(limit_w, 500.0)
        assert abs(control.integral_w) <= 500.0


def heated(control: PiController, start_c: float, hours: float, limit_w: float = 500.0) -> tuple[float, float]:
    """Last and highest temperature of the room under the control."""
    room, highest_c = Lumped(20.0, 4.62e6, start_c), start_c
    for _ in range(round(hours * 60)):
        power_w = control.update(20.0 - room.temperature_c, 60.0, 0.0, limit_w)
        room.step(power_w, 5.0, 60.0)
        highest_c = max(highest_c, room.temperature_c)
    return room.temperature_c, highest_c


def test_room_settles_at_its_setpoint_and_not_below() -> None:
    settled_c, highest_c = heated(PiController(SETTINGS), 15.0, 100)
    assert abs(settled_c - 20.0) < 0.01
    assert highest_c < 20.3
    proportional_c, _ = heated(PiController(PiSettings(500.0, 0.0, 500.0)), 15.0, 100)
    assert proportional_c < 19.5


def test_feed_forward_leaves_the_integral_nothing_to_do() -> None:
    control, room = PiController(SETTINGS), Lumped(20.0, 4.62e6, 20.0)
    for _ in range(600):
        room.step(control.update(20.0 - room.temperature_c, 60.0, 300.0, 500.0), 5.0, 60.0)
    assert abs(room.temperature_c - 20.0) < 1e-9
    assert abs(control.integral_w) < 1e-6


@given(st.floats(0, 500), st.floats(1, 1e6), st.floats(0.01, 30), st.integers(1, 50))
def test_hours_at_a_limit_are_not_remembered(limit_w: float, duration_s: float, error_k: float, times: int) -> None:
    """However long it was held down, the integral asks for no more than what was let through."""
    control = PiController(SETTINGS)
    for _ in range(times):
        control.update(error_k, duration_s, 0.0, limit_w)
    assert control.integral_w <= limit_w
    assert control.update(-limit_w / 500.0 - 1e-6, 0.0, 0.0, 500.0) == 0.0


def test_controller_that_followed_takes_over_without_a_bump() -> None:
    control = PiController(SETTINGS)
    control.track(error_k=0.2, feed_forward_w=100.0, output_w=260.0)
    assert abs(control.update(0.2, 0.0, 100.0, 500.0) - 260.0) < 1e-9
