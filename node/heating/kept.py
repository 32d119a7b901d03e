"""The file that a heater's memory is kept in over a restart: small, typed, bounded, and nobody's word for granted.

What of it makes no sense is left out, each part by itself, with a notice for the owner: a node heats without it too.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..clock import asleep_s, boot_id, wall_us
from ..storage.files import replace_file
from .control.identify import Learnt
from .control.limits import COLOURS_MAX, WINDOWS_MAX, Colour, LimitsKept, LimitWindow, Phase
from .control.remembered import Remembered, Told
from .control.season import Season, SeasonKept
from .control.setpoint import Chosen, Wish
from .disinfected import Disinfected
from .observed import What

FORMAT = "hearthmesh heat"
VERSION = 1
FILE_BYTES_MAX = 1 << 16
# Far beyond what a command may ask for; a number that a bit was flipped in is often beyond it.
_SECONDS_MAX, _WATTS_MAX = 32 * 86_400.0, 1e9
_DAYS_MAX = 1_000_000

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class Moment:
    """boot: of which start of the machine, empty where nothing tells.  steady_s: since it.  wall_s: unix time."""

    boot: str
    steady_s: float
    wall_s: float

    def since(self, then: Moment) -> float:
        """Seconds from then to this, >= 0.

        By the steady clock, if the machine was not started anew since. Else by the clock on the wall, which may have
        been set, or not be set yet: but no less than this start is ago.
        """
        if self.boot and self.boot == then.boot and self.steady_s >= then.steady_s:
            return self.steady_s - then.steady_s
        return max(0.0, self.steady_s, self.wall_s - then.wall_s)


def this_moment() -> Moment:
    return Moment(boot_id(), time.monotonic_ns() / 1e9 + asleep_s(), wall_us() / 1e6)


@dataclass(frozen=True, slots=True)
class Kept:
    """sink: which one it is, by the settings.  owner: what the owner said of presence and windows.

    disinfected: of a tank, as of then.
    """

    at: Moment
    sink: str
    remembered: Remembered
    owner: tuple[tuple[What, bool], ...] = ()
    disinfected: Disinfected | None = None


def encode(kept: Kept) -> bytes:
    """What is no number (something went wrong) is left out, with the part that it is in."""
    remembered = kept.remembered
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "at": {"boot": kept.at.boot, "steady_s": round(kept.at.steady_s, 3), "wall_s": round(kept.at.wall_s, 3)},
        "sink": kept.sink,
        "owner": {what.value: value for what, value in kept.owner},
    }
    if remembered.told is not None:
        told, limits = remembered.told, remembered.told.limits
        content["wish"] = {
            "mode": told.chosen.wish.value,
            "manual_c": told.chosen.manual_c,
            "manual_until_s": told.chosen.until_s,
            "waits_c": told.chosen.waits_c,
            "boost_left_s": told.boost_left_s,
        }
        content["limits"] = {
            "windows": [
                {"begin_s": each.begin_s, "end_s": each.end_s, "watts": each.limit_w, "name": each.name}
                for each in limits.windows
            ],
            "colours": {str(day): colour.value for day, colour in limits.colours},
            "phase": limits.phase.value,
            "baseline_w": limits.baseline_w,
            "rebound_w": limits.rebound_w,
            "ended_ago_s": min(_SECONDS_MAX, limits.ended_ago_s),
        }
    if remembered.learnt is not None:
        learnt = remembered.learnt
        content["learnt"] = {
            "guess": learnt.guess,
            "theta": learnt.theta,
            "covariance": learnt.covariance,
            "residual_k2": learnt.residual_k2,
            "intervals": learnt.intervals,
        }
    if remembered.season is not None:
        season = remembered.season
        content["season"] = {"is": season.season.value, "mean_c": season.mean_c, "seen_s": season.seen_s}
    if any(step_k is not None for step_k in remembered.steps_k):
        content["sensors"] = [{"step_k": step_k} for step_k in remembered.steps_k]
    if kept.disinfected is not None:
        content["disinfected"] = {"ago_s": round(kept.disinfected.ago_s, 3), "known": kept.disinfected.known}
    kept_parts = {name: part for name, part in content.items() if _is_json(part)}
    return (json.dumps(kept_parts, indent=1) + "\n").encode()


def _is_json(part: Any) -> bool:
    try:
        json.dumps(part, allow_nan=False)
    except ValueError:
        return False
    return True


class KeptError(Exception):
    """Nothing of the file is of use. The text is for the owner."""


def decode(content: bytes) -> tuple[Kept, tuple[str, ...]]:
    """What is remembered, and a line for each part that makes no sense. Raises KeptError."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise KeptError("is no JSON") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise KeptError("is no memory of a heater")
    if found.get("version") != VERSION:
        raise KeptError(f"is of version {str(found.get('version'))[:16]}, this program reads {VERSION}")
    try:
        at = _moment(found["at"])
    except _SENSELESS:
        raise KeptError("does not say of when it is") from None
    problems: list[str] = []

    def part(name: str, read: Callable[[Any], _Part]) -> _Part | None:
        if name not in found:
            return None
        try:
            return read(found[name])
        except _SENSELESS:
            problems.append(f"{name} makes no sense")
            return None

    chosen, limits = part("wish", _wish), part("limits", _limits)
    told = None
    if chosen is not None or limits is not None:
        wish, boost_left_s = chosen if chosen is not None else (Chosen(Wish.AUTO, 20.0), None)
        told = Told(wish, boost_left_s, limits if limits is not None else LimitsKept())
    remembered = Remembered(told, part("learnt", _learnt), part("season", _season), part("sensors", _sensors) or ())
    owner = part("owner", _owner) or ()
    disinfected, sink = part("disinfected", _disinfected), found.get("sink")
    return Kept(at, sink if isinstance(sink, str) else "", remembered, owner, disinfected), tuple(problems)


