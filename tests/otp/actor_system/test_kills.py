"""The small face and routers under random kills: every send has a response, every future one, and nothing is left."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import gevent
import pytest

from packetflow.otp import (
    ActorSystem,
    CallFailed,
    ChildSpec,
    Hosting,
    Message,
    Response,
    Router,
    Send,
    System,
    call,
    kill,
    receive_response,
    send_request,
)
from tests.otp.actor_system.test_system import Receive
from tests.otp.actors import Puppet, until

CODES = {None, "unavailable", "execution_failed", "timeout", "overloaded", "not_found"}


def busybody(data: tuple[str, ...], send: Send) -> Receive:
    """Answers, waits, crashes, or asks another, as its message says."""

    def receive(message: Message) -> Response:
        match message.payload:
            case "wait":
                gevent.sleep(0.0005)
            case "crash":
                raise RuntimeError("as told")
            case ("ask", target_id, then):
                return send(target_id, Message(message.id, "do", then), timeout=1.0)
            case ("later", target_id, then):
                return send.future(target_id, Message(message.id, "do", then)).get(1.0)
        return Response(True, message.id)

    return receive


@pytest.mark.parametrize("seed", range(4))
def test_every_message_has_one_response_whoever_dies(system: System, seed: int) -> None:
    draw = random.Random(seed)
    root = ActorSystem(system, name="root")
    below = ActorSystem(system, name="below")
    root.register("below", below)
    hosting = [
        Hosting(max_restarts=10_000),
        Hosting(max_restarts=10_000, mailbox_limit=2, mailbox_full="drop_oldest"),
        Hosting(max_restarts=10_000, mailbox_limit=2, mailbox_full="block"),
    ]
    for number in range(9):
        (root if number < 5 else below).register(f"a{number}", busybody, (), hosting[number % 3])
    ids = [f"a{number}" for number in range(5)] + [f"below/a{number}" for number in range(5, 9)]
    answers: list[tuple[str, Response]] = []

    def order(depth: int = 0) -> Any:
        kinds = ["go", "go", "wait", "crash"]
        if depth < 3:
            # Downwards only where it waits: circles are another test's.
            kinds += [
                ("ask", draw.choice(ids), order(depth + 1)),
                ("later", draw.choice(ids), order(depth + 1)),
            ]
        return draw.choice(kinds)

    def sender(name: int) -> None:
        for turn in range(40):
            id = f"{name}-{turn}"
            message = Message(id, "do", order())
            if draw.random() < 0.3:
                answers.append((id, root.future(draw.choice(ids), message).get(1.0)))
            else:
                answers.append((id, root.send(draw.choice(ids), message, timeout=1.0)))
            if draw.random() < 0.3:
                gevent.sleep(0)

    senders = [gevent.spawn(sender, name) for name in range(8)]
    while not all(one.ready() for one in senders):
        alive = [ref for ref in system.processes() if repr(ref).startswith(("<root/a", "<below/a"))]
        if alive and draw.random() < 0.3:
            kill(draw.choice(alive))
        gevent.sleep(0.0005)
    gevent.joinall(senders, raise_error=True)
    assert Counter(id for id, _ in answers) == Counter(
        f"{name}-{turn}" for name in range(8) for turn in range(40)
    )
    for id, answer in answers:
        assert answer.code in CODES
        assert answer.data == id if answer.success else answer.error
    for id in ids:
        until(lambda id=id: root.send(id, Message("last", "do", "go")).success)
    below.close()
    root.close()


def test_a_pool_under_kills_keeps_its_size_and_its_order(system: System) -> None:
    draw = random.Random(1)
    pool = Router.start(ChildSpec(Puppet), size=5, max_restarts=10_000, system=system)
    answered = failed = 0
    for turn in range(300):
        until(lambda: len(Router.workers(pool)) > 1)
        requests = [send_request(Router.route(pool), number) for number in range(5)]
        if draw.random() < 0.5:
            kill(draw.choice(Router.workers(pool)))
        for number, request in enumerate(requests):
            try:
                assert receive_response(request, 1.0) == number
                answered += 1
            except CallFailed:
                failed += 1
        if turn % 50 == 0:
            Router.resize(pool, draw.randrange(1, 8))
            Router.resize(pool, 5)
    assert answered > failed > 0
    until(lambda: len(Router.workers(pool)) == 5)
    assert [
        call(worker, lambda server, caller: server.ref) for worker in Router.workers(pool)
    ] == Router.workers(pool)
