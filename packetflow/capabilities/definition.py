"""The `@capability` decorator: makes a plain typed function known, and leaves it a plain function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from packetflow.capabilities.authorisation import Rule, RuleError, rule
from packetflow.capabilities.checks import (
    check_function,
    check_names,
    check_options,
    check_with_contract,
    effects_of,
    examples_of,
    words_of,
)
from packetflow.capabilities.conditions import ConditionError
from packetflow.capabilities.contract import Contract, DefinitionError, place_of
from packetflow.capabilities.effects import Effect
from packetflow.capabilities.options import Cache, Pool

F = TypeVar("F", bound=Callable[..., Any])

MARK = "__packetflow_capability__"


class Capability:
    """A capability's definition: contract, options and the function itself. Immutable once made."""

    __slots__ = (
        "authorize",
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
        authorize: Any = None,
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
        check_function(function, id)
        where = place_of(function)
        check_names(id, version, where)
        documentation = inspect.getdoc(function) or ""
        self.id = id
        self.function = function
        self.version = version
        self.intent = intent or documentation.partition("\n")[0]
        if not self.intent or not isinstance(self.intent, str):
            raise DefinitionError(
                f"{where}: {id} says nothing of itself; expected a docstring, or intent=..."
            )
        self.description = documentation
        self.tags = words_of("tags", tags, where, id)
        self.effects = effects_of(effects, where, id)
        self.timeout = timeout
        self.stream_timeout = stream_timeout
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
        self.streams = self.contract.streams
        check_with_contract(self, where)
        self.authorize: Rule | None = None if authorize is None else self._rule(authorize, where)
        self.examples = examples_of(examples, self.contract.validate_input, where, id)

    def _rule(self, given: Any, where: str) -> Rule:
        try:
            return rule(given).bound(dict.fromkeys(self.contract.field_names))
        except (RuleError, ConditionError) as error:
            raise DefinitionError(f"{where}: authorize of {self.id}: {error}") from error

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
    tags, examples (payloads, checked here), effects, authorize (who may call it beside having the right: roles("admin"), a
    condition in CEL over payload and context, a function (payload, context) -> bool, or several together), timeout
    (seconds; the node's default if None), owner (who answers for it, for people), deprecated (what to use instead). How it
    runs: cache (`ttl(...)`), pool (`Pool(...)`), blocking (in a thread, for code that waits without gevent), cpu (in another
    process, for code that computes), background (as a job, whose id is the answer). The function may be `async def`. If it is
    a generator function (of either kind) its items are streamed to the caller: `timeout` then bounds the wait for each item,
    and stream_timeout (seconds, no bound if None) the stream as a whole.
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
        made = Capability(id, function, **options)
        before = definition_of(function)
        if before is not None and (before.id, before.version) != (made.id, made.version):
            raise DefinitionError(
                f"{made.source}: {made!r} and {before!r} are declared on one function, which can be one of them;"
                " give the other a function of its own"
            )
        setattr(function, MARK, made)
        return function

    return declare


def definition_of(function: Callable[..., Any]) -> Capability | None:
    """The capability that `@capability` made of this function, or None."""
    found = getattr(function, MARK, None)
    return found if isinstance(found, Capability) else None
