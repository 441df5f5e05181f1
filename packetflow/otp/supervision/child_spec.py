# cython: annotation_typing=False
"""ChildSpec: how a supervisor starts, restarts and stops a child; checked when it is written down."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from math import isfinite
from operator import is_
from types import MappingProxyType
from typing import Any, Final, Literal

from packetflow.otp.errors import SpecError
from packetflow.otp.server import GenServer
from packetflow.otp.via import Name, Via

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]

RESTARTS = ("permanent", "transient", "temporary")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
_NO_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType({})
AUTO_SHUTDOWNS = ("never", "any_significant", "all_significant")


class Backoff:
    """How long a restart waits: `delay` seconds, `factor` times more after each further one, at most `maximum`.

    jitter: the part (0 to 1) of it that is drawn at random, so that many don't come back at one moment. reset_after:
    seconds of health after which it begins anew.
    """

    __slots__ = ("delay", "factor", "jitter", "maximum", "reset_after")

    def __init__(
        self,
        delay: float = 0.1,
        factor: float = 2.0,
        maximum: float = 30.0,
        jitter: float = 0.1,
        reset_after: float = 60.0,
    ) -> None:
        _check_number("backoff.delay", delay, 0.0)
        _check_number("backoff.factor", factor, 1.0)
        _check_number("backoff.maximum", maximum, 0.0)
        _check_number("backoff.reset_after", reset_after, 0.0)
        if not _is_number(jitter) or not 0 <= jitter <= 1:
            raise SpecError("backoff.jitter", jitter, "a number from 0 to 1")
        self.delay = delay
        self.factor = factor
        self.maximum = maximum
        self.jitter = jitter
        self.reset_after = reset_after

    def wait(self, restarts: int) -> float:
        """The seconds before the restart after so many earlier ones in a row."""
        # The exponent is bounded: a child that never heals must not overflow a float.
        full = min(self.maximum, self.delay * self.factor ** min(restarts, 64))
        return full * (1.0 - self.jitter * random.random())

    def __repr__(self) -> str:
        return f"Backoff({self.delay:g}, factor={self.factor:g}, maximum={self.maximum:g})"


class ChildSpec:
    """What a supervisor has to know of a child. Raises SpecError, which names the field, if it is wrong.

    start: a GenServer or Supervisor class (started with *arguments), or a callable that starts one itself and returns
    its ref (or None: ignored). id: by default the name, else the class's or callable's name; unique in a Supervisor.
    name: registered in the system, or by a registry: its `via(key)`.
    restart: "permanent" always, "transient" after an abnormal exit, "temporary" never.
    shutdown: seconds for an orderly end, then killed; "brutal_kill" at once; "infinity". By default 5 s, for
    supervisors "infinity". significant: its own end may end the supervisor, see auto_shutdown.
    start_timeout: seconds for its start. backoff: how long restarts wait; by default not at all, as in OTP.
    """

    __slots__ = (
        "arguments",
        "backoff",
        "id",
        "name",
        "options",
        "restart",
        "shutdown",
        "significant",
        "start",
        "start_timeout",
        "type",
    )

    def __init__(
        self,
        start: type[GenServer] | Callable[..., Any],
        *arguments: Any,
        id: Hashable = None,
        name: Name | None = None,
        restart: Restart = "permanent",
        shutdown: float | Literal["brutal_kill", "infinity"] | None = None,
        significant: bool = False,
        start_timeout: float | None = 30.0,
        backoff: Backoff | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        is_server = isinstance(start, type) and issubclass(start, GenServer)
        if not is_server and (isinstance(start, type) or not callable(start)):
            accepted = "a GenServer class, a Supervisor class, or a callable that starts one"
            if hasattr(start, "child"):
                accepted = f"{start.__name__}.child(...), which gives the specification itself"
            raise SpecError("start", start, accepted)
        if name is not None and not isinstance(name, Via) and (not isinstance(name, str) or not name):
            raise SpecError("name", name, "a text that is not empty, a registry's via(key), or None")
        if name is not None and not is_server:
            raise SpecError("name", name, "None where start is a callable: it gives the name itself")
        if restart not in RESTARTS:
            raise SpecError("restart", restart, _words(RESTARTS))
        kind: Literal["worker", "supervisor"] = (
            "supervisor" if is_server and start.supervises else "worker"  # type: ignore[union-attr]
        )
        if shutdown is None:
            shutdown = "infinity" if kind == "supervisor" else 5.0
        elif shutdown not in ("brutal_kill", "infinity") and (
            not _is_number(shutdown) or shutdown < 0  # type: ignore[operator]
        ):
            raise SpecError("shutdown", shutdown, 'a number of seconds from 0, "brutal_kill" or "infinity"')
        if not isinstance(significant, bool):
            raise SpecError("significant", significant, "True or False")
        if significant and restart == "permanent":
            raise SpecError(
                "significant", significant, 'False for a permanent child (or restart="transient")'
            )
        if start_timeout is not None and (not _is_number(start_timeout) or start_timeout <= 0):
            raise SpecError(
                "start_timeout", start_timeout, "a number of seconds above 0, or None for no limit"
            )
        if backoff is not None and not isinstance(backoff, Backoff):
            raise SpecError("backoff", backoff, "a Backoff, or None")
        if id is None:
            id = name or getattr(start, "__name__", type(start).__name__)
        try:
            hash(id)
        except TypeError:
            raise SpecError("id", id, "something hashable, such as a text") from None
        self.start = start
        self.arguments = arguments
        self.id = id
        self.name = name
        self.restart: Restart = restart
        self.shutdown = shutdown
        self.significant = significant
        self.start_timeout = start_timeout
        self.backoff = backoff
        self.options: Mapping[str, Any] = options or _NO_OPTIONS
        self.type = kind

    def numbered(self, number: int, arguments: tuple[Any, ...]) -> ChildSpec:
        """One of several children like this: its id is its number, and it has no name, which only one could hold."""
        return ChildSpec(
            self.start,
            *arguments,
            id=number,
            restart=self.restart,
            shutdown=self.shutdown,
            start_timeout=self.start_timeout,
            backoff=self.backoff,
            options=self.options,
        )

    def says_the_same_as(self, other: ChildSpec) -> bool:
        """Whether the other one's fields are these very objects. (Equal ones need not mean the same to who is started.)"""
        return (
            self.start is other.start
            and self.options is other.options
            and self.id is other.id
            and self.name is other.name
            and self.restart is other.restart
            and self.shutdown is other.shutdown
            and self.significant is other.significant
            and self.start_timeout is other.start_timeout
            and self.backoff is other.backoff
            and len(self.arguments) == len(other.arguments)
            and all(map(is_, self.arguments, other.arguments))
        )

    def without_arguments(self) -> ChildSpec:
        """The same without its arguments: what is kept of a temporary child, which is never started again."""
        if not self.arguments and not self.options:
            return self
        kept: ChildSpec = ChildSpec.__new__(ChildSpec)
        kept.start, kept.arguments, kept.options = self.start, (), _NO_OPTIONS
        kept.id, kept.name, kept.type = self.id, self.name, self.type
        kept.restart, kept.shutdown, kept.significant = self.restart, self.shutdown, self.significant
        kept.start_timeout, kept.backoff = self.start_timeout, self.backoff
        return kept

    def __repr__(self) -> str:
        return f"<ChildSpec {self.id} {self.restart}>"


