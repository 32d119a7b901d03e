"""The system-call filter within containers: podman's own, less what native tasks may not do either.

Podman's default is a list of what is allowed; it lets a container make namespaces and mounts of its own. From that
list is taken what `seccomp.py` denies, and sockets other than local ones.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from .bubblewrap import SandboxUnavailable
from .seccomp import AF_UNIX, DENIED, NEW_NAMESPACES

DEFAULT_PROFILE = Path("/usr/share/containers/seccomp.json")
_ALLOW, _REFUSE = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"


def container_profile(path: Path = DEFAULT_PROFILE) -> bytes:
    """The profile as podman reads it. Raises SandboxUnavailable if podman's own is not there."""
    try:
        default = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        return msgspec.json.encode(stricter(default))
    except (OSError, ValueError, msgspec.MsgspecError, KeyError, TypeError) as error:
        raise SandboxUnavailable(f"{path} is not podman's filter (package containers-common)") from error


def stricter(default: Mapping[str, Any]) -> dict[str, Any]:
    """default: a profile that refuses what it does not name. Raises KeyError, TypeError."""
    if default["defaultAction"] != _REFUSE:
        raise KeyError("a profile that allows what it does not name")
    ours = {*DENIED, "clone", "socket"}
    rules = []
    for rule in default["syscalls"]:
        names = [name for name in rule["names"] if name not in ours]
        if names:
            rules.append({**rule, "names": names})
    rules += [
        {"names": [name], "action": _REFUSE, "args": [], "errnoRet": numbers[2]} for name, numbers in DENIED.items()
    ]
    rules += [
        # No new namespace; threads and processes as they are.
        _when("clone", _ALLOW, "SCMP_CMP_MASKED_EQ", NEW_NAMESPACES),
        _when("socket", _ALLOW, "SCMP_CMP_EQ", AF_UNIX),
        _when("socket", _REFUSE, "SCMP_CMP_NE", AF_UNIX, errno.EACCES),
    ]
    # Without the second ABIs of each processor, which number calls anew.
    own = [{**each, "subArchitectures": []} for each in default["archMap"]]
    return {**default, "archMap": own, "syscalls": rules}


def _when(name: str, action: str, comparison: str, value: int, error: int = 0) -> dict[str, Any]:
    """A rule that looks at the call's first argument; a masked comparison wants none of the bits."""
    argument = {"index": 0, "value": value, "valueTwo": 0, "op": comparison}
    return {"names": [name], "action": action, "args": [argument], **({"errnoRet": error} if error else {})}
