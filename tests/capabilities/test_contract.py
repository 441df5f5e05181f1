"""Contracts from type hints: what goes in, what comes out, what is injected, and what is refused at definition."""

from __future__ import annotations

import functools
import socket
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from packetflow import Context, ResourceSettings, capability, resource
from packetflow.capabilities.contract import Contract, faults_of
from packetflow.capabilities.definition import Capability, definition_of
from packetflow.errors import DefinitionError
from packetflow.telemetry.masking import Mask


class Item(BaseModel):
    name: str
    parts: list[Item] = []


@resource
def shelf(settings: ResourceSettings) -> Iterator[list[str]]:
    """A shelf."""
    yield []


def place(
    item: Item,
    day: date,
    color: Literal["red", "blue"] = "red",
    count: Annotated[int, Field(ge=1, description="How many.")] = 1,
    *,
    shelf: Annotated[list[str], shelf],
    context: Context,
) -> dict[str, int]:
    """Place an item."""
    return {item.name: count}


def test_the_payloads_fields_are_the_parameters_but_what_is_injected() -> None:
    contract = Contract(place)
    assert contract.field_names == ["item", "day", "color", "count"]
    assert contract.context_name == "context"
    assert contract.resources == {"shelf": shelf}


def test_requires_and_provides_are_json_schema_2020_12() -> None:
    contract = Contract(place)
    assert contract.requires["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert contract.requires["required"] == ["item", "day"]
    assert contract.requires["properties"]["count"] == {
        "default": 1,
        "description": "How many.",
        "minimum": 1,
        "type": "integer",
    }
    assert contract.requires["additionalProperties"] is False
    assert contract.provides["additionalProperties"] == {"type": "integer"}


def test_input_is_parsed_into_the_types() -> None:
    _, fields = Contract(place).validate_input(
        {"item": {"name": "box", "parts": [{"name": "lid"}]}, "day": "2026-01-02"}
    )
    assert fields["item"] == Item(name="box", parts=[Item(name="lid")])
    assert fields["day"] == date(2026, 1, 2)
    assert fields["color"] == "red"


def test_each_fault_has_its_path_what_was_given_and_a_message() -> None:
    with pytest.raises(ValidationError) as caught:
        Contract(place).validate_input(
            {"item": {"name": "box", "parts": [{"name": 3}]}, "color": "green", "size": 1}
        )
    faults = {fault["path"]: fault for fault in faults_of(caught.value)}
    assert set(faults) == {"item.parts[0].name", "day", "color", "size"}
    assert faults["item.parts[0].name"]["given"] == "3"
    assert faults["day"]["message"] == "is required"
    assert faults["size"]["message"] == "is not a field of this capability"
    assert "'red' or 'blue'" in faults["color"]["message"]


def test_a_given_value_is_cut_and_a_secret_one_hidden() -> None:
    with pytest.raises(ValidationError) as caught:
        Contract(place).validate_input({"item": {"name": "box"}, "day": "x" * 5000})
    assert len(faults_of(caught.value)[0]["given"]) < 250
    assert faults_of(caught.value, Mask(["day"]))[0]["given"] == "***"


def test_the_function_stays_a_plain_function() -> None:
    @capability("shop.greet")
    def greet(name: str) -> str:
        """Greet."""
        return f"Hello {name}"

    assert greet("Ana") == "Hello Ana"
    definition = definition_of(greet)
    assert definition is not None
    assert (definition.id, definition.version, definition.intent) == ("shop.greet", "1.0.0", "Greet.")


def no_type(name) -> str:  # type: ignore[no-untyped-def]
    """Say nothing of its parameter."""
    return str(name)


def no_return(name: str):  # type: ignore[no-untyped-def]
    """Say nothing of its result."""
    return name


def unknown_type(name: Nowhere) -> str:  # type: ignore[name-defined]  # noqa: F821
    """Name a type that is not there."""
    return str(name)


def by_star(*names: str) -> str:
    """Take any number."""
    return " ".join(names)


def generates() -> list[int]:  # type: ignore[misc]
    """Give one after another."""
    yield 1


def generates_nothing_known() -> Iterator:  # type: ignore[type-arg]
    """Give one after another."""
    yield 1


async def generates_async() -> Iterator[int]:  # type: ignore[misc]
    """Give one after another."""
    yield 1


def takes_what_is_sent() -> Generator[int, str, None]:
    """Give one after another."""
    yield 1


def returns_an_iterator() -> Iterator[int]:
    """Give one after another."""
    return iter([1])


def counts() -> Iterator[int]:
    """Count."""
    yield 1


def odd_type(name: list[object.__class__]) -> str:  # type: ignore[valid-type, name-defined]
    """Be silent."""
    return ""


def a_method(self, name: str) -> str:  # type: ignore[no-untyped-def]
    """Be one of a class."""
    return name


def two_contexts(one: Context, other: Context) -> str:
    """Be told twice."""
    return ""


def perhaps_a_context(context: Context | None = None) -> str:
    """Be told perhaps."""
    return ""


def takes_a_socket(connection: socket.socket) -> str:
    """Take what no wire carries."""
    return ""


def gives_a_socket() -> socket.socket:
    """Give what no wire carries."""
    return socket.socket()


def takes_a_function(work: Callable[[], int]) -> str:
    """Take what has no schema."""
    return ""


def not_python(name: "a b") -> str:  # type: ignore[valid-type]  # noqa: F722
    """Be no type."""
    return ""


def odd_default(number: int = "no") -> str:  # type: ignore[assignment]
    """Have a default that no caller could give."""
    return ""


def default_out_of_bounds(number: Annotated[int, Field(ge=1)] = 0) -> str:
    """Have a default that no caller could give."""
    return ""


def silent(name: str) -> str:
    return name


def fine(name: str) -> str:
    """Be fine."""
    return name


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (no_type, {}, "parameter 'name' has no type; expected an annotation, such as name: str"),
        (no_return, {}, "no return type"),
        (a_method, {}, "it is a method, whose 'self' no caller gives"),
        (two_contexts, {}, "'one' and 'other' are both a Context; expected one"),
        (perhaps_a_context, {}, "expected context: Context, which is always given"),
        (
            takes_a_socket,
            {},
            "parameter 'connection': <class 'socket.socket'> is no type that can be checked",
        ),
        (gives_a_socket, {}, "what it returns: <class 'socket.socket'> is no type that can be checked"),
        (takes_a_function, {}, "parameter 'work': Cannot generate a JsonSchema"),
        (not_python, {}, "expected types that can be looked up where they stand"),
        (
            odd_default,
            {},
            "the default 'no' of parameter 'number' does not fit: input should be a valid integer",
        ),
        (default_out_of_bounds, {}, "the default 0 of parameter 'number' does not fit"),
        (unknown_type, {}, "Nowhere"),
        (by_star, {}, "variadic positional"),
        (generates, {}, "expected the type of its items, such as -> Iterator[int]"),
        (generates_nothing_known, {}, "expected the type of its items, such as -> Iterator[int]"),
        (generates_async, {}, "expected the type of its items, such as -> AsyncIterator[int]"),
        (takes_what_is_sent, {}, "nothing is sent to a stream"),
        (returns_an_iterator, {}, "has no yield"),
        (counts, {"blocking": True}, "is a generator function and has blocking"),
        (counts, {"stream_timeout": 0}, "stream_timeout 0 of shop.it"),
        (fine, {"stream_timeout": 5}, "stream_timeout 5 of shop.it"),
        (silent, {}, "docstring"),
        (fine, {"id": "Fine"}, "expected a dotted lower-case name"),
        (fine, {"id": "fine"}, "expected a dotted lower-case name"),
        (fine, {"version": "2"}, "expected major.minor.patch"),
        (fine, {"timeout": 0}, "expected seconds above 0"),
        (fine, {"tags": "one"}, 'such as ["one"]'),
        (fine, {"effects": ["audit"]}, "expected an Effect"),
        (fine, {"examples": [{"nam": "x"}]}, "example 0 of shop.it does not fit its contract"),
        (fine, {"speed": 3}, "unknown option 'speed'"),
    ],
)
def test_a_wrong_declaration_fails_at_once_with_its_line(
    function: Any, options: dict[str, Any], words: str
) -> None:
    options = {"id": "shop.it", **options}
    with pytest.raises(DefinitionError) as caught:
        capability(options.pop("id"), **options)(function)
    assert words in str(caught.value)
    assert f"test_contract.py:{function.__code__.co_firstlineno}" in str(caught.value)


def test_a_resource_must_be_a_generator_function() -> None:
    with pytest.raises(TypeError, match="generator function"):
        resource(lambda settings: [1])  # type: ignore[arg-type, return-value]


def test_a_capability_can_be_defined_without_the_decorator() -> None:
    assert Capability("shop.fine", fine).contract.field_names == ["name"]


def test_a_generator_function_provides_its_items() -> None:
    def checked(function: Any) -> Any:
        found = capability("shop.it")(function).__packetflow_capability__
        assert found.streams
        return found.contract

    def plain() -> Iterator[int]:
        """Count."""
        yield 1

    def full() -> Generator[int, None, None]:
        """Count."""
        yield 1

    async def later() -> AsyncIterator[int]:
        """Count."""
        yield 1

    for function in (plain, full, later):
        contract = checked(function)
        assert contract.provides["type"] == "integer"
        assert contract.validate_output("5") == 5
    assert not capability("shop.it")(fine).__packetflow_capability__.streams  # type: ignore[attr-defined]


def test_a_generator_behind_another_decorator_streams_too() -> None:
    def noted(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*positional: Any, **named: Any) -> Any:
            return function(*positional, **named)

        return inner

    assert capability("shop.it")(noted(counts)).__packetflow_capability__.streams
