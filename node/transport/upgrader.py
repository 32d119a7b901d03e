"""From a raw connection to a muxed one: Noise and our Yamux, nothing else, every length bounded.

py-libp2p's own upgrader builds its own Yamux whatever `muxer_opt` says, and its negotiation reads messages
of any declared length.
"""

from __future__ import annotations

from libp2p.abc import IMuxedConn, IRawConnection, ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.abc import ReadWriteCloser
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL
from libp2p.transport.exceptions import MuxerUpgradeFailure, SecurityUpgradeFailure
from libp2p.transport.upgrader import TransportUpgrader

from .frames import YAMUX_PROTOCOL, BufferBudget, MuxerLimits
from .guards import BoundedCommunicator
from .muxer import YamuxConnection
from .noise import NoiseSession, NoiseTransport
from .streams import node_id_of

NEGOTIATE_TIMEOUT_S = 5
_MUXER = TProtocol(YAMUX_PROTOCOL)


async def negotiate(conn: ReadWriteCloser, protocol: TProtocol, is_initiator: bool) -> None:
    """Agree on `protocol`, the only one we offer or accept; raises MultiselectError or its client's."""
    communicator = BoundedCommunicator(conn)
    if is_initiator:
        await MultiselectClient().select_one_of([protocol], communicator, NEGOTIATE_TIMEOUT_S)
    else:
        await Multiselect({protocol: None}).negotiate(communicator, NEGOTIATE_TIMEOUT_S)


class SecureUpgrader(TransportUpgrader):
    """Callers set the deadline; nothing here outlives a cancellation, but the caller closes the connection."""

    def __init__(self, key_pair: KeyPair, limits: MuxerLimits, budget: BufferBudget) -> None:
        self._noise = NoiseTransport(key_pair, create_x25519_key_pair().private_key)
        super().__init__(
            secure_transports_by_protocol={NOISE_PROTOCOL: self._noise},
            muxer_transports_by_protocol={_MUXER: YamuxConnection},
            negotiate_timeout=NEGOTIATE_TIMEOUT_S,
        )
        self._limits = limits
        self._budget = budget

    async def upgrade_security(
        self, raw_conn: IRawConnection, is_initiator: bool, peer_id: ID | None = None
    ) -> ISecureConn:
        """Raises SecurityUpgradeFailure, also when the peer proves to be another than `peer_id`."""
        try:
            await negotiate(raw_conn, NOISE_PROTOCOL, is_initiator)
            if is_initiator:
                if peer_id is None:
                    raise SecurityUpgradeFailure("an outbound connection needs a peer id")
                session = await self._noise.secure_outbound(raw_conn, peer_id)
            else:
                session = await self._noise.secure_inbound(raw_conn)
            remote = session.get_remote_peer()
            if is_initiator and remote != peer_id:
                raise SecurityUpgradeFailure(f"asked for {peer_id}, but it is {remote}")
            if node_id_of(remote) is None:
                raise SecurityUpgradeFailure("an identity that is not an Ed25519 key")
            return session
        except SecurityUpgradeFailure:
            raise
        except Exception as error:
            # The boundary to a stranger's handshake: the Noise and protobuf libraries raise what they like.
            raise SecurityUpgradeFailure(f"handshake failed: {type(error).__name__}: {error}") from error

    async def upgrade_connection(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """Raises MuxerUpgradeFailure."""
        assert isinstance(conn, NoiseSession)
        try:
            await negotiate(conn, _MUXER, conn.is_initiator)
        except BaseLibp2pError as error:
            raise MuxerUpgradeFailure(f"no muxer agreed on: {error}") from error
        return YamuxConnection(conn, peer_id, self._limits, self._budget)


def key_pair_from_seed(seed: bytes) -> KeyPair:
    """The Ed25519 key pair of a 32-byte seed; raises ValueError."""
    if len(seed) != 32:
        raise ValueError(f"an identity seed has 32 bytes, not {len(seed)}")
    return create_new_key_pair(seed)
