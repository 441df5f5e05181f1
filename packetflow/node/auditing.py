"""The node's audit trail: records wait here for a thread that writes them in groups, synced, or for the parent process that does.

A group is whatever has gathered while the one before was written: an idle trail writes at once, a busy one many together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from gevent import get_hub
from gevent.event import AsyncResult, Event

from packetflow.node.config import NodeConfig
from packetflow.otp import ChildSpec, GenServer, Task, ThreadPool
from packetflow.otp.clock import Clock
from packetflow.otp.errors import PacketFlowError
from packetflow.storage.audit_chain import FOLDER, records
from packetflow.storage.audit_log import CHECKPOINT_SECONDS, AuditLog, AuditLogError
from packetflow.storage.node_key import node_key

QUEUE = 10_000  # records that may wait
GROUP = 1_000  # records that are written together at most
SCANNED = 200_000  # records that one look at the trail reads at most

Records = Sequence[Mapping[str, Any]]


class Unrecorded(PacketFlowError):
    """An audit record is not on the disk; the message says why."""

    code = "unavailable"


class AuditTrail:
    """The audit records of one process of a node. commit(records) writes them, waiting; raises PacketFlowError.

    written, lost: counts of records. late: records that were required, were not there in time, and may come yet.
    trouble: why the last group could not be written, None if it could.
    """

    def __init__(self, clock: Clock, log: Any, queue: int = QUEUE) -> None:
        self.written = self.lost = self.late = 0
        self.trouble: str | None = None
        self.commit: Callable[[Records], None] = _nowhere
        self.keep: Callable[[], bool] = _nothing
        self._clock = clock
        self._log = log
        self._queue = queue
        self._waiting: deque[tuple[Mapping[str, Any], AsyncResult[None] | None]] = deque()
        self._filled = Event()
        self._idle = Event()
        self._idle.set()

    def offer(self, record: Mapping[str, Any]) -> None:
        """Write a record soon; never waits. One that can't be written is counted, and health says so."""
        if len(self._waiting) >= self._queue:
            self._lose(1, "records come faster than they are written")
            return
        self._put(record, None)

    def write(self, record: Mapping[str, Any], timeout: float) -> None:
        """Write a record; on the disk when this returns. Raises Unrecorded."""
        if len(self._waiting) >= self._queue:
            raise Unrecorded("audit records come faster than they are written")
        written: AsyncResult[None] = AsyncResult()
        self._put(record, written)
        if not written.wait(max(0.0, timeout)) and not written.ready():
            self.late += 1
            raise Unrecorded(f"the audit record was not on the disk within {max(0.0, timeout):.3g} s")
        written.get()

    def _put(self, record: Mapping[str, Any], written: AsyncResult[None] | None) -> None:
        self._waiting.append((record, written))
        self._idle.clear()
        self._filled.set()

    def run(self) -> None:
        """Write for ever: the life of the trail's process."""
        unsigned = True  # what its predecessor left
        while True:
            if not self._waiting:
                self._filled.clear()
                self._idle.set()
                if not self._filled.wait(CHECKPOINT_SECONDS if unsigned else None):
                    unsigned = self._keep()
                    continue
            group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            error: BaseException | None = Unrecorded("the node ended before the record was written")
            try:
                self.commit([record for record, _ in group])
                error = None
            except PacketFlowError as failure:
                error = Unrecorded(str(failure))
            finally:
                self._settle(group, error)
            unsigned = self._keep()

    def _settle(
        self, group: list[tuple[Mapping[str, Any], AsyncResult[None] | None]], error: BaseException | None
    ) -> None:
        if error is None:
            self.written += len(group)
            if self.trouble is not None:
                self.trouble = None
                self._log.warning("audit records are written again", lost=self.lost)
        else:
            self._lose(sum(1 for _, written in group if written is None), str(error))
        for _, written in group:
            if written is not None:
                if error is None:
                    written.set(None)
                else:
                    written.set_exception(error)

    def _lose(self, count: int, why: str) -> None:
        if self.trouble is None:
            self._log.error("audit records can't be written", error=why)
        self.trouble = why
        self.lost += count

    def _keep(self) -> bool:
        try:
            return self.keep()
        except PacketFlowError as error:
            self._log.error("audit head not kept", error=str(error))
            return True

    def flush(self, seconds: float) -> None:
        """Wait until all that was offered is written, or so many seconds."""
        self._idle.wait(seconds)

    def as_data(self) -> dict[str, Any]:
        """Its figures."""
        return {
            "written": self.written,
            "lost": self.lost,
            "late": self.late,
            "waiting": len(self._waiting),
            "trouble": self.trouble,
        }


