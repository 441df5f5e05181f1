"""The network of a simulation, and the work that threads and processes do elsewhere."""

from __future__ import annotations

import socket
from typing import Any

import gevent
import pytest
from gevent.socket import wait_read

from packetflow.otp import OffloadTimeout, ProcessPool, ThreadPool
from packetflow.otp.simulation.world import SimulationFailed, World, explore, simulate

HERE = ("127.0.0.1", 7000)


def serve(world: World, address: tuple[str, int] = HERE) -> Any:
    """A listener that sends back what comes."""
    listener = world.network.listen(*address, 8)
    listener.setblocking(False)

    def accept() -> None:
        while True:
            wait_read(listener.fileno())
            descriptor, _ = listener._accept()
            gevent.spawn(echo, world, socket.socket(fileno=descriptor))

    gevent.spawn(accept)
    return listener


def echo(world: World, sock: socket.socket) -> None:
    with sock:
        sock.setblocking(False)
        while data := receive(world, sock):
            sock.send(data)


def receive(world: World, sock: socket.socket) -> bytes:
    world.network.until_ready(sock, 1)
    return sock.recv(65536)


def ask(world: World, sock: socket.socket, data: bytes) -> bytes:
    sock.send(data)
    return receive(world, sock)


def test_what_is_sent_arrives_and_takes_the_time_that_is_drawn() -> None:
    def program(world: World) -> Any:
        serve(world)
        world.network.latency = (1.0, 2.0)
        with world.network.connect(HERE) as sock:
            begun = world.clock().monotonic()
            assert ask(world, sock, b"hello") == b"hello"
            return world.clock().monotonic() - begun

    took = {run.value for run in explore(program, range(20))}
    assert len(took) == 20
    assert all(2.0 <= seconds <= 4.0 for seconds in took)


def test_nobody_listens_and_two_want_the_same_place() -> None:
    def program(world: World) -> None:
        with pytest.raises(ConnectionRefusedError):
            world.network.connect(HERE)
        listener = serve(world)
        with pytest.raises(OSError, match="in use"):
            world.network.listen(*HERE, 8)
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            world.network.connect(HERE)
        assert serve(world, ("127.0.0.1", 0)).getsockname()[1] >= 49152

    simulate(program, 1)


def test_a_cut_is_the_end_for_both() -> None:
    def program(world: World) -> Any:
        serve(world)
        with world.network.connect(HERE, "ana") as cut, world.network.connect(HERE, "bob") as kept:
            assert ask(world, cut, b"a") == b"a"
            assert world.network.cut(caller="ana") == 1
            assert receive(world, cut) == b""
            return ask(world, kept, b"b")

    assert {run.value for run in explore(program, range(20))} == {b"b"}


def test_what_is_held_up_by_a_partition_arrives_when_it_heals() -> None:
    def program(world: World) -> Any:
        serve(world)
        with world.network.connect(HERE, "ana") as sock:
            assert ask(world, sock, b"a") == b"a"
            world.network.part("ana", HERE)
            sock.send(b"b")
            gevent.spawn_later(100, world.network.heal)
            assert receive(world, sock) == b"b"
            return world.clock().monotonic()

    assert all(100 <= run.value < 101 for run in explore(program, range(10)))


def send_on_and_on(sock: socket.socket, sent: list[int]) -> None:
    for _ in range(1000):
        sent.append(sock.send(b"x" * 65536))
        gevent.sleep(0.01)


def test_a_reader_that_takes_nothing_holds_the_sender_up() -> None:
    def program(world: World) -> Any:
        listener = world.network.listen(*HERE, 8)
        with listener, world.network.connect(HERE) as sock:
            sent: list[int] = []
            with pytest.raises(BlockingIOError):
                send_on_and_on(sock, sent)
            return sum(sent)

    assert 65536 <= simulate(program, 1).value < 10_000_000


def test_losses_are_drawn() -> None:
    def program(world: World) -> Any:
        serve(world)
        world.network.loss = 0.2
        with world.network.connect(HERE) as sock:
            return sum(bool(ask(world, sock, b"x")) for _ in range(3))

    outcomes = set()
    for seed in range(40):
        try:
            outcomes.add(simulate(program, seed).value)
        except SimulationFailed:
            outcomes.add("cut")
    assert outcomes >= {3, "cut"}


def test_a_socket_of_the_outside_is_refused() -> None:
    def program(world: World) -> None:
        with socket.socket(socket.AF_INET) as sock:
            wait_read(sock.fileno())

    with pytest.raises(SimulationFailed, match="virtual time"):
        simulate(program, 1)


def test_threads_and_processes_do_their_work_in_turns() -> None:
    def program(world: World) -> Any:
        threads, processes = ThreadPool(2), ProcessPool(1)
        order: list[int] = []

        def note(number: int) -> int:
            order.append(number)
            gevent.sleep(0.1)
            return number

        asked = [gevent.spawn(threads.run, note, number) for number in range(5)]
        gevent.joinall(asked, raise_error=True)
        assert processes.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            processes.run(divmod, 7, 0)
        with pytest.raises(OffloadTimeout):
            threads.run(gevent.sleep, 10, timeout=1.0)
        threads.close()
        processes.close()
        return tuple(order), world.clock().monotonic()

    runs = explore(program, range(30))
    assert len({run.value for run in runs}) > 1
    assert all(set(run.value[0]) == set(range(5)) for run in runs)
    assert simulate(program, 3) == simulate(program, 3)
