"""A payment worker: takes payments, each once, however often it is killed. Start it with `packetflow start`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from typing_extensions import TypedDict

from packetflow import Context, ResourceSettings, capability, resource
from packetflow.composition.building import composition, step


class Charges:
    """Charges in a file, a line each; the same key is charged once. A line that a kill cut short was never answered for."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab+")
        self._file.seek(0)
        whole, _, cut = self._file.read().rpartition(b"\n")
        self._file.truncate(self._file.seek(0, os.SEEK_END) - len(cut))
        self.keys = {json.loads(line)["key"] for line in whole.splitlines()}

    def take(self, key: str, order: str, amount: float) -> None:
        """Charge, on the disk when this returns."""
        if key not in self.keys:
            self._file.write(json.dumps({"key": key, "order": order, "amount": amount}).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self.keys.add(key)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@resource
def charges(settings: ResourceSettings) -> Iterator[Charges]:
    """The charges of this worker, in its data folder."""
    opened = Charges(settings.data_folder / "charges.jsonl")
    yield opened
    opened.close()


class Paid(TypedDict):
    """A payment that was taken."""

    paid: str


@capability("payment.charge")
def charge(order: str, amount: float, context: Context, charges: Annotated[Charges, charges]) -> Paid:
    """Charge an order, once for the key of the step that asks."""
    charges.take(context.idempotency_key or order, order, amount)
    return {"paid": order}


payment = composition(
    "payment.take", "Take a payment, whatever happens to the worker", step("payment.charge"),
    requires={"order": str, "amount": float}, provides={"paid": str}, durable=True,
)  # fmt: skip
