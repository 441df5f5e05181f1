"""StateMachine: a server whose answer to an event depends on the state it is in (OTP's gen_statem)."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar, TypeAlias

from packetflow.otp import calls, turn
from packetflow.otp.answers import IGNORE, UNSET, Answer, Continue, NoReply, Reply, Stop
from packetflow.otp.errors import BadAction, BadReturn, SpecError
from packetflow.otp.process import Call
from packetflow.otp.server import GenServer
from packetflow.otp.state_machine.actions import (
    Action,
    ChangeCallback,
    EventKind,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    PopCallback,
    Postpone,
    PushCallback,
    RepeatState,
    RepeatStateAndData,
    ReplyTo,
    StateResult,
    StopAndReply,
    Timeout,
    bad_action,
    bad_return,
    shown,
)
from packetflow.otp.state_machine.events import Event, EventQueue, Expiry, Postponed

StateFunction: TypeAlias = Callable[[Any, Any, Any, Any], StateResult | None]

_LATER = NoReply()


class StateMachine(GenServer):
    """A server with a state: subclass it, and write a method for each state that gets the events which come in it.

        class Door(StateMachine):
            def init(self, code):
                return NextState("locked", code)

            def locked(self, kind, content, code):
                match kind, content:
                    case Call(), ("unlock", tried) if tried == code:
                        return NextState("open", code, ReplyTo(kind, "come in"), StateTimeout(10.0))
                    case Call(), _:
                        return KeepState(code, ReplyTo(kind, "wrong code"))

            def open(self, kind, content, code):
                if kind == "state_timeout":
                    return NextState("locked", code)
                return KeepStateAndData(Postpone())     # until it is locked again

    It is started, called, supervised, linked and monitored as any GenServer, and is OTP's gen_statem in what it does;
    its documentation holds here, with these forms:

    - A class that defines `handle_event(kind, content, state, data)` gets every event there, and its states may be any
      hashable values. Otherwise the states are the names of the class's public methods `(kind, content, data)`.
    - kind is "cast", "info", "internal", "timeout", "state_timeout", ("timeout", name), or the caller for a call, as in
      `case Call(), request`. A call is answered by ReplyTo, at once or in another event.
    - A callback returns a transition: NextState, KeepState, KeepStateAndData, RepeatState, RepeatStateAndData, Stop or
      StopAndReply, with the new data and the actions to do in their order. Anything else is a crash (BadReturn,
      BadAction); None too, because a `match` in which no case matched must not lose an event.
    - With `state_enter = True` a state's own callback is called with kind "enter" and the state before as content: at the
      start (the first state itself), on every change, and on RepeatState. It is the same method as for the events, so
      that all that a state does stands in one place, and the same in both modes. Such a call can't change the state,
      postpone or insert events; it may return None.
    - An event that finds nothing to do is put off by Postpone and comes again after the next change of state.
    - Context variables go along: a postponed event comes again with its own, an inserted one with its maker's.
    - The exception that ends the machine has a note that names the event and the state.
    - There is no hibernation: an idle machine has no greenlet and no queue anyway.
    """

    __slots__ = ("_data", "_function", "_postponed", "_pushed", "_state", "_timers")

    state_enter: ClassVar[bool] = False
    is_state_machine: ClassVar[bool] = True
    _by_function: ClassVar[bool] = True
    _states: ClassVar[dict[str, StateFunction]] = {}

    _state: Any
    _data: Any
    _function: StateFunction  # plain, not bound: a machine must not refer to itself
    _timers: dict[Any, Expiry] | None
    _postponed: Postponed | None
    _pushed: tuple[type[StateMachine], ...]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name in ("handle_call", "handle_cast", "handle_info", "handle_continue"):
            if name in vars(cls):
                raise SpecError(
                    f"{cls.__name__}.{name}", "a method", "none: a state machine's events go to its states"
                )
        if not isinstance(cls.state_enter, bool):
            raise SpecError(f"{cls.__name__}.state_enter", cls.state_enter, "True or False")
        cls._by_function = cls.handle_event is StateMachine.handle_event
        cls._states = {
            name: value
            for base in reversed(cls.__mro__)
            if base not in StateMachine.__mro__
            for name, value in vars(base).items()
            if isinstance(value, FunctionType)
            and not name.startswith("_")
            and not hasattr(StateMachine, name)
        }

    # ---- what a state machine defines ----------------------------------------------------------------------------------

    def init(self, *arguments: Any, **keywords: Any) -> Any:
        """Returns NextState(first state, data, *actions), IGNORE or Stop(reason). What it raises, `start` raises as
        StartFailed. The first enter call and the actions come after `start` has returned."""
        raise NotImplementedError(f"{type(self).__name__} defines no init, which says its first state")

    def handle_event(self, kind: EventKind, content: Any, state: Any, data: Any) -> StateResult | None:
        """Every event of every state, for a class that defines this."""
        raise NotImplementedError(f"{type(self).__name__} defines no handle_event")

    # OTP's signatures, not GenServer's; the runtime calls both by `end` and `take_over`.

    def terminate(self, reason: object, state: Any, data: Any) -> None:  # type: ignore[override]
        """The end is near: clean up. Called on an orderly stop and after an exception; not on a kill."""

    def code_change(self, old_version: object, state: Any, data: Any) -> tuple[Any, Any]:  # type: ignore[override]
        """Returns the state and the data as this class wants them, from those of the class before. What it raises goes
        to who asked for the change, and the old class goes on."""
        return state, data

    # ---- the ways in: each event's short way, where nothing waits and there is nothing to do but to answer ---------------

    def handle_call(self, request: Any, caller: Call) -> Any:
        """The runtime's: a call is an event of the caller's kind."""
        try:
            result: Any = self._function(self, caller, request, self._data)
        except BaseException as error:
            self._note(error, caller, request)
            raise
        given = result.__class__
        if (
            (given is KeepState or given is NextState or given is KeepStateAndData)
            and len(result.actions) == 1
            and self._timers is None
            and self._postponed is None
        ):
            action = result.actions[0]
            if action.__class__ is ReplyTo and action.caller is caller:
                if given is NextState:
                    state = result.state
                    if state != self._state:
                        if self.state_enter:
                            return self._proceed(caller, request, result)
                        try:
                            if self._by_function:
                                self._function = self._states[state]
                            else:
                                hash(state)
                        except (KeyError, TypeError):  # what is wrong with it is said by `_find`
                            return self._proceed(caller, request, result)
                        self._state = state
                    self._data = result.data
                elif given is KeepState:
                    self._data = result.data
                value = action.value
                return value if not isinstance(value, Answer) else Reply(value)
        return self._proceed(caller, request, result)

    def handle_cast(self, message: Any) -> Any:
        """The runtime's: a cast is an event of kind "cast"."""
        return self._take("cast", message)

    def handle_info(self, message: Any) -> Any:
        """The runtime's: anything else is an event of kind "info"."""
        return self._take("info", message)

    def handle_continue(self, argument: Any) -> Any:
        """The runtime's: the first enter call and the actions of `init`, which are the argument."""
        return self._proceed(UNSET, None, RepeatStateAndData(*argument))

    def expired(self, expiry: Expiry) -> Any:
        """The runtime's: a timeout is an event of its own kind."""
        if self._timers is not None:
            del self._timers[expiry.kind]
        return self._take(expiry.kind, expiry.message)

    def _take(self, kind: Any, content: Any) -> Any:
        try:
            result: Any = self._function(self, kind, content, self._data)
        except BaseException as error:
            self._note(error, kind, content)
            raise
        given = result.__class__
        if (
            (given is KeepState or given is NextState or given is KeepStateAndData)
            and not result.actions
            and self._timers is None
        ):
            if given is NextState:
                state = result.state
                if state != self._state:
                    if self.state_enter or self._postponed is not None:
                        return self._proceed(kind, content, result)
                    try:
                        if self._by_function:
                            self._function = self._states[state]
                        else:
                            hash(state)
                    except (KeyError, TypeError):
                        return self._proceed(kind, content, result)
                    self._state = state
                self._data = result.data
            elif given is KeepState:
                self._data = result.data
            return None
        return self._proceed(kind, content, result)

    # ---- the long way ---------------------------------------------------------------------------------------------------

    def _proceed(self, kind: Any, content: Any, result: Any) -> Any:
        """Does what the callback returned for an event, and all events that follow from it, until nothing is left but
        messages. Returns what the worker shall do: the answer to the call that came, NoReply, Stop or nothing."""
        process = self._process
        events = EventQueue(process)
        try:
            while True:
                stop = self._follow(events, kind, content, result)
                if stop is not None or events.is_over():
                    return stop
                event = events.next()
                if event is None:
                    break
                if events.is_over():
                    return None
                kind, content = event
                result = self._function(self, kind, content, self._data)
        except BaseException as error:
            events.release()
            self._note(error, kind, content)
            raise
        if not self._timers:
            self._timers = None
        if process.current.__class__ is not Call:
            return None
        answer = events.answer()
        if answer is UNSET:
            return _LATER
        return answer if not isinstance(answer, Answer) else Reply(answer)

    def _follow(self, events: EventQueue, kind: Any, content: Any, result: Any) -> Stop | None:
        """One transition, in OTP's order: the actions, the enter calls with theirs, then the change of state, with which
        postponed events come back and timeouts end, and at last the timeouts that were asked for begin."""
        if events.is_over():
            return None  # killed while the callback waited
        old = state = self._state
        data = self._data
        entering = postpone = False
        inserted: list[Event] | None = None
        timeouts: dict[Any, Timeout] | None = None
        while True:
            enter = False
            given = result.__class__
            if given is NextState:
                if result.state != state:
                    if entering:
                        raise bad_return(self._place(), result, "enter", True)
                    state = result.state
                    enter = True
                data = result.data
            elif given is KeepState:
                data = result.data
            elif given is RepeatState:
                data = result.data
                enter = True
            elif given is RepeatStateAndData:
                enter = True
            elif given is Stop or given is StopAndReply:
                events.release()
                self._state, self._data = state, data
                return self._stop(kind, result, entering)
            elif given is not KeepStateAndData and (result is not None or not entering):
                raise bad_return(self._place(), result, "enter" if entering else kind, entering)

            for action in () if result is None else result.actions:
                what = action.__class__
                if what is ReplyTo:
                    if action.caller.__class__ is not Call:
                        raise self._bad_action(action, state, data)
                    if not events.hold(action.caller, action.value):
                        calls.reply(action.caller, action.value)
                elif not isinstance(action, Action) or (entering and not action.in_enter):
                    raise self._bad_action(action, state, data, entering)
                elif isinstance(action, Timeout):
                    if timeouts is None:
                        timeouts = {}
                    timeouts.pop(action.kind, None)  # the last of a kind wins, in its place
                    timeouts[action.kind] = action
                elif isinstance(action, NextEvent):
                    if inserted is None:
                        inserted = []
                    context = action.kind.context if isinstance(action.kind, Call) else events.context
                    inserted.append((action.kind, action.content, context))
                elif isinstance(action, Postpone):
                    postpone = action.postpone
                else:
                    self._change_callback(action, state, data)

            if not (enter and self.state_enter):
                break
            entering = True
            events.release()
            result = self._enter(state, old, data)
            if events.is_over():
                return None

        if postpone and kind is not UNSET:
            if self._postponed is None:
                self._postponed = Postponed()
            self._postponed.put(events.process, (kind, content, events.context))
        events.cancel(self, "timeout")
        if state is not old and state != old:
            events.cancel(self, "state_timeout")
            self._function = self._find(state)
            self._state = state
            if self._postponed is not None:
                events.queue.extend(reversed(self._postponed))
                self._postponed = None
        self._data = data
        if inserted is not None:
            events.queue.extend(reversed(inserted))
        if timeouts is not None:
            for timeout in timeouts.values():
                events.start(self, timeout)
        return None

    def _enter(self, state: Any, old: Any, data: Any) -> StateResult | None:
        function = self._find(state)
        if self._by_function:
            return function(self, "enter", old, data)
        return self.handle_event("enter", old, state, data)

    def _stop(self, kind: Any, result: Stop | StopAndReply, entering: bool) -> Stop:
        if isinstance(result, StopAndReply):
            if result.data is not UNSET:
                self._data = result.data
            for reply in result.actions:
                if reply.__class__ is not ReplyTo or reply.caller.__class__ is not Call:
                    raise bad_action(self._place(), reply, "reply_")
                calls.reply(reply.caller, reply.value)
        elif result.reply is not UNSET:
            if kind.__class__ is not Call or entering:
                raise bad_return(self._place(), result, "enter" if entering else kind, entering)
            calls.reply(kind, result.reply)
        return Stop(result.reason)

    # ---- states and classes ---------------------------------------------------------------------------------------------

    def _find(self, state: Any) -> StateFunction:
        """What gets the events of a state. Raises BadReturn for what can't be one."""
        try:
            if self._by_function:
                return self._states[state]
            hash(state)
        except (KeyError, TypeError):
            accepted = "a hashable value"
            if self._by_function:
                known = ", ".join(self._states) or "none"
                accepted = f"the name of one of its methods for events ({known}), which no method of StateMachine has"
            raise BadReturn(
                f"{turn.brief(state)} is no state of {type(self).__name__}; accepted is {accepted}",
                state,
                "bad_state",
            ) from None
        return _handle_event

    def _change_callback(self, action: Any, state: Any, data: Any) -> None:
        if isinstance(action, PopCallback):
            if not self._pushed:
                raise self._bad_action(action, state, data)
            self.__class__ = self._pushed[-1]
            self._pushed = self._pushed[:-1]
        elif isinstance(action, ChangeCallback):
            if isinstance(action, PushCallback):
                self._pushed = (*self._pushed, type(self))
            self.__class__ = action.cls
        else:
            raise self._bad_action(action, state, data)
        self._function = self._find(state)

    # ---- what was wrong -------------------------------------------------------------------------------------------------

    def _bad_action(self, given: object, state: Any, data: Any, entering: bool = False) -> BadAction:
        place = self._place()
        self._state, self._data = state, data  # what `terminate` gets, as in OTP
        return bad_action(place, given, "state_enter_" if entering else "")

    def _place(self) -> str:
        return f"{type(self).__name__}.{self._state if self._by_function else 'handle_event'}"

    def _note(self, error: BaseException, kind: Any, content: Any) -> None:
        if isinstance(error, Exception) and kind is not UNSET:
            put_off = len(self._postponed or ())
            error.add_note(
                f"in the state {turn.brief(self._state)}, with {shown(kind)} {turn.brief(content)}"
                + (f" and {put_off} postponed" if put_off else "")
            )

    # ---- the runtime's -------------------------------------------------------------------------------------------------

    def get_state(self) -> tuple[Any, Any]:
        """The state and the data."""
        return self._state, self._data

    def replace_state(self, function: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Puts what `function((state, data))` returns in their place. No enter call, and nothing is retried."""
        state, data = self._pair(function((self._state, self._data)), "replace_state's function")
        self._function = self._find(state)
        self._state, self._data = state, data
        return state, data

    @classmethod
    def has_default_terminate(cls) -> bool:
        """Whether there is nothing to do at the end."""
        return cls.terminate is StateMachine.terminate

    def begin(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Runs `init`, and takes its state and data."""
        result = self.init(*arguments, **keywords)
        if result is IGNORE or result.__class__ is Stop:
            return result
        if result.__class__ is not NextState:
            raise BadReturn(
                f"{type(self).__name__}.init returned {turn.brief(result)}; "
                "accepted is NextState(state, data, *actions), IGNORE or Stop(reason)",
                result,
                "bad_return_from_init",
            )
        self._function = self._find(result.state)
        self._state, self._data = result.state, result.data
        self._timers = self._postponed = None
        self._pushed = ()
        return Continue(result.actions) if result.actions or self.state_enter else None

    def end(self, reason: object) -> None:
        """Runs `terminate`."""
        self.terminate(reason, self._state, self._data)

    def take_over(self, old: GenServer) -> None:
        """A change of code: what waits stays, and `code_change` says the state and the data."""
        if not isinstance(old, StateMachine):
            raise SpecError("cls", type(self), "a GenServer class that is no StateMachine, as the one before")
        self.__dict__.update(old.__dict__)
        changed = self.code_change(type(old).version, old._state, old._data)
        state, data = self._pair(changed, f"{type(self).__name__}.code_change")
        self._function = self._find(state)
        self._state, self._data = state, data
        self._timers, self._postponed, self._pushed = old._timers, old._postponed, old._pushed

    def plain_state(self) -> dict[str, Any]:
        """Only another state machine can take its place."""
        raise SpecError("cls", "a GenServer class", "a StateMachine class, as the one before")

    def _pair(self, given: Any, who: str) -> tuple[Any, Any]:
        if not isinstance(given, tuple) or len(given) != 2:
            raise BadReturn(
                f"{who} returned {turn.brief(given)}; accepted is the tuple (state, data)",
                given,
                "bad_return",
            )
        return given


def _handle_event(machine: StateMachine, kind: Any, content: Any, data: Any) -> StateResult | None:
    return machine.handle_event(kind, content, machine._state, data)
