"""Servers with small mailboxes that make senders wait, in simulated worlds: nobody waits for ever, nothing stays behind."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow.otp import (
    CallFailed,
    GenServer,
    NoReply,
    Ref,
    call,
    receive_response,
    send_request,
    statistics,
)
from packetflow.otp.simulation.world import World, explore


class Small(GenServer):
    """Calls, tells, asks or waits for others as chance has it; answers at once, later, or for another."""

    mailbox_limit = 1
    mailbox_full = "block"

    def init(self, chance: Any, others: list[Ref]) -> None:
        self.chance = chance
        self.others = others
        self.owed: list[Any] = []

    def act(self, depth: int) -> None:
        other = self.chance.choice(self.others)
        drawn = self.chance.random()
        try:
            if drawn < 0.3 and depth < 4:
                self.call(other, depth + 1, timeout=1.0)
            elif drawn < 0.4:
                self.send(other, depth + 1, block=True)  # no timeout ends this wait
            elif drawn < 0.5:
                self.cast(other, depth + 1)
            elif drawn < 0.6 and depth < 4:
                receive_response(send_request(other, depth + 1), 1.0)
            elif drawn < 0.7:
                gevent.sleep(0.01)
        except CallFailed:
            pass  # nobody there, no room, no time, a circle: each is an end of the wait

    def handle_call(self, request: int, caller: Any) -> Any:
        self.act(request)
        drawn = self.chance.random()
        if drawn < 0.2:
            self.owed.append(caller)
            return NoReply()
        if drawn < 0.4 and self.owed:
            self.reply(self.owed.pop(), request)
        return request

    def handle_cast(self, message: int) -> None:
        if message < 6:
            self.act(message)
        if self.owed:
            self.reply(self.owed.pop(), message)

    def handle_info(self, message: int) -> None:
        self.handle_cast(message)


def crowd(world: World) -> int:
    """Five servers and four clients; in every other world with accidents. Returns how many calls were answered."""
    system = world.system()
    refs: list[Ref] = []
    for _ in range(5):
        ref = Small.start(world.random, refs, system=system)
        assert ref is not None
        refs.append(ref)
    answered = 0

    def client() -> None:
        nonlocal answered
        for _ in range(15):
            try:
                call(world.random.choice(refs), 0, timeout=2.0)
                answered += 1
            except CallFailed:
                pass

    if world.seed % 2:
        world.kill_at_random(0.002, lambda server: isinstance(server, Small))
    gevent.joinall([gevent.spawn(client) for _ in range(4)], raise_error=True)
    world.kill_at_random(0.0)
    gevent.sleep(20)
    for ref in system.processes():
        figures = statistics(ref)
        assert (figures.status, figures.mailbox) == ("idle", 0), figures
        assert ref._process.bonds is None or not ref._process.bonds.senders, (
            "somebody waits for room that is there"
        )
    return answered


def test_nobody_waits_for_ever_for_room() -> None:
    # The last six once did: a circle closed by who was let in, room that was made for somebody who was ended.
    runs = explore(crowd, [*range(60), 300, 493, 579, 2481, 2549, 2681])
    assert sum(run.value for run in runs) > 1000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nobody_waits_for_ever_in_two_thousand_worlds() -> None:
    explore(crowd, range(10_000, 12_000))
