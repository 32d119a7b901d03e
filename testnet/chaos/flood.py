"""Many strangers at a node's door at once: noise, silence, half a handshake, and meshes of other people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import trio

from ...crypto.certificates import Role, issue
from ...crypto.identity import Identity
from ...crypto.mesh import MeshDefinition
from ...node.client import Client, ClientError
from ...node.clock import wall_s
from ...node.config import ClientConfig, ClientSettings, MeshPaths
from ...node.meshfile import save_mesh_file
from ...node.storage.folder import StateFolder

# Of each kind at a time; a flood is bounded here so that the machine stays usable.
AT_ONCE = 200
CONNECT_S = 5.0
_MULTISTREAM = b"\x13/multistream/1.0.0\n"


async def strangers(addresses: Sequence[tuple[str, int]], count: int, hold_s: float) -> int:
    """Open `count` connections, spread over the addresses, and say something wrong on each. Returns how many opened."""
    opened = 0
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one(number: int) -> None:
        nonlocal opened
        host, port = addresses[number % len(addresses)]
        async with limit:
            try:
                with trio.fail_after(CONNECT_S):
                    stream = await trio.open_tcp_stream(host, port)
            except (OSError, trio.TooSlowError):
                return
            opened += 1
            with trio.move_on_after(hold_s):
                async with stream:
                    await _misbehave(stream, number)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    return opened


async def _misbehave(stream: trio.SocketStream, number: int) -> None:
    try:
        match number % 4:
            case 0:
                await stream.send_all(os.urandom(4096))
            case 1:  # says nothing at all
                pass
            case 2:
                await stream.send_all(_MULTISTREAM + b"\x07/noise\n")
            case 3:
                await stream.send_all(_MULTISTREAM + b"\x07/noise\n" + (32).to_bytes(2, "big") + os.urandom(32))
        while await stream.receive_some(65_536):
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def foreigners(folder: Path, bootstrap: tuple[str, ...], count: int) -> list[str]:
    """Members of another mesh ask to be let in, all at once. Returns what each was told."""
    authority = Identity.generate()
    mesh = MeshDefinition("elsewhere", (authority.node_id,))
    folder.mkdir(parents=True, exist_ok=True)
    save_mesh_file(folder / "mesh.toml", mesh)
    told: list[str] = []

    async def one(number: int) -> None:
        state = StateFolder(folder / f"stranger-{number}")
        state.create()
        identity, now_s = Identity.generate(), wall_s()
        identity.save(state.identity_key)
        certificate = issue(authority, mesh, identity.node_id, Role.SUBMITTER, now_s - 60, now_s + 3600, "stranger")
        state.certificate.write_bytes(certificate.to_bytes())
        settings = ClientSettings(state=state.root, bootstrap=bootstrap, preset="local")
        config = ClientConfig(mesh=MeshPaths(definition=folder / "mesh.toml"), client=settings)
        try:
            async with Client.connect(config):
                told.append("let in")
        except ClientError as error:
            told.append(str(error))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    return told
