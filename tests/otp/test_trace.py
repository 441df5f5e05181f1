"""otp.md, "Looking inside": traces of what a server takes, answers and becomes."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    ChildSpec,
    SpecError,
    Supervisor,
    System,
    TraceEvent,
    call,
    cast,
    change_code,
    get_status,
    kill,
    monitor,
    resume,
    send,
    statistics,
    suspend,
    trace,
    untrace,
)
from tests.otp.actors import Puppet, failure_of, until
from tests.otp.supervision.test_supervisor import fall, ids, journals
from tests.otp.test_suspend_and_trace import Counter

# ---- traces -----------------------------------------------------------------------------------------------------------


def short(events: Any) -> list[Any]:
    return [(event.kind, event.what, event.message) for event in events]


def test_a_trace_tells_what_comes_in_and_goes_out_with_the_state_after_it(system: System) -> None:
    ref = Counter.start(system=system)
    events: list[TraceEvent] = []
    trace(ref, events.append)
    call(ref, ("add", 44))
    assert short(events) == [("in", "call", ("add", 44)), ("out", "reply", 44)]
    assert events[0].ref == ref
    assert events[0].state is None
    assert events[1].state == {"value": 44}
    events.clear()
    cast(ref, 1)
    send(ref, "news")
    call(ref, "explicit")
    assert short(events) == [
        ("in", "cast", 1),
        ("noreply", "cast", None),
        ("in", "info", "news"),
        ("noreply", "info", None),
        ("in", "call", "explicit"),
        ("out", "reply", "said"),
    ]
    assert events[3].state == {"value": 45, "info": "news"}


def test_a_trace_tells_an_answer_that_comes_later_and_whom_it_goes_to(system: System) -> None:
    ref, other = Counter.start(system=system), Puppet.start(system=system)
    events: list[TraceEvent] = []
    trace(ref, events.append)
    asked = gevent.spawn(call, other, lambda server, caller: call(ref, "later", None), None)
    until(lambda: len(events) == 2)
    call(ref, "answer")
    assert asked.get(timeout=5) == "late"
    assert short(events) == [
        ("in", "call", "later"),
        ("noreply", "call", None),
        ("in", "call", "answer"),
        ("out", "reply", "late"),
        ("out", "reply", "answered"),
    ]
    assert [event.other for event in events] == [other, None, None, other, None]


def test_a_trace_tells_of_continue_stop_and_crash(system: System) -> None:
    events: list[TraceEvent] = []
    ref = Counter.start(system=system)
    trace(ref, events.append)
    assert call(ref, "continue") == "first"
    until(lambda: len(events) == 4)
    assert short(events)[1:] == [
        ("out", "reply", "first"),
        ("in", "continue", "on"),
        ("noreply", "continue", None),
    ]
    events.clear()
    failure_of(call, ref, "crash")
    assert [event.kind for event in events] == ["in", "crash"]
    assert str(events[1].message) == "boom"
    second = Counter.start(system=system)
    trace(second, events.append)
    events.clear()
    assert call(second, "stop") == "bye"
    assert short(events) == [("in", "call", "stop"), ("out", "reply", "bye")]


def test_a_deque_is_a_log_of_the_last_events(system: System) -> None:
    ref = Counter.start(system=system)
    log: deque[TraceEvent] = deque(maxlen=2)
    trace(ref, log.append)
    for number in range(5):
        call(ref, ("add", number))
    assert short(log) == [("in", "call", ("add", 4)), ("out", "reply", 10)]


def test_a_sink_may_write_the_events_where_it_likes(system: System, tmp_path: Path) -> None:
    ref = Counter.start(name="counter", system=system)
    with (tmp_path / "events").open("w") as file:
        trace(ref, lambda event: print(event.ref, event.kind, event.message, file=file))
        call(ref, ("add", 44))
        untrace(ref)
        call(ref, ("add", 1))
    assert (tmp_path / "events").read_text() == f"{ref} in ('add', 44)\n{ref} out 44\n"


def test_the_same_sink_is_told_once_and_each_can_be_taken_off(system: System) -> None:
    ref = Counter.start(system=system)
    first: list[TraceEvent] = []
    second: list[TraceEvent] = []

    def tell_first(event: TraceEvent) -> None:
        first.append(event)

    def tell_second(event: TraceEvent) -> None:
        second.append(event)

    for sink in (tell_first, tell_first, tell_second):
        trace(ref, sink)
    cast(ref, 1)
    until(lambda: len(second) == 2)
    assert len(first) == 2
    untrace(ref, tell_first)
    cast(ref, 1)
    until(lambda: len(second) == 4)
    untrace(ref)
    call(ref, ("add", 1))
    assert (len(first), len(second)) == (2, 4)


def test_a_server_is_of_its_own_class_again_when_nobody_traces_it(system: System) -> None:
    hooked: list[type] = []

    class Watched(Counter):
        def __init_subclass__(cls, **keywords: Any) -> None:
            super().__init_subclass__(**keywords)
            hooked.append(cls)

    ref = Watched.start(system=system)
    trace(ref, print)
    assert get_status(ref).server == "Watched"
    assert isinstance(ref._process.server, Watched)
    untrace(ref)
    assert type(ref._process.server) is Watched
    assert ref._process.bonds is None or ref._process.bonds.trace is None
    assert hooked == [], "the class below never learns of it"
    untrace(ref)


@pytest.mark.parametrize("enough", ["done", "raises"])
def test_a_sink_that_has_enough_or_raises_is_taken_off_and_the_server_goes_on(
    system: System, enough: str
) -> None:
    told: list[TraceEvent] = []

    def sink(event: TraceEvent) -> Any:
        told.append(event)
        return "done" if enough == "done" else 1 / 0

    ref = Counter.start(system=system)
    trace(ref, sink)
    assert call(ref, ("add", 1)) == 1
    assert call(ref, ("add", 1)) == 2
    assert short(told) == [("in", "call", ("add", 1))]


def test_a_trace_goes_on_through_a_change_of_code(system: System) -> None:
    class Second(Counter):
        def handle_cast(self, message: Any) -> None:
            self.value -= message

    ref = Counter.start(system=system)
    events: list[TraceEvent] = []
    trace(ref, events.append)
    change_code(ref, Second)
    cast(ref, 1)
    until(lambda: len(events) == 3)
    assert short(events) == [("code_change", "", "Second"), ("in", "cast", 1), ("noreply", "cast", None)]
    assert events[2].state == {"value": -1}


def test_a_suspended_server_and_a_supervisor_can_be_traced(system: System) -> None:
    tree = Supervisor.start(journals([], "a"), system=system)
    events: list[TraceEvent] = []
    suspend(tree)
    trace(tree, events.append)
    resume(tree)
    assert ids(tree) == {"a": "running"}
    assert [(event.kind, event.what) for event in events] == [("in", "call"), ("out", "reply")]
    fall(system, "a")
    assert ("in", "info") in [(event.kind, event.what) for event in events]
    assert ids(tree) == {"a": "running"}


def test_a_sink_has_to_be_a_function(system: System) -> None:
    with pytest.raises(SpecError, match="sink"):
        trace(Counter.start(system=system), "stdout")  # type: ignore[arg-type]


def test_a_traced_server_that_is_killed_tells_nothing_more(system: System) -> None:
    events: list[TraceEvent] = []
    ref = Puppet.start(system=system)
    trace(ref, events.append)
    asked = gevent.spawn(failure_of, call, ref, lambda server, caller: Event().wait(), None)
    until(lambda: len(events) == 1)
    watch = monitor(ref)
    kill(ref)
    asked.get(timeout=5)
    assert watch.wait(5).reason == "killed"
    until(lambda: not system.scheduler.lingering)
    assert len(events) == 1


def test_counters_need_no_switch(system: System) -> None:
    """OTP's sys:statistics is switched on and off; what ours tells is always counted."""
    ref = Counter.start(system=system)
    for _ in range(3):
        call(ref, ("add", 1))
    cast(ref, 1)
    until(lambda: statistics(ref).handled == 5)  # init is one of them
    assert statistics(ref).age >= 0


def test_a_traced_child_comes_back_untraced(system: System) -> None:
    Supervisor.start([ChildSpec(Counter, name="counter")], system=system)
    events: list[TraceEvent] = []
    trace(system.find("counter"), events.append)
    fall(system, "counter")
    call(system.find("counter"), ("add", 1))
    assert events == []
