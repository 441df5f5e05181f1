"""The catalogue: versions side by side, look-up by every form of a name, search."""

from __future__ import annotations

from typing import Any

import pytest

from packetflow.capabilities.catalogue import Catalogue, Registered
from packetflow.capabilities.definition import Capability
from packetflow.errors import DefinitionError


def one(id: str, version: str = "1.0.0", **options: Any) -> Registered:
    def function(text: str) -> str:
        """Say what came."""
        return version + text

    return Registered(Capability(id, function, version=version, **options), {}, lambda coroutine: None)


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


def test_a_blocking_capability_does_not_hold_the_hub() -> None:
    import time

    import gevent

    def slow(text: str) -> str:
        """Wait as code does that knows nothing of gevent."""
        time.sleep(0.05)
        return text

    registered = Registered(Capability("a.slow", slow, blocking=True), {}, lambda coroutine: None)
    ticks = []
    ticker = gevent.spawn(lambda: [(ticks.append(1), gevent.sleep(0.005)) for _ in range(100)])
    assert registered.invoke({"text": "x"}, None) == "x"
    ticker.kill()
    registered.close()
    assert len(ticks) > 2
