"""One evaluation of a condition, against `common-expression-language` (Rust): alone, and beside values it does not read.

python bench/capabilities/conditions.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cel

from bench.figures import figure, seconds_each
from packetflow.capabilities.conditions import Condition

PEER = "common-expression-language"
TEXT = "payload.user_id == context.user_id && payload.amount > 100.0"


def compare(name: str, text: str, scope: dict[str, object], target: float | None) -> None:
    ours, theirs = Condition(text, scope), cel.compile(text)
    assert ours.evaluate(scope) == theirs.execute(scope)
    mine = seconds_each(lambda: ours.evaluate(scope))
    peer = seconds_each(lambda: theirs.execute(scope))
    figure(f"condition: {name}", mine * 1e6, peer * 1e6, PEER, "us", target, "lower")


if __name__ == "__main__":
    payload: dict[str, object] = {"user_id": "ana", "amount": 250.0}
    context = {"user_id": "ana"}
    compare("two comparisons", TEXT, {"payload": payload, "context": context}, 1.0)
    beside = {"payload": {**payload, "rows": list(range(1000))}, "context": context}
    compare("two comparisons, beside a list of 1,000", TEXT, beside, 0.1)
    compare("exists over 100 items", "xs.exists(x, x > 98)", {"xs": list(range(100))}, None)
