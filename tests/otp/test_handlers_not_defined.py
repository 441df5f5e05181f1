"""What a server does without the handlers that it does not define, as OTP's gen_server_SUITE has it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from packetflow.otp import (
    Continue,
    GenServer,
    StartFailed,
    System,
    call,
    cast,
    change_code,
    get_state,
    send,
    stop,
)
from tests.otp.actors import failure_of

# ---- handlers that are not defined -----------------------------------------------------------------------------------


class Bare(GenServer):
    pass


@pytest.mark.parametrize(
    ("what", "ask"),
    [
        ("handle_call", lambda ref: failure_of(call, ref, "call_msg")),
        ("handle_cast", lambda ref: cast(ref, "cast_msg")),
        ("handle_continue", None),
    ],
)
def test_a_message_that_no_handler_is_defined_for_is_a_crash(system: System, what: str, ask: Any) -> None:
    class Continuing(GenServer):
        def init(self) -> Any:
            return Continue("continue")

    ref, watch = (Bare if ask else Continuing).start_monitor(system=system)  # type: ignore[misc]
    if ask is not None:
        ask(ref)
    down = watch.wait(5)
    assert isinstance(down.reason, NotImplementedError)
    assert what in str(down.reason)


def test_an_info_that_no_handler_is_defined_for_is_told_and_dropped(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="packetflow.otp")
    ref = Bare.start(system=system)
    send(ref, "hey")
    get_state(ref)
    assert [record.getMessage() for record in caplog.records] == [
        f"{ref} got 'hey' and defines no handle_info"
    ]


def test_arguments_without_an_init_fail_the_start(system: System) -> None:
    with pytest.raises(StartFailed, match="defines no init"):
        Bare.start("argument", system=system)
    assert system.processes() == []


@pytest.mark.parametrize("reason", ["normal", ("error", "test")])
def test_a_stop_needs_no_terminate(system: System, reason: object) -> None:
    ref, watch = Bare.start_monitor(system=system)  # type: ignore[misc]
    stop(ref, reason)
    assert watch.wait(0).reason == reason


@pytest.mark.parametrize("where", ["handle_info", "terminate"])
def test_a_missing_name_inside_a_handler_is_no_missing_handler(system: System, where: str) -> None:
    class Wrong(GenServer):
        def handle_info(self, message: Any) -> Any:
            return self.handle_infos(message)  # type: ignore[attr-defined]

        def terminate(self, reason: object) -> None:
            if where == "terminate":
                self.terminates()  # type: ignore[attr-defined]

    ref, watch = Wrong.start_monitor(system=system)  # type: ignore[misc]
    if where == "handle_info":
        send(ref, "hey")
    else:
        assert isinstance(failure_of(stop, ref).reason, AttributeError)
    assert isinstance(watch.wait(5).reason, AttributeError)


def test_the_usual_code_change_takes_the_attributes_over(system: System) -> None:
    class Before(GenServer):
        def init(self) -> None:
            self.value = 1

    class After(GenServer):
        def handle_call(self, request: Any, caller: Any) -> Any:
            return self.value  # type: ignore[attr-defined]

    ref = Before.start(system=system)
    change_code(ref, After)
    assert call(ref, "value") == 1
