"""What the callbacks of a StateMachine return: the transitions, and the actions that go along with them.

The words are gen_statem's. Each is checked where it is made as far as it can be, so that a wrong one raises in the
callback that made it.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

from packetflow.otp.answers import UNSET, Answer, Stop, _Mark
from packetflow.otp.errors import BadAction, BadReturn, SpecError
from packetflow.otp.process import Call
from packetflow.otp.turn import brief

if TYPE_CHECKING:
    from packetflow.otp.state_machine.machine import StateMachine

EventKind: TypeAlias = (
    Literal["cast", "info", "internal", "enter", "timeout", "state_timeout"]
    | Call
    | tuple[Literal["timeout"], Hashable]
)
"""What sort of event it is. For a call it is the caller, which ReplyTo and `reply` answer; `("timeout", name)` for a
generic timeout; "timeout" for the event timeout; "enter" for an enter call."""

CANCEL: Final[Any] = _Mark("CANCEL")
UPDATE: Final[Any] = _Mark("UPDATE")
_KINDS: Final = ("cast", "info", "internal", "timeout", "state_timeout")


# ---- actions ----------------------------------------------------------------------------------------------------------


class Action:
    """The base of what may follow the data in a transition. They are done in their order."""

    __slots__ = ()

    in_enter: ClassVar[bool] = True
    """Whether an enter call may return it."""


class ReplyTo(Action):
    """Answers a call. The caller is the kind of its event; it may be of an earlier event, kept since."""

    __slots__ = ("caller", "value")

    def __init__(self, caller: EventKind, value: Any) -> None:
        self.caller = caller
        self.value = value

    def __repr__(self) -> str:
        return f"ReplyTo({self.caller!r}, {self.value!r})"


class Postpone(Action):
    """Puts the event off until the state has changed; then it comes again, before what came after it.

    postpone: False takes an earlier one of the same transition back. Not from an enter call.
    """

    __slots__ = ("postpone",)
    in_enter = False

    def __init__(self, postpone: bool = True) -> None:
        if not isinstance(postpone, bool):
            raise SpecError("Postpone.postpone", postpone, "True or False")
        self.postpone = postpone

    def __repr__(self) -> str:
        return f"Postpone({self.postpone})"


class NextEvent(Action):
    """Inserts an event that comes before everything that waits. Several come in their order. Not from an enter call.

    kind: "internal" (nobody else can send these), or any other but "enter": "cast", "info", "timeout", "state_timeout",
    ("timeout", name), or a caller for a call.
    """

    __slots__ = ("content", "kind")
    in_enter = False

    def __init__(self, kind: EventKind, content: Any = None) -> None:
        if kind.__class__ is not Call and kind not in _KINDS and not _is_generic(kind):
            raise SpecError("NextEvent.kind", kind, f'{", ".join(_KINDS)}, ("timeout", name) or a caller')
        self.kind = kind
        self.content = content

    def __repr__(self) -> str:
        return f"NextEvent({self.kind!r}, {self.content!r})"


class Timeout(Action):
    """What the three kinds of timeout have in common."""

    __slots__ = ("absolute", "content", "kind", "seconds")

    kind: Any
    seconds: Any
    content: Any
    absolute: bool

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind!r}, {self.seconds!r}, {self.content!r})"


def _seconds(action: Timeout, seconds: Any, absolute: bool) -> Any:
    """The seconds of a timeout, checked. None stands for no timeout."""
    if seconds is CANCEL or seconds is UPDATE:
        return seconds
    what = type(action).__name__
    if not isinstance(absolute, bool):
        raise SpecError(f"{what}.absolute", absolute, "True or False")
    if seconds is None:
        return CANCEL
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not isfinite(seconds)
        or (seconds < 0 and not absolute)
    ):
        raise SpecError(
            f"{what}.seconds",
            seconds,
            "a number of seconds from 0 (absolute: any time of the system's clock), or None for no timeout",
        )
    return seconds


class StateTimeout(Timeout):
    """An event of kind "state_timeout" with `content` after `seconds` in this state. A change of state cancels it.

    0: it comes after the events that were inserted or postponed and before any other. None: no timeout, and a running
    one is cancelled. A new one takes the place of one that runs. absolute: `seconds` is a time of the system's
    monotonic clock.
    """

    __slots__ = ()

    def __init__(self, seconds: float | None, content: Any = None, absolute: bool = False) -> None:
        self.kind = "state_timeout"
        self.seconds = _seconds(self, seconds, absolute)
        self.content = content
        self.absolute = absolute

    @classmethod
    def cancel(cls) -> StateTimeout:
        """Stops it, if it runs."""
        return cls(CANCEL)

    @classmethod
    def update(cls, content: Any) -> StateTimeout:
        """Gives a running one another content; if none runs, the event comes at once."""
        return cls(UPDATE, content)


class EventTimeout(Timeout):
    """An event of kind "timeout" with `content`, unless another event comes within `seconds`: any event cancels it.

    0: only if nothing else waits. The rest is as for StateTimeout.
    """

    __slots__ = ()

    def __init__(self, seconds: float | None, content: Any = None, absolute: bool = False) -> None:
        self.kind = "timeout"
        self.seconds = _seconds(self, seconds, absolute)
        self.content = content
        self.absolute = absolute

    @classmethod
    def cancel(cls) -> EventTimeout:
        """Stops it. There is no need to: the event just handled has done so."""
        return cls(CANCEL)

    @classmethod
    def update(cls, content: Any) -> EventTimeout:
        """The event comes at once, if nothing else waits: none can be running here."""
        return cls(UPDATE, content)


class GenericTimeout(Timeout):
    """An event of kind ("timeout", name) with `content` after `seconds`. Any number of names may run at once.

    It lives until it is cancelled or set anew, whatever happens. The rest is as for StateTimeout.
    """

    __slots__ = ()

    def __init__(
        self, name: Hashable, seconds: float | None, content: Any = None, absolute: bool = False
    ) -> None:
        try:
            hash(name)
        except TypeError:
            raise SpecError("GenericTimeout.name", name, "something hashable, such as a text") from None
        self.kind = ("timeout", name)
        self.seconds = _seconds(self, seconds, absolute)
        self.content = content
        self.absolute = absolute

    @classmethod
    def cancel(cls, name: Hashable) -> GenericTimeout:
        """Stops it, if it runs."""
        return cls(name, CANCEL)

    @classmethod
    def update(cls, name: Hashable, content: Any) -> GenericTimeout:
        """Gives a running one another content; if none runs, the event comes at once."""
        return cls(name, UPDATE, content)


class ChangeCallback(Action):
    """From here on the callbacks are another class's; state, data, timeouts and postponed events stay.

    The state has to be one of the new class. Not from an enter call. OTP's change_callback_module.
    """

    __slots__ = ("cls",)
    in_enter = False

    def __init__(self, cls: type[StateMachine]) -> None:
        if not isinstance(cls, type) or not getattr(cls, "is_state_machine", False):
            raise SpecError(f"{type(self).__name__}.cls", cls, "a StateMachine class")
        self.cls = cls

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.cls.__name__})"


class PushCallback(ChangeCallback):
    """ChangeCallback, and PopCallback leads back."""

    __slots__ = ()


class PopCallback(Action):
    """Back to the class that was left by PushCallback. Without one it is a bad action."""

    __slots__ = ()
    in_enter = False

    def __repr__(self) -> str:
        return "PopCallback()"


# ---- transitions ------------------------------------------------------------------------------------------------------


class Transition(Answer):
    """The base of what a state's callback returns, besides Stop(reason)."""

    __slots__ = ("actions",)

    def __init__(self, *actions: Action) -> None:
        self.actions = actions

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class NextState(Transition):
    """The next state, the new data, and what to do. The same state as before makes it a KeepState.

    From `init`: the first state and data.
    """

    __slots__ = ("data", "state")

    def __init__(self, state: Any, data: Any, *actions: Action) -> None:
        self.state = state
        self.data = data
        self.actions = actions

    def __repr__(self) -> str:
        return f"NextState({self.state!r}, ...)"


