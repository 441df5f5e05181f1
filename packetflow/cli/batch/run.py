"""Runs a batch: a reader, some workers, one writer; stops in order, and says exactly what is open."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import gevent
from gevent.event import Event
from gevent.queue import Queue

from packetflow.cli.batch.journal import Journal
from packetflow.cli.batch.lines import Line, Malformed
from packetflow.cli.batch.pace import WITHOUT_WORD, Pace
from packetflow.cli.batch.results import Results
from packetflow.cli.batch.tally import Tally
from packetflow.cli.exits import Exit
from packetflow.cli.failures import Failure
from packetflow.cli.link import Link, fault_rows, is_lost, was_sent

LATER = ("overloaded", "rate_limited")


class Records(Protocol):
    """An input: its lines, and the payload of each."""

    def __iter__(self) -> Iterator[Line]: ...

    def payload(self, line: Line) -> Mapping[str, Any]:
        """The payload of a line. Raises Malformed."""


@dataclass(frozen=True)
class Plan:
    """What a batch is to do. key: mixed into the idempotency keys. boot: when the node started, as it says."""

    capability: str
    concurrency: int
    retries: int
    timeout: float
    key: str
    boot: str
    resend_unknown: bool


class Batch:
    """One batch under way. `run()` works until the input ends, or until it is stopped."""

    def __init__(
        self,
        plan: Plan,
        records: Records,
        link: Link,
        journal: Journal | None,
        monotonic: Callable[[], float],
    ) -> None:
        self.plan = plan
        self.records = records
        self.link = link
        self.journal = journal
        self.monotonic = monotonic
        self.tally = Tally(monotonic())
        self.stop = Event()
        self.pace = Pace(plan.concurrency, self.stop, monotonic)
        self.queue: Queue[Line | None] = Queue(maxsize=2 * plan.concurrency)
        self.open = 0  # lines sent whose outcome was not seen
        self.interrupted = False
        self.failure: Failure | None = None
        self.results: Results | None = None
        self.earlier = dict(journal.intents) if journal is not None else {}

    def run(self, results: Results) -> None:
        """Sends every line that is not done; returns when all that was sent has its outcome or is known to be open."""
        self.results = results
        reader = gevent.spawn(self.read)
        workers = [gevent.spawn(self.work) for _ in range(self.plan.concurrency)]
        gevent.joinall(workers)
        reader.kill()
        results.close()
        self.tally.wall = self.monotonic() - self.tally.begun

    def halt(self) -> None:
        """Nothing more is sent. From any greenlet, and from a signal handler."""
        self.stop.set()
        self.pace.freed.set()

    def fail(self, failure: Failure) -> None:
        """Halts for a reason; the first one counts."""
        if self.failure is None:
            self.failure = failure
        self.halt()

    def read(self) -> None:
        """Feeds the workers."""
        try:
            for line in self.records:
                self.queue.put(line)
                if self.stop.is_set():
                    break
        except Failure as failure:
            self.fail(failure)
        except OSError as error:
            self.fail(Failure("usage", f"the input can't be read any more: {error.strerror or error}"))
        for _ in range(self.plan.concurrency):
            self.queue.put(None)

    def work(self) -> None:
        """Takes lines until there are none."""
        while True:
            line = self.next_line()
            if line is None:
                return
            try:
                self.handle(line)
            except Failure as failure:
                self.fail(failure)
            except OSError as error:
                self.fail(Failure("internal", f"the journal can't be written: {error.strerror or error}"))

    def next_line(self) -> Line | None:
        """The next line, or None at the end and after a halt."""
        while not self.stop.is_set():
            try:
                line: Line | None = self.queue.get(timeout=0.25)
                return line
            except gevent.queue.Empty:
                continue
        return None

    def handle(self, line: Line) -> None:
        """One line: skipped, reported, or sent."""
        plan, journal = self.plan, self.journal
        if journal is not None:
            outcome = journal.done.get(line.number)
            if outcome is not None and not (outcome == "unknown" and plan.resend_unknown):
                self.tally.skipped += 1
                self.tally.bytes = max(self.tally.bytes, line.end)
                return
            before = self.earlier.get(line.number)
            if before is not None and before.digest != line.digest:
                raise changed(line.number)
            if before is not None and before.boot != plan.boot and not plan.resend_unknown:
                message = "sent to a node that has restarted since, so nobody knows; --resend-unknown sends it again"
                self.tell(line, "unknown", error={"code": "unknown", "message": message})
                return
        try:
            payload = self.records.payload(line)
        except Malformed as error:
            self.intend(line)
            self.tell(line, "malformed", error={"code": "malformed", "message": str(error)})
            return
        self.send(line, payload)

    def send(self, line: Line, payload: Mapping[str, Any]) -> None:
        """Sends a line until it has an outcome, the retries are used up, or the batch halts."""
        refused = 0
        while self.pace.enter():
            if refused == 0:
                self.intend(line)
            begun = self.monotonic()
            refused_for: float | None = None
            try:
                reply = self.link.request(self.plan.capability, payload, self.plan.timeout, self.key(line))
                if reply.error is not None and reply.error.code in LATER:
                    refused_for = reply.error.retry_after or WITHOUT_WORD
            finally:
                self.pace.leave(refused_for)
            error = reply.error
            if error is not None and is_lost(error):
                self.lose(line, error)
                return
            if refused_for is not None and refused < self.plan.retries:
                refused += 1
                self.tally.retries += 1
                continue
            row: dict[str, Any] = {"value": reply.value} if error is None else {"error": error.as_dict()}
            row["trace"] = reply.trace_id
            row["duration"] = reply.execution_time
            self.tell(line, "ok" if error is None else error.code, latency=self.monotonic() - begun, **row)
            return
        if refused and self.journal is not None:
            self.journal.void(line.number)

    def lose(self, line: Line, error: Any) -> None:
        """No node answers any more: the batch ends, and the line is open if it may have been taken."""
        if was_sent(error):
            self.open += 1
        elif self.journal is not None and line.number not in self.earlier:
            self.journal.void(line.number)
        self.fail(self.link.failure(error, self.plan.capability))

    def intend(self, line: Line) -> None:
        """Journals that a line is about to be sent."""
        if self.journal is not None:
            self.journal.intend(line.number, line.digest)

    def key(self, line: Line) -> str:
        """The idempotency key of a line: the same in every run over the same input."""
        text = f"{self.plan.capability}\n{self.plan.key}\n{line.history}\n{line.number}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def tell(self, line: Line, outcome: str, latency: float | None = None, **row: Any) -> None:
        """A line's result: counted, and on its way to be written."""
        error = row.get("error")
        message = ""
        if isinstance(error, Mapping):
            faults = "; ".join(
                f"{path}: {text}" if path else text for path, text in fault_rows(error.get("details") or {})
            )
            message = faults or str(error.get("message", ""))
        self.tally.add(line.number, outcome, message, latency)
        self.tally.bytes = max(self.tally.bytes, line.end)
        if self.results is not None:
            self.results.add({"line": line.number, "outcome": outcome, **row})

    def watch_signals(self) -> Callable[[], None]:
        """From now on Ctrl-C and SIGTERM halt the batch, the second one ends the process. Answers what undoes that."""

        def halt(number: int, frame: FrameType | None) -> None:
            if self.interrupted:
                os._exit(Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED)
            self.interrupted = True
            self.halt()

        before = {number: signal.signal(number, halt) for number in (signal.SIGINT, signal.SIGTERM)}

        def undo() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        return undo


def changed(number: int) -> Failure:
    """The refusal to resume over another input."""
    return Failure(
        "conflict",
        f"the input has changed since the run that is to be resumed: line {number} is another one",
        next=["give the input of then, or another --output"],
        exit=Exit.INPUT,
    )


def check_same_input(records: Records, journal: Journal) -> None:
    """Reads the input once before anything is sent, and refuses it if a line that the journal knows has changed."""
    wanted = dict(journal.intents)
    for line in records:
        intent = wanted.pop(line.number, None)
        if intent is not None and intent.digest != line.digest:
            raise changed(line.number)
        if not wanted:
            return
    if wanted:
        raise changed(min(wanted))
