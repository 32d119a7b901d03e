"""Faults as they happen: begun, mended, and how soon the others noticed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ...protocol.config import ProtocolConfig
from ...protocol.effects import Notify
from .engine import MS, SECOND
from .network import Cut, Weather
from .plan import Fault, FaultKind

if TYPE_CHECKING:
    from .life import Life
    from .machine import Machine
    from .world import World

# Starved: it gets some 70 % of the time, in pieces.
STARVED_RUN_US = 350 * MS
STARVED_STOP_US = 150 * MS
FOUL = Weather(loss=0.03, doubled=0.03, jitter_us=20 * MS)


@dataclass(slots=True)
class Happened:
    """A fault of a run. seen_us: when each other node first called a target dead, after the beginning.

    elsewhere_us: when each task that a target held started elsewhere, after the beginning.  level_us: of each target
    that came back with jobs, until it granted of all again.
    """

    fault: Fault
    began_us: int
    names: tuple[str, ...]
    mended_us: int = 0
    seen_us: dict[str, int] = field(default_factory=dict)
    elsewhere_us: list[int] = field(default_factory=list)
    level_us: list[int] = field(default_factory=list)


class Overlaps:
    """How many faults of a kind a machine is under: the first of them breaks it, and the last mends it."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}

    def begin(self, what: str, index: int) -> bool:
        """Whether it is the first."""
        count = self._counts[what, index] = self._counts.get((what, index), 0) + 1
        return count == 1

    def end(self, what: str, index: int) -> bool:
        """Whether it was the last."""
        self._counts[what, index] -= 1
        return self._counts[what, index] == 0


