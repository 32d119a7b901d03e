"""From kelvin below the setpoint to watts: proportional, integral, and what is known to be needed already.

Anti-windup by conditional integration: while the output is at a bound, the integral moves only where it brings the
output back. So hours at full power, or under a power limit, cost no time to come off it.
Source: Åström and Hägglund, Advanced PID Control (2006), section 3.5.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PiSettings:
    """gain_w_per_k > 0.  integral_s: time in which a constant error doubles the proportional part; 0 for none.

    capacity_w > 0: no output is higher, and no integral further from what is known to be needed.
    """

    gain_w_per_k: float
    integral_s: float
    capacity_w: float


class PiController:
    """integral_w: what the past has taught, in watts."""

    def __init__(self, settings: PiSettings) -> None:
        self.settings = settings
        self.integral_w = 0.0

    def update(self, error_k: float, duration_s: float, feed_forward_w: float, limit_w: float) -> float:
        """Watts from 0 to limit_w and the capacity. duration_s: since the last update, >= 0."""
        settings = self.settings
        high_w = max(0.0, min(limit_w, settings.capacity_w))
        known_w = settings.gain_w_per_k * error_k + feed_forward_w
        if settings.integral_s > 0:
            step_w = settings.gain_w_per_k * error_k * duration_s / settings.integral_s
            wanted_w = known_w + self.integral_w
            if not ((wanted_w >= high_w and step_w > 0) or (wanted_w <= 0 and step_w < 0)):
                # One long step must not carry it beyond the bound that a hundred short ones would stop at.
                room_w = high_w - wanted_w if step_w > 0 else -wanted_w
                step_w = min(step_w, max(0.0, room_w)) if step_w > 0 else max(step_w, min(0.0, room_w))
                self.integral_w = max(-settings.capacity_w, min(settings.capacity_w, self.integral_w + step_w))
        return min(high_w, max(0.0, known_w + self.integral_w))

    def forget(self) -> None:
        """After a time in which the output went nowhere: an open window, a lost sensor."""
        self.integral_w = 0.0

    def track(self, error_k: float, feed_forward_w: float, output_w: float) -> None:
        """Be as if this output had been one's own: another controller is in charge."""
        capacity_w = self.settings.capacity_w
        integral_w = output_w - self.settings.gain_w_per_k * error_k - feed_forward_w
        self.integral_w = max(-capacity_w, min(capacity_w, integral_w))
