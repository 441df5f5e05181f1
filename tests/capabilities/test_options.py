"""Options that can't be are refused where they stand, with file and line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from packetflow import Context, Pool, capability, ttl
from packetflow.capabilities.loader import load_path
from packetflow.errors import DefinitionError

HERE = r"test_options\.py:\d+: "


def plain(number: int = 1) -> int:
    """Nothing special."""
    return number


async def waits() -> int:
    """A coroutine function."""
    return 1


def with_context(context: Context) -> int:
    """Depends on who asks."""
    return 1


def items() -> Iterator[int]:
    """A generator function."""
    yield 1


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: ttl(0), "ttl 0; expected seconds above 0"),
        (lambda: ttl(float("inf")), "ttl inf; expected seconds"),
        (lambda: ttl(float("nan")), "ttl nan; expected seconds"),
        (lambda: ttl(True), "ttl True; expected seconds"),
        (lambda: ttl("5"), "ttl '5'; expected seconds"),  # type: ignore[arg-type]
        (lambda: ttl(10**400), r"ttl 10+\.\.\.0+; expected seconds"),
        (lambda: ttl(1, shared="no"), "shared 'no' of ttl; expected True or False"),  # type: ignore[arg-type]
        (lambda: ttl(1, key=5), "key 5 of ttl; expected a list of field names"),  # type: ignore[arg-type]
        (lambda: ttl(1, max_entries=0), "max_entries 0 of ttl; expected a whole number from 1"),
        (
            lambda: ttl(1, key="city"),
            r'key \'city\' of ttl; expected a list of field names, such as \["city"\]',
        ),
        (lambda: ttl(1, key=[]), r"key \[\] of ttl"),
        (lambda: ttl(1, key=[1]), r"key \[1\] of ttl"),  # type: ignore[list-item]
        (lambda: Pool(0), "size 0 of Pool; expected a whole number from 1"),
        (lambda: Pool(1, -1), "queue -1 of Pool; expected a whole number from 0"),
        (lambda: Pool(1.5), "size 1.5 of Pool"),  # type: ignore[arg-type]
        (lambda: Pool(1, name=""), "name '' of Pool; expected a word"),
    ],
)
def test_a_wrong_value_is_refused_where_it_stands(make: Callable[[], Any], why: str) -> None:
    with pytest.raises(DefinitionError, match=HERE + why):
        make()


@pytest.mark.parametrize(
    ("function", "options", "why"),
    [
        (plain, {"cache": 300}, r"cache 300 of a\.b; expected ttl\(seconds\)"),
        (plain, {"pool": 4}, r"pool 4 of a\.b; expected Pool\(size, queue\)"),
        (plain, {"cpu": 1}, r"cpu 1 of a\.b; expected True or False"),
        (plain, {"background": "yes"}, "background 'yes' of a.b; expected True or False"),
        (plain, {"deprecated": True}, "deprecated True of a.b; expected words"),
        (plain, {"owner": ""}, "owner '' of a.b; expected words"),
        (plain, {"cpu": True, "blocking": True}, "a.b is blocking and cpu; expected one of them"),
        (waits, {"blocking": True}, "a.b is async and blocking; expected one of them"),
        (waits, {"cpu": True}, "a.b is async and cpu; expected one of them"),
        (plain, {"background": True, "cache": ttl(1)}, "a.b has background and cache"),
        (with_context, {"cache": ttl(1, shared=True)}, "the cache of a.b is shared, and it takes a Context"),
        (
            plain,
            {"cache": ttl(1, key=["town"])},
            "the cache's key of a.b names 'town', which is no field; there is number",
        ),
        (items, {"cache": ttl(1)}, "a.b is a generator function and has cache"),
        (items, {"background": True}, "a.b is a generator function and has background"),
        (items, {"pool": Pool(1)}, "a.b is a generator function and has pool"),
        (items, {"stream_timeout": "5"}, "stream_timeout '5' of a.b; expected seconds above 0"),
        (items, {"stream_timeout": True}, "stream_timeout True of a.b"),
        (plain, {"timeout": "5"}, "timeout '5' of a.b; expected seconds above 0"),
        (plain, {"timeout": True}, "timeout True of a.b"),
        (plain, {"timeout": 10**400}, r"timeout 10+\.\.\.0+ of a.b"),
        (plain, {"version": 1}, "version 1 of a.b; expected major.minor.patch"),
        (plain, {"version": f"{10**50}.0.0"}, r"version '10+\.\.\..*' of a.b"),
        (plain, {"tags": 5}, "tags 5 of a.b; expected a list of words"),
        (plain, {"tags": ["fine", ""]}, "'' in tags of a.b; expected a word"),
        (plain, {"intent": 5}, "a.b says nothing of itself"),
        (plain, {"examples": {"number": 1}}, "examples {'number': 1} of a.b; expected a list of payloads"),
        (plain, {"examples": [1]}, "example 0 of a.b is 1; expected a payload"),
        (plain, {"effects": None}, "effects None of a.b; expected a list"),
        (plain, {"chache": ttl(1)}, r"unknown option 'chache' of a\.b; expected one of version,.* cache"),
    ],
)
def test_options_that_contradict_are_refused_with_the_functions_place(
    function: Callable[..., Any], options: dict[str, Any], why: str
) -> None:
    with pytest.raises(DefinitionError, match=HERE + why):
        capability("a.b", **options)(function)


@pytest.mark.parametrize("id", [None, 5, b"a.b", "", "a", "A.b", "a.b\n", "a..b", "a." + "b" * 300])
def test_an_id_that_can_be_none_is_refused(id: Any) -> None:
    with pytest.raises(DefinitionError, match=HERE + "id .*expected"):
        capability(id)(plain)


class Callee:
    """No function, but it can be called."""

    def __call__(self, number: int) -> int:
        """Twice."""
        return 2 * number


@pytest.mark.parametrize("thing", [None, 5, Callee, Callee(), partial(plain, 1)])
def test_what_is_no_function_is_no_capability(thing: Any) -> None:
    with pytest.raises(DefinitionError, match=r"'a\.b' is declared on .*, which is no function"):
        capability("a.b")(thing)


def test_one_function_is_one_capability() -> None:
    def shared(number: int) -> int:
        """Both."""
        return number

    capability("a.both")(shared)
    capability("a.both", timeout=5)(shared)  # the same one, said anew
    for id, version in (("a.other", "1.0.0"), ("a.both", "2.0.0")):
        with pytest.raises(DefinitionError, match=HERE + rf".*{id}@{version}.* are declared on one function"):
            capability(id, version=version)(shared)


def test_a_file_with_a_wrong_option_fails_with_its_line(tmp_path: Any) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(
        "from packetflow import capability, ttl\n\n\n"
        '@capability("a.b", cache=ttl(-1))\n'
        'def b() -> int:\n    """B."""\n    return 1\n'
    )
    with pytest.raises(DefinitionError, match=re.escape(f"{file}:4: ttl -1; expected seconds above 0")):
        load_path(file)