class Faults:
    """Where faults overlap, what they break is broken until the last of them is mended.

    false_alarms: nodes that were called dead in the life that they have.  late_alarms: those that had come back
    lately (`news_us`), by others who knew of their former life alone, which had ended.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.happened: list[Happened] = []
        self.false_alarms = self.late_alarms = 0
        # Since when others may notice, of those that are off or asleep.
        self._silent: dict[bytes, Happened] = {}
        self._overlaps = Overlaps()

    def plan(self, faults: tuple[Fault, ...], from_us: int) -> None:
        for fault in faults:
            self._world.engine.at(from_us + fault.at_us, self._begin, fault)

    def _begin(self, fault: Fault) -> None:
        world = self._world
        if fault.kind in (FaultKind.CLIENT_LEAVES, FaultKind.CANCEL):
            machines = [world.customers[target % len(world.customers)].machine for target in fault.targets]
        else:
            machines = [world.nodes[target] for target in fault.targets if target < len(world.nodes)]
        machines = list(dict.fromkeys(machines))
        if not machines:
            return
        happened = Happened(fault, world.engine.now_us, tuple(machine.name for machine in machines))
        self.happened.append(happened)
        if world.story is not None:
            lasts = f" for {fault.lasts_us / SECOND:.1f} s" if fault.lasts_us else ""
            world.story.say(None, f"fault: {fault.kind} of {', '.join(happened.names)}{lasts}")
        self._break(fault, machines, happened)

    def _break(self, fault: Fault, machines: list[Machine], happened: Happened) -> None:
        world, engine = self._world, self._world.engine
        match fault.kind:
            case FaultKind.KILL | FaultKind.CLIENT_LEAVES:
                for machine in machines:
                    self._fall_silent(machine, happened)
                    self._overlaps.begin("off", machine.index)
                    world.kill(machine)
                self._later(fault, self._start, machines, happened)
            case FaultKind.POWER_CUT | FaultKind.NEW_DISK:
                for machine in machines:
                    self._fall_silent(machine, happened)
                    self._overlaps.begin("off", machine.index)
                    world.cut_power(machine)
                    if fault.kind is FaultKind.NEW_DISK:
                        machine.disk.wipe()
                        world.blobs.wipe(machine.index)
                self._later(fault, self._start, machines, happened)
            case FaultKind.FREEZE:
                for machine in machines:
                    self._fall_silent(machine, happened)
                asleep = [self._put_to_sleep(machine) for machine in machines]
                self._later(fault, partial(self._thaw, asleep), machines, happened)
            case FaultKind.STARVE:
                for machine in machines:
                    self._starve(machine, engine.now_us + fault.lasts_us)
                self._later(fault, self._mended, machines, happened)
            case FaultKind.CUT | FaultKind.DEAF | FaultKind.MUTE:
                island = frozenset(machine.index for machine in machines)
                cut = Cut(island, fault.kind is not FaultKind.MUTE, fault.kind is not FaultKind.DEAF)
                world.network.cut(cut)
                self._later(fault, partial(self._heal, cut), machines, happened)
            case _:
                self._break_inside(fault, machines, happened)

    def _fall_silent(self, machine: Machine, happened: Happened) -> None:
        """Unless it is silent already: those who notice it do so from the first fault on."""
        if machine.life is not None and machine.id not in self._silent:
            self._silent[machine.id] = happened
            self._world.checkers.recovery.fell_silent(machine, happened)

    def _put_to_sleep(self, machine: Machine) -> str:
        """Returns what wakes it: the process that it has now, and no later one."""
        life = f"asleep in life {machine.lives}"
        self._overlaps.begin(life, machine.index)
        self._world.freeze(machine)
        return life

    def _wake(self, machine: Machine, life: str) -> None:
        if self._overlaps.end(life, machine.index) and life == f"asleep in life {machine.lives}":
            if machine.frozen:
                self._silent.pop(machine.id, None)
                self._world.checkers.recovery.woke(machine)
            self._world.thaw(machine)

    def _break_inside(self, fault: Fault, machines: list[Machine], happened: Happened) -> None:
        world = self._world
        match fault.kind:
            case FaultKind.WARM:
                for machine in machines:
                    if self._overlaps.begin("warm", machine.index):
                        self._force_warm(machine, True)
                self._later(fault, self._cool, machines, happened)
            case FaultKind.FULL_DISK:
                for machine in machines:
                    self._overlaps.begin("full", machine.index)
                    machine.disk.full = True
                self._later(fault, self._make_room, machines, happened)
            case FaultKind.CLOCK:
                for machine in machines:
                    machine.clock.skew_us += fault.step_us
                    if machine.life is not None:
                        offset_us = machine.clock.wall_offset_us(world.engine.now_us)
                        machine.life.mesh.ctx.wall_offset_us = offset_us
                self._later(fault, self._mended, machines, happened)
            case FaultKind.DRAIN:
                for machine in machines:
                    self._overlaps.begin("off", machine.index)
                    world.drain(machine)
                self._later(fault, self._start, machines, happened)
            case FaultKind.CANCEL:
                for customer in world.customers:
                    if customer.machine in machines:
                        customer.cancel()
            case FaultKind.WEATHER:
                self._overlaps.begin("weather", 0)
                world.network.weather = FOUL
                self._later(fault, self._clear, machines, happened)
            case _:
                raise AssertionError(f"nobody knows how to {fault.kind}")

    def _later(self, fault: Fault, mend: object, machines: list[Machine], happened: Happened) -> None:
        """Mended when its time is over, and at the latest when everything is."""
        assert callable(mend)
        if fault.lasts_us:
            at_us = min(self._world.engine.now_us + fault.lasts_us, self._world.calm_us)
            self._world.engine.at(at_us, mend, machines, happened)

    # -- mending -------------------------------------------------------------------------------------------

    def _mended(self, machines: list[Machine], happened: Happened) -> None:
        happened.mended_us = self._world.engine.now_us
        if self._world.story is not None:
            self._world.story.say(None, f"mended: {happened.fault.kind} of {', '.join(happened.names)}")

    def _start(self, machines: list[Machine], happened: Happened) -> None:
        for machine in machines:
            if self._overlaps.end("off", machine.index):
                # Still leaving: its process has to end first.
                self._world.kill(machine)
                self._silent.pop(machine.id, None)
                self._world.start(machine)
                self._world.checkers.recovery.came_back(machine, happened)
        self._mended(machines, happened)

    def _thaw(self, asleep: list[str], machines: list[Machine], happened: Happened) -> None:
        for machine, life in zip(machines, asleep, strict=True):
            self._wake(machine, life)
        self._mended(machines, happened)

    def _heal(self, cut: Cut, machines: list[Machine], happened: Happened) -> None:
        self._world.network.heal(cut)
        self._mended(machines, happened)

    def _starve(self, machine: Machine, until_us: int) -> None:
        world = self._world
        if world.engine.now_us >= min(until_us, world.calm_us):
            return
        if not machine.frozen:
            world.engine.after(STARVED_STOP_US, self._wake, machine, self._put_to_sleep(machine))
        world.engine.after(STARVED_STOP_US + STARVED_RUN_US, self._starve, machine, until_us)

    def _force_warm(self, machine: Machine, warm: bool) -> None:
        if machine.sink is None:
            return
        machine.sink.forced_warm = warm
        if machine.well and machine.life is not None:
            reading = machine.sink.reading()
            self._world.checkers.warmed(machine.life, reading)
            machine.life.feed(reading, reading.slots)

    def _cool(self, machines: list[Machine], happened: Happened) -> None:
        for machine in machines:
            if self._overlaps.end("warm", machine.index):
                self._force_warm(machine, False)
        self._mended(machines, happened)

    def _make_room(self, machines: list[Machine], happened: Happened) -> None:
        for machine in machines:
            if self._overlaps.end("full", machine.index):
                machine.disk.full = False
        self._mended(machines, happened)

    def _clear(self, machines: list[Machine], happened: Happened) -> None:
        if self._overlaps.end("weather", 0):
            self._world.network.clear_up()
        self._mended(machines, happened)

    # -- noticing ------------------------------------------------------------------------------------------

    def noted(self, life: Life, note: Notify) -> None:
        """Who is called dead, while it is silent, or though it is well."""
        if note.name != "member.changed" or note.fields["status"] != "dead":
            return
        node = note.fields["node"]
        happened = self._silent.get(node)
        if happened is not None:
            now_us = self._world.engine.now_us
            happened.seen_us.setdefault(life.machine.name, now_us - happened.began_us)
        else:
            machine = self._world.by_id.get(node)
            # One that is starved lives, whether it stands still just now or not.
            lived = machine.life if machine is not None else None
            if lived is not None and not self._world.network.cuts and life.machine.honest:
                if _knows_former(life, lived):
                    self.late_alarms += 1
                else:
                    self.false_alarms += 1


def _knows_former(life: Life, lived: Life) -> bool:
    """Whether all that the one can know of the other is of a life before the one that it has.

    It was not told of the new one, and never had a link with it; and not for longer than that may take.
    """
    teller, machine = life.machine, lived.machine
    known = life.mesh.members.incarnation_of(machine.id)
    if machine.lives == 1 or known is None or known >= lived.incarnation or lived.met.get(teller.index) == teller.lives:
        return False
    return life.world.engine.now_us - machine.clock.origin_us <= news_us(life.world.config)


def news_us(config: ProtocolConfig) -> int:
    """By when whoever keeps a node in mind has heard that it came back, if by its row alone: at rest its cell compares
    tables after so long, and other cells look at their contacts."""
    return max(config.rest_factor * config.sync_interval_us, config.cell_interval_us)
