"""What an owner may tell a running thermostat: by `hearth heat`, on the wall, in an app. All of it is bounded here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .control.limits import DAY_S, Colour, LimitWindow
from .control.loads import LoadMeter
from .control.setpoint import Wish
from .control.thermostat import Inputs, Thermostat
from .heater import Heater
from .observed import OWNER, What, parse_observed

# A limit lies at most so far ahead, and lasts at most so long.
AHEAD_MAX_S = LENGTH_MAX_S = 8 * DAY_S
# So many nodes of other households are named.
STRANGERS_TOLD = 3


class HeatCommands:
    """Each method raises ValueError with a line for the user; what it sets holds from the next control period on."""

    def __init__(self, heater: Heater, loads: LoadMeter | None = None) -> None:
        """loads: whose work it was that ended so far."""
        self._heater = heater
        self._loads = loads if loads is not None else LoadMeter()
        # Called after each that was obeyed: whoever runs the control loop need not wait for its next period.
        self.on_change: Callable[[], None] = lambda: None
        # What of an earlier life could not be recalled: an alarm until somebody sets a mode.
        self.not_recalled: tuple[str, ...] = ()
        # Why the bridge to a broker does not run; empty while it does, or there is none.
        self.bridge_problem = ""
        # Names of nodes that use its zone's name, and are of another owner or site.
        self.zone_strangers: Callable[[], Sequence[str]] = tuple

    def _running(self) -> tuple[Thermostat, Inputs]:
        thermostat, inputs = self._heater.thermostat, self._heater.inputs()
        if thermostat is None or inputs is None:
            raise ValueError('this node heats nothing (heater.kind = "none")')
        return thermostat, inputs

    def wish(self, mode: str, setpoint_c: float | None = None) -> None:
        """mode: a `Wish` by its value; "manual" with setpoint_c."""
        thermostat, inputs = self._running()
        modes = [wish.value for wish in Wish]
        if mode not in modes:
            raise ValueError(f"no mode {mode[:40]!r}; there are: {', '.join(modes)}")
        thermostat.wish(Wish(mode), inputs, setpoint_c)
        self.not_recalled = ()
        self.on_change()

    def set_temperature(self, setpoint_c: float) -> None:
        """By hand. A heater that is off stays off, and has this temperature when `heat` is wished."""
        thermostat, _ = self._running()
        if thermostat.wished is not Wish.OFF:
            self.wish(Wish.MANUAL.value, setpoint_c)
            return
        thermostat.set_while_off(setpoint_c)
        self.on_change()

    def heat(self) -> None:
        """Comfort; after off the temperature that was set meanwhile, if one was."""
        thermostat, _ = self._running()
        setpoint_c = thermostat.set_while_off_c
        self.wish((Wish.COMFORT if setpoint_c is None else Wish.MANUAL).value, setpoint_c)

    def observe(
        self, what: What, value: bool | None, source: str = OWNER, *, words: bytes = b"", retained: bool = False
    ) -> None:
        """Whether somebody is there, or a window is open. The owner's word holds until there is another.

        words, retained: as a broker told it.
        """
        observed = self._heater.observed
        if observed is None:
            raise ValueError('this node heats nothing (heater.kind = "none")')
        observed.tell(what, source, value, ages=source != OWNER, words=words, retained=retained)
        self.on_change()

    def limit(self, watts: float, *, in_s: float, for_s: float, name: str = "demand response") -> None:
        """The machine, at rest included, draws at most so many watts, from in_s seconds from now on, for for_s."""
        thermostat, inputs = self._running()
        if not (math.isfinite(watts) and 0 <= watts < 1e9):
            raise ValueError("a limit is 0 W or more")
        if not 0 <= in_s <= AHEAD_MAX_S:
            raise ValueError("a limit begins within eight days")
        if not 0 < for_s <= LENGTH_MAX_S:
            raise ValueError("a limit lasts for more than 0 s, and at most eight days")
        begin_s = inputs.steady_s + in_s
        thermostat.limits.add(LimitWindow(begin_s, begin_s + for_s, watts, name[:64]), inputs.steady_s)
        self.on_change()

    def withdraw_limits(self) -> None:
        self._running()[0].limits.withdraw()
        self.on_change()

    def tempo(self, colour: str, days_ahead: int = 0) -> None:
        """The colour of today, or of a day ahead, at most seven."""
        thermostat, inputs = self._running()
        colours = [each.value for each in Colour]
        if colour not in colours:
            raise ValueError(f"no colour {colour[:40]!r}; there are: {', '.join(colours)}")
        if not 0 <= days_ahead <= 7:
            raise ValueError("a day is 0 to 7 days ahead")
        local_s = inputs.wall_s + inputs.utc_offset_s
        thermostat.limits.follow(inputs.steady_s, inputs.wall_s, local_s)
        thermostat.limits.set_colour(int(local_s // DAY_S) + days_ahead, Colour(colour))
        self.on_change()

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A request of the control door, by its "what". Raises ValueError or TypeError for one that makes no sense."""
        match request.get("what"):
            case "set":
                setpoint_c = request.get("setpoint_c")
                self.wish(str(request.get("mode")), None if setpoint_c is None else float(setpoint_c))
            case "limit":
                self.limit(float(request["watts"]), in_s=float(request.get("in_s", 0.0)), for_s=float(request["for_s"]))
            case "no-limit":
                self.withdraw_limits()
            case "tempo":
                self.tempo(str(request.get("colour")), int(request.get("days_ahead", 0)))
            case "presence" | "window":
                self.observe(
                    What(request["what"]), parse_observed(What(request["what"]), str(request["value"]).encode())
                )
            case "status":
                pass
            case other:
                raise ValueError(f"no such request: {str(other)[:40]}")
        return {"heat": self.status()}

    def status(self) -> dict[str, Any]:
        """What is wanted, and why; for `hearth heat status` and the node's own. Empty where nothing is heated."""
        heater, decision, inputs = self._heater, self._heater.decision, self._heater.inputs()
        thermostat, observed = heater.thermostat, heater.observed
        if decision is None or thermostat is None or inputs is None or observed is None:
            return {}
        disinfected = heater.disinfected
        estimate, idle_w = thermostat.estimate, thermostat.settings.idle_w
        return {
            "at_s": round(inputs.now_s, 3),
            "temperature_c": _rounded(decision.believed.temperature_c, 3),
            "outside_c": _rounded(inputs.outside_c, 2),
            "surface_c": _rounded(decision.surface_c, 2),
            "setpoint_c": round(decision.target.setpoint_c, 2),
            "aim_c": round(decision.aim_c, 2),
            "reason": decision.target.reason.value,
            "mode": thermostat.wished.value,
            "set_while_off_c": _rounded(thermostat.set_while_off_c, 2),
            "heats": decision.mode.value,
            "goes_by": decision.believed.trust.value,
            "request_w": round(decision.request_w, 1),
            "granted_w": round(decision.granted_w, 1),
            "capacity_w": round(heater.reading().capacity_w, 1),
            "power_w": round(inputs.power_w, 1),
            "measured": heater.measured,
            "idle_w": round(idle_w, 1),
            # As who sets limits counts: all that the machine may draw.
            "limit_w": round(decision.limit.limit_w + idle_w, 1),
            "limit_reason": decision.limit.reason,
            "load": round(heater.load, 3),
            "slots": decision.work.slots,
            "duty": round(heater.duty, 3),
            "burn_cores": round(heater.burn_load, 3),
            "energy_j": self._energy_j(),
            "zone_mates": len(inputs.others),
            "season": decision.season.value,
            "window_open": decision.window_open,
            "present": observed.found(What.PRESENCE),
            # None where no tank is to be; the time also where none is known of.
            "disinfected_ago_s": round(disinfected.ago_s, 1) if disinfected and disinfected.known else None,
            "disinfection_due": disinfected.due if disinfected else None,
            "alarms": [*decision.alarms, *heater.problems, *self.not_recalled, *filter(None, [self.bridge_problem])],
            # What is as it is told to be, and may not be meant so.
            "notices": self._zone_notices(),
            "learnt": {
                "resistance_k_per_w": estimate.resistance_k_per_w,
                "capacity_j_per_k": estimate.capacity_j_per_k,
                "gain_w": round(estimate.gain_w, 1),
                "confidence": round(estimate.confidence, 3),
            },
        }

    def _zone_notices(self) -> list[str]:
        names = sorted(self.zone_strangers())
        if not names:
            return []
        more = f" and {len(names) - STRANGERS_TOLD} more" if len(names) > STRANGERS_TOLD else ""
        told = ", ".join(repr(name)[1:-1] for name in names[:STRANGERS_TOLD])
        return [f"nodes of another owner or site use this zone's name, and share nothing with it: {told}{more}"]

    def _energy_j(self) -> dict[str, float]:
        """Since the node's start, by whose it was; paid and volunteer by the receipts of what has ended."""
        meter = self._heater.meter
        return {
            "paid": round(self._loads.paid_mj / 1e3, 1),
            "volunteer": round(self._loads.volunteer_mj / 1e3, 1),
            "burn": round(meter.burn_uj / 1e6, 1),
            "idle": round(meter.idle_uj / 1e6, 1),
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
