"""`hearth heat`: the thermostat of the node on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...protocol.words import counted
from .errors import UserError
from .options import Json
from .output import energy, print_json, say
from .running import run_async

HELP = """The thermostat of the node on this machine: see it, set it. Each command has --json.

\b
Examples:
  hearth heat status --config kitchen/node.toml
  hearth heat set 21.5
  hearth heat limit 0 --for 2h --in 30m
  hearth heat tempo red --tomorrow
  hearth heat presence away
  hearth heat window open
"""
app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help=HELP)

Config = Annotated[Path, typer.Option("--config", help="The node's settings.")]
State = Annotated[Path | None, typer.Option(help="Its state folder, instead of its settings.")]
NODE_TOML = Path("node.toml")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@app.command()
def status(config: Config = NODE_TOML, state: State = None, as_json: Json = False) -> None:
    """What the sink wants and why, what limits it, and what was learnt of it.

    \b
    Examples:
      hearth heat status --config kitchen/node.toml
      hearth heat status --state kitchen/state --json
    """
    _show(_ask(config, state, {"what": "status"}), as_json)


@app.command("set")
def set_(
    wish: Annotated[str, typer.Argument(help="A temperature, or auto, comfort, eco, away, boost, off.")],
    config: Config = NODE_TOML,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Set the temperature by hand, or a mode. A temperature holds until the schedule's next change.

    \b
    Examples:
      hearth heat set 21.5
      hearth heat set boost
      hearth heat set auto --state kitchen/state
    """
    request: dict[str, Any] = {"what": "set", "mode": wish}
    try:
        request |= {"mode": "manual", "setpoint_c": float(wish)}
    except ValueError:
        if wish == "manual":
            raise UserError("set: give the temperature itself, like  hearth heat set 21.5") from None
    _show(_ask(config, state, request), as_json)


