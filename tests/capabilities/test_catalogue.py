"""The catalogue: versions side by side, look-up by every form of a name, search."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from typing_extensions import TypedDict

from packetflow.capabilities.catalogue import Catalogue, Registered
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.surroundings import Surroundings
from packetflow.errors import DefinitionError

SURROUNDINGS = Surroundings(lambda coroutine: None)


def one(id: str, version: str = "1.0.0", **options: Any) -> Registered:
    def function(text: str) -> str:
        """Say what came."""
        return version + text

    return Registered(Capability(id, function, version=version, **options), {}, SURROUNDINGS)


def test_versions_live_side_by_side_and_the_highest_is_the_default() -> None:
    catalogue = Catalogue(
        [one("a.b", "1.0.0"), one("a.b", "2.0.0"), one("a.b", "2.10.1"), one("a.b", "2.9.0")]
    )
    found = {
        name: catalogue.find(name)
        for name in ("a.b", "a.b@1", "a.b@2", "a.b@2.9", "a.b@2.0.0", "a.b@3", "a.c")
    }
    versions = {name: registered and registered.definition.version for name, registered in found.items()}
    assert versions == {
        "a.b": "2.10.1",
        "a.b@1": "1.0.0",
        "a.b@2": "2.10.1",
        "a.b@2.9": "2.9.0",
        "a.b@2.0.0": "2.0.0",
        "a.b@3": None,
        "a.c": None,
    }


def test_the_same_id_and_version_twice_is_refused_with_both_places() -> None:
    with pytest.raises(DefinitionError, match=r"a\.b@1\.0\.0 is there already, from .*test_catalogue"):
        Catalogue([one("a.b"), one("a.b")])


def test_search_by_words_and_tag() -> None:
    catalogue = Catalogue(
        [one("ticket.open", tags=["desk"]), one("ticket.close", tags=["desk"]), one("user.find")]
    )
    assert [found.definition.id for found in catalogue.search("ticket")] == ["ticket.close", "ticket.open"]
    assert [found.definition.id for found in catalogue.search("OPEN says")] == []
    assert [found.definition.id for found in catalogue.search("say user")] == ["user.find"]
    assert [found.definition.id for found in catalogue.search(tag="desk")] == ["ticket.close", "ticket.open"]


class Item(TypedDict):
    """Something."""

    price: int


def test_search_by_what_is_required_or_provided_with_the_best_first() -> None:
    def items(city: str) -> list[Item]:
        """What there is."""
        return []

    def priced(price: int) -> int:
        """Take a price."""
        return price

    made = [Capability("a.items", items), Capability("a.priced", priced), Capability("price.list", priced)]
    catalogue = Catalogue([Registered(definition, {}, SURROUNDINGS) for definition in made])

    def ids(**wanted: Any) -> list[str]:
        return [found.definition.id for found in catalogue.search(**wanted)]

    assert ids(requires="price") == ["a.priced", "price.list"]
    assert ids(provides="price") == ["a.items"]
    assert ids(words="price") == ["a.priced", "price.list", "a.items"], "an id counts more than a field"
    assert ids(words="price", requires="city") == ["a.items"]


class Counted(str):
    """A name that counts how often it is hashed and compared."""

    __slots__ = ()
    touched: ClassVar[int] = 0

    def __hash__(self) -> int:
        Counted.touched += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        Counted.touched += 1
        return super().__eq__(other)


@pytest.mark.parametrize("name", ["a.c7", "a.c7@1", "a.c7@1.0.0", "a.nowhere"])
def test_a_look_up_costs_the_same_among_a_hundred_thousand(name: str, large: Catalogue) -> None:
    def touches(catalogue: Catalogue) -> int:
        Counted.touched = 0
        catalogue.find(Counted(name))
        return Counted.touched

    small = Catalogue(many(100))
    assert len(large) == 100_000
    assert touches(large) <= touches(small) + 2, "one hash, and a comparison for each clash of hashes"


def many(count: int) -> Iterator[Registered]:
    def function(text: str) -> str:
        """Say it."""
        return text

    definition = Capability("a.c0", function)
    for number in range(count):
        made = copy.copy(definition)
        made.id = f"a.c{number}"
        yield Registered(made, {}, SURROUNDINGS)


@pytest.fixture(scope="module")
def large() -> Catalogue:
    return Catalogue(many(100_000))


def test_a_misspelling_among_very_many_is_compared_with_those_around_it(large: Catalogue) -> None:
    asked: list[str] = []

    def allow(id: str) -> bool:
        asked.append(id)
        return id != "a.c77777"

    assert large.nearest("a.c7777x", lambda id: id in ("a.c77777", "a.c1")) == ["a.c77777"]
    assert "a.c77777" not in large.nearest("a.c7777x", allow)
    assert len(asked) <= 1000
