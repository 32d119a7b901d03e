"""The Noise session with buffers of its own: whole batches in and out, one socket call each.

The handshake is py-libp2p's. Its transport phase reads two bytes, then the message, through three layers
of locks each; ours parses every complete message that has arrived and encrypts a whole batch before it writes.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from libp2p.abc import IRawConnection, ISecureConn
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.security.noise.io import NoiseTransportReadWriter
from libp2p.security.noise.transport import Transport
from libp2p.security.secure_session import SecureSession

from .tcp import TcpStream

MAX_MESSAGE_BYTES = 65_535
TAG_BYTES = 16
MAX_PLAINTEXT_BYTES = MAX_MESSAGE_BYTES - TAG_BYTES
READ_BYTES = 64 * 1024
BULK_READ_BYTES = 256 * 1024
MAX_NONCE = (1 << 64) - 1


class NoiseBroken(IOException):
    """A message that does not authenticate: tampered with, or not Noise at all."""


class NoiseSession(SecureSession):
    """A secured connection after its handshake.

    `read` serves the multistream negotiation (at most n bytes, b"" at the end); `receive` serves the muxer.
    One task may read while another writes.
    """

    conn: NoiseTransportReadWriter

    def __init__(self, handshaken: SecureSession) -> None:
        transport = handshaken.conn
        assert isinstance(transport, NoiseTransportReadWriter)
        super().__init__(
            local_peer=handshaken.local_peer,
            local_private_key=handshaken.local_private_key,
            remote_peer=handshaken.remote_peer,
            remote_permanent_pubkey=handshaken.remote_permanent_pubkey,
            is_initiator=handshaken.is_initiator,
            conn=transport,
        )
        protocol = transport.noise_state.noise_protocol
        sending, receiving = protocol.cipher_state_encrypt, protocol.cipher_state_decrypt
        self._raw: ReadWriteCloser = transport.read_writer.read_write_closer
        self._encrypt = sending.cipher.cipher.encrypt
        self._decrypt = receiving.cipher.cipher.decrypt
        self._send_nonce: int = sending.n
        self._receive_nonce: int = receiving.n
        below = getattr(self._raw, "stream", None)
        self._socket = below if isinstance(below, TcpStream) else None
        self._unsent = b""
        self._ciphertext = bytearray()
        self._plaintext = b""
        self._read_bytes = READ_BYTES

    async def read(self, n: int | None = None) -> bytes:
        if n == 0:
            return b""
        if not self._plaintext:
            self._plaintext = await self._receive_new()
        data = self._plaintext
        if n is None or n < 0 or n >= len(data):
            self._plaintext = b""
            return data
        self._plaintext = data[n:]
        return data[:n]

    async def receive(self) -> bytes:
        """All plaintext that has arrived, at least one byte; b"" when the peer closed.

        Raises NoiseBroken, or an IOException of the connection below.
        """
        if self._plaintext:
            data, self._plaintext = self._plaintext, b""
            return data
        return await self._receive_new()

    async def _receive_new(self) -> bytes:
        while True:
            plaintext = self._decrypt_complete()
            if plaintext:
                return plaintext
            chunk = await self._raw.read(self._read_bytes)
            if not chunk:
                return b""
            self._read_bytes = BULK_READ_BYTES if len(chunk) == self._read_bytes else READ_BYTES
            self._ciphertext += chunk

    def _decrypt_complete(self) -> bytes:
        buffer = self._ciphertext
        position, end = 0, len(buffer)
        messages: list[bytes] = []
        with memoryview(buffer) as view:
            while end - position >= 2:
                size = (buffer[position] << 8) | buffer[position + 1]
                stop = position + 2 + size
                if stop > end:
                    break
                messages.append(self._open(view[position + 2 : stop]))
                position = stop
        del buffer[:position]
        return messages[0] if len(messages) == 1 else b"".join(messages)

    def _open(self, message: memoryview) -> bytes:
        nonce = self._receive_nonce
        self._receive_nonce = nonce + 1
        try:
            with message:
                return bytes(self._decrypt(b"\0\0\0\0" + nonce.to_bytes(8, "little"), message, None))
        except (InvalidTag, ValueError) as error:
            raise NoiseBroken("a message that does not authenticate") from error

    async def write(self, data: bytes) -> None:
        sealed, self._unsent = self._unsent + self._seal_all(data), b""
        await self._raw.write(sealed)

    def write_now(self, data: bytes) -> bool:
        """Send without waiting. False: it could not be tried, and nothing of `data` was taken.

        What the socket had no room for is kept; `unsent` tells, and the next `write` begins with it.
        """
        if self._socket is None or self._unsent:
            return False
        sealed = self._seal_all(data)
        self._unsent = sealed[self._socket.write_now(sealed) :]
        return True

    @property
    def unsent(self) -> bool:
        return bool(self._unsent)

    def _seal_all(self, data: bytes) -> bytes:
        if len(data) <= MAX_PLAINTEXT_BYTES:
            return self._seal(data) if data else b""
        with memoryview(data) as view:
            return b"".join(
                self._seal(view[start : start + MAX_PLAINTEXT_BYTES])
                for start in range(0, len(data), MAX_PLAINTEXT_BYTES)
            )

    def _seal(self, plaintext: bytes | memoryview) -> bytes:
        nonce = self._send_nonce
        assert nonce < MAX_NONCE
        self._send_nonce = nonce + 1
        size = len(plaintext) + TAG_BYTES
        sealed: bytes = self._encrypt(b"\0\0\0\0" + nonce.to_bytes(8, "little"), plaintext, None)
        return size.to_bytes(2, "big") + sealed


class NoiseTransport(Transport):
    """py-libp2p's handshake, our session."""

    async def secure_inbound(self, conn: IRawConnection) -> ISecureConn:
        return _take_over(await super().secure_inbound(conn))

    async def secure_outbound(self, conn: IRawConnection, peer_id: ID) -> ISecureConn:
        return _take_over(await super().secure_outbound(conn, peer_id))


def _take_over(session: ISecureConn) -> NoiseSession:
    assert isinstance(session, SecureSession)
    return NoiseSession(session)
