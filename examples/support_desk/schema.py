"""The desk's tables, by the steps that led to them. `PRAGMA user_version` of a file counts the steps it has seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from packetflow.errors import Unavailable

from .records import Customer

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (  # 1: customers, tickets, and the messages in them; a ticket's first message is number 0
        """CREATE TABLE customers (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, phone TEXT NOT NULL,
            city TEXT NOT NULL, plan TEXT NOT NULL, since TEXT NOT NULL)""",
        """CREATE TABLE tickets (
            number INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT NOT NULL REFERENCES customers (id),
            topic TEXT NOT NULL, status TEXT NOT NULL CHECK (status IN ('open', 'pending', 'closed')),
            opened TEXT NOT NULL, changed TEXT NOT NULL)""",
        """CREATE TABLE messages (
            id INTEGER PRIMARY KEY, ticket INTEGER NOT NULL REFERENCES tickets (number), number INTEGER NOT NULL,
            author TEXT NOT NULL CHECK (author IN ('agent', 'customer')), text TEXT NOT NULL, at TEXT NOT NULL,
            UNIQUE (ticket, number))""",
        "CREATE INDEX tickets_by_customer ON tickets (customer, status)",
        "CREATE INDEX tickets_by_status ON tickets (status, number)",
        "CREATE INDEX tickets_by_day ON tickets (opened)",
    ),
    (  # 2: the words of all messages, those already there too
        """CREATE VIRTUAL TABLE words USING fts5 (
            text, content = 'messages', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2')""",
        """CREATE TRIGGER words_of_message AFTER INSERT ON messages BEGIN
            INSERT INTO words (rowid, text) VALUES (new.id, new.text);
        END""",
        "INSERT INTO words (words) VALUES ('rebuild')",
    ),
)


def migrate(connection: sqlite3.Connection, steps: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Take the steps that the file has not seen, inside the caller's transaction.

    Raises Unavailable for a file of a later version than this code knows.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(steps):
        raise Unavailable(
            f"the database has schema version {version}, this program knows {len(steps)};"
            " run the program that wrote it, or a later one"
        )
    for step in steps[version:]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(steps)}")


def seed(connection: sqlite3.Connection, file: Path) -> None:
    """Put the customers of a JSON file into a desk that has none. Raises pydantic's ValidationError for a bad file."""
    if connection.execute("SELECT 1 FROM customers LIMIT 1").fetchone() is not None:
        return
    customers = TypeAdapter(list[Customer]).validate_json(file.read_bytes())
    connection.executemany(
        "INSERT INTO customers (id, name, email, phone, city, plan, since)"
        " VALUES (:id, :name, :email, :phone, :city, :plan, :since)",
        [customer.model_dump(mode="json", exclude={"unsettled"}) for customer in customers],
    )
