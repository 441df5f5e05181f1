"""The parts of a database, each with a version of its own and the steps that lead there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packetflow.storage.errors import too_new

if TYPE_CHECKING:
    from packetflow.storage.transaction import Transaction

VERSION = "SELECT version FROM packetflow_parts WHERE part = ?"


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one part. steps: step N leads from version N to N + 1; a step that was released never changes."""

    part: str
    steps: tuple[str, ...]

    def version_in(self, transaction: Transaction, path: Path) -> int:
        """The version that is stored, 0 for none. Raises StorageUnavailable for one that is newer than this one."""
        rows = transaction.execute(VERSION, (self.part,))
        version = int(rows[0][0]) if rows else 0
        if version > len(self.steps):
            raise too_new(path, self.part, version, len(self.steps))
        return version

    def migrate(self, transaction: Transaction, path: Path) -> None:
        """Take the steps that are missing, all or none."""
        version = self.version_in(transaction, path)
        for step in self.steps[version:]:
            transaction.execute(step)
        if version < len(self.steps):
            transaction.execute(
                "INSERT INTO packetflow_parts VALUES (?1, ?2) ON CONFLICT (part) DO UPDATE SET version = ?2",
                (self.part, len(self.steps)),
            )
