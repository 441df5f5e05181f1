"""What makes a batch resumable: intents in OUTPUT.journal before each request, outcomes in OUTPUT after it.

A line that stands in OUTPUT is done. A line that has only an intent may have run: it is sent again, under the same
idempotency key, only to the same boot of the node. Writes go to the system at once, so a killed process loses none;
a machine that loses its power may lose the last ones.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packetflow.cli.failures import Failure, usage

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Intent:
    """That a line was about to be sent. boot: when the node it was sent to had started."""

    digest: str
    boot: str


class Journal:
    """The files of one resumable batch, held by this process alone.

    done: outcome by line. intents: by line. Raises Failure from `open` where the files and the wish do not fit.
    """

    def __init__(self, output: Path, descriptor: int, journal: int) -> None:
        self.output = output
        self.descriptor = descriptor
        self.journal = journal
        self.done: dict[int, str] = {}
        self.intents: dict[int, Intent] = {}
        self.boot = ""

    @classmethod
    def open(cls, output: Path, *, resume: bool, capability: str, boot: str, key: str) -> Journal:
        """Begins a batch's files, or with `resume` goes on with those that are there."""
        beside = output.with_name(output.name + ".journal")
        begun = output.exists() and output.stat().st_size > 0
        if begun and not resume:
            raise usage(
                f"{output} exists already",
                next=[
                    "--resume goes on with it" if beside.exists() else "remove it, or give another --output"
                ],
            )
        if begun and not beside.exists():
            raise usage(
                f"{output} can't be resumed: its journal {beside} is gone", next=["give another --output"]
            )
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            descriptor, journal = os.open(output, flags, 0o644), os.open(beside, flags, 0o644)
        except OSError as error:
            raise usage(f"{error.filename}: {error.strerror}") from error
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Failure("conflict", f"another process is writing {output}") from error
        if not resume:
            os.ftruncate(journal, 0)
        self = cls(output, descriptor, journal)
        self.read(beside, capability, key)
        self.begin(capability, boot, key)
        return self

    def read(self, beside: Path, capability: str, key: str) -> None:
        """Takes in what earlier runs left. A line cut short by a crash is dropped."""
        for place, record in whole_lines(self.journal):
            if "run" in record:
                before = record["run"]
                if before.get("format") != FORMAT:
                    raise usage(
                        f"{beside} is of another version of PacketFlow", next=["give another --output"]
                    )
                if before.get("capability") != capability or before.get("key", "") != key:
                    raise usage(
                        f"{self.output} holds a run of {before.get('capability')}"
                        + (f" with --key {before['key']}" if before.get("key") else ""),
                        next=["give another --output"],
                    )
                self.boot = str(before.get("boot", ""))
            elif "line" in record:
                number = int(record["line"])
                if record.get("void"):
                    self.intents.pop(number, None)
                else:
                    self.intents[number] = Intent(str(record.get("digest", "")), self.boot)
            else:
                raise usage(f"{beside}, line {place}: no journal of a batch", next=["give another --output"])
        for place, record in whole_lines(self.descriptor):
            if not isinstance(record.get("line"), int):
                raise usage(
                    f"{self.output}, line {place}: no result of a batch", next=["give another --output"]
                )
            self.done[record["line"]] = str(record.get("outcome", ""))

    def begin(self, capability: str, boot: str, key: str) -> None:
        """Marks where this run begins."""
        self.boot = boot
        run: dict[str, Any] = {"format": FORMAT, "capability": capability, "boot": boot}
        if key:
            run["key"] = key
        self.write({"run": run})

    def intend(self, number: int, digest: str) -> None:
        """Before a line is sent."""
        self.write({"line": number, "digest": digest})

    def void(self, number: int) -> None:
        """The line was certainly not taken: the intent counts no more."""
        self.write({"line": number, "void": True})

    def write(self, record: Mapping[str, Any]) -> None:
        """One record, in one write."""
        write_all(self.journal, json.dumps(record).encode() + b"\n")

    def close(self) -> None:
        """Gives the files back."""
        os.close(self.descriptor)
        os.close(self.journal)


def whole_lines(descriptor: int) -> list[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file, with their places; a torn last line is cut off the file."""
    size = os.fstat(descriptor).st_size
    data = bytearray()
    while len(data) < size:
        block = os.pread(descriptor, 1 << 20, len(data))
        if not block:
            break
        data += block
    end = data.rfind(b"\n") + 1
    if end != len(data):
        os.ftruncate(descriptor, end)
    records = []
    for place, line in enumerate(bytes(data[:end]).splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        records.append((place, record if isinstance(record, dict) else {}))
    return records


def write_all(descriptor: int, data: bytes) -> None:
    """Writes every byte; OSError if the system refuses."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