@app.command()
def limit(
    watts: Annotated[str, typer.Argument(help="Most that the machine draws, W; or none, to withdraw all limits.")],
    length: Annotated[str, typer.Option("--for", help="For how long: 90s, 30m, 2h, 1d.")] = "1h",
    begin: Annotated[str, typer.Option("--in", help="Beginning so long from now.")] = "0s",
    config: Config = NODE_TOML,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Limit what the machine draws, at rest included, for a time. The floor of comfort stays.

    \b
    Examples:
      hearth heat limit 0 --for 2h --in 30m
      hearth heat limit none
    """
    if watts == "none":
        _show(_ask(config, state, {"what": "no-limit"}), as_json)
        return
    try:
        most_w = float(watts)
    except ValueError:
        raise UserError(f"limit {watts}: expected watts, or none") from None
    request = {"what": "limit", "watts": most_w, "for_s": _seconds("--for", length), "in_s": _seconds("--in", begin)}
    _show(_ask(config, state, request), as_json)


@app.command()
def tempo(
    colour: Annotated[str, typer.Argument(help="blue, white or red.")],
    tomorrow: Annotated[bool, typer.Option("--tomorrow", help="The colour of tomorrow, not of today.")] = False,
    config: Config = NODE_TOML,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Tell a day's colour in the Tempo tariff; heater.limits says what it costs in power.

    \b
    Examples:
      hearth heat tempo red --tomorrow
    """
    _show(_ask(config, state, {"what": "tempo", "colour": colour, "days_ahead": int(tomorrow)}), as_json)


@app.command()
def presence(
    who: Annotated[str, typer.Argument(help="home, away, or unknown: leave it to other sources.")],
    config: Config = NODE_TOML,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Tell whether somebody is at home. When nobody is for heater.schedule.away_after_s, the setpoint is lowered.

    \b
    Examples:
      hearth heat presence away
      hearth heat presence unknown --json
    """
    _observe("presence", who, ("home", "away", "unknown"), config, state, as_json)


@app.command()
def window(
    how: Annotated[str, typer.Argument(help="open, closed, or unknown: leave it to other sources.")],
    config: Config = NODE_TOML,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Tell whether a window is open. While one is, only frost is kept out.

    \b
    Examples:
      hearth heat window open
      hearth heat window closed --json
    """
    _observe("window", how, ("open", "closed", "unknown"), config, state, as_json)


def _observe(what: str, said: str, known: tuple[str, ...], config: Path, state: Path | None, as_json: bool) -> None:
    if said not in known:
        raise UserError(f"{what} {said}: expected {', '.join(known[:-1])} or {known[-1]}")
    _show(_ask(config, state, {"what": what, "value": said}), as_json)


def _seconds(option: str, text: str) -> float:
    number, unit = text[:-1], text[-1:]
    try:
        return float(number) * _UNITS_S[unit]
    except (KeyError, ValueError):
        raise UserError(f"{option} {text}: expected a time like 90s, 30m, 2h or 1d") from None


def _ask(config: Path, state: Path | None, request: dict[str, Any]) -> dict[str, Any]:
    from ..config import load_node_config
    from ..control import ask
    from ..storage.folder import StateFolder

    folder = StateFolder(state if state is not None else load_node_config(config).node.state)
    if not folder.root.is_dir():
        raise UserError(f"{folder.root}: no such state folder; has the node been started?")
    answer = run_async(lambda: ask(folder.control_socket, {"do": "heat"} | request))
    heat: dict[str, Any] = answer["heat"]
    if not heat:
        raise UserError('this node heats nothing (heater.kind = "none")')
    return heat


def _seen(heat: dict[str, Any]) -> str:
    at_home = {True: ", somebody is at home", False: ", nobody is at home", None: ""}[heat["present"]]
    return at_home + (", a window is open" if heat["window_open"] else "")


def _aim(heat: dict[str, Any]) -> str:
    """What the sink is kept at, which may be another temperature than the setpoint."""
    setpoint = f"{heat['setpoint_c']:g} °C"
    kept = f"{heat['aim_c']:g} °C, for a setpoint of {setpoint}" if heat["aim_c"] != heat["setpoint_c"] else setpoint
    return f"{kept} ({heat['reason']})"


def _mode(heat: dict[str, Any]) -> str:
    waits_c = heat["set_while_off_c"]
    return str(heat["mode"]) + ("" if waits_c is None else f" ({waits_c:g} °C was set meanwhile)")


def _water(heat: dict[str, Any]) -> str:
    ago_s = heat["disinfected_ago_s"]
    last = "no disinfection is known of" if ago_s is None else f"disinfected {ago_s / 3600:.1f} h ago"
    due = ", one is due when it is on again" if heat["mode"] == "off" else ", one is due"
    return last + (due if heat["disinfection_due"] else "")


def _show(heat: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(heat)
        return
    for line in status_lines(heat):
        say(line)


def status_lines(heat: dict[str, Any]) -> list[str]:
    """heat: of `HeatCommands.status`, not empty."""
    seen = "unknown" if heat["temperature_c"] is None else f"{heat['temperature_c']:.2f} °C"
    at_rest = f"{heat['idle_w']:g} W at rest"
    limited = (
        f"at most {heat['limit_w']:g} W with {at_rest}: {heat['limit_reason']}" if heat["limit_reason"] else "none"
    )
    learnt = heat["learnt"]
    burns = f", {heat['burn_cores']:g} cores burn" if heat["burn_cores"] else ""
    tasks = f"{counted(heat['slots'], 'task')} at {heat['duty']:.0%}{burns}"
    rows = [
        ("sink", f"{seen} of {_aim(heat)}, by the {heat['goes_by']}"),
        ("mode", f"{_mode(heat)}, {heat['heats']}, {heat['season']}{_seen(heat)}"),
        ("power", f"{heat['granted_w']:g} W of {heat['capacity_w']:g} W, above {at_rest}; {tasks}"),
        ("energy", ", ".join(f"{energy(joules)} {whose}" for whose, joules in heat["energy_j"].items())),
        ("limit", limited),
        (
            "learnt",
            f"{1 / learnt['resistance_k_per_w']:.1f} W/K, {learnt['capacity_j_per_k'] / 3.6e6:.2f} kWh/K, "
            f"{learnt['gain_w']:g} W from elsewhere, confidence {learnt['confidence']:.0%}",
        ),
    ]
    if heat["disinfection_due"] is not None:
        rows.insert(1, ("water", _water(heat)))
    rows += [("alarm", alarm) for alarm in heat["alarms"]]
    rows += [("notice", notice) for notice in heat["notices"]]
    return [f"{label:<8} {text}" for label, text in rows]
