"""Where a redirected connection was going (`SO_ORIGINAL_DST`), and addresses as text."""

import socket
import struct

SO_ORIGINAL_DST = 80
"""linux/netfilter_ipv4.h; the same number for IPv6."""
IP_BIND_ADDRESS_NO_PORT = 24
"""linux/in.h: bind chooses no port; connect does, so that a port serves many destinations."""


def original_dst(sock: socket.socket) -> tuple[str, int] | None:
    """Return the destination before REDIRECT; None where nothing was redirected."""
    try:
        if sock.family == socket.AF_INET:
            raw = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
            port, address = struct.unpack("!2xH4s8x", raw)
            return socket.inet_ntop(socket.AF_INET, address), port
        if sock.family == socket.AF_INET6:
            raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
            port, address = struct.unpack("!2xH4x16s4x", raw)
            return unmapped(socket.inet_ntop(socket.AF_INET6, address)), port
    except OSError:
        return None
    return None


def unmapped(ip: str) -> str:
    """Return an IPv4 address that wears IPv6 clothes as itself."""
    return ip[7:] if ip.startswith("::ffff:") and "." in ip else ip


def ip_and_port(name: object) -> tuple[str, int]:
    """Return (IP, port) of a socket's name; ("", 0) of a unix socket's."""
    if isinstance(name, tuple):
        return unmapped(str(name[0])), int(name[1])
    return "", 0


def text(name: object) -> str:
    """Return a socket's name as logs show it: `ip:port`, `[ip]:port` or a path."""
    if isinstance(name, tuple):
        ip, port = ip_and_port(name)
        return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
