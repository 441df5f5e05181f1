"""What runs several things at once: parallel, race, hedge, map_reduce. Whoever loses is cancelled, and its cleanup runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any

import gevent
from gevent.event import Event
from pydantic import BaseModel

from packetflow.capabilities.conditions import Expression
from packetflow.composition.engine import collection, compile_node, evaluated, put
from packetflow.composition.flow import Flow, Run, Scope, may_go_on, undo
from packetflow.composition.nodes import Hedge, MapReduce, Parallel, Race, below
from packetflow.wire.errors import Cancelled, ExecutionFailed, RequestError, Timeout, TooLarge

LAST_WORDS = 5.0  # seconds that those who are cancelled have for their cleanup
LOST = "another strand of the composition decided it"


class Strand:
    """One of several things that run at once, with a scope of its own. error: what it failed of. alone: nothing else fails with
    it, so that what it did is undone at once."""

    __slots__ = ("alone", "error", "flow", "label", "run", "scope", "value")

    def __init__(self, label: str, run: Run, scope: Scope, flow: Flow, alone: bool = False) -> None:
        self.alone = alone
        self.label = label
        self.run = run
        self.scope = dict(scope)
        self.flow = flow.fork()
        self.value: Any = None
        self.error: RequestError | None = None

    def go(self) -> None:
        """Runs it, and keeps what it gave."""
        try:
            self.value = self.run(self.scope, self.flow)
        except RequestError as error:
            self.error = error
            if self.alone:
                undo(self.flow, 0, error)


def run_together(
    flow: Flow,
    strands: list[Strand],
    ends: Callable[[Strand], bool],
    limit: int | None,
    timeout: float | None = None,
) -> list[Strand]:
    """Runs strands, at most `limit` at once, until all have ended or `ends` says so of one. Returns those that have ended, in the
    order in which they did. Those that have not are cancelled. Raises TimeoutError when the time is over.

    What strands have done is the flow's if this raises, and theirs if it returns.
    """
    ahead = iter(strands)
    ended: list[Strand] = []
    stopped = Event()
    left = min(len(strands), limit or len(strands))
    crash: list[BaseException] = []

    def work() -> None:
        nonlocal left
        try:
            for strand in ahead:
                strand.go()
                if stopped.is_set():
                    return
                ended.append(strand)
                if ends(strand):
                    stopped.set()
                    return
        except Exception as error:  # noqa: BLE001 - a fault of a plan's own Python function: raised by the one who waits
            crash.append(error)
            stopped.set()
        finally:
            left -= 1
            if not left:
                stopped.set()

    workers = [gevent.spawn(copy_context().run, work) for _ in range(left)]
    try:
        try:
            in_time = stopped.wait(timeout)
        finally:
            stopped.set()
            _end(flow, workers)
        if crash:
            raise crash[0]
        if not in_time:
            raise TimeoutError
    except BaseException:
        _take(flow, strands)
        raise
    return ended


def _take(flow: Flow, strands: list[Strand]) -> None:
    for strand in strands:
        flow.take(strand.flow)


def _end(flow: Flow, workers: list[gevent.Greenlet[..., Any]]) -> None:
    """Cancels those that still run, and waits for their cleanup."""
    running = [one for one in workers if not one.dead]
    if not running:
        return
    door = flow.context.door
    for one in running:
        if not door.cancel(one, Cancelled(LOST)):
            one.kill(block=False)
    gevent.joinall(running, timeout=LAST_WORDS)
    gevent.killall([one for one in running if not one.dead], block=False)


def parallel(node: Parallel, place: str) -> Run:
    """See Parallel."""
    steps = [(step.label, compile_node(step, below(place, number))) for number, step in enumerate(node.steps)]
    stops = node.partial_failure == "fail"

    def run(scope: Scope, flow: Flow) -> Any:
        strands = [Strand(label, step, scope, flow, alone=not stops) for label, step in steps]
        try:
            ended = run_together(
                flow, strands, lambda one: stops and one.error is not None, node.limit, node.timeout
            )
        except TimeoutError:
            raise Timeout(f"{node.label}: not all done within {node.timeout:g} s", {"place": place}) from None
        failed = {one.label: one.error for one in ended if one.error is not None}
        _take(flow, strands)
        if failed and stops:
            raise next(iter(failed.values()))  # those that were cancelled for it have errors too
        good = [one for one in strands if one.error is None]
        if not stops:
            scope["failed"] = {label: {"code": e.code, "message": e.message} for label, e in failed.items()}
        if node.combine == "list":
            value: Any = [one.value for one in good]
            put(scope, value, {})
            return value
        if node.combine == "merge":
            value = {name: field for one in good for name, field in fields_of(one.value).items()}
            scope.update(value)
            return value
        for one in good:
            scope.update(
                {name: item for name, item in one.scope.items() if scope.get(name, _ABSENT) is not item}
            )
        return {one.label: one.value for one in good}

    return run


_ABSENT = object()


def fields_of(value: Any) -> Mapping[str, Any]:
    """A value as names: a model's or a mapping's fields, nothing of null, else the one name `result`."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return value
    return {} if value is None else {"result": value}


