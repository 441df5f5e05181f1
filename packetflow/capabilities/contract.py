"""A capability's contract: what it requires and what it provides, from its type hints, as validators and JSON Schema."""

from __future__ import annotations

import inspect
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticUndefined, SchemaValidator

from packetflow.capabilities.context import Context
from packetflow.capabilities.resources import Resource
from packetflow.otp.errors import PacketFlowError
from packetflow.telemetry.masking import HIDDEN, NOTHING, Mask, secret_fields

SHOWN = 200  # characters of a given value that an error shows
FAULTS = 20  # faults that an error lists; a payload may have one in each of thousands of places
ITERATORS = (Iterator, Iterable, Generator)
ASYNC_ITERATORS = (AsyncIterator, AsyncIterable, AsyncGenerator)
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class DefinitionError(PacketFlowError):
    """A capability or resource is declared wrongly; the message names file, line, what is wrong and what is expected."""

    code = "definition"


class Contract:
    """What goes in and what comes out of one function.

    validate_input(mapping) -> ((), fields): raises pydantic's ValidationError. validate_output(value) -> value: the same.
    returns: the class whose instances need no check on the way out, or None. requires, provides: JSON Schema 2020-12.
    streams: it gives a stream; what is said of what it provides holds for each item.
    context_name: the parameter that gets the Context, or None. resources: what else is injected, by parameter.
    mask: the fields that are marked as secret.
    """

    __slots__ = (
        "context_name",
        "mask",
        "provides",
        "requires",
        "resources",
        "returns",
        "streams",
        "validate_input",
        "validate_output",
    )

    def __init__(self, function: Callable[..., Any]) -> None:
        where = place_of(function)
        signature = inspect.signature(function)
        hints = _hints(function, where)
        self.context_name: str | None = None
        self.resources: dict[str, Resource[Any]] = {}
        fields: list[inspect.Parameter] = []
        for name, parameter in signature.parameters.items():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise DefinitionError(
                    f"{where}: parameter {name!r} is {parameter.kind.description};"
                    " a capability is called by name, so expected a plain or keyword-only parameter"
                )
            if name not in hints and name in ("self", "cls"):
                raise DefinitionError(
                    f"{where}: it is a method, whose {name!r} no caller gives; expected a plain function"
                )
            if name not in hints:
                raise DefinitionError(
                    f"{where}: parameter {name!r} has no type; expected an annotation, such as {name}: str"
                )
            hint = hints[name]
            source = _resource_of(hint)
            if Context in get_args(hint):
                raise DefinitionError(
                    f"{where}: parameter {name!r} is a Context among others; expected {name}: Context, which is always given"
                )
            if hint is Context:
                if self.context_name is not None:
                    raise DefinitionError(
                        f"{where}: {self.context_name!r} and {name!r} are both a Context; expected one"
                    )
                self.context_name = name
            elif source is not None:
                self.resources[name] = source
            else:
                fields.append(
                    inspect.Parameter(
                        name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=parameter.default
                    )
                )
        if "return" not in hints:
            raise DefinitionError(
                f"{where}: no return type; expected one, such as -> dict[str, int], or -> None if it gives nothing"
            )
        self.streams = is_generator(function)
        returned = _item_type(function, hints["return"], where)
        try:
            self.validate_input, self.requires = _input_side(fields)
            output: TypeAdapter[Any] = TypeAdapter(returned)
            self.provides = {"$schema": DIALECT, **output.json_schema(mode="serialization")}
        except PydanticUserError as error:
            typed = {
                **{f"parameter {one.name!r}": one.annotation for one in fields},
                "what it returns": returned,
            }
            raise DefinitionError(f"{where}: {_blamed(typed)}{_told(error)}") from error
        except NameError as error:  # a type that names one which is not there yet
            raise DefinitionError(
                f"{where}: {error}; expected types that can be looked up where they stand"
            ) from error
        for one in fields:
            _check_default(one, where)
        self.validate_output: Callable[[Any], Any] = output.validator.validate_python
        self.mask = secret_fields(self.requires, self.provides)
        is_model = isinstance(returned, type) and issubclass(returned, BaseModel)
        self.returns: type | None = returned if is_model else None

    @property
    def field_names(self) -> list[str]:
        """The names of the fields that a payload may have."""
        return list(self.requires.get("properties", {}))

    @property
    def provided_names(self) -> list[str]:
        """The names of the fields that an answer may have; those of its items, if it is a list."""
        schema = self.provides
        for step in ("$ref", "items", "$ref"):
            found = schema.get(step)
            if isinstance(found, str):
                schema = self.provides.get("$defs", {}).get(found.rpartition("/")[2], {})
            elif isinstance(found, dict):
                schema = found
        return list(schema.get("properties", {}))


