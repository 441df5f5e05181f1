"""Templates: texts with CEL in braces."""

from __future__ import annotations

import pytest

from packetflow.capabilities.template import Template, TemplateError

SCOPE = {"payload": {"name": "ana", "rows": [1, 2]}, "value": None}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("order by {payload.name}", "order by ana"),
        ("{{literal}} {payload.name}", "{literal} ana"),
        ("{size(payload.rows)} rows: {payload.rows.map(r, r * 2)}", "2 rows: [2, 4]"),
        ("{{'a': 1}['a'] == 1}", None),
        ("{ {'a': '}'}['a'] }", "}"),
        ("{value} {value == null}", "- true"),
        ("{payload.nothing}!", "{payload.nothing: there is no 'nothing'; has(...) asks for it}!"),
        ("", ""),
    ],
)
def test_places_are_filled(text: str, filled: str | None) -> None:
    if filled is None:
        with pytest.raises(TemplateError):
            Template(text, SCOPE)
    else:
        assert Template(text, dict.fromkeys(SCOPE)).fill(SCOPE) == filled


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a { b", "a '{' without its '}' at 3"),
        ("a } b", "a '}' without its '{' at 3"),
        ("{paylod.name}", "names 'paylod', which nothing gives; nearest payload"),
        ("{}", "the expression is empty"),
        ("{1 +}", "expected a value"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(text, SCOPE.keys())
    assert told in str(caught.value)


def test_a_filled_text_is_bounded() -> None:
    assert len(Template("{payload}", ["payload"]).fill({"payload": "x" * 100_000})) < 20_010