class KeepState(Transition):
    """The state stays; the new data, and what to do."""

    __slots__ = ("data",)

    def __init__(self, data: Any, *actions: Action) -> None:
        self.data = data
        self.actions = actions


class KeepStateAndData(Transition):
    """State and data stay; what to do."""

    __slots__ = ()


class RepeatState(Transition):
    """KeepState, but where the class has enter calls, this state's is made again. Postponed events stay put off."""

    __slots__ = ("data",)

    def __init__(self, data: Any, *actions: Action) -> None:
        self.data = data
        self.actions = actions


class RepeatStateAndData(Transition):
    """RepeatState with the data as it was."""

    __slots__ = ()


class StopAndReply(Transition):
    """Stops with this reason, after the replies and `terminate`. data: what `terminate` gets; by default as it was."""

    __slots__ = ("data", "reason")

    def __init__(self, reason: object = "normal", *replies: ReplyTo, data: Any = UNSET) -> None:
        self.reason = reason
        self.actions = replies
        self.data = data


StateResult: TypeAlias = Transition | Stop
"""What a state's callback returns."""


# ---- what is wrong ----------------------------------------------------------------------------------------------------

_TRANSITIONS: Final = (
    "NextState(state, data, *actions), KeepState(data, *actions), KeepStateAndData(*actions), "
    "RepeatState(data, *actions), RepeatStateAndData(*actions), Stop(reason) or StopAndReply(reason, *replies)"
)
_ACTIONS: Final = (
    "ReplyTo, Postpone, NextEvent, StateTimeout, EventTimeout, GenericTimeout, ChangeCallback, PushCallback or "
    "PopCallback, each as an argument of its own"
)


def bad_return(place: str, given: object, kind: Any, entering: bool = False) -> BadReturn:
    """The error for what is no transition, or none of an enter call."""
    where, accepted = "", _TRANSITIONS
    if entering and isinstance(given, NextState):
        where, accepted = "state_enter_", "a transition that keeps the state"
    hint = "; did no case of its match fit?" if given is None else ""
    return BadReturn(
        f"{place} returned {brief(given)} for {shown(kind)}; accepted is {accepted}{hint}",
        given,
        f"bad_{where}return_from_state_function",
    )


def bad_action(place: str, given: object, where: Literal["", "state_enter_", "reply_"]) -> BadAction:
    """The error for what is no action, or none there."""
    accepted = _ACTIONS
    if where == "reply_" or isinstance(given, ReplyTo):
        accepted = "ReplyTo(caller, value), where the caller is the kind of a call's event"
    elif where and isinstance(given, Action):
        accepted = "ReplyTo, StateTimeout, EventTimeout or GenericTimeout in an enter call"
    elif isinstance(given, PopCallback):
        accepted = "PopCallback after a PushCallback"
    elif where and not isinstance(given, Action):
        where = ""
    return BadAction(
        f"{place} gave the action {brief(given)}; accepted is {accepted}",
        given,
        f"bad_{where}action_from_state_function",
    )


def shown(kind: Any) -> str:
    """A kind of event for people."""
    return f"a call of {kind!r}" if kind.__class__ is Call else repr(kind)


def _is_generic(kind: object) -> bool:
    return isinstance(kind, tuple) and len(kind) == 2 and kind[0] == "timeout"
