"""What of a durable run goes on at once: parallel, race, hedge, map_reduce."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from packetflow.capabilities.conditions import Expression
from packetflow.composition.durable.interpreting import Interpreter, join
from packetflow.composition.durable.outcomes import Parked
from packetflow.composition.durable.scopes import Scope
from packetflow.composition.durable.strands import Child, Gathering, Operation, Strand, Undo
from packetflow.composition.engine import collection, evaluated, put
from packetflow.composition.flow import NOT_UNDONE
from packetflow.composition.nodes import Hedge, MapReduce, Node, Parallel, Race
from packetflow.composition.together import LOST, Measured, fields_of, reduced
from packetflow.storage.runs.records import Entry, Wait
from packetflow.wire.errors import Cancelled, RequestError, Timeout, TooLarge, error_from_dict


def parallel(interpreter: Interpreter, node: Parallel, path: str, static: str, tail: bool) -> Operation:
    """See Parallel. Its time goes on while the run is not in memory."""
    stops = node.partial_failure == "fail"

    def branch(number: str, label: str) -> tuple[Operation, str]:
        one, at = interpreter.below(node, number, path, static), join(path, number)
        # Where nothing else fails with it, what it did is undone at once.
        return one if stops else interpreter.undoing(one, at + "!alone", label), at

    branches = [branch(str(number), step.label) for number, step in enumerate(node.steps)]
    labels = [step.label for step in node.steps]
    limit = min(node.limit or len(branches), len(branches))

    def run(strand: Strand, scope: Scope, prefix: str) -> Any:
        place = prefix + path
        known = strand.run.journal.find(place)
        if known is not None:
            return recalled(known, strand, scope)
        mark = strand.mark()
        begun = [Scope(scope) for _ in branches]
        try:
            ended = gathered(strand, prefix, place, begun)
        except Timeout as error:
            if node.timeout is not None and error.details.get("place") == place:
                strand.run.journal.record(place, "failed", node.label, error.as_dict())
            raise
        outer, scope.put = scope.put, {}
        value = combined(scope, ended)
        mine, scope.put = scope.put, {**outer, **scope.put}
        if node.timeout is not None:  # what has ended in time stays so
            strand.run.fold(place, node.label, told(value, mine, strand.undos[mark:]))
        return value

    def gathered(strand: Strand, prefix: str, place: str, begun: list[Scope]) -> dict[int, Child]:
        ended: dict[int, Child] = {}
        with Gathering(strand, seconds_left(strand, place)) as gathering:
            started = 0
            while len(ended) < len(branches):
                while started < len(branches) and gathering.living < limit:
                    operation, below = branches[started]
                    gathering.begin(started, operation, begun[started], prefix, prefix + below)
                    started += 1
                try:
                    child = gathering.next()
                except Parked:
                    park_until_over(strand, place)
                    raise
                except Timeout:
                    if not gathering.overdue:
                        raise
                    gathering.stop(Timeout(""), wait=True)
                    words = f"{node.label}: not all done within {node.timeout:g} s"
                    raise Timeout(words, {"place": place}) from None
                assert child is not None, "without a time to wait, next() waits for a child"
                if child.error is not None and (stops or not isinstance(child.error, RequestError)):
                    gathering.stop(child.error, wait=True)
                    raise child.error
                ended[child.index] = child
        return ended

    def seconds_left(strand: Strand, place: str) -> float | None:
        if node.timeout is None:
            return None
        journal = strand.run.journal
        entry = journal.find(place + "!since")
        since = (
            journal.note(place + "!since", "since", node.label, journal.now())
            if entry is None
            else entry.body
        )
        return max(0.0, float(since + node.timeout - journal.now()))

    def park_until_over(strand: Strand, place: str) -> None:
        if node.timeout is None:
            return
        journal = strand.run.journal
        since = journal.find(place + "!since")
        assert since is not None, "it was written when the branches began"
        journal.wait(Wait(place + "!over", "time", node.label, journal.now(), due=since.body + node.timeout))

    def combined(scope: Scope, ended: dict[int, Child]) -> Any:
        good = [ended[index] for index in sorted(ended) if ended[index].error is None]
        if not stops:
            failed = {labels[index]: child.error for index, child in ended.items() if child.error is not None}
            scope["failed"] = {
                label: {"code": error.code, "message": error.message}
                for label, error in failed.items()
                if isinstance(error, RequestError)
            }
        if node.combine == "list":
            values = [child.value for child in good]
            put(scope, values, {})
            return values
        if node.combine == "merge":
            merged = {name: field for child in good for name, field in fields_of(child.value).items()}
            scope.update(merged)
            return merged
        for child in good:
            scope.update(child.scope.put)
        return {labels[child.index]: child.value for child in good}

    return run


def race(interpreter: Interpreter, node: Race, path: str, static: str, tail: bool) -> Operation:
    """See Race."""
    branches = [
        (interpreter.below(node, str(number), path, static), join(path, str(number)))
        for number in range(len(node.steps))
    ]

    def run(strand: Strand, scope: Scope, prefix: str) -> Any:
        place = prefix + path
        known = won_before(interpreter, strand, place, node.label)
        if known is not None:
            return recalled(known, strand, scope)
        mark = strand.mark()
        with Gathering(strand) as gathering:
            for index, (operation, below) in enumerate(branches):
                gathering.begin(index, operation, Scope(scope), prefix, prefix + below)
            winner = first_good(gathering, len(branches))
            gathering.stop(Cancelled(LOST), wait=True)
        return won(interpreter, strand, scope, winner, place, node.label, mark)

    return run


def hedge(interpreter: Interpreter, node: Hedge, path: str, static: str, tail: bool) -> Operation:
    """See Hedge."""
    body = interpreter.each(node, "body", static)
    measured = Measured()

    def run(strand: Strand, scope: Scope, prefix: str) -> Any:
        place = prefix + path
        known = won_before(interpreter, strand, place, node.label)
        if known is not None:
            return recalled(known, strand, scope)
        mark = strand.mark()
        errors: dict[int, RequestError] = {}
        winner: Child | None = None
        after = measured.p95() if node.after is None else node.after
        since = strand.run.clock.monotonic()
        with Gathering(strand) as gathering:
            begun, overdue = 0, True
            while winner is None:
                if begun < node.attempts and (overdue or len(errors) == begun):
                    at = f"{place}({begun + 1})"
                    gathering.begin(begun, body, Scope(scope), at + "/", at)
                    begun += 1
                child = gathering.next(after if begun < node.attempts else None)
                overdue = child is None
                if child is None:
                    continue
                if child.error is None:
                    winner = child
                elif not isinstance(child.error, RequestError):
                    raise child.error
                else:
                    errors[child.index] = child.error
                    if len(errors) == node.attempts:
                        raise errors[0]
            measured.add(strand.run.clock.monotonic() - since)
            gathering.stop(Cancelled(LOST), wait=True)
        return won(interpreter, strand, scope, winner, place, node.label, mark)

    return run


def first_good(gathering: Gathering, count: int) -> Child:
    """The first that ends well. Raises the first one's error if none does."""
    errors: dict[int, RequestError] = {}
    while True:
        child = gathering.next()
        assert child is not None, "without a time to wait, next() waits for a child"
        if child.error is None:
            return child
        if not isinstance(child.error, RequestError):
            raise child.error
        errors[child.index] = child.error
        if len(errors) == count:
            raise errors[0]


