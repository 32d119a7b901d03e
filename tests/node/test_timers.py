"""The driver's timers do what a plain mapping would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.timers import STALE_MAX, Timers

KEYS = [(name, b"") for name in "abcd"]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.none() | st.integers(0, 50), st.integers(0, 50))))
def test_timers_fire_as_a_search_over_all_of_them_would(
    steps: list[tuple[tuple[str, bytes], int | None, int]],
) -> None:
    timers, plain = Timers(), dict[tuple[str, bytes], int]()
    for key, at_us, now_us in steps:
        if at_us is None:
            timers.cancel(key)
            plain.pop(key, None)
        else:
            timers.set(key, at_us)
            plain[key] = at_us
        assert timers.next_us() == min(plain.values(), default=None)
        fired = timers.pop_due(now_us)
        if fired is None:
            assert all(due_us > now_us for due_us in plain.values())
        else:
            assert plain[fired] == min(plain.values()) <= now_us
            del plain[fired]
        assert len(timers) == len(plain)


def test_what_was_set_anew_is_not_kept_for_ever() -> None:
    timers = Timers()
    for key in KEYS:
        for at_us in range(10_000, 0, -1):
            timers.set(key, at_us)
    assert len(timers._heap) <= 2 * len(KEYS) + STALE_MAX
    assert [timers.pop_due(1) for _ in range(5)] == [*KEYS, None]