def race(node: Race, place: str) -> Run:
    """See Race."""
    steps = [(step.label, compile_node(step, below(place, number))) for number, step in enumerate(node.steps)]

    def run(scope: Scope, flow: Flow) -> Any:
        strands = [Strand(label, step, scope, flow) for label, step in steps]
        return _first_good(flow, strands, scope)

    return run


def hedge(node: Hedge, place: str) -> Run:
    """See Hedge."""
    body = compile_node(node.body, below(place, "body"))

    measured = Measured()

    def run(scope: Scope, flow: Flow) -> Any:
        after = measured.p95() if node.after is None else node.after
        turns = [Event() for _ in range(node.attempts)]
        turns[0].set()

        def attempt(number: int) -> Run:
            def go(scope: Scope, flow: Flow) -> Any:
                turns[number].wait(None if after is None else number * after)
                try:
                    return body(scope, flow)
                except RequestError:
                    if number + 1 < node.attempts:
                        turns[number + 1].set()
                    raise

            return go

        begun = flow.engine.clock.monotonic()
        strands = [Strand(node.label, attempt(number), scope, flow) for number in range(node.attempts)]
        value = _first_good(flow, strands, scope)
        measured.add(flow.engine.clock.monotonic() - begun)
        return value

    return run


class Measured:
    """How long the latest runs of a hedge took, from its begin to the first good end: of one that was hedged at least so long."""

    LATEST = 200
    ENOUGH = 20

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=self.LATEST)

    def add(self, seconds: float) -> None:
        """One more."""
        self._seconds.append(seconds)

    def p95(self) -> float | None:
        """The time in which 95 of 100 had ended, at least a millisecond; None while that is not known well enough."""
        if len(self._seconds) < self.ENOUGH:
            return None
        return max(0.001, sorted(self._seconds)[int(0.95 * len(self._seconds))])


def _first_good(flow: Flow, strands: list[Strand], scope: Scope) -> Any:
    ended = run_together(flow, strands, lambda one: one.error is None, None)
    last = ended[-1]
    if last.error is None:
        for one in strands:
            if one is not last:
                undo(one.flow, 0, Cancelled(LOST), wait=False)
    _take(flow, strands)
    if last.error is not None:
        raise strands[0].error or last.error
    scope.update(last.scope)
    return last.value


def map_reduce(node: MapReduce, place: str) -> Run:
    """See MapReduce."""
    items_of = collection(node.over, place)
    each = compile_node(node.map, below(place, "map"))
    key_of = None if node.partition is None else Expression(node.partition)
    reduce = node.reduce
    reducer = reduce if isinstance(reduce, str) else compile_node(reduce, below(place, "reduce"))

    def chunk_of(items: list[Any], values: list[Any], first: int) -> Run:
        def run(scope: Scope, flow: Flow) -> None:
            for attempt in range(1, node.attempts + 1):
                mark = len(flow.done)
                try:
                    for number, item in enumerate(items):
                        values[first + number] = each({**scope, node.item: item}, flow)
                    return
                except RequestError as error:
                    if attempt == node.attempts or not may_go_on(flow, mark, error):
                        raise

        return run

    def together(values: list[Any], scope: Scope, flow: Flow) -> Any:
        if isinstance(reducer, str):
            return reduced(reducer, values, place)
        return reducer({**scope, "items": values}, flow)

    def run(scope: Scope, flow: Flow) -> Any:
        items = items_of(scope)
        if len(items) > node.most:
            raise TooLarge(f"{node.label}: {len(items):,} items; most is {node.most:,}", {"place": place})
        values: list[Any] = [None] * len(items)
        chunks = [
            Strand(f"items from {at}", chunk_of(items[at : at + node.chunk], values, at), scope, flow)
            for at in range(0, len(items), node.chunk)
        ]
        ended = (
            run_together(flow, chunks, lambda one: one.error is not None, node.concurrency) if chunks else []
        )
        _take(flow, chunks)
        if ended and ended[-1].error is not None:
            raise ended[-1].error
        if key_of is None:
            value = together(values, scope, flow)
        else:
            parts: dict[Any, list[Any]] = {}
            for item, result in zip(items, values, strict=True):
                parts.setdefault(evaluated(key_of, {node.item: item}, place), []).append(result)
            value = {key: together(part, scope, flow) for key, part in parts.items()}
        scope["result"] = value
        return value

    return run


def reduced(how: str, values: list[Any], place: str) -> Any:
    """The values put together by a word. Raises ExecutionFailed where they can't be."""
    try:
        match how:
            case "sum":
                return sum(values)
            case "count":
                return len(values)
            case "min":
                return min(values, default=None)
            case "max":
                return max(values, default=None)
            case "merge":
                return {name: field for value in values for name, field in fields_of(value).items()}
    except TypeError as error:
        raise ExecutionFailed(f"reduce {how!r}: {error}", {"place": place}) from error
    return values