def won(
    interpreter: Interpreter, strand: Strand, scope: Scope, winner: Child, place: str, label: str, mark: int
) -> Any:
    """The winner's value, for good: what the others had begun is forgotten, and what they did is undone."""
    mine = winner.strand.undos
    lost = [undo for undo in strand.undos[mark:] if undo not in mine]
    body = told(winner.value, winner.scope.put, mine)
    strand.undos[mark:] = mine
    if lost:
        strand.run.journal.record(place + "!won", "won", label, {**body, "lost": lost})
        known = won_before(interpreter, strand, place, label)
        assert known is not None, "it was just written"
    else:
        strand.run.fold(place, label, body)
        strand.run.journal.flush()
    scope.update(winner.scope.put)
    return winner.value


def won_before(interpreter: Interpreter, strand: Strand, place: str, label: str) -> Entry | None:
    """What a race came to, with nothing left to be undone of those who lost; None while it is open."""
    journal = strand.run.journal
    decided = journal.find(place + "!won")
    if decided is not None:
        body = dict(decided.body)
        interpreter.undo(strand, [Undo(*one) for one in body.pop("lost")], Cancelled(LOST))
        strand.run.fold(place, label, body)
        journal.flush()
    return journal.find(place)


def told(value: Any, names: dict[str, Any], undos: list[Undo]) -> dict[str, Any]:
    """What stands for all that was inside a place."""
    return {"value": value, "put": names, "undos": undos}


def recalled(entry: Entry, strand: Strand, scope: Scope) -> Any:
    """The value of a place that is over."""
    if entry.kind == "failed":
        raise error_from_dict(entry.body)
    scope.update(entry.body["put"])
    strand.run.recall(entry.body)
    strand.undos.extend(Undo(*one) for one in entry.body["undos"])
    return entry.body["value"]


def map_reduce(interpreter: Interpreter, node: MapReduce, path: str, static: str, tail: bool) -> Operation:
    """See MapReduce. A chunk that is over is one entry, and so are all of them."""
    each = interpreter.each(node, "map", static)
    items_of = collection(node.over, static)
    key_of = None if node.partition is None else Expression(node.partition)
    named = node.reduce if isinstance(node.reduce, str) else None
    reduce = None if named is not None else interpreter.each(node, "reduce", static)

    def run(strand: Strand, scope: Scope, prefix: str) -> Any:
        place = prefix + path
        journal = strand.run.journal
        known = journal.find(place)
        if known is None:
            mark = strand.mark()
            items = items_of(scope)
            if len(items) > node.most:
                raise TooLarge(
                    f"{node.label}: {len(items):,} items; most is {node.most:,}", {"place": static}
                )
            values = mapped(strand, scope, items, place)
            value = together(strand, scope, items, values, place)
            strand.run.fold(place, node.label, told(value, {"result": value}, strand.undos[mark:]))
        else:
            value = recalled(known, strand, scope)
        scope["result"] = value
        return value

    def together(strand: Strand, scope: Scope, items: list[Any], values: list[Any], place: str) -> Any:
        if key_of is None:
            return one(strand, scope, values, f"{place}(1)")
        parts: dict[Any, list[Any]] = {}
        for item, value in zip(items, values, strict=True):
            parts.setdefault(evaluated(key_of, {node.item: item}, static), []).append(value)
        return {
            key: one(strand, scope, part, f"{place}({number})")
            for number, (key, part) in enumerate(parts.items(), 1)
        }

    def one(strand: Strand, scope: Scope, values: list[Any], at: str) -> Any:
        if named is not None or reduce is None:
            return reduced(named or "list", values, static)
        return reduce(strand, Scope({**scope, "items": values}), at + "/")

    def mapped(strand: Strand, scope: Scope, items: list[Any], place: str) -> list[Any]:
        values: list[Any] = [None] * len(items)
        starts = range(0, len(items), node.chunk)
        with Gathering(strand) as gathering:
            for start in starts:
                while gathering.living >= node.concurrency:
                    take(gathering)
                at = f"{place}[{start}]"
                part = items[start : start + node.chunk]

                def chunk(
                    own: Strand, names: Scope, prefix: str, start: int = start, part: list[Any] = part
                ) -> None:
                    values[start : start + len(part)] = chunk_of(own, names, part, start, place)

                gathering.begin(start, chunk, scope, "", at)
            while gathering.pending:
                take(gathering)
        return values

    def take(gathering: Gathering) -> None:
        child = gathering.next()
        if child is not None and child.error is not None:
            gathering.stop(child.error, wait=True)
            raise child.error

    def chunk_of(strand: Strand, scope: Scope, part: list[Any], start: int, place: str) -> list[Any]:
        journal = strand.run.journal
        at = f"{place}[{start}]"
        known = journal.find(at)
        if known is not None:
            found: list[Any] = recalled(known, strand, scope)
            return found
        for attempt in range(1, node.attempts + 1):
            mark = strand.mark()

            def once(own: Strand, names: Scope, prefix: str) -> list[Any]:
                return [
                    each(own, Scope({**names, node.item: item}), f"{prefix}[{number}]/")
                    for number, item in enumerate(part)
                ]

            try:
                values: list[Any] = interpreter.undoing(once, "!", node.label)(
                    strand, scope, f"{at}({attempt})"
                )
            except RequestError as error:
                strand.check()
                if attempt == node.attempts or NOT_UNDONE in error.details:
                    raise
                strand.run.retries += 1
                continue
            strand.run.fold(at, node.label, told(values, {}, strand.undos[mark:]))
            return values
        raise AssertionError("a chunk has at least one attempt")

    return run


COMPILERS: dict[type[Node], Callable[..., Operation]] = {
    Parallel: parallel,
    Race: race,
    Hedge: hedge,
    MapReduce: map_reduce,
}
