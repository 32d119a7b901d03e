"""For comparisons only: a node whose mesh knows no more of its heat than whether it wants any."""

from __future__ import annotations

from ...protocol.events import HeatReading

HORIZON_H = 0.25


def unheeding(reading: HeatReading) -> HeatReading:
    """As if every sink that wants heat were as cold as can be, and took whatever there is.

    So stealing goes by who has work, and chance; the thermostat, which says how many tasks run, stays as it is.
    """
    wanted_w = reading.capacity_w if reading.slots else -reading.capacity_w
    return HeatReading(
        deficit_w=wanted_w,
        capacity_w=reading.capacity_w,
        slots=reading.slots,
        horizon_wh=max(0.0, wanted_w) * HORIZON_H,
        watts_per_slot=reading.watts_per_slot,
        useful=reading.useful,
        sink=reading.sink,
        temperature_c=reading.temperature_c,
        reason=reading.reason,
        stopped=reading.stopped,
    )
