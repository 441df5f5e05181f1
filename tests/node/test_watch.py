"""A node's watch over the hub of the program that embeds it: off until asked for, and gone with the node."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from packetflow import Context, Module, Node, Request, capability
from packetflow.errors import ExecutionFailed, SpecError
from packetflow.node.config import NodeConfig
from packetflow.node.config.schema import TimeoutsSection
from packetflow.otp import Watchdog
from packetflow.otp.watchdog.watchdog import SIGNAL


def forever() -> int:
    while True:
        pass


@capability("held.spin", intent="Never end.")
def spin() -> int:
    """Never end."""
    return forever()


@capability("held.helper", intent="Have another greenlet never end.")
def helper() -> str:
    """Have another greenlet never end."""
    started = gevent.spawn(forever)
    started.join()
    return type(started.exception).__name__


@capability("held.nested", intent="Ask somebody who never ends.")
def nested(context: Context) -> str:
    """Ask somebody who never ends."""
    answer = context.request("held.spin", {})
    return "none" if answer.error is None else answer.error.code


@capability("held.quick", intent="Be quick.")
def quick() -> int:
    """Be quick."""
    return 1


@capability("held.asks", intent="Ask without end.")
def asks(context: Context) -> int:
    """Ask without end."""
    while True:
        context.request("held.quick", {})


def config(folder: Any, hub: float | None) -> NodeConfig:
    return NodeConfig.model_validate(
        {
            "node": {"data_folder": str(folder)},
            "tcp": {"enabled": False},
            "http": {"enabled": False},
            "timeouts": {} if hub is None else {"hub": hub},
        }
    )


@pytest.mark.parametrize(
    ("hub", "asked", "limit"),
    [
        (None, None, None),
        (None, True, 1.0),
        (0.5, None, 0.5),
        (0.5, True, 0.5),
        (0.5, False, None),
        (0.0, True, None),
    ],
)
def test_who_embeds_a_node_says_whether_it_watches(
    tmp_path: Any, hub: float | None, asked: bool | None, limit: float | None
) -> None:
    with Node(config(tmp_path, hub), watchdog=asked) as node:
        assert node.stats()["hub"]["limit"] == limit
        assert node.status()["hub"]["limit"] == limit
        assert (signal.getsignal(SIGNAL) is signal.SIG_DFL) is (limit is None)
    assert signal.getsignal(SIGNAL) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_the_usual_limit_is_that_of_the_rulings() -> None:
    assert TimeoutsSection().hub == 1.0


def test_a_request_that_holds_the_hub_ends_and_its_greenlet_goes_on(tmp_path: Any) -> None:
    with Node(config(tmp_path, 0.1), capabilities=[spin, nested]) as node:
        answer = node.request("held.spin")
        assert answer.error is not None
        assert answer.error.code == "execution_failed"
        assert "held the hub" in str(answer.error)
        assert (
            node.describe(node.session(), "held.spin")["load"]["last_error"]
            == answer.error.message.partition(" ")[2]
        )
        gevent.sleep(0)
        assert node.call("held.nested") == "execution_failed"
        gevent.sleep(0)
        assert node.stats()["hub"]["broken"] == 2
        assert node.door.in_flight == {}
        last = node.status()["hub"]["last"]
        assert [one["broken"] for one in last if one["who"].startswith("held.spin (trace ")] == [1, 1]


def test_of_many_quick_requests_none_is_to_blame(tmp_path: Any) -> None:
    with Node(config(tmp_path, 0.1), capabilities=[quick]) as node:
        while not node.stats()["hub"]["blocked"]:
            assert node.call("held.quick") == 1
        for _ in range(2000):
            assert node.call("held.quick") == 1
        assert node.stats()["hub"]["broken"] == 0


@capability("held.items")
def items(quick: bool) -> Iterator[int]:
    """Give items; the third is never made, if they are not to be quick."""
    number = 0
    while number < 2 or quick:
        yield number
        number += 1
    forever()


def test_a_stream_whose_item_is_never_made_ends_and_its_reader_goes_on(tmp_path: Any) -> None:
    with Node(config(tmp_path, 0.1), capabilities=[items]) as node:
        stream = node.call("held.items", {"quick": False})
        assert [next(stream), next(stream)] == [0, 1]
        with pytest.raises(ExecutionFailed, match="held the hub"):
            next(stream)
        gevent.sleep(0)
        assert node.door.in_flight == {}
        assert node.door.streams == {}


def test_of_many_quick_items_none_is_to_blame(tmp_path: Any) -> None:
    with Node(config(tmp_path, 0.1), capabilities=[items]) as node:
        stream = node.call("held.items", {"quick": True})
        while not node.stats()["hub"]["blocked"]:
            next(stream)
        for _ in range(2000):
            next(stream)
        assert node.stats()["hub"]["broken"] == 0
        stream.close()


def test_who_asks_without_end_is_to_blame_and_not_who_is_asked(tmp_path: Any) -> None:
    with Node(config(tmp_path, 0.1), capabilities=[quick, asks]) as node:
        answer = node.request("held.asks")
        assert answer.error is not None
        assert answer.error.details["capability"] == "held.asks"
        assert node.door.in_flight == {}


def test_a_greenlet_that_a_request_began_is_ended_and_the_request_goes_on(tmp_path: Any) -> None:
    with Node(config(tmp_path, 0.1), capabilities=[helper]) as node:
        assert node.call("held.helper") == "Interrupt"


def test_code_that_is_no_requests_is_named_and_left_alone(tmp_path: Any) -> None:
    with Node(config(tmp_path, 0.1)) as node:
        while not node.stats()["hub"]["blocked"]:
            pass
        assert node.stats()["hub"]["broken"] == 0


def test_a_module_may_take_its_time_to_start(tmp_path: Any) -> None:
    class Slow(Module):
        def init(self, config: Any) -> None:
            while not any("ModuleHost" in record.who for record in dog.blocked):
                pass

        def handle_request(self, request: Request, context: Context) -> None:
            return None

    with Node(config(tmp_path, 0.1)) as node:
        dog = node._hub_watch._watchdog
        assert dog is not None
        node.register_module(Slow, "slow")
        assert [row["status"] for row in node.modules()] == ["running"]
        assert dog.broken == 0
        health = node.health()
        assert health["status"] == "ok"
        assert [finding["severity"] for finding in health["findings"]] == ["warning"]


def test_a_start_that_fails_leaves_no_watch(tmp_path: Any) -> None:
    with Watchdog(10.0), pytest.raises(SpecError, match="without a watchdog"):
        Node(config(tmp_path, 0.1)).start()
    with Node(config(tmp_path, 0.1)) as node:
        assert node.health()["ready"]
