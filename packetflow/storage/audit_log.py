"""The audit files as they are written: appended to, synced to the disk, recovered after a crash, rotated. Plain blocking code,
for one thread: packetflow/node/auditing.py runs it beside the hub.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packetflow.otp.clock import Clock
from packetflow.otp.errors import PacketFlowError
from packetflow.storage.audit_chain import (
    FIRST,
    Head,
    file_name,
    files_of,
    opened,
    read_checkpoint,
    sealed,
    signature_of,
    write_checkpoint,
)

SIZE = 64 << 20  # bytes of a file, after which the next is begun
CHECKPOINT_RECORDS = 1_000  # records ...
CHECKPOINT_SECONDS = 60.0  # ... or seconds after which a head is signed, whichever comes first


class AuditLogError(PacketFlowError):
    """Audit records can't be written; the message says why and what to do."""

    code = "unavailable"


class AuditLog:
    """The audit files of a folder, open for appending. anchor: a file elsewhere, to which every signed head is added too.

    recovered: bytes of a torn record that were cut off at the opening; damage: what is wrong with the end of the chain.
    heads: signed since somebody took them. unsigned: records since the last head.
    """

    def __init__(
        self, folder: Path, key: bytes, clock: Clock, *, size: int = SIZE, anchor: Path | None = None
    ) -> None:
        self._folder = folder
        self._key = key
        self._clock = clock
        self._size = size
        self._anchor = anchor
        self._file = -1
        self._written = 0
        self.unsigned = 0
        self._head_at = clock.monotonic()
        self.n = 0
        self.hash = FIRST
        self.recovered = 0
        self.damage = ""
        self.heads: list[Head] = []
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._open()
        except OSError as error:
            self.close()
            raise AuditLogError(f"{folder}: {error.strerror or error}") from error

    def _open(self) -> None:
        """Find the end of the chain, and cut off what a crash left of a record there."""
        files = files_of(self._folder)
        for file in reversed(files):
            end = self._end_of(file)
            if end is not None:
                self.n, self.hash = end
                break
        if files:
            self._append_to(files[-1])
            if not self._written and self.n:
                # Nothing whole was in it.
                os.close(self._file)
                self._file = -1
                files[-1].unlink()
                last = files_of(self._folder)
                if last:
                    self._append_to(last[-1])
        checkpoint, _ = read_checkpoint(self._folder)
        if checkpoint is not None and checkpoint.n > self.n:
            self.damage = f"records {self.n + 1} to {checkpoint.n} are missing at the end"
        if self.damage:
            # What comes now follows what is there; `audit verify` goes on to name the damage.
            self.n = max(self.n, checkpoint.n if checkpoint is not None else 0)
        if self.recovered:
            self.append([self._own("recovered", {"bytes": self.recovered})])

    def _end_of(self, file: Path) -> tuple[int, str] | None:
        """The number and hash of the last whole record; a torn one behind it is cut off."""
        data = file.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            self.recovered += len(data) - whole
            os.truncate(file, whole)
        if not whole:
            return None
        line = data[data.rfind(b"\n", 0, whole - 1) + 1 : whole]
        try:
            record = opened(line)
        except ValueError as error:
            self.damage = f"the last record of {file.name} was changed: {error}"
            return self._guessed(file, data[:whole])
        return record["n"], record["hash"]

    @staticmethod
    def _guessed(file: Path, data: bytes) -> tuple[int, str]:
        """Where to go on behind a damaged record: by its place in the file."""
        first = int(file.stem) if file.stem.isdecimal() else 1
        return first + data.count(b"\n") - 1, FIRST

    def _append_to(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._written = os.fstat(self._file).st_size

    def _own(self, event: str, more: Mapping[str, Any]) -> dict[str, Any]:
        return {"time": self._now(), "event": event, **more}

    def _now(self) -> str:
        return self._clock.utc().isoformat(timespec="microseconds").replace("+00:00", "Z")

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write records and sync them to the disk, all or none. Raises AuditLogError; then the chain is as it was."""
        n, hash = self.n, self.hash
        lines: list[bytes] = []
        for record in records:
            n += 1
            line, hash = sealed(record, n, hash)
            lines.append(line)
        data = b"".join(lines)
        try:
            if self._file < 0 or self._written >= self._size:
                self._next_file()
            self._write(data)
        except OSError as error:
            raise AuditLogError(f"{self._folder}: {error.strerror or error}") from error
        self.n, self.hash = n, hash
        self.unsigned += len(lines)

    @property
    def due(self) -> bool:
        """Whether a head should be signed."""
        late = self._clock.monotonic() - self._head_at >= CHECKPOINT_SECONDS
        return self.unsigned >= CHECKPOINT_RECORDS or (late and self.unsigned > 0)

    def _write(self, data: bytes) -> None:
        start = self._written
        if os.fstat(self._file).st_size != start:
            os.ftruncate(self._file, start)  # the leavings of a write that failed
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._file, left) :]
            os.fdatasync(self._file)
        except OSError:
            # Whatever of it is there must not be taken for a record, nor stand before the next one.
            os.ftruncate(self._file, start)
            raise
        self._written = start + len(data)

    def _next_file(self) -> None:
        file = self._folder / file_name(self.n + 1)
        before, self._file = self._file, -1
        if before >= 0:
            os.close(before)
        self._append_to(file)
        folder = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def checkpoint(self) -> None:
        """Sign the head, if there is anything new, and write it down. Raises AuditLogError."""
        self._head_at = self._clock.monotonic()
        if not self.unsigned:
            return
        head = Head(self.n, self.hash, signature_of(self.n, self.hash, self._key))
        self.unsigned = 0
        self.heads.append(head)
        try:
            write_checkpoint(self._folder, head, self._now())
            if self._anchor is not None:
                with self._anchor.open("a") as stream:
                    stream.write(f"{head}\n")
                    stream.flush()
                    os.fsync(stream.fileno())
        except OSError as error:
            raise AuditLogError(f"the head of the audit records can't be written: {error}") from error

    def close(self) -> None:
        """Give the files back. Twice is once."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
