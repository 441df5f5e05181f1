"""State machines for the tests: one that is told by a table what to do, and a telephone line in both callback modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from packetflow.otp import (
    Call,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Postpone,
    ReplyTo,
    StateMachine,
    StateResult,
    Stop,
    StopAndReply,
)

Behaviour = Callable[[Any, Any, Any], Any]


class Table(StateMachine):
    """Each state's behaviour is a function of (kind, content, data), looked up by the state."""

    def init(self, table: dict[Any, Behaviour], first: Any, data: Any = None, *actions: Any) -> NextState:
        self.table = table
        self.ended: list[Any] = []
        return NextState(first, data, *actions)

    def handle_event(self, kind: Any, content: Any, state: Any, data: Any) -> StateResult | None:
        return self.table[state](kind, content, data)

    def terminate(self, reason: object, state: Any, data: Any) -> None:
        self.ended.append((reason, state, data))


class EnterTable(Table):
    """The same with enter calls."""

    state_enter = True


class Recorder(StateMachine):
    """Its data is a list of the (kind, content, state) it has seen. A content that is a function says what to return."""

    def init(self, first: Any = "first", *actions: Any) -> NextState:
        return NextState(first, [], *actions)

    def handle_event(self, kind: Any, content: Any, state: Any, data: Any) -> Any:
        if content == "seen":
            return KeepStateAndData(ReplyTo(kind, list(data)))
        data.append(("call" if isinstance(kind, Call) else kind, getattr(content, "name", content), state))
        if callable(content):
            return content(kind, data)
        return KeepStateAndData(ReplyTo(kind, content)) if isinstance(kind, Call) else KeepStateAndData()


class EnterRecorder(Recorder):
    """The same with enter calls."""

    state_enter = True


class Named:
    """A function as an event's content, with a name to be recorded by."""

    def __init__(self, name: str, act: Callable[..., Any]) -> None:
        self.name = name
        self.act = act

    def __call__(self, *arguments: Any) -> Any:
        return self.act(*arguments)


class Line(StateMachine):
    """A telephone line: idle, ringing until it is confirmed, connected. data: who is told what (a list)."""

    def init(self, told: list[Any] | None = None) -> NextState:
        return NextState("idle", [] if told is None else told)

    def idle(self, kind: Any, content: Any, data: Any) -> StateResult:
        match kind, content:
            case Call(), "connect":
                self.reply(kind, "accept")
                return NextState("ringing", data)
            case "cast", "connect":
                data.append("accept")
                return NextState("ringing", data)
            case "cast", "next events":
                inserted = (NextEvent("internal", letter) for letter in "abc")
                return NextState("counting", list("abc"), *inserted)
        return self.common("idle", kind, content, data)

    def ringing(self, kind: Any, content: Any, data: Any) -> StateResult:
        match kind, content:
            case Call(), "confirm":
                return NextState("connected", data, ReplyTo(kind, "yes"))
            case "cast", "confirm":
                return NextState("connected", data)
            case "cast", ("ping", _):
                return KeepStateAndData(Postpone())
        return self.common("ringing", kind, content, data)

    def connected(self, kind: Any, content: Any, data: Any) -> StateResult:
        match kind, content:
            case "cast", (("ping" | "message") as word, mark):
                data.append((word, mark))
                return KeepState(data)
            case Call(), ("message", mark):
                return KeepState(data, ReplyTo(kind, ("ack", mark)))
            case Call(), "disconnect":
                return NextState("idle", data, ReplyTo(kind, "yes"))
            case "cast", "disconnect":
                return NextState("idle", data)
        return self.common("connected", kind, content, data)

    def counting(self, kind: Any, content: Any, data: Any) -> StateResult:
        if kind == "internal":
            assert content == data[0]
            return KeepState(data[1:])
        return self.common("counting", kind, content, data)

    def common(self, state: str, kind: Any, content: Any, data: Any) -> StateResult:
        match kind, content:
            case Call(), "state":
                return KeepState(data, ReplyTo(kind, (state, data)))
            case Call(), "alive?":
                return KeepState(data, ReplyTo(kind, "yes"))
            case Call(), "mode":
                return KeepState(data, ReplyTo(kind, type(self)._by_function))
            case Call(), "stop":
                return StopAndReply("normal", ReplyTo(kind, "stopped"), data=data)
            case Call(), ("stop", reason):
                return StopAndReply(reason, ReplyTo(kind, "stopped"))
            case "cast", ("stop", reason):
                return Stop(reason)
            case Call(), "bad return":
                return "bad return"  # type: ignore[return-value]
            case Call(), "bad action":
                return KeepState(data, "bad action")  # type: ignore[arg-type]
        return KeepStateAndData() if not isinstance(kind, Call) else KeepState(data, ReplyTo(kind, "eh?"))


class LineByEvents(Line):
    """The same line by one handle_event. All states but the first are in a tuple, to be no texts."""

    def handle_event(self, kind: Any, content: Any, state: Any, data: Any) -> StateResult:
        name = state[0] if isinstance(state, tuple) else state
        result: StateResult = getattr(self, name)(kind, content, data)
        if isinstance(result, NextState):
            return NextState((result.state,), result.data, *result.actions)
        return result