class AuditFiles:
    """The trail's files on this node, opened when the first record comes; all work is done by one native thread."""

    def __init__(self, folder: Path, clock: Clock, log: Any, *, size: int, anchor: Path | None) -> None:
        self.findings: list[str] = []
        self._folder = folder
        self._clock = clock
        self._log = log
        self._size = size
        self._anchor = anchor
        self._files: AuditLog | None = None
        self._pool = ThreadPool(1, name="audit")
        drawn = getattr(get_hub().loop, "chance", None)  # a simulated loop has its own, by the seed
        self._chance: Random | None = drawn() if drawn is not None else None

    def commit(self, group: Records) -> None:
        """Write records. Raises AuditLogError."""
        self._pool.run(self._append, group)

    def keep(self) -> bool:
        """Sign the head where it is due; whether one will be due later. Raises AuditLogError."""
        files = self._files
        if files is None:
            return False
        if files.due:
            try:
                self._pool.run(files.checkpoint)
            finally:
                self._tell(files)
        return files.unsigned > 0

    def list(self, select: Callable[[Mapping[str, Any]], bool], limit: int) -> list[dict[str, Any]]:
        """The newest records that are selected. Raises AuditLogError."""
        found: list[dict[str, Any]] = self._pool.run(self._select, select, limit)
        return found

    def close(self, seconds: float) -> None:
        """Sign the last head and give the files back."""
        files, self._files = self._files, None
        if files is not None:
            try:
                self._pool.run(files.checkpoint, timeout=seconds)
            except PacketFlowError as error:
                self._log.error("audit head not kept", error=str(error))
            self._tell(files)
            self._pool.run(files.close)
        self._pool.close()

    # ---- in the thread ------------------------------------------------------------------------------------------------

    def _append(self, group: Records) -> None:
        if self._files is None:
            try:
                key = node_key(self._folder, self._chance)
            except (OSError, ValueError) as error:
                raise AuditLogError(f"the node's key can't be used: {error}") from error
            self._files = AuditLog(
                self._folder / FOLDER, key, self._clock, size=self._size, anchor=self._anchor
            )
            if self._files.recovered:
                what = f"{self._files.recovered} bytes of an audit record that was being written at a crash were cut off"
                self._log.warning(what)
            if self._files.damage:
                self.findings.append(f"the audit records are damaged: {self._files.damage}")
                self._log.error("the audit records are damaged", what=self._files.damage)
        self._files.append(group)

    def _select(self, select: Callable[[Mapping[str, Any]], bool], limit: int) -> Sequence[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        try:
            for number, record in enumerate(records(self._folder / FOLDER)):
                if number >= SCANNED:
                    break
                if select(record):
                    found.append(record)
                    if len(found) >= limit:
                        break
        except OSError as error:
            raise AuditLogError(f"the audit records can't be read: {error}") from error
        return found

    def _tell(self, files: AuditLog) -> None:
        for head in files.heads:
            self._log.info("audit head", head=str(head))
        files.heads.clear()


class AuditProcess(GenServer):
    """Keeps the trail written for as long as the node lives."""

    def init(self, trail: AuditTrail, close: Callable[[float], None], patience: float) -> None:
        """Begin to write."""
        self._trail, self._close, self._patience = trail, close, patience
        Task.start_link(trail.run)

    def terminate(self, reason: object) -> None:
        """Write what waits, then give the files back."""
        self._trail.flush(self._patience)
        self._close(self._patience)


def files_of(config: NodeConfig, clock: Clock, log: Any) -> AuditFiles:
    """The audit files of a node's data folder."""
    audit = config.audit
    return AuditFiles(config.node.data_folder, clock, log, size=audit.file_size, anchor=audit.anchor)


def audit_child(trail: AuditTrail, close: Callable[[float], None], patience: float) -> ChildSpec:
    """The process that keeps a trail written."""
    return ChildSpec(AuditProcess, trail, close, patience, id="audit", shutdown=3 * patience)


def _nowhere(records: Records) -> None:
    raise Unrecorded("the node has not been started")


def _nothing() -> bool:
    """There is no head to sign."""
    return False
