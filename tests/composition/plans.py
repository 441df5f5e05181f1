"""Plans of every form, drawn by Hypothesis."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from packetflow.composition.building import (
    approval,
    branch,
    circuit_breaker,
    hedge,
    loop,
    map_reduce,
    parallel,
    pipeline,
    race,
    retry,
    saga,
    sleep,
    step,
    subflow,
    wait_for,
)
from packetflow.composition.nodes import Cel, Node, Value
from packetflow.composition.writing import node_to_data

ids = st.sampled_from(["test.a", "test.b", "shop.order@2"])
words = st.sampled_from(["a", "b", "total"])
conditions = st.sampled_from(["a > 1", "b == 'x'", "size(total) > 2"])
amounts = st.integers(1, 9)
names = st.none()


@st.composite
def steps(draw: Any) -> Node:
    inputs = draw(
        st.dictionaries(
            words, st.one_of(words, st.builds(Value, st.integers()), st.just(Cel("a + b"))), max_size=2
        )
    )
    undo = draw(st.one_of(st.none(), ids))
    return step(
        draw(ids), inputs=inputs, outputs=draw(st.dictionaries(words, words, max_size=2)), compensate=undo,
        timeout=draw(st.one_of(st.none(), st.floats(0.5, 9.0))), key=draw(st.sampled_from([None, "a + b"])),
    )  # fmt: skip


def waits() -> st.SearchStrategy[Node]:
    return st.one_of(
        st.builds(
            lambda match, seconds: wait_for("paid", match=match, timeout=seconds, outputs={"sum": "total"}),
            st.sampled_from([None, "event.id == a"]),
            st.sampled_from([None, 60.0]),
        ),
        st.builds(
            lambda deadline: approval(["ana", "ben"], subject="x", deadline=deadline, on_timeout="escalate",
                                      escalate_to=["eva"], outputs={"comment": "a"}),
            st.sampled_from([None, 60.0]),
        ),
    )  # fmt: skip


def bigger(node: Any) -> Any:
    several = st.lists(node, min_size=1, max_size=3)
    return st.one_of(
        several.map(lambda each: pipeline(*each)),
        several.map(lambda each: saga(*each, attempts=3)),
        st.builds(
            lambda each, limit, combine: parallel(*each, limit=limit, combine=combine),
            several,
            amounts,
            st.sampled_from([None, "list"]),
        ),
        several.map(lambda each: race(*each)),
        st.builds(
            lambda c, d, then, other: branch(c, (d, other), then=then, otherwise=other),
            conditions,
            conditions,
            node,
            node,
        ),
        st.builds(
            lambda body, most, test: loop(body, over="items", max_iterations=most, break_when=test),
            node,
            amounts,
            conditions,
        ),
        st.builds(
            lambda body, most: loop(body, while_="a > 1", max_iterations=most, delay=0.5), node, amounts
        ),
        st.builds(
            lambda each, reduce: map_reduce("items", each, reduce, chunk=2),
            node,
            st.one_of(st.just("sum"), node),
        ),
        st.builds(
            lambda body, other: retry(body, attempts=5, fallback=other, retry_when="attempt < 2"), node, node
        ),
        node.map(lambda body: circuit_breaker(body, key="bank")),
        node.map(lambda body: hedge(body, after=1.5)),
        node.map(hedge),
    )


nodes = st.recursive(
    st.one_of(steps(), st.just(sleep(2.0)), ids.map(step), ids.map(subflow), waits()), bigger, max_leaves=8
)

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["step", "a.b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["step", "loop", "branch", "when", "then", "name", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@st.composite
def _changed(draw: Any) -> Any:
    """The data of a good plan, in which some parts are anything at all."""
    plan = json.loads(json.dumps(node_to_data(draw(nodes))))
    whole: Any = {"id": "test.plan", "intent": "x", "plan": plan, "requires": {"a": "string"}}
    for _ in range(draw(st.integers(1, 3))):
        here = whole
        while here:
            key = draw(st.sampled_from(list(here) if isinstance(here, dict) else range(len(here))))
            if not isinstance(here[key], dict | list) or draw(st.booleans()):
                here[key] = draw(junk)
                break
            here = here[key]
    return whole


changed = _changed()
