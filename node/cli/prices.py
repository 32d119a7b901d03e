"""What a job may cost where nobody wants its heat, before it runs."""

from __future__ import annotations

from ...protocol.records import JobSpec
from ...protocol.stealing.pricing import URGENT, cost_micro


def price_of(spec: JobSpec) -> tuple[float, float | None]:
    """(for an hour of CPU, for all tasks by the submitter's estimate; None without one), in the mesh's currency."""
    price = spec.price_limit_micro / 1e6
    if not spec.price_limit_micro:
        return 0.0, 0.0
    if not spec.estimate_us:
        return price, None
    return price, cost_micro(spec.estimate_us * spec.tasks, spec.price_limit_micro) / 1e6


def describe_price(spec: JobSpec) -> str:
    """One line; for a job with a limit."""
    price, most = price_of(spec)
    when = "at once, as it is urgent" if spec.priority >= URGENT else "once its deadline is at risk"
    if spec.priority < URGENT and not spec.deadline_us:
        when = "never, as it has no deadline and a priority below 8"
    total = "" if most is None else f", at most {most:.6g} in all by its estimate"
    return f"it may use capacity whose heat nobody wants for up to {price:g} an hour of CPU, {when}{total}"
