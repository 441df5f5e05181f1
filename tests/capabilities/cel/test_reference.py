"""Ours against the reference: random expressions give what `common-expression-language` gives, or fail where it does."""

from __future__ import annotations

from typing import Any

import cel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packetflow.capabilities.conditions import ConditionError, ConditionFailed, Expression

SCOPE: dict[str, Any] = {
    "i": 7,
    "j": -3,
    "s": "abc",
    "t": "b",
    "yes": True,
    "no": False,
    "nil": None,
    "xs": [3, 1, 2],
    "m": {"a": 1, "b": "x", "inner": {"c": [1]}},
}

ints = st.recursive(
    st.sampled_from(
        [
            "i",
            "j",
            "0",
            "1",
            "-2",
            "xs[0]",
            "xs[5]",
            "m.a",
            "m.inner.c[0]",
            "m.absent",
            "size(s)",
            "xs.size()",
        ]
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/%"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda x: f"xs.map(x, x + {x})[1]"),
        inner.map(lambda x: f"size(xs.filter(x, x > {x}))"),
        inner.map(lambda x: f"int(string({x}))"),
    ),
    max_leaves=5,
)
strings = st.recursive(
    st.sampled_from(["s", "t", "m.b", "''", "'é'", '"a\\tb"', "m['b']"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda t: f"({t[0]} + {t[1]})"), ints.map(lambda x: f"string({x})")
    ),
    max_leaves=4,
)


def _bools(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||", "==", "!="]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        inner.map(lambda x: f"!({x})"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})"),
        inner.map(lambda x: f"xs.exists(x, x > 1 && {x})"),
        inner.map(lambda x: f"xs.all(x, x > 1 || {x})"),
        inner.map(lambda x: f"[{x}, {x}].exists_one(x, x)"),
    )


bools = st.recursive(
    st.one_of(
        st.sampled_from(
            ["yes", "no", "true", "nil == null", "has(m.a)", "has(m.absent)", "nil == 1", "'a' in m"]
        ),
        st.tuples(ints, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), ints).map(" ".join),
        st.tuples(strings, st.sampled_from(["<", ">=", "==", "!="]), strings).map(" ".join),
        st.tuples(strings, st.sampled_from(["contains", "startsWith", "endsWith"]), strings).map(
            lambda t: f"{t[0]}.{t[1]}({t[2]})"
        ),
        st.tuples(ints, strings).map(lambda t: f"{t[0]} == {t[1]}"),
        ints.map(lambda x: f"{x} in xs"),
    ).map(lambda text: f"({text})"),
    _bools,
    max_leaves=5,
)


def outcome_of(evaluate: Any) -> tuple[str, Any]:
    try:
        value = evaluate()
    except (ConditionFailed, ValueError, TypeError, ArithmeticError, LookupError, RuntimeError):
        return "failed", None
    return type(value).__name__, value


@settings(max_examples=600, deadline=None)
@given(st.one_of(bools, ints, strings))
def test_a_random_expression_means_what_the_reference_says(text: str) -> None:
    ours = outcome_of(lambda: Expression(text, SCOPE.keys()).evaluate(SCOPE))
    assert ours == outcome_of(lambda: cel.compile(text).execute(SCOPE)), text


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="ab.x(){}[],:?!&|=<>+-*/%'\"\\ \n01u", max_size=40))
def test_any_text_is_compiled_or_refused_with_a_place_inside_it(text: str) -> None:
    refused: ConditionError | None = None
    try:
        Expression(text, ["a", "b", "x"])
    except ConditionError as error:
        refused = error
    if refused is not None:
        lines = text.split("\n")
        assert 1 <= refused.line <= len(lines)
        assert 1 <= refused.column <= len(lines[refused.line - 1]) + 1


@pytest.mark.parametrize(
    "text", ["1 +", "a &", "'x", "f(", "1 ? 2", "[1,", "{1:2", "a..b", "1 == == 2", "()"]
)
def test_both_refuse_what_is_no_expression(text: str) -> None:
    with pytest.raises(ValueError, match="Failed to parse"):
        cel.compile(text)
    with pytest.raises(ConditionError):
        Expression(text, ["a", "f"])