def load(path: Path) -> bytes | None:
    """None where there is no file. Raises KeptError for what is none, or too long, or cannot be read."""
    try:
        # A pipe or a device that somebody put there holds nobody up.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeptError(f"cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise KeptError("is no file")
        with open(handle, "rb", closefd=False) as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeptError(f"cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)
    if len(content) > FILE_BYTES_MAX:
        raise KeptError(f"is longer than {FILE_BYTES_MAX} bytes")
    return content


def save(path: Path, content: bytes) -> None:
    """For its owner's eyes. Raises OSError."""
    replace_file(path, content, mode=0o600)


def put_aside(path: Path) -> Path | None:
    """Out of the way of the next one, for who wants to see it; one such is kept. None where that cannot be."""
    aside = path.with_name(path.name + ".unread")
    try:
        path.replace(aside)
    except OSError:
        return None
    return aside


# -- parts -------------------------------------------------------------------------------------------------

_SENSELESS = (ValueError, KeyError, TypeError, AttributeError, OverflowError, IndexError)


def _number(value: Any, low: float, high: float) -> float:
    """Raises ValueError, TypeError, OverflowError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= float(value) <= high:
        raise ValueError("not a number within its bounds")
    return float(value)


def _optional(value: Any, low: float, high: float) -> float | None:
    return None if value is None else _number(value, low, high)


def _moment(part: Mapping[str, Any]) -> Moment:
    boot = part["boot"]
    if not isinstance(boot, str) or len(boot) > 64:
        raise ValueError("no boot")
    return Moment(boot, _number(part["steady_s"], 0.0, 1e12), _number(part["wall_s"], -1e12, 1e12))


def _wish(part: Mapping[str, Any]) -> tuple[Chosen, float | None]:
    wish = Wish(part["mode"])
    if wish is Wish.BOOST:
        raise ValueError("a boost is laid over another mode")
    until_s = _optional(part["manual_until_s"], -1e12, 1e12)
    # Absent in files of before there was one.
    waits_c = _optional(part.get("waits_c"), -1e3, 1e3)
    chosen = Chosen(wish, _number(part["manual_c"], -1e3, 1e3), until_s, waits_c)
    return chosen, _optional(part["boost_left_s"], -_SECONDS_MAX, _SECONDS_MAX)


def _limits(part: Mapping[str, Any]) -> LimitsKept:
    windows, colours = part["windows"], part["colours"]
    if len(windows) > WINDOWS_MAX or len(colours) > COLOURS_MAX:
        raise ValueError("too many")
    return LimitsKept(
        windows=tuple(
            LimitWindow(
                _number(each["begin_s"], -_SECONDS_MAX, _SECONDS_MAX),
                _number(each["end_s"], -_SECONDS_MAX, _SECONDS_MAX),
                _number(each["watts"], 0.0, _WATTS_MAX),
                _name(each["name"]),
            )
            for each in windows
        ),
        colours=tuple(
            (int(_number(int(day), -_DAYS_MAX, _DAYS_MAX)), Colour(colour)) for day, colour in colours.items()
        ),
        phase=Phase(part["phase"]),
        baseline_w=_number(part["baseline_w"], 0.0, _WATTS_MAX),
        rebound_w=_number(part["rebound_w"], 0.0, _WATTS_MAX),
        ended_ago_s=_number(part["ended_ago_s"], -_SECONDS_MAX, _SECONDS_MAX),
    )


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 64:
        raise ValueError("no name")
    return value


def _learnt(part: Mapping[str, Any]) -> Learnt:
    guess_r, guess_c = (_number(each, 0.0, 1e15) for each in part["guess"])
    a, b, c = (_number(each, -1e15, 1e15) for each in part["theta"])
    p00, p01, p02, p11, p12, p22 = (_number(each, -1e15, 1e15) for each in part["covariance"])
    residual_k2, intervals = _number(part["residual_k2"], 0.0, 1e15), _number(part["intervals"], 0, 1e9)
    return Learnt((guess_r, guess_c), (a, b, c), (p00, p01, p02, p11, p12, p22), residual_k2, int(intervals))


def _season(part: Mapping[str, Any]) -> SeasonKept:
    mean_c, seen_s = _number(part["mean_c"], -100.0, 100.0), _number(part["seen_s"], 0.0, _SECONDS_MAX)
    return SeasonKept(Season(part["is"]), mean_c, seen_s)


def _sensors(part: Sequence[Mapping[str, Any]]) -> tuple[float | None, ...]:
    if len(part) not in (1, 2):
        raise ValueError("neither one nor two")
    steps_k = tuple(_optional(each["step_k"], 0.0, 1e5) for each in part)
    return steps_k if any(step_k is not None for step_k in steps_k) else ()


def _disinfected(part: Mapping[str, Any]) -> Disinfected:
    if not isinstance(part["known"], bool):
        raise ValueError("neither yes nor no")
    return Disinfected(_number(part["ago_s"], 0.0, 1e9), part["known"])


def _owner(part: Mapping[str, Any]) -> tuple[tuple[What, bool], ...]:
    if not all(isinstance(value, bool) for value in part.values()):
        raise ValueError("neither yes nor no")
    return tuple((What(what), value) for what, value in part.items())
