"""What the work of a write, and of a snapshot, is given: statements within one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import apsw

from packetflow.storage.errors import StatementFailed
from packetflow.storage.sqlite import told

Value: TypeAlias = "bool | int | float | str | bytes | None"
Parameters: TypeAlias = "Sequence[Value] | Mapping[str, Value]"
Row: TypeAlias = "tuple[Any, ...]"


class Transaction:
    """Statements in SQLite's dialect, within one transaction; usable until the work it was given to returns.

    Raises ConstraintFailed, StatementFailed and StorageUnavailable.
    """

    __slots__ = ("_connection", "_path")

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection: apsw.Connection | None = connection
        self._path = path

    def execute(self, statement: str, parameters: Parameters = ()) -> list[Row]:
        """Run one statement, or several parted by semicolons; its rows."""
        try:
            return self._living().execute(statement, parameters).fetchall()
        except apsw.Error as error:
            raise told(self._path, error) from error

    def each(self, statement: str, parameters: Parameters = ()) -> Iterator[Row]:
        """The rows of a statement, read as they are asked for."""
        try:
            yield from self._living().execute(statement, parameters)
        except apsw.Error as error:
            raise told(self._path, error) from error

    def many(self, statement: str, rows: Iterable[Parameters]) -> None:
        """Run one statement for each of the rows."""
        try:
            self._living().executemany(statement, rows)
        except apsw.Error as error:
            raise told(self._path, error) from error

    @property
    def changes(self) -> int:
        """How many rows the last statement inserted, updated or deleted."""
        return int(self._living().changes())

    @property
    def last_row(self) -> int:
        """The number of the row that was inserted last."""
        return int(self._living().last_insert_rowid())

    def _living(self) -> apsw.Connection:
        if self._connection is None:
            raise StatementFailed("the transaction is over; do all of its work before you return")
        return self._connection

    def end(self) -> None:
        """No more statements."""
        self._connection = None
