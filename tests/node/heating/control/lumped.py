"""A plant for the control's tests: one resistance, one capacity, by its closed form and nothing of the code's own."""

import math


class Lumped:
    """C dT/dt = P - H (T - T_outside), P and T_outside constant over each step."""

    def __init__(self, loss_w_per_k: float, capacity_j_per_k: float, temperature_c: float) -> None:
        self.loss_w_per_k = loss_w_per_k
        self.capacity_j_per_k = capacity_j_per_k
        self.temperature_c = temperature_c

    def step(self, power_w: float, outside_c: float, duration_s: float) -> None:
        final_c = outside_c + power_w / self.loss_w_per_k
        decay = math.exp(-duration_s * self.loss_w_per_k / self.capacity_j_per_k)
        self.temperature_c = final_c + (self.temperature_c - final_c) * decay