def _hints(function: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise DefinitionError(
            f"{where}: {error}; expected types that can be looked up where they stand"
        ) from error


def _blamed(typed: Mapping[str, Any]) -> str:
    """The one of these whose type pydantic does not take; empty if it is none of them alone."""
    for name, hint in typed.items():
        try:
            TypeAdapter(hint).json_schema()
        except PydanticUserError:
            return f"{name}: "
    return ""


def _told(error: PydanticUserError) -> str:
    if error.code == "schema-for-unknown-type":
        what = error.message.partition(" schema for ")[2].partition(". Set ")[0]
        return f"{what} is no type that can be checked; expected one that pydantic knows, such as str, list[int] or a dataclass"
    return error.message.partition("\n")[0]


def _check_default(field: inspect.Parameter, where: str) -> None:
    """A default has to fit like any value: nobody checks it when it is used. Raises DefinitionError."""
    default, hint = field.default, field.annotation
    if default is inspect.Parameter.empty or isinstance(default, FieldInfo):
        return
    if type(default) is hint or (default is None and type(None) in get_args(hint)):
        return  # the most of them, at no cost
    try:
        TypeAdapter(hint).validate_python(default)
    except ValidationError as error:
        raise DefinitionError(
            f"{where}: the default {default!r} of parameter {field.name!r} does not fit: {faults_of(error)[0]['message']}"
        ) from error


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether calling it gives an iterator of items rather than a value; async or not."""
    innermost = inspect.unwrap(function)
    return inspect.isgeneratorfunction(innermost) or inspect.isasyncgenfunction(innermost)


def _item_type(function: Callable[..., Any], returned: Any, where: str) -> Any:
    """What the function returns, or of what type its items are if it is a generator. Raises DefinitionError."""
    origin = get_origin(returned) or returned
    is_async = inspect.isasyncgenfunction(inspect.unwrap(function))
    if not is_generator(function):
        if origin in (Iterator, Generator, *ASYNC_ITERATORS):
            raise DefinitionError(
                f"{where}: it says that it gives a stream and has no yield; write `yield from ...`, or return a list"
            )
        return returned
    word = "AsyncIterator" if is_async else "Iterator"
    arguments = get_args(returned)
    if origin not in (ASYNC_ITERATORS if is_async else ITERATORS) or not arguments:
        raise DefinitionError(
            f"{where}: a generator function is a stream, so expected the type of its items, such as -> {word}[int]"
        )
    if any(extra not in (None, type(None), Any) for extra in arguments[1:]):
        raise DefinitionError(
            f"{where}: nothing is sent to a stream and nothing but items comes out of it; expected -> {word}[...]"
        )
    return arguments[0]


def _resource_of(hint: Any) -> Resource[Any] | None:
    if get_origin(hint) is Annotated:
        for extra in get_args(hint)[1:]:
            if isinstance(extra, Resource):
                return extra
    return None


class _Schema(GenerateJsonSchema):
    """JSON Schema 2020-12, without the titles that repeat each field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _input_side(
    fields: list[inspect.Parameter],
) -> tuple[Callable[[Any], tuple[tuple[()], dict[str, Any]]], dict[str, Any]]:
    def collect(**payload: Any) -> Any:
        return payload

    collect.__signature__ = inspect.Signature(fields)  # type: ignore[attr-defined]
    collect.__annotations__ = {field.name: field.annotation for field in fields}
    adapter: TypeAdapter[Any] = TypeAdapter(collect)  # type: ignore[arg-type]  # a function has a schema too
    schema = {"$schema": DIALECT, **adapter.json_schema(schema_generator=_Schema)}
    schema.setdefault("properties", {})
    for title in schema["properties"].values():
        title.pop("title", None)
    # Only the arguments' part of the call's schema is run: it gives the checked fields and calls nothing.
    core: Any = adapter.core_schema
    if core["type"] == "definitions":
        arguments = {**core, "schema": core["schema"]["arguments_schema"]}
    else:
        arguments = core["arguments_schema"]
    return SchemaValidator(arguments).validate_python, schema


def place_of(function: Callable[..., Any]) -> str:
    """`file:line` of a function, for errors."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(function)


def faults_of(error: ValidationError, mask: Mask = NOTHING) -> list[dict[str, Any]]:
    """Pydantic's errors as ours: a path, a message and what was given for each; what the mask hides is hidden.

    The first 20: `error.error_count()` says how many there are.
    """
    faults = []
    for item in error.errors(include_url=False, include_context=False)[:FAULTS]:
        place = item["loc"]
        fault: dict[str, Any] = {"path": path_of(place), "message": _message(item)}
        given = item["input"]
        missing = item["type"].startswith("missing")
        if not missing and given is not PydanticUndefined:
            hidden = bool(mask) and mask.hides([str(part) for part in place])
            shown = repr(mask(given) if mask and isinstance(given, Mapping | list) else given)
            fault["given"] = HIDDEN if hidden else shown if len(shown) <= SHOWN else shown[:SHOWN] + "..."
        fault["kind"] = item["type"]
        faults.append(fault)
    return faults


def _message(item: Mapping[str, Any]) -> str:
    kind = item["type"]
    if kind.startswith("missing"):
        return "is required"
    if kind == "unexpected_keyword_argument":
        return "is not a field of this capability"
    text: str = item["msg"]
    return text[:1].lower() + text[1:]


def path_of(place: tuple[int | str, ...]) -> str:
    """A path as people write it: `operations[0].kind`."""
    path = ""
    for part in place:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path
