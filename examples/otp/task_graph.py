"""A graph of tasks. Each is an actor; whoever finishes tells those that wait for it, and they start by themselves.

python examples/otp/task_graph.py
"""

from __future__ import annotations

from typing import NamedTuple

import gevent

from packetflow.otp import ActorSystem, Message, Receive, Response, Send


class Task(NamedTuple):
    """What a task is: all that its actor is made of."""

    id: str
    seconds: float
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    fails: bool = False


def task(data: Task, send: Send) -> Receive:
    """Runs once all it waits for has finished; then tells those that wait for it, all at once."""
    missing = set(data.after)

    def receive(message: Message) -> Response:
        missing.discard(message.payload)
        if missing:
            return Response(True, [])
        print(f"  {data.id} starts")
        gevent.sleep(data.seconds)  # the work
        if data.fails:
            return Response(False, error=f"{data.id} failed", code="task_failed")
        print(f"  {data.id} is done")
        told = [send.future(id, Message(message.id, "finished", data.id)) for id in data.before]
        answers = [each.get(None) for each in told]
        for answer in answers:
            if not answer.success:
                return answer
        return Response(True, [data.id, *(id for answer in answers for id in answer.data)])

    return receive


def run(tasks: list[Task]) -> Response:
    """Makes the actors, and starts what waits for nothing."""
    with ActorSystem() as graph:
        for each in tasks:
            before = tuple(other.id for other in tasks if each.id in other.after)
            graph.register(each.id, task, each._replace(before=before))
        roots = [each.id for each in tasks if not each.after]
        begun = [graph.future(id, Message("run-1", "start")) for id in roots]
        answers = [each.get(None) for each in begun]
        failed = [answer for answer in answers if not answer.success]
        return failed[0] if failed else Response(True, [id for answer in answers for id in answer.data])


RELEASE = [
    Task("fetch", 0.01),
    Task("compile", 0.03, after=("fetch",)),
    Task("docs", 0.01, after=("fetch",)),
    Task("test", 0.01, after=("compile",)),
    Task("publish", 0.01, after=("test", "docs")),
]


def main() -> None:
    """A release that works, and one whose tests fail."""
    print("release 1:")
    print("finished:", ", ".join(sorted(run(RELEASE).data)))
    print("release 2, with a fault in it:")
    broken = [each._replace(fails=each.id == "test") for each in RELEASE]
    print("not published:", run(broken).error)


if __name__ == "__main__":
    main()
