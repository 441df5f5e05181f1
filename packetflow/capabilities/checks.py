"""Checks of what `@capability` is given. Each raises DefinitionError that says where, what, and what was expected."""

from __future__ import annotations

import inspect
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from packetflow.capabilities.contract import DefinitionError, faults_of
from packetflow.capabilities.effects import Effect
from packetflow.capabilities.options import Cache, Pool

if TYPE_CHECKING:
    from packetflow.capabilities.definition import Capability

ID = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
LONGEST_ID = 200
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
LONGEST_VERSION = 40
LONGEST = 1e9  # seconds, some thirty years: what is longer is a slip of the hand
WITHOUT_ITS_OWN_ITEMS = ("blocking", "cpu", "background", "cache", "pool")


def check_function(function: Any, id: Any) -> None:
    """It has to be one, whose name, file and line are known."""
    if not inspect.isroutine(inspect.unwrap(function) if callable(function) else function):
        raise DefinitionError(
            f"{id!r} is declared on {function!r}, which is no function; expected a function with types"
        )


def check_names(id: Any, version: Any, where: str) -> None:
    """The id and the version."""
    if not isinstance(id, str) or not ID.fullmatch(id):
        raise DefinitionError(
            f"{where}: id {reprlib.repr(id)}; expected a dotted lower-case name, such as ticket.open"
        )
    if len(id) > LONGEST_ID:
        raise DefinitionError(
            f"{where}: id {reprlib.repr(id)} has {len(id)} characters; expected at most {LONGEST_ID}"
        )
    if not isinstance(version, str) or not VERSION.fullmatch(version) or len(version) > LONGEST_VERSION:
        raise DefinitionError(
            f"{where}: version {reprlib.repr(version)} of {id}; expected major.minor.patch, such as 1.0.0"
        )


def check_seconds(name: str, given: Any, where: str, id: str, unit: str = "seconds above 0") -> None:
    """A time, if one is given: `math.inf` for no bound."""
    if given is None:
        return
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not given > 0 or LONGEST < given < float("inf"):
        raise DefinitionError(f"{where}: {name} {reprlib.repr(given)} of {id}; expected {unit}")


def words_of(name: str, given: Any, where: str, id: str) -> tuple[str, ...]:
    """A list of words, as it is kept."""
    if isinstance(given, str):
        raise DefinitionError(
            f'{where}: {name} {given!r} of {id}; expected a list of words, such as ["{given}"]'
        )
    found = _listed(name, given, where, id, "a list of words")
    for word in found:
        if not isinstance(word, str) or not word.strip():
            raise DefinitionError(f"{where}: {word!r} in {name} of {id}; expected a word")
    return found


def effects_of(given: Any, where: str, id: str) -> tuple[Effect, ...]:
    """The effects, as they are kept."""
    found = _listed("effects", given, where, id, f"a list, such as [counter({id!r})]")
    for effect in found:
        if not isinstance(effect, Effect):
            raise DefinitionError(
                f"{where}: effect {effect!r} of {id}; expected an Effect, such as counter({id!r})"
            )
    return found


def examples_of(given: Any, check: Callable[[Any], Any], where: str, id: str) -> tuple[dict[str, Any], ...]:
    """The example payloads, as they are kept. check: raises pydantic's ValidationError for one that does not fit."""
    kept = []
    for number, example in enumerate(_listed("examples", given, where, id, "a list of payloads")):
        if not isinstance(example, Mapping):
            raise DefinitionError(
                f"{where}: example {number} of {id} is {example!r}; expected a payload, a mapping of fields"
            )
        fields = dict(example)
        try:
            check(fields)
        except ValidationError as error:
            fault = faults_of(error)[0]
            raise DefinitionError(
                f"{where}: example {number} of {id} does not fit its contract: {fault['path']} {fault['message']}"
            ) from error
        kept.append(fields)
    return tuple(kept)


def _listed(name: str, given: Any, where: str, id: str, expected: str) -> tuple[Any, ...]:
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise DefinitionError(f"{where}: {name} {given!r} of {id}; expected {expected}")
    return tuple(given)


def check_options(definition: Capability, where: str) -> None:
    """Options that are no such thing, or that contradict each other."""
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
    check_seconds("timeout", definition.timeout, where, id)
    _check_kinds(definition, where)


def _check_kinds(definition: Capability, where: str) -> None:
    id, function = definition.id, definition.function
    kinds = {"async": definition.is_async, "blocking": definition.blocking, "cpu": definition.cpu}
    given_kinds = [name for name, given in kinds.items() if given]
    if len(given_kinds) > 1:
        raise DefinitionError(f"{where}: {id} is {' and '.join(given_kinds)}; expected one of them")
    if definition.background and definition.cache is not None:
        raise DefinitionError(
            f"{where}: {id} has background and cache; a job's result is kept with the job, so expected one of them"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        for name in WITHOUT_ITS_OWN_ITEMS:
            if getattr(definition, name):
                raise DefinitionError(
                    f"{where}: {id} is a generator function and has {name}; expected a plain function, such as one that"
                    " it calls for each part"
                )


def check_with_contract(definition: Capability, where: str) -> None:
    """Options that the function's parameters or its answer contradict."""
    contract, cache = definition.contract, definition.cache
    if definition.stream_timeout is not None:
        unit = "seconds above 0, of a generator function"
        given = definition.stream_timeout if contract.streams else None
        check_seconds("stream_timeout", given, where, definition.id, unit)
        if given is None:
            raise DefinitionError(
                f"{where}: stream_timeout {definition.stream_timeout!r} of {definition.id}; expected {unit}"
            )
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
