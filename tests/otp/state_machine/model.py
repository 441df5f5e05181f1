"""Random state machines as plain data, and a plain reference model that runs them: slow, no short ways, nothing clever.

A program is (responses, enters, steps). What a machine answers to an event is `responses[...]`, chosen by the state, the
kind and the content of the event (see `choose`), what it answers to an enter call `enters[...]`: a transition and a list
of actions. The data counts how often it was changed. After `LIMIT` events of one step a machine is quiet, so that all end.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

LIMIT = 12
STATES = 3
KINDS: list[Any] = [
    "call",
    "cast",
    "info",
    "internal",
    "timeout",
    "state_timeout",
    ("timeout", 0),
    ("timeout", 1),
]
QUIET = ("keep_state_and_data", [])


def choose(responses: list[Any], state: int, kind: Any, content: int) -> Any:
    """What a machine answers to an event."""
    return responses[(7 * state + 3 * KINDS.index(kind) + content) % len(responses)]


def choose_enter(enters: list[Any], state: int, old: int) -> Any:
    """What it answers to an enter call."""
    return enters[(3 * state + old) % len(enters)]


CONTENT = st.integers(0, 4)
TIMEOUT = st.tuples(
    st.just("timeout"),
    st.sampled_from(["timeout", "state_timeout", ("timeout", 0), ("timeout", 1)]),
    st.sampled_from([0, 0, 1, 3, "cancel", "update"]),
    CONTENT,
)
REPLY = st.tuples(st.just("reply"))
ACTION = st.one_of(
    st.tuples(st.just("postpone"), st.sampled_from([True, True, False])),
    st.tuples(st.just("next_event"), st.sampled_from(KINDS[1:]), CONTENT),
    TIMEOUT,
    REPLY,
)
STAY = st.sampled_from(["keep_state", "keep_state_and_data", "repeat_state", "repeat_state_and_data"])
MOVE = st.tuples(st.just("next_state"), st.integers(0, STATES - 1))
HOW = st.one_of(STAY, MOVE, MOVE)
RESPONSE = st.one_of(
    st.tuples(HOW, st.lists(ACTION, max_size=4)),
    st.tuples(HOW, st.just([])),
    st.tuples(HOW, st.just([("reply",)])),
    st.tuples(MOVE, st.just([("reply",)])),
    st.tuples(STAY, st.lists(ACTION, min_size=1, max_size=1)),
)
ENTER = st.tuples(STAY, st.lists(st.one_of(TIMEOUT, REPLY), max_size=2))
STEP = st.one_of(
    st.tuples(st.sampled_from(["call", "call", "cast", "info"]), CONTENT),
    st.tuples(st.just("advance"), st.integers(1, 4)),
)
PROGRAM = st.tuples(
    st.lists(RESPONSE, min_size=3, max_size=11),
    st.lists(ENTER, max_size=4),
    st.lists(STEP, min_size=6, max_size=30),
)
"""(responses, enters, steps); without enters the machine has no enter calls."""


class Model:
    """Runs one program's machine. `log` has (kind, content, state, data) of each event; `answers` what each call got."""

    def __init__(self, responses: list[Any], enters: list[Any]) -> None:
        self.responses = responses
        self.enters = enters
        self.state = 0
        self.data = 0
        self.now = 0
        self.log: list[Any] = []
        self.left = LIMIT
        self.answers: dict[int, int] = {}
        self.seen: set[int] = set()  # the calls that came: a postponed one comes again
        self.unanswered: list[int] = []
        self.postponed: list[Any] = []
        self.at_once: list[tuple[Any, int]] = []  # (kind, content) of timeouts of no time
        self.timers: list[list[Any]] = []  # [kind, due, content], in the order in which they were begun
        if enters:
            self.transition(None, "repeat_state_and_data", [])
            self.drain([])

    # ---- from outside ----------------------------------------------------------------------------------------------------

    def message(self, kind: str, content: int, client: int) -> None:
        self.drain([(kind, content, client if kind == "call" else None)])

    def advance(self, seconds: int) -> None:
        self.now += seconds
        due = sorted((timer for timer in self.timers if timer[1] <= self.now), key=lambda timer: timer[1])
        for timer in due:
            if any(timer is one for one in self.timers):  # not cancelled by those before it
                self.timers = [one for one in self.timers if one is not timer]
                self.drain([(timer[0], timer[2], None)])

    # ---- within ------------------------------------------------------------------------------------------------------------

    def drain(self, queue: list[Any]) -> None:
        while queue or self.at_once:
            event = queue.pop(0) if queue else (*self.at_once.pop(0), None)
            kind, content, client = event
            if client is not None and client not in self.seen:
                self.seen.add(client)
                self.unanswered.append(client)
            self.left -= 1
            quiet = self.left < 0
            self.log.append((kind, content, self.state, self.data))
            response = QUIET if quiet else choose(self.responses, self.state, kind, content)
            inserted, returned = self.transition(event, *response)
            queue[:0] = [*inserted, *returned]

    def transition(self, event: Any, how: Any, actions: list[Any]) -> tuple[list[Any], list[Any]]:
        old = self.state
        postpone = False
        inserted: list[Any] = []
        timeouts: list[Any] = []
        while True:
            enter = False
            if how == "keep_state" or how == "repeat_state" or how[0] == "next_state":
                self.data += 1
            if how[0] == "next_state" and how[1] != self.state:
                self.state = how[1]
                enter = True
            if how in ("repeat_state", "repeat_state_and_data"):
                enter = True
            for what, *rest in actions:
                if what == "postpone":
                    postpone = rest[0]
                elif what == "next_event":
                    inserted.append((rest[0], rest[1], None))
                elif what == "timeout":
                    timeouts = [one for one in timeouts if one[0] != rest[0]] + [rest]
                elif self.unanswered:
                    self.answers[self.unanswered.pop(0)] = self.data
            if not enter or not self.enters:
                break
            self.left -= 1
            quiet = self.left < 0
            self.log.append(("enter", old, self.state, self.data))
            how, actions = QUIET if quiet else choose_enter(self.enters, self.state, old)

        returned: list[Any] = []
        if postpone and event is not None:
            self.postponed.append(event)
        self.cancel("timeout")
        if self.state != old:
            self.cancel("state_timeout")
            returned, self.postponed = self.postponed, []
        for kind, when, content in timeouts:
            self.set_timeout(kind, when, content)
        return inserted, returned

    def set_timeout(self, kind: Any, when: Any, content: int) -> None:
        if when == "update":
            for timer in self.timers:
                if timer[0] == kind:
                    timer[2] = content
                    return
            for place, (waiting, _) in enumerate(self.at_once):
                if waiting == kind:
                    self.at_once[place] = (kind, content)
                    return
            self.at_once.append((kind, content))
            return
        self.cancel(kind)
        if when == 0:
            self.at_once.append((kind, content))
        elif when != "cancel":
            self.timers.append([kind, self.now + when, content])

    def cancel(self, kind: Any) -> None:
        self.timers = [timer for timer in self.timers if timer[0] != kind]
        self.at_once = [one for one in self.at_once if one[0] != kind]


def run(program: Any, advances: bool = True) -> Model:
    """The model after a program."""
    responses, enters, steps = program
    model = Model(responses, enters)
    for client, (kind, number) in enumerate(steps):
        model.left = LIMIT
        if kind != "advance":
            model.message(kind, number, client)
        elif advances:
            model.advance(number)
    return model
