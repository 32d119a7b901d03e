"""Checks of texts in settings files. Each raises ValueError with a problem that can stand after "key: "."""

from __future__ import annotations

import ipaddress
import re
import socket

from ...crypto.identity import NodeId, node_id_from_text

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9\-_]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?\Z")
_COMMAND_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,63}\Z")
_IMAGE_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def check_listen_address(text: str) -> None:
    """/ip4/ADDRESS/tcp/PORT or /ip6/…; port 0 lets the system choose."""
    host, rest = _host_and_port(text, lowest_port=0)
    if host not in ("ip4", "ip6") or rest:
        raise ValueError("expected an address to listen on like /ip4/0.0.0.0/tcp/4001")


def check_peer_address(text: str) -> None:
    """/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT/p2p/PEER-ID."""
    _, rest = _host_and_port(text, lowest_port=1)
    if len(rest) != 2 or rest[0] != "p2p":
        raise ValueError("expected a peer's whole address, ending in /p2p/ and its peer id")
    try:
        node_id_from_text(rest[1])
    except ValueError as error:
        raise ValueError(f"the peer id is not one of an Ed25519 key ({error})") from error


def authority_from_text(text: str) -> NodeId:
    """The key that a peer id, or 64 hexadecimal digits, stand for."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    try:
        return node_id_from_text(text)
    except ValueError as error:
        raise ValueError(f"expected a peer id (12D3Koo…) or 64 hexadecimal digits ({error})") from error


def check_authority(text: str) -> None:
    authority_from_text(text)


def check_printable(text: str) -> None:
    """Names reach terminals and logs."""
    if not text.isprintable():
        raise ValueError("expected printable characters only")


def check_host(text: str) -> None:
    """A name or an address, as the resolver takes them; empty where there is none."""
    if not text or ":" in text:
        try:
            ipaddress.IPv6Address(text or "::")
        except ValueError as error:
            raise ValueError("not an address; a port stands in a key of its own") from error
        return
    try:
        name = text.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if not _HOST_NAME.match(name):
        raise ValueError("not a host's name or address")
    if name.rstrip(".").rpartition(".")[2].isdigit():
        # No name ends in a number; short forms like 127.1 are addresses, too.
        try:
            socket.inet_aton(name)
        except OSError as error:
            raise ValueError("not an address") from error


def check_environment_value(text: str) -> None:
    if "\n" in text:
        raise ValueError("an environment value must be one line")


def check_absolute(text: str) -> None:
    if not text.startswith("/"):
        raise ValueError("expected an absolute path")


def check_image_digest(text: str) -> None:
    if not _IMAGE_DIGEST.match(text):
        raise ValueError("expected an image's digest: sha256: and 64 hex digits; a tag may be another image tomorrow")


def check_command_name(text: str) -> None:
    if not _COMMAND_NAME.match(text):
        raise ValueError("expected a command's name of letters, digits, _ . -")


def _host_and_port(text: str, *, lowest_port: int) -> tuple[str, list[str]]:
    """The kind of host, and what follows the port."""
    parts = text.split("/")
    if len(parts) < 5 or parts[0] or parts[3] != "tcp":
        raise ValueError("expected an address like /ip4/192.0.2.7/tcp/4001")
    kind, host, port = parts[1], parts[2], parts[4]
    try:
        if kind == "ip4":
            ipaddress.IPv4Address(host)
        elif kind == "ip6":
            ipaddress.IPv6Address(host)
        elif kind not in ("dns", "dns4", "dns6"):
            raise ValueError(f"/{kind} is not one of /ip4, /ip6, /dns, /dns4, /dns6")
        elif not _HOST_NAME.match(host):
            raise ValueError("not a host name")
    except ipaddress.AddressValueError as error:
        raise ValueError(f"not an address: {error}") from error
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and lowest_port <= int(port) <= 65_535):
        raise ValueError(f"the port must be within {lowest_port} and 65535")
    return kind, parts[5:]
