"""Which tasks go to which sink, and how many: the whole decision of a victim with work and of those that ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from .appetite import in_units_of, is_steady
from .pricing import is_pressing, pays
from .urgency import Ask, by_urgency

# What a blob's way through the mesh brings, where nothing was measured: a slow uplink.
BYTES_PER_S = 1_000_000
# Below this all tasks count as equally short.
SHORT_US = 1_000_000
# Later than any deadline.
_NEVER_US = 1 << 63
# As of `standing`; less goes first.
Standing = tuple[int, bool, int]


@dataclass(frozen=True, slots=True)
class Work:
    """Tasks of one job that a victim may give.

    job: its name.  free: how many.  task_us: CPU time of one on the mean node, 0 if unknown.  checkpoint_us: most CPU
    time between two of its checkpoints, 0 if it makes none.  priority: 0 (volunteer) to 9.  at_risk: of missing its
    deadline.  price_limit_micro: see `pays`.  deadline_us, since_us: order equals; deadline_us 0: none, or it is over,
    see `due_us`.  blob_bytes: what whoever has not got the job's blobs has to fetch before it can begin.  input_bytes:
    what each task needs of its own; all but the job's replicas have to fetch it.  left_us: until its deadline, 0 if it
    is over or unknown.  unstarted: tasks of the job that nobody has, wherever they lie; 0 if no more are known of than
    are free.  ahead_us: see `in_line`.
    """

    job: bytes
    free: int
    task_us: int
    checkpoint_us: int = 0
    priority: int = 5
    at_risk: bool = False
    price_limit_micro: int = 0
    deadline_us: int = 0
    since_us: int = 0
    blob_bytes: int = 0
    input_bytes: int = 0
    left_us: int = 0
    unstarted: int = 0
    ahead_us: int = 0

    @property
    def to_start_us(self) -> int:
        """CPU time of what nobody has."""
        return max(self.free, self.unstarted) * self.task_us


def transfer_us(size_bytes: int, bytes_per_s: int = BYTES_PER_S) -> int:
    """Time that blobs take to another node; 0 for what it has."""
    return max(0, size_bytes) * 1_000_000 // max(1, bytes_per_s)


def bytes_to_come(work: Work, ask: Ask) -> int:
    """What has to come before the first task can begin there: nothing to a replica of the job, only the task's own
    input to who has run some of it."""
    if work.job in ask.keeps:
        return 0
    return work.input_bytes + (0 if work.job in ask.has else work.blob_bytes)


class Fit(StrEnum):
    """Whether tasks may go to a sink, and why, or why not."""

    FINISHES = "ends before the sink is full"
    SAVES = "can be saved and moved before the sink is full"
    TOO_LONG = "too long for the sink"
    TOO_DEAR = "nobody wants the heat there, and the job does not pay for that"

    @property
    def good(self) -> bool:
        return self in (Fit.FINISHES, Fit.SAVES)


def fit(work: Work, ask: Ask) -> Fit:
    """A task is taken only if it can end, or be saved and moved, before the sink is full. Unknown lengths pass."""
    task_us = in_units_of(work.task_us, ask.speed_permille)
    if ask.price_micro > 0:
        free = max(work.free, work.unstarted)
        ahead_us = in_units_of(work.ahead_us, ask.speed_permille)
        places = max(1, ask.slots, ask.places)
        # Whoever asks has a slot, on which it would all end in turn, however long it says that the others are busy.
        busy_us = min(ask.busy_us, (free * task_us + ahead_us) * (places - 1))
        presses = work.at_risk and is_pressing(
            left_us=work.left_us,
            task_us=task_us,
            free=free,
            slots=places,
            ahead_us=ahead_us + busy_us,
        )
        limit = work.price_limit_micro
        if not pays(price_micro=ask.price_micro, limit_micro=limit, priority=work.priority, at_risk=presses):
            return Fit.TOO_DEAR
    if is_steady(ask.longest_us) or task_us <= ask.longest_us:
        return Fit.FINISHES
    if 0 < in_units_of(work.checkpoint_us, ask.speed_permille) <= ask.longest_us:
        return Fit.SAVES
    return Fit.TOO_LONG


def in_line(works: Sequence[Work], price_micro: int) -> list[Work]:
    """The same, each at risk with what goes before it where that price is paid: all that is at risk as well, and due no
    later. One slot cannot be the last that each of several jobs waits for."""
    if price_micro <= 0:
        return list(works)
    ahead_us: dict[int, int] = {}
    risky = [work for work in works if work.at_risk and work.price_limit_micro >= price_micro]
    together_us = 0
    for work in sorted(risky, key=lambda each: each.deadline_us):
        together_us += work.to_start_us
        ahead_us[work.deadline_us] = together_us
    return [
        replace(work, ahead_us=ahead_us[work.deadline_us] - work.to_start_us)
        if work.at_risk and work.price_limit_micro >= price_micro
        else work
        for work in works
    ]


def standing(work: Work) -> Standing:
    """Sorts work that lies at different victims, what goes first first: a thief takes of the best that it knows of, and
    of equals by how much there is. The begin of `preference`.

    What may be late goes by its deadline wherever it lies: else sinks that open would take what has hours left, and
    what is due now would pay for heat that nobody wants. Who tells none has the last of it.
    """
    return (-work.priority, not work.at_risk, (work.deadline_us or _NEVER_US) if work.at_risk else 0)


def preference(work: Work, ask: Ask) -> tuple[int, ...]:
    """Sorts a victim's jobs for one thief, the best first.

    Paid before volunteer, by priority; what may miss its deadline, then the earlier one; what the thief keeps or has
    the blobs of, then what it waits less for, inputs among it, by powers of two seconds; for a steady sink the longest
    tasks, for any other the shortest, and at one length those with checkpoints; what came first. Lengths are compared
    by powers of two.
    """
    octave = (work.task_us // SHORT_US).bit_length()
    steady = is_steady(ask.longest_us)
    return (
        *standing(work),
        work.deadline_us or _NEVER_US,
        _nearness(work, ask),
        -octave if steady else octave,
        0 if steady else not work.checkpoint_us,
        work.since_us,
    )


def _nearness(work: Work, ask: Ask) -> int:
    """By powers of two seconds; what is there before what has to come, be it next to nothing."""
    way_s = transfer_us(bytes_to_come(work, ask)) // 1_000_000
    return way_s.bit_length() + (work.job not in ask.has and work.job not in ask.keeps)


def suitable(works: Sequence[Work], ask: Ask) -> list[Work]:
    """Those with free tasks that fit, the best for this thief first."""
    fitting = [work for work in works if work.free > 0 and fit(work, ask).good]
    return sorted(fitting, key=lambda work: preference(work, ask))


@dataclass(frozen=True, slots=True)
class Share:
    """count tasks of a job for a thief."""

    thief: bytes
    job: bytes
    count: int


def half(work: Work, ask: Ask) -> int:
    """Half of what is free, at least one task, at most what the thief can burn; 0 if it can burn nothing."""
    if work.free <= 0 or ask.slots <= 0 or ask.appetite_us <= 0:
        return 0
    task_us = in_units_of(work.task_us, ask.speed_permille)
    burnable = max(1, ask.appetite_us // task_us) if task_us else ask.slots
    return min(-(-work.free // 2), burnable)


def deal(
    asks: Sequence[Ask], works: Sequence[Work], how_many: Callable[[Work, Ask], int] = half, jobs_each: int = 1
) -> list[Share]:
    """What a victim gives to those that asked within one window: the most urgent first, each of its best jobs.

    how_many: tasks of one job for one thief.  jobs_each: how many jobs one thief gets tasks of, while its appetite
    lasts.
    """
    left = {work.job: work for work in works}
    shares: list[Share] = []
    for ask in by_urgency(asks):
        hungry = ask
        for work in suitable(in_line(list(left.values()), ask.price_micro), ask)[:jobs_each]:
            count = min(work.free, how_many(work, hungry))
            if count <= 0:
                break
            shares.append(Share(ask.thief, work.job, count))
            left[work.job] = replace(work, free=work.free - count)
            if jobs_each > 1:
                eaten_us = count * in_units_of(work.task_us, ask.speed_permille)
                hungry = replace(hungry, appetite_us=max(0, hungry.appetite_us - eaten_us))
    return shares
