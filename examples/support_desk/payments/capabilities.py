"""Refunds: how risky one is, paying it, taking it back. The ledger stands for a provider that honours idempotency keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from gevent.threadpool import ThreadPool
from pydantic import BaseModel, Field

from packetflow import Context, ResourceSettings, capability, resource
from packetflow.errors import NotFound

CustomerId = Annotated[str, Field(pattern=r"^C-\d{4,}$", examples=["C-1001"])]
Amount = Annotated[float, Field(gt=0, le=100_000, description="In euros", examples=[250.0])]
MANY = 3  # refunds of one customer, from which on another is risky
TABLE = """
CREATE TABLE IF NOT EXISTS refunds (
    number INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, customer TEXT NOT NULL, amount REAL NOT NULL, state TEXT NOT NULL
)
"""


class Risk(BaseModel):
    """How risky a refund is, and why."""

    risk: Literal["low", "high"]
    because: str


class Refund(BaseModel):
    """A refund in the ledger."""

    refund: int
    state: Literal["paid", "taken back"]


class Ledger:
    """Refunds in one SQLite file, each once for its key. One native thread runs the SQL."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPool(1)
        self._connection: sqlite3.Connection = self._thread.apply(self._open, (path,))

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(TABLE)
        return connection

    def close(self) -> None:
        """Close the file."""
        self._thread.apply(self._connection.close)
        self._thread.kill()

    def _run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        def work() -> list[tuple[Any, ...]]:
            with self._connection:
                return self._connection.execute(statement, values).fetchall()

        found: list[tuple[Any, ...]] = self._thread.apply(work)
        return found

    def count(self, customer: str) -> int:
        """The refunds that a customer got."""
        count: int = self._run(
            "SELECT count(*) FROM refunds WHERE customer = ? AND state = 'paid'", customer
        )[0][0]
        return count

    def pay(self, key: str, customer: str, amount: float) -> Refund:
        """Pay a refund, if none was paid for the key; the one that was."""
        self._run(
            "INSERT INTO refunds (key, customer, amount, state) VALUES (?, ?, ?, 'paid') ON CONFLICT (key) DO NOTHING",
            key,
            customer,
            amount,
        )
        number, state = self._run("SELECT number, state FROM refunds WHERE key = ?", key)[0]
        return Refund(refund=number, state=state)

    def take_back(self, number: int) -> Refund:
        """Take a refund back; twice is once. Raises NotFound."""
        self._run("UPDATE refunds SET state = 'taken back' WHERE number = ?", number)
        found = self._run("SELECT number, state FROM refunds WHERE number = ?", number)
        if not found:
            raise NotFound(f"no refund {number}", {"refund": number})
        return Refund(refund=found[0][0], state=found[0][1])


@resource
def ledger(settings: ResourceSettings) -> Iterator[Ledger]:
    """The ledger of this node, in `refunds.sqlite` in its data folder."""
    opened = Ledger(settings.data_folder / "refunds.sqlite")
    try:
        yield opened
    finally:
        opened.close()


@capability("refund.assess", tags=["refund"], timeout=10.0)
def assess(customer_id: CustomerId, amount: Amount, ledger: Annotated[Ledger, ledger]) -> Risk:
    """How risky a refund would be: by what the customer got back before."""
    count = ledger.count(customer_id)
    if count >= MANY:
        return Risk(risk="high", because=f"{customer_id} got {count} refunds before")
    return Risk(risk="low", because=f"{amount:g} euros, after {count} refunds")


@capability("refund.pay", tags=["refund"], timeout=10.0)
def pay(
    customer_id: CustomerId, amount: Amount, context: Context, ledger: Annotated[Ledger, ledger]
) -> Refund:
    """Pay a customer back, once for the idempotency key of the step that asks."""
    return ledger.pay(context.idempotency_key or context.id, customer_id, amount)


@capability("refund.take_back", tags=["refund"], timeout=10.0)
def take_back(refund: int, ledger: Annotated[Ledger, ledger]) -> Refund:
    """Take a refund back that should not have been paid."""
    return ledger.take_back(refund)
