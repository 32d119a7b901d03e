"""What a test network could leave behind: processes and sockets."""

from collections.abc import Iterable
from pathlib import Path

from hearthmesh.testnet.network import Testnet


def processes_of(folder: Path) -> list[str]:
    """Command lines of all processes, of whatever parent, that name something in the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(f"{entry.name}: {line}")
    return found


def sockets_of(net: Testnet) -> list[Path]:
    """Control sockets that exist, in the folder or outside of it."""
    paths: Iterable[Path] = [node.state_folder.control_socket for node in net.nodes.values()]
    return [path for path in paths if path.exists()]
