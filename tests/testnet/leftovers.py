"""What a test network could leave behind: processes and sockets."""

from pathlib import Path

from hearthmesh.node.storage.folder import StateFolder
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
    """Control sockets that exist, and folders that were made for them outside of the network's."""
    folders = [*(node.state_folder for node in net.nodes.values()), StateFolder(net.folder / "client" / "state")]
    sockets = [folder.control_socket for folder in folders]
    places = [path.parent for path in sockets if not path.is_relative_to(net.folder.absolute())]
    return [path for path in (*sockets, *places) if path.exists()]
