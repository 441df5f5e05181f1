"""A node with durable runs, to be killed: each step appends its key to a file.

`python durable_program.py FOLDER RUNS [LOSSES]`: the node loses the process of its runs so many times while it works.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import gevent

from packetflow import Context, Node, capability
from packetflow.composition.building import composition, loop, parallel, saga, sleep, step
from packetflow.node.config import NodeConfig
from packetflow.node.supervision import RUNS
from packetflow.otp import kill
from packetflow.wire.errors import Unavailable

folder, count, losses = Path(sys.argv[1]), int(sys.argv[2]), int((sys.argv[3:] or ["0"])[0])
effects = os.open(folder / "effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
(folder / "once").mkdir(exist_ok=True)


def effect(context: Context, word: str) -> None:
    key = context.idempotency_key
    assert key is not None, "a step of a durable run has one"
    os.write(effects, f"{word} {key}\n".encode())
    # The other side honours the key: the effect happens once.
    try:
        os.close(os.open(folder / "once" / key.replace("/", "~"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        pass
    gevent.sleep(0.001)


@capability("work.do")
def do(n: int, context: Context) -> dict[str, int]:
    """Do it."""
    effect(context, "do")
    return {"n": n + 1}


@capability("work.undo")
def undo(n: int, context: Context) -> None:
    """Undo it."""
    effect(context, "undo")


@capability("work.end")
def end(n: int, fails: bool, context: Context) -> dict[str, int]:
    """End well, or not."""
    effect(context, "end")
    if fails:
        raise ValueError("as it was asked to")
    return {"n": n}


undoable = step("work.do", compensate="work.undo")
both = composition(
    "work.all",
    "Steps, branches at once, a loop, and an end that may undo it all",
    saga(
        undoable,
        parallel(
            step("work.do", name="a", outputs={"n": "a"}), step("work.do", name="b", outputs={"n": "b"})
        ),
        loop(step("work.do"), over="items", max_iterations=3),
        sleep(0.01),
        undoable,
        step("work.end"),
    ),
    requires={"n": int, "fails": bool, "items": list[int]},
    provides={"n": int},
    durable=True,
)


def begin(node: Node, number: int) -> None:
    """Begin a run; while the process of the runs is started again, that is refused, and may be tried again."""
    while True:
        try:
            node.waking().runs.start(
                both,
                {"n": 0, "fails": number % 3 == 0, "items": [1, 2, 3]},
                node.session(),
                f"run {number}",
            )
            return
        except Unavailable:
            gevent.sleep(0.001)


def lose_the_runs(node: Node, times: int) -> None:
    """The process of the runs is killed in the midst of its work; its supervisor starts another one."""
    for _ in range(times):
        gevent.sleep(random.random() * 0.1)
        while (lost := node.system.whereis(RUNS)) is None:
            gevent.sleep(0.001)
        with (folder / "losses").open("a") as counted:
            counted.write(f"{node.waking().runs.under_way}\n")
        kill(lost)


config = NodeConfig.model_validate(
    {
        "node": {"name": "killed", "data_folder": str(folder / "run")},
        "tcp": {"enabled": False},
        "http": {"enabled": False},
    }
)
with (
    open(folder / "log", "a") as log,
    Node(config, capabilities=[do, undo, end, both.definition], log_stream=log) as node,
):
    waking = node.waking()
    known = sum(waking.store.counts().values())
    losing = gevent.spawn(lose_the_runs, node, losses)
    for number in range(known, count):
        begin(node, number)
    losing.get()
    while set(waking.store.counts()) - {"completed", "failed"}:
        gevent.sleep(0.01)
    print(waking.store.counts(), flush=True)  # noqa: T201 - a program, whose answer this is
