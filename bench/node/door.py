"""In process: `Node.request` through ten modules with contract checks, effects and trace, against pydantic's own
`validate_call(validate_return=True)` of the same function, which does the checks and nothing else.

    python bench/node/door.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydantic import BaseModel, validate_call

from bench.figures import figure, in_turn
from packetflow import Context, Module, Node, Request, Response, capability, counter


class Shown(BaseModel):
    text: str
    amount: int
    rate: float


def show(text: str, amount: int, rate: float) -> Shown:
    """The reference function: three fields to a model."""
    return Shown(text=text, amount=amount, rate=rate)


def add(a: int, b: int) -> int:
    """The smallest function."""
    return a + b


class One(Module):
    """A module of one hook that does nothing."""

    def handle_request(self, request: Request, context: Context) -> None: ...


class Three(One):
    """The same with all three hooks."""

    def handle_composition(self, plan: object, context: Context) -> None: ...
    def handle_response(self, response: Response, context: Context) -> None: ...


def measure(count: int, kind: type[One]) -> None:
    """The figures for a chain of `count` modules of this kind."""
    shown = {"text": "x" * 120, "amount": 42, "rate": 0.5}
    added = {"a": 1, "b": 2}
    functions = [capability("bench.show", effects=[counter("shown")])(show), capability("bench.add")(add)]
    checked_show = validate_call(validate_return=True)(show)
    checked_add = validate_call(validate_return=True)(add)
    with Node(capabilities=functions, modules=[(f"m{number}", kind) for number in range(count)]) as node:
        session, request = node.session(), node.door.request
        took = in_turn(
            {
                "show": lambda: request("bench.show", shown, session),
                "floor of show": lambda: checked_show(**shown),
                "add": lambda: request("bench.add", added, session),
                "floor of add": lambda: checked_add(**added),
            }
        )
    hooks = {One: 1, Three: 3}[kind]
    what = f"{count} modules x {hooks} hook{'s' if hooks > 1 else ''}" if count else "no module"
    peer = "pydantic validate_call"
    target = 4.5 if hooks == 3 else 3.0
    figure(
        f"door: 3 fields to a model, {what}",
        took["show"] * 1e6,
        took["floor of show"] * 1e6,
        peer,
        "us",
        target,
        "lower",
    )
    figure(
        f"door: (int, int) -> int, {what}",
        took["add"] * 1e6,
        took["floor of add"] * 1e6,
        peer,
        "us",
        8.0,
        "lower",
    )
    figure(f"door: requests/s, {what}", 1 / took["show"], 50_000, "the asked rate", "1/s", 1.0)


def main() -> None:
    measure(0, One)
    measure(10, One)
    measure(10, Three)


if __name__ == "__main__":
    main()
