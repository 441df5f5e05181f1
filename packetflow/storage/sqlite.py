"""Connections to SQLite by apsw: a database file that is made whole or not at all, checked before it is opened, and
SQLite's errors in our words. Only the files of this folder know apsw."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from packetflow.storage.disk import Disk
from packetflow.storage.errors import (
    ConstraintFailed,
    StatementFailed,
    StorageUnavailable,
    cannot_use,
    too_new,
)

APPLICATION_ID = 0x50464442  # "PFDB": whose file this is
FORMAT = 1  # of the file as a whole; the parts in it have versions of their own (schema.py)
KEPT_WAL = 8 << 20  # bytes of the write-ahead log that are kept when it begins anew
PATIENCE = 5_000  # milliseconds to wait for another program that holds the file, such as a backup by sqlite3
STATEMENTS = 256  # compiled ones that a connection keeps

RESTORE = "stop the node, move the file and its -wal away and restore a backup"

_FORBIDDEN = frozenset(
    (
        apsw.SQLITE_TRANSACTION,
        apsw.SQLITE_SAVEPOINT,
        apsw.SQLITE_ATTACH,
        apsw.SQLITE_DETACH,
        apsw.SQLITE_PRAGMA,
    )
)


def wal_of(path: Path) -> Path:
    """The write-ahead log that belongs to a database file."""
    return path.with_name(path.name + "-wal")


def open_writer(path: Path, vfs: str | None) -> apsw.Connection:
    """The one connection that writes; makes the file if there is none. Raises StorageUnavailable."""
    try:
        _check_file(path, vfs)
        connection = apsw.Connection(
            str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs, statementcachesize=STATEMENTS
        )
    except OSError as error:
        raise cannot_use(path, error) from error
    except apsw.Error as error:
        raise unavailable(path, error) from error
    try:
        _check_format(path, connection)
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("PRAGMA synchronous=FULL").fetchall()
        connection.execute("PRAGMA wal_autocheckpoint=0").fetchall()
        connection.execute(f"PRAGMA journal_size_limit={KEPT_WAL}").fetchall()
        connection.execute("PRAGMA foreign_keys=ON").fetchall()
    except apsw.Error as error:
        _close_quietly(connection)
        raise unavailable(path, error) from error
    except BaseException:
        _close_quietly(connection)
        raise
    return connection


def open_reader(path: Path, vfs: str | None) -> apsw.Connection:
    """A connection that only reads. Raises StorageUnavailable."""
    try:
        connection = apsw.Connection(
            str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs, statementcachesize=STATEMENTS
        )
        connection.set_busy_timeout(PATIENCE)
    except apsw.Error as error:
        raise unavailable(path, error) from error
    return connection


def guard(connection: apsw.Connection, guarded: Callable[[], bool]) -> None:
    """While `guarded()` is true, statements can't begin or end transactions, attach files or change settings."""

    def authorise(operation: int, *about: str | None) -> int:
        return apsw.SQLITE_DENY if operation in _FORBIDDEN and guarded() else apsw.SQLITE_OK

    connection.authorizer = authorise


def _check_file(path: Path, vfs: str | None) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        if wal_of(path).exists():
            raise StorageUnavailable(
                path,
                f"is missing, but its log {wal_of(path).name} is there",
                "restore both from a backup, or move the log away to begin with an empty database",
                lasting=True,
            ) from None
        _make(path, vfs)
        return
    try:
        if os.fstat(descriptor).st_size == 0:
            raise StorageUnavailable(path, "is empty: it was truncated", RESTORE, lasting=True)
    finally:
        os.close(descriptor)


def _make(path: Path, vfs: str | None) -> None:
    """Makes the file under another name first: what has the right name is whole."""
    new = path.with_name(f"{path.name}.new")
    for leftover in (new, new.with_name(f"{new.name}-journal")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        connection = apsw.Connection(str(new), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
        try:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL").fetchall()
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}").fetchall()
            connection.execute(f"PRAGMA user_version={FORMAT}").fetchall()
            connection.execute(
                "CREATE TABLE packetflow_parts (part TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID"
            )
        finally:
            _close_quietly(connection)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    Disk().sync_folder(path.parent)


def _check_format(path: Path, connection: apsw.Connection) -> None:
    connection.set_busy_timeout(PATIENCE)
    owner = connection.pragma("application_id")
    if owner != APPLICATION_ID:
        raise StorageUnavailable(
            path, "is another program's database", "move it away, or choose another folder", lasting=True
        )
    version = connection.pragma("user_version")
    if version > FORMAT:
        raise too_new(path, "the file", version, FORMAT)
    connection.execute("SELECT count(*) FROM packetflow_parts").fetchall()


def unavailable(path: Path, error: apsw.Error) -> StorageUnavailable:
    """What an error of SQLite says about the file."""
    text = str(error) or type(error).__name__
    if isinstance(error, apsw.FullError) or _is_full(path, error):
        return StorageUnavailable(path, "its disk is full", "make room on it", state="full")
    if isinstance(error, apsw.NotADBError):
        return StorageUnavailable(path, "is not a SQLite database", RESTORE, lasting=True)
    if isinstance(error, apsw.CorruptError):
        return StorageUnavailable(path, f"is damaged ({text})", RESTORE, lasting=True)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StorageUnavailable(path, "another program holds it locked", "end that program (lsof names it)")
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError | apsw.AuthError):
        return StorageUnavailable(
            path, f"can't be written ({text})", "give the node's user the right to write it and its folder"
        )
    if isinstance(error, apsw.CantOpenError):
        return StorageUnavailable(path, f"can't be opened ({text})", "look after its folder and rights")
    return StorageUnavailable(path, f"its disk fails ({text})", "check the disk and the system's log")


def _is_full(path: Path, error: apsw.Error) -> bool:
    # SQLite tells a disk that has no room for its index file as an error of input and output.
    if not isinstance(error, apsw.IOError):
        return False
    if getattr(error, "extendedresult", 0) != apsw.SQLITE_IOERR_SHMSIZE:
        return False
    try:
        return os.statvfs(path.parent).f_bavail == 0
    except OSError:
        return False


DISK_ERRORS = (
    apsw.FullError,
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.ProtocolError,
    apsw.NoMemError,
    apsw.NoLFSError,
)


def told(path: Path, error: apsw.Error) -> Exception:
    """An error of SQLite as one of ours."""
    if isinstance(error, apsw.ConstraintError):
        return ConstraintFailed(f"it contradicts what is stored: {error}")
    if isinstance(error, DISK_ERRORS):
        return unavailable(path, error)
    if isinstance(error, apsw.AuthError):
        return StatementFailed(
            f"a statement inside a transaction can't begin or end one, attach a file or change a setting ({error})"
        )
    return StatementFailed(f"the statement failed, {type(error).__name__}: {error}")


def _close_quietly(connection: Any) -> None:
    """A connection that did not come about; what it says on closing is told already."""
    try:
        connection.close()
    except apsw.Error:
        pass
