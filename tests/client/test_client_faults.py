"""The client when the node is absent, dies, restarts, drains, or talks nonsense."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import gevent.server
import pytest

from packetflow.client import Client
from packetflow.transports.tcp import TcpListener
from packetflow.wire.errors import Cancelled, Overloaded, ProtocolError, RequestError, Unavailable
from tests.transports.peers import until
from tests.transports.small_door import SmallDoor

Serve = Callable[..., TcpListener]
Connect = Callable[..., Client]


def port_of(listener: TcpListener) -> int:
    return int(listener.address.rpartition(":")[2])


def test_nobody_there_is_unavailable_with_the_address(served: Serve, connect: Connect) -> None:
    listener = served()
    listener.close()
    client = connect(listener.address)
    with pytest.raises(Unavailable) as caught:
        client.call("echo")
    assert str(caught.value) == f"no node answers at tcp://{listener.address}: connection refused"
    assert caught.value.details == {"address": f"tcp://{listener.address}", "connected": False, "sent": False}
    assert client.request("echo").error.code == "unavailable"  # type: ignore[union-attr]
    assert [reply.error.code for _, reply in client.map([("echo", {})] * 3)] == ["unavailable"] * 3  # type: ignore[union-attr]


def test_no_socket_there_is_unavailable(connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no node answers at unix:///.*: no such file or directory"):
        connect(f"unix://{tmp_path}/admin.sock").call("echo")


def test_it_connects_again_when_the_node_has_restarted(
    served: Serve, connect: Connect, door: SmallDoor
) -> None:
    first = served()
    client = connect(first.address)
    assert client.call("echo", {"n": 1}) == {"n": 1}
    first.close()
    assert client.request("echo").error.code == "unavailable"  # type: ignore[union-attr]
    served(port=port_of(first))
    assert client.call("echo", {"n": 2}) == {"n": 2}


def test_an_idle_connection_that_was_closed_is_noticed_before_it_is_used(
    served: Serve, connect: Connect, door: SmallDoor
) -> None:
    listener = served()
    client = connect(listener.address)
    client.call("echo")
    for connection in list(listener.connections):
        connection.close()
    assert client.call("echo", {"n": 2}) == {"n": 2}
    assert len(door.seen) == 2


def test_a_connection_that_breaks_mid_call_raises_and_the_request_is_not_sent_again(
    served: Serve, connect: Connect, door: SmallDoor
) -> None:
    listener = served()
    client = connect(listener.address)
    calls = [gevent.spawn(client.request, "wait", {"name": "w"}, idempotency_key="k") for _ in range(3)]
    until(lambda: len(door.in_flight) == 3)
    for connection in list(listener.connections):
        connection.close()
    for call in calls:
        error = call.get(timeout=10).error
        assert error.code == "unavailable"
        assert error.details == {"address": f"tcp://{listener.address}", "connected": False, "sent": True}
        assert "may have been executed" in error.message
    assert len(door.seen) == 3  # the node does not say that it keeps keys
    assert client.call("echo") == {}


def test_with_a_key_that_the_node_keeps_it_is_sent_once_more(
    served: Serve, connect: Connect, door: SmallDoor
) -> None:
    listener = served(features=("cancel", "idempotency"))
    client = connect(listener.address)
    with_key = gevent.spawn(client.request, "wait", {"name": "w"}, idempotency_key="k")
    without = gevent.spawn(client.request, "wait", {"name": "w"})
    until(lambda: len(door.in_flight) == 2)
    for connection in list(listener.connections):
        connection.close()
    assert without.get(timeout=10).error.code == "unavailable"
    until(lambda: len(door.seen) == 3)
    door.release("w")
    assert with_key.get(timeout=10).value == "w"
    assert [metadata.idempotency_key for _, _, _, metadata, _ in door.seen].count("k") == 2


def test_a_draining_node_answers_what_is_under_way_and_then_is_unavailable(
    served: Serve, connect: Connect, door: SmallDoor
) -> None:
    listener = served()
    client = connect(listener.address)
    call = gevent.spawn(client.call, "wait", {"name": "w"})
    until(lambda: door.waiting)
    drained = gevent.spawn(listener.drain, 30.0)
    until(lambda: client._channel is not None and client._channel.leaving)
    assert client.request("echo").error.code == "unavailable"  # type: ignore[union-attr]
    door.release("w")
    assert call.get(timeout=10) == "w"
    assert drained.get(timeout=10) is True


def test_close_ends_what_is_under_way_and_the_client(
    served: Serve, connect: Connect, door: SmallDoor
) -> None:
    client = connect(served().address)
    call = gevent.spawn(client.call, "wait", {"name": "w"})
    until(lambda: door.waiting)
    client.close()
    with pytest.raises(Cancelled, match="the client was closed"):
        call.get(timeout=10)
    until(lambda: door.ended == [("w", "cancelled")])
    with pytest.raises(Unavailable, match="the client is closed"):
        client.call("echo")


def test_a_full_node_refuses_with_its_own_word(served: Serve, connect: Connect) -> None:
    listener = served(connections=1)
    connect(listener.address).connect()
    with pytest.raises(Overloaded, match="1 connections are open, the limit"):
        connect(listener.address).connect()


@pytest.fixture
def liar() -> Iterator[Callable[[bytes, bytes], str]]:
    """A server that answers hello with the first bytes, and what comes next with the second, and then stays silent."""
    servers: list[gevent.server.StreamServer] = []

    def make(first: bytes, second: bytes = b"") -> str:
        def handle(sock: gevent.socket.socket, _: object) -> None:
            sock.recv(65536)
            sock.sendall(first)
            if second:
                sock.recv(65536)
                sock.sendall(second)
            while sock.recv(65536):
                pass

        server = gevent.server.StreamServer(("127.0.0.1", 0), handle)
        server.start()
        servers.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield make
    for server in servers:
        server.stop()


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x00\x00\x02\xc1\xc1",
        b"\x00\x00\x00\x01\x05",
        b"\x00\x00\x00\x01\x80",
    ],
)
def test_nonsense_instead_of_welcome_is_a_protocol_error(
    liar: Callable[..., str], connect: Connect, garbage: bytes
) -> None:
    with pytest.raises(RequestError) as caught:
        connect(liar(garbage)).call("echo")
    assert caught.value.code in ("protocol_error", "too_large")


def test_a_server_that_says_nothing_is_unavailable_after_the_connect_timeout(
    liar: Callable[..., str], connect: Connect
) -> None:
    with pytest.raises(Unavailable, match="took the connection and did not answer"):
        connect(liar(b""), connect_timeout=0.02).call("echo")


def test_nonsense_later_ends_the_connection_for_everybody(liar: Callable[..., str], connect: Connect) -> None:
    import msgpack

    body = msgpack.packb(
        {"version": 1, "type": "welcome", "payload": {"limits": {"in_flight": 9}, "features": "?"}}
    )
    client = connect(liar(len(body).to_bytes(4, "big") + body, b"\x00\x00\x00\x02\xc1\xc1"))
    calls = [gevent.spawn(client.request, "echo") for _ in range(3)]
    for call in calls:
        assert isinstance(call.get(timeout=10).error, ProtocolError)


SERVER = """
import gevent
from packetflow.otp.clock import Clock
from packetflow.transports.tcp import TcpListener
from packetflow.wire.limits import Limits
from tests.transports.small_door import SmallDoor
listener = TcpListener(SmallDoor(), Clock(), Limits(), port=0)
listener.start()
print(listener.address, flush=True)
gevent.sleep(60)
"""


@pytest.mark.parametrize("mode", ["threads", "gevent"])
def test_a_node_killed_mid_call_raises_and_never_hangs(connect: Connect, mode: str) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        try:
            assert process.stdout is not None
            client = connect(process.stdout.readline().strip(), concurrency=mode)
            assert client.call("echo", {"n": 1}) == {"n": 1}
            pendings = [client.submit("wait", {"name": "w"}) for _ in range(10)]
            process.send_signal(signal.SIGKILL)
            for pending in pendings:
                with pytest.raises(Unavailable, match="may have been executed"):
                    pending.result(20)
            process.wait(20)
            with pytest.raises(Unavailable, match="connection refused"):
                client.call("echo")
        finally:
            process.kill()
