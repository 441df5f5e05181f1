"""The node that the wire benches ask: the reference capability behind ten modules, doors on free ports, in a process of its own.

python bench/node/_server.py HOOKS      prints the doors' addresses as JSON; ends when its input does
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gevent.fileobject import FileObject
from pydantic import BaseModel

from packetflow import Context, Module, Node, Request, Response, capability
from packetflow.node.config import NodeConfig


class Echoed(BaseModel):
    text: str
    n: int


@capability("bench.echo")
def echo(text: str, n: int) -> Echoed:
    """Say it again."""
    return Echoed(text=text, n=n)


@capability("bench.items")
def items(text: str, upto: int) -> Iterator[Echoed]:
    """Say it again and again."""
    for number in range(upto):
        yield Echoed(text=text, n=number)


class One(Module):
    def handle_request(self, request: Request, context: Context) -> None: ...


class Three(One):
    def handle_composition(self, plan: object, context: Context) -> None: ...
    def handle_response(self, response: Response, context: Context) -> None: ...


def main(hooks: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        config = NodeConfig.model_validate(
            {
                "node": {"data_folder": folder},
                "tcp": {"port": 0},
                "http": {"port": 0},
                "limits": {"connections": 2000},
            }
        )
        kind = {"1": One, "3": Three}[hooks]
        with Node(
            config, capabilities=[echo, items], modules=[(f"m{number}", kind) for number in range(10)]
        ) as node:
            print(json.dumps({door["door"]: door["address"] for door in node.status()["doors"]}), flush=True)
            FileObject(sys.stdin, "r").read()


if __name__ == "__main__":
    main(sys.argv[1])
