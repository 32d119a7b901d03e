"""Capacity whose heat nobody wants: who may use it, and what it costs.

A data centre, or a heater in summer, may ask a price. A job pays it if it names one that is as high, and if it is in
a hurry: it is urgent, or would miss its deadline where the heat is wanted. What costs nothing is anybody's.
"""

from __future__ import annotations

from .appetite import STRETCH_MAX

# Priorities from here on are urgent.
URGENT = 8
# A deadline is at risk if this many times the time that the rest needs is more than what is left.
MARGIN = 1.25
# What may pass until one that a job pays finds it: it keeps up its lifelines after 80 s, digests are said again each
# 20 s, and whoever was refused looks around each 2 to 8 s.
NEWS_US = 120_000_000
_US_PER_HOUR = 3_600_000_000


def due_us(deadline_us: int, now_us: int) -> int:
    """A deadline while it can be met, else 0: what is late goes on as work that has none."""
    return deadline_us if deadline_us > now_us else 0


def is_at_risk(
    *,
    now_us: int,
    created_us: int,
    deadline_us: int,
    done: int,
    tasks: int,
    begun_us: int,
    task_us: int = 0,
    free: int = 0,
    paid: bool = False,
) -> bool:
    """Whether a job will miss its deadline at the rate so far, or as some of it is not even begun.

    now_us, created_us, deadline_us, begun_us: on one clock; deadline_us 0: none.  done of tasks, since the first of
    them was given to somebody; begun_us 0: none was.  task_us: the mean, 0 if unknown.  free: tasks that nobody has.
    paid: capacity of a price has some of it, or had.
    Not in the first half of its time: until then it may just wait for others that are due sooner. After that it is if
    nothing is done yet. What it waited before it was begun says nothing of its rate; and its rate says nothing of what
    would come of it without what is paid, nor of tasks that nobody has when it is time to begin the last.
    Nor is it any more when the deadline is over: what goes first, and what is paid, bring it back no more.
    """
    left_us = due_us(deadline_us, now_us) - now_us
    if left_us <= 0 or done >= tasks or now_us - created_us <= left_us:
        return False
    if free > 0 and (paid or is_pressing(left_us=left_us, task_us=task_us, free=1, slots=1)):
        return True
    return done <= 0 or begun_us <= 0 or (now_us - begun_us) * (tasks - done) * MARGIN > left_us * done


def is_pressing(*, left_us: int, task_us: int, free: int, slots: int, ahead_us: int = 0) -> bool:
    """Whether a job at risk would be late if it waited any longer for places where its heat is wanted.

    left_us: until its deadline, 0 if unknown.  task_us: the mean there, 0 if unknown.  free: tasks of the job that
    nobody has.  slots: that run some there, if not now.  ahead_us: CPU time there of what runs and goes before there.
    The last place where heat is wanted that a task goes to may take `STRETCH_MAX` times as long for it, in which a slot
    that is paid ends it too; and `NEWS_US` may pass until that one has asked.
    """
    there_us = (free * task_us + ahead_us) / max(1, slots)
    return task_us <= 0 or left_us <= STRETCH_MAX * task_us + there_us + NEWS_US


def pays(*, price_micro: int, limit_micro: int, priority: int, at_risk: bool) -> bool:
    """Whether a job may use capacity of a price. limit_micro: the most that it pays for an hour of CPU."""
    if price_micro <= 0:
        return True
    return price_micro <= limit_micro and (at_risk or priority >= URGENT)


def cost_micro(cpu_us: int, price_micro: int) -> int:
    """What CPU time costs, in millionths of the currency, rounded up."""
    return -(-max(0, cpu_us) * max(0, price_micro) // _US_PER_HOUR)
