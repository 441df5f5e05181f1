"""The plan of a durable run as operations: the same meaning as in memory (engine.py), with a journal.

An operation gives its node's value. What a place came to answers from the journal when the plan is gone through again; what is
not there yet is done, and written before anything else begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from packetflow.composition.durable.outcomes import Parked, Stuck
from packetflow.composition.durable.scopes import Scope
from packetflow.composition.durable.strands import ATTEMPT, OCCURRENCE, Operation, Run, Strand, Undo
from packetflow.composition.engine import collection, condition, input_of, key_reader, located, put
from packetflow.composition.flow import NOT_UNDONE, UNDO_MOST, UNDO_PAUSE
from packetflow.composition.nodes import (
    Branch,
    CircuitBreaker,
    Loop,
    Node,
    Pipeline,
    PlanError,
    Retry,
    Saga,
    Sleep,
    Step,
)
from packetflow.composition.trying import Breaker
from packetflow.storage.runs.records import Entry, Wait
from packetflow.wire.errors import Internal, RequestError, TooLarge, error_from_dict

__all__ = ["ATTEMPT", "Interpreter"]

SHORT = 1.0  # seconds that are waited in place: not worth parking for
ABSENT: Any = object()


class Interpreter:
    """Compiles one plan. not_undone: told of a step that could not be undone."""

    def __init__(self, not_undone: Callable[[Run, Undo, RequestError], None]) -> None:
        self.not_undone = not_undone
        self._undo_steps: dict[str, tuple[Operation, str]] = {}

    def whole(self, body: Node) -> Operation:
        """The plan: what was done and says how is undone where it fails."""
        return self.undoing(self.compile(body, "", "", True), "!", "plan")

    def compile(self, node: Node, path: str, static: str, tail: bool) -> Operation:
        """One node. path: its place behind the prefix that it is run with. static: in the plan. tail: nothing comes after it."""
        from packetflow.composition.durable import together, waiting

        for kind, make in {**COMPILERS, **together.COMPILERS, **waiting.COMPILERS}.items():
            if isinstance(node, kind):
                operation: Operation = make(self, node, path, static, tail)
                return operation
        raise PlanError(f"{static or 'the plan'}: a durable run can't have a {node.kind}")

    def below(self, node: Node, part: str, path: str, static: str, tail: bool = False) -> Operation:
        """The child `part` of a node, in the same occurrence."""
        return self.compile(dict(node.children)[part], join(path, part), join(static, part), tail)

    def each(self, node: Node, part: str, static: str) -> Operation:
        """The child `part` of a node that runs it in occurrences of its own: with the prefix `place[n]/`."""
        return self.compile(dict(node.children)[part], part, join(static, part), False)

    # ---- steps ----------------------------------------------------------------------------------------------------------

    def step(self, step: Step, path: str, static: str, tail: bool) -> Operation:
        """One request."""
        capability, timeout, label = step.capability, step.timeout, step.label
        given = {name: input_of(value, static) for name, value in step.inputs.items()}
        outputs = dict(step.outputs)
        key_of = None if step.key is None else key_reader(step.key, label, static)
        undoable = step.compensate is not None
        if step.compensate is not None:
            undo = self.compile(step.compensate, "", join(static, "compensate"), False)
            self._undo_steps[static] = (undo, label)

        def run(strand: Strand, scope: Scope, prefix: str) -> Any:
            place = prefix + path
            entry = strand.run.journal.find(place)
            if entry is None:
                strand.check()
                entry = ask(strand, scope, place)
            if entry.kind == "failed":
                raise error_from_dict(entry.body)
            put(scope, entry.body, outputs)
            if undoable:
                strand.undos.append(Undo(place, dict(scope), strand.attempts))
            return entry.body

        def ask(strand: Strand, scope: Scope, place: str) -> Entry:
            running = strand.run
            journal, clock = running.journal, running.clock.monotonic
            start = clock()
            names, left_out = running.requests.parameters(capability)
            payload = {
                name: scope[name]
                for name in names
                if name in scope and not (name in left_out and scope[name] is None)
            }
            running.steps += 1
            try:
                for name, read in given.items():
                    try:
                        payload[name] = read(scope)
                    except KeyError:
                        payload.pop(name, None)
                said = None if key_of is None else key_of(scope)
                value = running.requests.ask(
                    capability, payload, strand.limit(timeout), running.key(place), said
                )
            except RequestError as error:
                strand.check(draining=False)
                told = located(error, f"step {label}", place)
                journal.publish(running.requests.outgoing(running.key(place)))
                journal.record(place, "failed", label, told.as_dict(), capability, clock() - start)
            else:
                strand.check(draining=False)
                journal.publish(running.requests.outgoing(running.key(place)))
                write = journal.note if tail else journal.record
                write(place, "done", label, value, capability, clock() - start)
            entry = journal.find(place)
            assert entry is not None, "it was just written"
            return entry

        return run

    # ---- in order -------------------------------------------------------------------------------------------------------

    def pipeline(self, node: Pipeline | Saga, path: str, static: str, tail: bool) -> Operation:
        """One after the other."""
        last = len(node.steps) - 1
        steps = [
            self.below(node, str(number), path, static, tail and number == last)
            for number in range(len(node.steps))
        ]

        patience = node.attempts if isinstance(node, Saga) else None

        def run(strand: Strand, scope: Scope, prefix: str) -> Any:
            attempts = strand.attempts
            if patience is not None:
                strand.attempts = patience
            value = None
            try:
                for step in steps:
                    value = step(strand, scope, prefix)
            finally:
                strand.attempts = attempts
            return value

        return self.undoing(run, path + "!", node.label)

    def undoing(self, inner: Operation, path: str, label: str) -> Operation:
        """Undoes what was done inside when it fails. path: of where it is written down that it goes back."""

        def run(strand: Strand, scope: Scope, prefix: str) -> Any:
            journal = strand.run.journal
            place = prefix + path
            begun = journal.find(place)
            if begun is not None:  # it was going back when the run was left
                undos = [Undo(*one) for one in begun.body["undos"]]
                error: BaseException = error_from_dict(begun.body["error"])
                raise self.undo(strand, undos, error)
            mark = strand.mark()
            try:
                return inner(strand, scope, prefix)
            except (Parked, Stuck):
                raise
            except Exception as end:  # noqa: BLE001 - raised again when what was done is undone
                undos = strand.undos[mark:]
                del strand.undos[mark:]
                if undos:
                    told = end if isinstance(end, RequestError) else Internal(f"{type(end).__name__}: {end}")
                    journal.record(place, "undo", label, {"error": told.as_dict(), "undos": undos})
                raise self.undo(strand, undos, end) from None

        return run

    def undo(self, strand: Strand, undos: list[Undo], error: BaseException) -> BaseException:
        """Undo, the last first; the error, which names what could not be undone. Nothing that ended the steps stops this."""
        went_back, strand.goes_back = strand.goes_back, True
        try:
            failed = [label for undo in reversed(undos) if (label := self._undo_one(strand.run, undo))]
        finally:
            strand.goes_back = went_back
        if failed and isinstance(error, RequestError):
            error.details = {**error.details, NOT_UNDONE: [*error.details.get(NOT_UNDONE, ()), *failed]}
        return error

    def _undo_one(self, run: Run, undo: Undo) -> str:
        """Undo a step; its label if that can't be, else nothing."""
        strand = Strand(run)
        operation, label = self._undo_steps[OCCURRENCE.sub("", undo.place).lstrip("/")]
        run.was_undone(undo.place)
        pause = UNDO_PAUSE
        for attempt in range(1, undo.attempts + 1):
            if run.draining:
                raise Parked
            place = f"{undo.place}/compensate({attempt})"
            try:
                operation(strand, Scope(undo.scope), place)
            except RequestError as again:
                if attempt == undo.attempts:
                    self.not_undone(run, undo, again)
                    return label
            else:
                return ""
            hold(strand, f"{place}/delay", f"undo {label}", pause)
            pause = min(2 * pause, UNDO_MOST)
        raise AssertionError("a compensation has at least one attempt")

    def branch(self, node: Branch, path: str, static: str, tail: bool) -> Operation:
        """The first case that holds."""
        cases = [
            (condition(test, static), self.below(node, str(number), path, static, tail))
            for number, (test, _) in enumerate(node.cases)
        ]
        otherwise = None if node.otherwise is None else self.below(node, "otherwise", path, static, tail)

        def run(strand: Strand, scope: Scope, prefix: str) -> Any:
            for holds, then in cases:
                if holds(scope):
                    return then(strand, scope, prefix)
            return None if otherwise is None else otherwise(strand, scope, prefix)

        return run

    def loop(self, node: Loop, path: str, static: str, tail: bool) -> Operation:
        """An iteration that is over is one entry, whatever was in it."""
        body = self.each(node, "body", static)
        goes_on = None if node.while_ is None else condition(node.while_, static)
        items_of = None if node.over is None else collection(node.over, static)
        breaks = None if node.break_when is None else condition(node.break_when, static)
        most, label = node.max_iterations, node.label

        def iteration(strand: Strand, scope: Scope, at: str, first: bool) -> tuple[Any, bool]:
            journal = strand.run.journal
            entry = journal.find(at)
            if entry is None:
                if node.delay and not first:
                    hold(strand, f"{at}/delay", label, node.delay)
                outer, scope.put = scope.put, {}
                mark = strand.mark()
                value = body(strand, scope, at + "/")
                told = {"value": value, "put": scope.put, "undos": strand.undos[mark:]}
                told["over"] = breaks is not None and breaks(scope)
                strand.run.fold(at, label, told)
                scope.put = {**outer, **scope.put}
                return value, told["over"]
            scope.update(entry.body["put"])
            strand.run.recall(entry.body)
            strand.undos.extend(Undo(*one) for one in entry.body["undos"])
            return entry.body["value"], entry.body["over"]

        def run(strand: Strand, scope: Scope, prefix: str) -> Any:
            place = prefix + path
            items = None if items_of is None else items_of(scope)
            if items is not None and len(items) > most:
                raise too_many(f"{len(items):,} items", static)
            values: list[Any] = []
            before = scope.get(node.item, ABSENT) if items is not None else ABSENT
            while len(values) < len(items) if items is not None else goes_on is not None and goes_on(scope):
                number = len(values)
                if number >= most:
                    raise too_many("its condition still holds", static)
                if items is not None:
                    dict.__setitem__(scope, node.item, items[number])
                value, over = iteration(strand, scope, f"{place}[{number}]", number == 0)
                values.append(value)
                if over:
                    break
            if items is not None:
                dict.pop(scope, node.item, None)
                if before is not ABSENT:
                    dict.__setitem__(scope, node.item, before)
            return values

        def too_many(what: str, place: str) -> TooLarge:
            return TooLarge(f"loop {label}: {what}; max_iterations is {most:,}", {"place": place})

        return run

    # ---- trying again -----------------------------------------------------------------------------------------------------

    def retry(self, node: Retry, path: str, static: str, tail: bool) -> Operation:
        """See Retry. A failed attempt is one entry."""
        body = self.undoing(self.each(node, "body", static), "!", node.label)
        fallback = None if node.fallback is None else self.below(node, "fallback", path, static, tail)
        again = None if node.retry_when is None else condition(node.retry_when, static)

        def may_pass(error: RequestError, attempt: int) -> bool:
            if again is None:
                return error.code in Retry.CODES
            told = {"code": error.code, "message": error.message, "details": dict(error.details)}
            return again({"error": told, "attempt": attempt})

        def run(strand: Strand, scope: Scope, prefix: str) -> Any:
            journal = strand.run.journal
            place = prefix + path
            delay = node.delay
            for attempt in range(1, node.attempts + 1):
                at = f"{place}({attempt})"
                known = journal.find(at)
                if known is None:
                    own = Scope(scope)
                    try:
                        value = body(strand, own, at + "/")
                    except RequestError as failure:
                        strand.check()
                        if NOT_UNDONE in failure.details:
                            raise
                        if attempt == node.attempts or not may_pass(failure, attempt):
                            if fallback is None:
                                raise
                            break
                        chance = strand.run.engine.chance.random()
                        wait = max(
                            min(delay, node.maximum) * (1.0 - node.jitter * chance),
                            failure.retry_after or 0.0,
                        )
                        strand.run.fold(at, node.label, {"wait": wait})
                        journal.flush()
                        strand.run.retries += 1
                    else:
                        scope.update(own.put)
                        return value
                else:
                    wait = known.body["wait"]
                    strand.run.recall(known.body)
                hold(strand, f"{at}/delay", node.label, wait)
                delay *= node.factor
            assert fallback is not None, "without one the last error was raised"
            return fallback(strand, scope, prefix)

        return run

    def circuit_breaker(self, node: CircuitBreaker, path: str, static: str, tail: bool) -> Operation:
        """See CircuitBreaker. The circuit is the node's and begins closed after a restart; a refusal is written down."""
        body = self.below(node, "body", path, static, tail)

        def run(strand: Strand, scope: Scope, prefix: str) -> Any:
            running = strand.run
            journal = running.journal
            place = f"{prefix}{path}!"
            refused = journal.find(place)
            if refused is not None:
                raise error_from_dict(refused.body)
            if journal.begun(prefix + path):  # it was let pass before the run was left
                return body(strand, scope, prefix)
            breaker = running.engine.breakers.get(node.key)
            if breaker is None:
                breaker = running.engine.breakers[node.key] = Breaker(node, running.clock)
            try:
                trial = breaker.enter()
            except RequestError as error:
                journal.record(place, "failed", node.label, error.as_dict())
                raise
            try:
                value = body(strand, scope, prefix)
            except RequestError as error:
                if error.code in Retry.CODES:
                    breaker.failed()
                elif trial:
                    breaker.worked()
                raise
            finally:
                if trial:
                    breaker.trying -= 1
            breaker.worked()
            return value

        return run

    def sleep(self, node: Sleep, path: str, static: str, tail: bool) -> Operation:
        """See Sleep. A long one is not in memory."""

        def run(strand: Strand, scope: Scope, prefix: str) -> None:
            hold(strand, prefix + path, node.label, node.seconds)

        return run


COMPILERS: dict[type[Node], Callable[..., Operation]] = {
    Step: Interpreter.step,
    Pipeline: Interpreter.pipeline,
    Saga: Interpreter.pipeline,
    Branch: Interpreter.branch,
    Loop: Interpreter.loop,
    Retry: Interpreter.retry,
    CircuitBreaker: Interpreter.circuit_breaker,
    Sleep: Interpreter.sleep,
}


def join(path: str, part: str) -> str:
    """The path of a child."""
    return f"{path}/{part}" if path else part


def hold(strand: Strand, place: str, label: str, seconds: float) -> None:
    """Wait these seconds at a place: in memory while that is short, else in the store. Raises Parked then."""
    journal = strand.run.journal
    if journal.find(place) is not None:
        return
    strand.check()
    if seconds <= SHORT and place not in journal.waits and not journal.read_only:
        strand.pause(seconds)
        journal.note(place, "done", label, None)  # so that it is not waited for again
        return
    now = journal.now()
    journal.wait(Wait(place, "time", label, now, due=now + seconds))
    if journal.find(place) is None:
        raise Parked
