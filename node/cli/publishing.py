"""Telling the mesh of revocation lists, as a client."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from ...crypto.identity import node_id_from_text
from ...protocol.events import Received
from ...protocol.messages import Revocations
from ..client import Client
from ..config import load_client_config
from ..logs import configure_logs
from .output import connecting
from .running import run_client
from .session import client_path


def publish_revocations(path: Path | None, revocation_lists: list[bytes]) -> None:
    """Returns when it has left to the peers that were reached. Raises UserError, ClientError."""
    configure_logs("error", json_lines=False)

    async def publish() -> None:
        config = load_client_config(client_path(path))
        async with AsyncExitStack() as stack:
            with connecting(len(config.client.bootstrap), mdns=config.client.mdns):
                mesh = await stack.enter_async_context(Client.connect(config))
            # As if it came from the mesh: the machine checks it, applies it and gossips what is news to it.
            for revocation_list in revocation_lists:
                mesh.feed(Received(node_id_from_text(mesh.peer_id), Revocations(revocation_list)))
            await mesh.flush()

    run_client(publish)
