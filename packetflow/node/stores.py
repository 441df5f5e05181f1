"""What a node stores, each part opened when it is used first: a node that stores nothing makes no file and loads no driver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent

from packetflow.otp.clock import Clock
from packetflow.wire.errors import RequestError, Unavailable

if TYPE_CHECKING:
    from packetflow.node.config.schema import StorageSection
    from packetflow.node.system import shapes
    from packetflow.storage.database import Database
    from packetflow.storage.dead_letters import DeadLetter, DeadLetters
    from packetflow.storage.disk import Disk
    from packetflow.storage.idempotency import IdempotencyKeys
    from packetflow.storage.outbox import Outbox
    from packetflow.storage.traces import StoredTraces
    from packetflow.storage.transaction import Transaction
    from packetflow.storage.writer import State

FILE = "node.db"
PRUNE = 60.0  # seconds between two looks for what is too old, while something is stored


class Stores:
    """folder: where the database lies; None: nothing is stored but in memory. lasting: whether that folder outlives the node."""

    def __init__(
        self,
        folder: Path | None,
        clock: Clock,
        log: Any,
        settings: StorageSection,
        disk: Disk,
        *,
        lasting: bool = True,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._log = log
        self._settings = settings
        self._disk = disk
        self.lasting = lasting and folder is not None
        self._database: Database | None = None
        self._closed = False
        self._keys: IdempotencyKeys | None = None
        self._dead_letters: DeadLetters | None = None
        self._outbox: Outbox | None = None
        self._traces: StoredTraces | None = None
        self._pruned = clock.monotonic()
        self.on_due: Callable[[], object] = _nothing

    @property
    def database(self) -> Database:
        """The node's database. Raises Unavailable where there is none."""
        if self._database is None:
            if self._folder is None or self._closed:
                raise Unavailable("this process of the node has no database")
            from packetflow.storage.database import Database

            self._database = Database(
                self._folder / FILE,
                queue=self._settings.queue,
                vfs=self._disk.vfs,
                changed=self._database_changed,
            )
        return self._database

    @property
    def has_file(self) -> bool:
        """Whether there is a database from before, or by now: else there is nothing to look for."""
        return self._database is not None or (self._folder is not None and (self._folder / FILE).exists())

    @property
    def has_anything(self) -> bool:
        """Whether anything is stored, in a file or in memory: else there is nothing to look for."""
        return self._outbox is not None or (self.lasting and self.has_file)

    @property
    def keys(self) -> IdempotencyKeys:
        """Where the answers of idempotency keys are kept."""
        self._look()
        if self._keys is None:
            seconds = self._settings.idempotency_keys
            if self.lasting:
                from packetflow.storage.idempotency import DatabaseKeys

                self._keys = DatabaseKeys(self.database, self._clock, seconds)
            else:
                from packetflow.storage.idempotency import MemoryKeys

                self._keys = MemoryKeys(self._clock, seconds)
        return self._keys

    @property
    def dead_letters(self) -> DeadLetters:
        """Where what failed for good is kept."""
        self._look()
        if self._dead_letters is None:
            seconds = self._settings.dead_letters
            if self.lasting:
                from packetflow.storage.dead_letters import DatabaseDeadLetters

                self._dead_letters = DatabaseDeadLetters(self.database, self._clock, seconds)
            else:
                from packetflow.storage.dead_letters import MemoryDeadLetters

                self._dead_letters = MemoryDeadLetters(self._clock, seconds)
        return self._dead_letters

    @property
    def outbox(self) -> Outbox:
        """Where events wait to be published."""
        self._look()
        if self._outbox is None:
            if self.lasting:
                from packetflow.storage.outbox import DatabaseOutbox

                self._outbox = DatabaseOutbox(self.database, self._clock)
            else:
                from packetflow.storage.outbox import MemoryOutbox

                self._outbox = MemoryOutbox(self._clock)
        return self._outbox

    def lines(self) -> dict[str, int]:
        """How many events wait in the outbox, by line; none where that can't be read now."""
        if not self.has_anything:
            return {}
        try:
            return self.outbox.waiting()
        except RequestError:  # what is wrong with the database is a finding of its own
            return {}

    @property
    def traces(self) -> StoredTraces | None:
        """Where traces are stored; None where nothing outlives the node."""
        if not self.lasting:
            return None
        if self._traces is None:
            from packetflow.storage.traces import StoredTraces

            self._traces = StoredTraces(self.database)
        return self._traces

    def bury(self, event: str, letter: DeadLetter) -> None:
        """Take an event out of the outbox and keep a dead letter instead: both or neither. Raises StorageUnavailable."""
        outbox, letters = self.outbox, self.dead_letters
        if not self.lasting:
            letters.put(letter)
            outbox.delivered([event])
            return
        from packetflow.storage import dead_letters
        from packetflow.storage import outbox as outboxes

        for schema in (dead_letters.SCHEMA, outboxes.SCHEMA):
            self.database.prepare(schema)

        def work(transaction: Transaction) -> None:
            letters.put(letter, transaction)
            outbox.delivered([event], transaction)

        self.database.write(work)

    def _look(self) -> None:
        # No timer: what nobody uses does not grow.
        now = self._clock.monotonic()
        if now - self._pruned > PRUNE:
            self._pruned = now
            self.on_due()

    def findings(self) -> list[shapes.Finding]:
        """What is wrong with the database, and what to do."""
        if self._database is None:
            return []
        state = self._database.state
        if state.name not in ("full", "failed"):
            return []
        what = f"the database {self._database.path} can't be written: {state.reason}"
        return [{"severity": "error", "what": what, "next": state.next_step}]

    def _database_changed(self, state: State) -> None:
        path = str(self._folder and self._folder / FILE)
        if state.name == "closed":
            return
        if state.name == "writable":
            self._log.info("the database can be written", path=path)
        else:
            self._log.error(
                "the database can't be written",
                path=path,
                state=state.name,
                why=state.reason,
                next=state.next_step,
            )

    def prune(self) -> None:
        """Forget what is too old. Raises StorageUnavailable."""
        for part in (self._keys, self._dead_letters, self._outbox):
            if part is not None:
                part.prune()

    def close(self) -> None:
        """Finish what is to be written, and close the file. Twice is once."""
        self._closed = True
        if self._database is not None:
            self._database.close()

    @property
    def open(self) -> bool:
        """Whether the file is still in use."""
        return self._database is not None and self._database.state.name not in ("new", "closed")

    def leave(self) -> None:
        """The same in the background, for who is ended and must not wait."""
        if not self._closed:
            gevent.spawn(self.close)


def _nothing() -> None:
    """Before there is a process that could forget what is too old."""
