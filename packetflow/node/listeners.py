"""The node's doors to the outside, each a supervised actor that holds one transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from packetflow.otp import ChildSpec, GenServer, at_death
from packetflow.transports.admin import AdminListener
from packetflow.transports.http import HttpListener
from packetflow.transports.listener import Listener as Transport
from packetflow.transports.tcp import TcpListener
from packetflow.wire.limits import Limits

if TYPE_CHECKING:
    from packetflow.node.node import Node

SCHEMES = {"admin": "unix", "tcp": "tcp", "http": "http"}


class Listener(GenServer):
    """Holds one transport: opens it, and closes it when it ends, however that is."""

    def init(self, node: Node, make: Callable[[Node], Transport]) -> None:
        """Open the transport. Raises what opening raises, such as a port in use."""
        self._node = node
        self._transport = make(node)
        self._transport.log = node.log.bind(door=self._transport.kind)
        self._transport.shared = node.shares_ports
        self._transport.start()
        node.transports.append(self._transport)
        at_death(self._close)

    def _close(self) -> None:
        """The transport and its connections end with this, however it ends: the next one wants the address."""
        self._node.transports.remove(self._transport)
        self._transport.close()


def listeners(node: Node) -> list[ChildSpec]:
    """A child for each door that the configuration opens in this process; the operator's is not the configuration's to close."""
    config = node.config
    makers: dict[str, Callable[[Node], Transport]] = {}
    if "admin" in node.doors:
        makers["admin"] = _admin
    if config.tcp.enabled and "tcp" in node.doors:
        makers["tcp"] = _tcp
    if config.http.enabled and "http" in node.doors:
        makers["http"] = _http
    return [
        ChildSpec(Listener, node, make, id=name, shutdown=config.timeouts.shutdown)
        for name, make in makers.items()
    ]


def address_of(transport: Transport) -> str:
    """Where a transport listens, as a client takes it."""
    return f"{SCHEMES[transport.kind]}://{transport.address}"


def _limits(node: Node) -> Limits:
    limits = node.config.limits
    return Limits(limits.frame, limits.payload, limits.depth, limits.string, limits.collection)


def _admin(node: Node) -> Transport:
    path = str(node.data_folder.claim_admin_socket())
    in_flight = node.config.limits.in_flight_session
    return AdminListener(node.door, node.clock, _limits(node), path=path, in_flight=in_flight)


def _tcp(node: Node) -> Transport:
    config = node.config
    return TcpListener(
        node.door,
        node.clock,
        _limits(node),
        host=config.tcp.host,
        port=config.tcp.port,
        in_flight=config.limits.in_flight_session,
        connections=config.limits.connections,
    )


def _http(node: Node) -> Transport:
    config = node.config

    def live() -> tuple[bool, dict[str, Any]]:
        return True, {"live": True, "node": config.node.name}

    def ready() -> tuple[bool, dict[str, Any]]:
        health = node.health()
        return health["ready"], {
            "ready": health["ready"],
            "status": health["status"],
            "findings": health["findings"],
        }

    return HttpListener(
        node.door,
        node.clock,
        _limits(node),
        live=live,
        ready=ready,
        catalogue=lambda session: dict(node.catalogue(session)),
        describe=lambda session, id: (
            dict(found) if (found := node.describe(session, id)) is not None else None
        ),
        host=config.http.host,
        port=config.http.port,
        allowed_hosts=config.http.allowed_hosts,
        allowed_origins=config.http.allowed_origins,
        connections=config.limits.connections,
    )