def check_specs(specs: object, auto_shutdown: AutoShutdown) -> Sequence[ChildSpec]:
    """The children of a supervisor. Raises SpecError for what is no ChildSpec, a repeated id, or a vain `significant`."""
    if isinstance(specs, str | bytes) or not isinstance(specs, Iterable):
        raise SpecError("children", specs, "a list of ChildSpec")
    listed = list(specs)
    seen = set()
    for spec in listed:
        check_spec(spec, auto_shutdown)
        if spec.id in seen:
            raise SpecError("id", spec.id, "an id that no other child of this supervisor has")
        seen.add(spec.id)
    return listed


def check_spec(spec: object, auto_shutdown: AutoShutdown) -> None:
    """Raises SpecError unless it is a ChildSpec that goes with the supervisor's auto_shutdown."""
    if not isinstance(spec, ChildSpec):
        raise SpecError("child", spec, "a ChildSpec")
    if spec.significant and auto_shutdown == "never":
        raise SpecError("significant", True, 'False, or auto_shutdown="any_significant" or "all_significant"')


def check_options(strategy: object, max_restarts: object, max_seconds: object, auto_shutdown: object) -> None:
    """Raises SpecError if a supervisor's option is wrong."""
    if strategy not in STRATEGIES:
        raise SpecError("strategy", strategy, _words(STRATEGIES))
    if isinstance(max_restarts, bool) or not isinstance(max_restarts, int) or max_restarts < 0:
        raise SpecError("max_restarts", max_restarts, "a whole number from 0")
    if not _is_number(max_seconds) or max_seconds <= 0:  # type: ignore[operator]
        raise SpecError("max_seconds", max_seconds, "a number of seconds above 0")
    if auto_shutdown not in AUTO_SHUTDOWNS:
        raise SpecError("auto_shutdown", auto_shutdown, _words(AUTO_SHUTDOWNS))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _check_number(field: str, value: object, least: float) -> None:
    if not _is_number(value) or value < least:  # type: ignore[operator]
        raise SpecError(field, value, f"a number from {least:g}")
    return


def _words(words: tuple[str, ...]) -> str:
    return ", ".join(f'"{word}"' for word in words[:-1]) + f' or "{words[-1]}"'
