"""A TCP port on which several processes listen at once: the kernel spreads new connections over them (SO_REUSEPORT, Linux).

The parent reserves the port for as long as it holds the socket; each worker listens on it by itself.
"""

from __future__ import annotations

import socket

from packetflow.otp.workers.channel import PlainSocket

BACKLOG = 1024


def reserve_port(host: str, port: int) -> socket.socket:
    """A socket that is bound to host and port and does not listen, so that workers may. Port 0 takes a free one.

    Raises OSError (EADDRINUSE) also where another program listens there by SO_REUSEPORT, which would share with it.
    """
    family, address = _address(host, port)
    if port:
        with PlainSocket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    return _bound(family, address)


def listen_shared(host: str, port: int, backlog: int = BACKLOG) -> socket.socket:
    """A socket that listens on host and port beside others that do so by SO_REUSEPORT. It does not block. Raises OSError."""
    sock = _bound(*_address(host, port))
    try:
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _address(host: str, port: int) -> tuple[int, tuple[str, int]]:
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return family, address  # type: ignore[return-value]


def _bound(family: int, address: tuple[str, int]) -> socket.socket:
    sock = PlainSocket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock
