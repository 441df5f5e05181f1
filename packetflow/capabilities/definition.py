"""The `@capability` decorator: makes a plain typed function known, and leaves it a plain function."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from packetflow.capabilities.contract import Contract, DefinitionError, faults_of, place_of
from packetflow.capabilities.effects import Effect
from packetflow.capabilities.options import Cache, Pool

F = TypeVar("F", bound=Callable[..., Any])

ID = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
MARK = "__packetflow_capability__"


class Capability:
    """A capability's definition: contract, options and the function itself. Immutable once made."""

    __slots__ = (
        "background",
        "blocking",
        "cache",
        "contract",
        "cpu",
        "deprecated",
        "description",
        "effects",
        "examples",
        "function",
        "id",
        "intent",
        "is_async",
        "owner",
        "pool",
        "stream_timeout",
        "streams",
        "tags",
        "timeout",
        "version",
    )

    def __init__(
        self,
        id: str,
        function: Callable[..., Any],
        *,
        version: str = "1.0.0",
        intent: str | None = None,
        tags: Iterable[str] = (),
        examples: Iterable[Mapping[str, Any]] = (),
        effects: Iterable[Effect] = (),
        timeout: float | None = None,
        stream_timeout: float | None = None,
        blocking: bool = False,
        cpu: bool = False,
        background: bool = False,
        cache: Cache | None = None,
        pool: Pool | None = None,
        owner: str | None = None,
        deprecated: str | None = None,
    ) -> None:
        where = place_of(function)
        if not ID.fullmatch(id):
            raise DefinitionError(
                f"{where}: id {id!r}; expected a dotted lower-case name, such as ticket.open"
            )
        if not VERSION.fullmatch(version):
            raise DefinitionError(
                f"{where}: version {version!r} of {id}; expected major.minor.patch, such as 1.0.0"
            )
        if timeout is not None and not timeout > 0:
            raise DefinitionError(f"{where}: timeout {timeout!r} of {id}; expected seconds above 0")
        if isinstance(tags, str):
            raise DefinitionError(
                f'{where}: tags {tags!r} of {id}; expected a list of words, such as ["{tags}"]'
            )
        documentation = inspect.getdoc(function) or ""
        self.id = id
        self.function = function
        self.version = version
        self.intent = intent or documentation.partition("\n")[0]
        if not self.intent:
            raise DefinitionError(
                f"{where}: {id} says nothing of itself; expected a docstring, or intent=..."
            )
        self.description = documentation
        self.tags = tuple(tags)
        self.effects = tuple(effects)
        for effect in self.effects:
            if not isinstance(effect, Effect):
                raise DefinitionError(
                    f"{where}: effect {effect!r} of {id}; expected an Effect, such as counter({id!r})"
                )
        self.timeout = timeout
        self.blocking = blocking
        self.deprecated = deprecated
        self.is_async = inspect.iscoroutinefunction(function)
        self.cpu = cpu
        self.background = background
        self.cache = cache
        self.pool = pool
        self.owner = owner
        check_options(self, where)
        self.contract = Contract(function)
        check_with_contract(self, where)
        self.streams = self.contract.streams
        self.stream_timeout = stream_timeout
        if self.streams and blocking:
            raise DefinitionError(
                f"{where}: {id} is a generator function and blocking; its items would be made in changing threads, so call a"
                " blocking capability for each part"
            )
        if stream_timeout is not None and not (self.streams and stream_timeout > 0):
            raise DefinitionError(
                f"{where}: stream_timeout {stream_timeout!r} of {id}; expected seconds above 0, of a generator function"
            )
        self.examples = tuple(dict(example) for example in examples)
        for number, example in enumerate(self.examples):
            try:
                self.contract.validate_input(example)
            except ValidationError as error:
                fault = faults_of(error)[0]
                raise DefinitionError(
                    f"{where}: example {number} of {id} does not fit its contract: {fault['path']} {fault['message']}"
                ) from error

    @property
    def major(self) -> int:
        """The first number of the version."""
        return int(self.version.partition(".")[0])

    @property
    def order(self) -> tuple[int, ...]:
        """The version as numbers, to compare."""
        return tuple(int(part) for part in self.version.split("."))

    @property
    def source(self) -> str:
        """file:line of the function."""
        return place_of(self.function)

    def __repr__(self) -> str:
        return f"<Capability {self.id}@{self.version}>"


def capability(id: str, **options: Any) -> Callable[[F], F]:
    """Declare a function as the capability `id` (dotted, lower case).

    The contract comes from the type hints, the intent from the docstring's first line. Options: version ("1.0.0"), intent,
    tags, examples (payloads, checked here), effects, timeout (seconds; the node's default if None), owner (who answers for it,
    for people), deprecated (what to use instead). How it runs: cache (`ttl(...)`), pool (`Pool(...)`), blocking (in a thread,
    for code that waits without gevent), cpu (in another process, for code that computes), background (as a job, whose id is
    the answer). The function may be `async def`. If it is a generator function (of either kind) its items are streamed to the
    caller: `timeout` then bounds the wait for each item, and stream_timeout (seconds, no bound if None) the stream as a whole.
    Raises DefinitionError, with file and line, for a declaration that can't work.
    """

    def declare(function: F) -> F:
        known = inspect.signature(Capability.__init__).parameters
        for option in options:
            if option not in known or option in ("self", "id", "function"):
                names = ", ".join(name for name in known if name not in ("self", "id", "function"))
                raise DefinitionError(
                    f"{place_of(function)}: unknown option {option!r} of {id}; expected one of {names}"
                )
        setattr(function, MARK, Capability(id, function, **options))
        return function

    return declare


def definition_of(function: Callable[..., Any]) -> Capability | None:
    """The capability that `@capability` made of this function, or None."""
    found = getattr(function, MARK, None)
    return found if isinstance(found, Capability) else None


def check_options(definition: Capability, where: str) -> None:
    """Raises DefinitionError for options that are no such thing, or that contradict each other."""
    id = definition.id
    for name in ("blocking", "cpu", "background"):
        if not isinstance(getattr(definition, name), bool):
            raise DefinitionError(
                f"{where}: {name} {getattr(definition, name)!r} of {id}; expected True or False"
            )
    if definition.cache is not None and not isinstance(definition.cache, Cache):
        raise DefinitionError(
            f"{where}: cache {definition.cache!r} of {id}; expected ttl(seconds), such as ttl(300)"
        )
    if definition.pool is not None and not isinstance(definition.pool, Pool):
        raise DefinitionError(f"{where}: pool {definition.pool!r} of {id}; expected Pool(size, queue)")
    for name in ("owner", "deprecated"):
        given = getattr(definition, name)
        if given is not None and not (isinstance(given, str) and given):
            raise DefinitionError(f"{where}: {name} {given!r} of {id}; expected words")
    function = definition.function
    kinds = {
        "async": definition.is_async,
        "blocking": definition.blocking,
        "cpu": definition.cpu,
    }
    given_kinds = [name for name, given in kinds.items() if given]
    if len(given_kinds) > 1:
        raise DefinitionError(f"{where}: {id} is {' and '.join(given_kinds)}; expected one of them")
    if definition.background and definition.cache is not None:
        raise DefinitionError(
            f"{where}: {id} has background and cache; a job's result is kept with the job, so expected one of them"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        for name in ("blocking", "cpu", "background", "cache"):
            if getattr(definition, name):
                raise DefinitionError(
                    f"{where}: {id} is a generator function and has {name}; expected a plain function"
                )


def check_with_contract(definition: Capability, where: str) -> None:
    """Raises DefinitionError for options that the function's parameters contradict."""
    contract, cache = definition.contract, definition.cache
    if definition.cpu and (contract.context_name is not None or contract.resources):
        name = contract.context_name or next(iter(contract.resources))
        raise DefinitionError(
            f"{where}: {definition.id} has cpu=True and takes {name!r}, which is not to be had in another process;"
            " expected fields of the payload only"
        )
    if cache is None:
        return
    if cache.shared and contract.context_name is not None:
        raise DefinitionError(
            f"{where}: the cache of {definition.id} is shared, and it takes a Context, by which its answer can depend on"
            " who asks; expected one of them"
        )
    for name in cache.names or ():
        if name not in contract.field_names:
            known = ", ".join(contract.field_names) or "none"
            raise DefinitionError(
                f"{where}: the cache's key of {definition.id} names {name!r}, which is no field; there is {known}"
            )
