"""How a composition is served: as a capability like any other, whose function has the node's engine run the plan."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, Optional

from typing_extensions import TypedDict

from packetflow.capabilities.context import Context
from packetflow.capabilities.definition import Capability
from packetflow.composition.nodes import PlanError

if TYPE_CHECKING:
    from packetflow.composition.plan import Composition

# The types that a plan in a file can name; with a question mark behind it one may be left out, and is null then.
WORDS: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list[Any],
    "object": dict[str, Any],
    "any": Any,
}
CONTEXT = "composition_context"


def capability_of(composition: Composition) -> Capability:
    """The definition under which it is served. Raises PlanError, DefinitionError."""

    def run(**given: Any) -> Any:
        context: Context = given.pop(CONTEXT)
        return context.door.run_composition(composition, given, context)

    parameters = [inspect.Parameter(CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=Context)]
    for name, given in composition.requires.items():
        if not isinstance(name, str) or not name.isidentifier() or iskeyword(name) or name == CONTEXT:
            raise PlanError(
                f"composition {composition.id}: requires {name!r}; expected names, no words of Python"
            )
        hint, optional = type_of(given, f"composition {composition.id}: requires {name}")
        default = None if optional else inspect.Parameter.empty
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)
        )
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__annotations__["return"] = _answer_of(composition)
    run.__name__ = run.__qualname__ = composition.id
    run.__doc__ = composition.intent
    run.composition = composition  # type: ignore[attr-defined]  # so that the plan behind a capability can be found
    return Capability(
        composition.id, run, version=composition.version, intent=composition.intent, tags=composition.tags,
        timeout=composition.timeout,
    )  # fmt: skip


def type_of(given: Any, where: str) -> tuple[Any, bool]:
    """The type that is meant, and whether it may be left out. Raises PlanError."""
    if not isinstance(given, str):
        return given, False
    word, optional = given.removesuffix("?"), given.endswith("?")
    if word not in WORDS:
        raise PlanError(
            f"{where} is {given!r}; expected a type, or one of {', '.join(WORDS)}, with ? where it may be left out"
        )
    hint = WORDS[word]
    return (Optional[hint] if optional else hint), optional  # noqa: UP045 - made at run time, from a value


def _answer_of(composition: Composition) -> Any:
    if composition.provides is None:
        return Any
    where = f"composition {composition.id}: provides"
    fields = {name: type_of(given, f"{where} {name}")[0] for name, given in composition.provides.items()}
    return TypedDict("Provides", fields)  # type: ignore[operator]
