"""The form of audit files, and how they are checked: without a node, without its key, by anyone who can read them.

A file is lines of JSON. Each record has its number `n`, `prev`, the hash of the record before, and `hash`, SHA-256 of its own
line up to there; so the files are one chain, and a file's name says the number that it begins with. `checkpoint.json` holds a
signed head: what the chain ended with at that time. docs/capabilities.md says what that proves.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = "audit"
CHECKPOINT = "checkpoint.json"
FIRST = "0" * 64  # what the first record has as `prev`
_HASH = ',"hash":"'


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ended. Written as `n:hash:signature`; the signature is empty where nobody signed it."""

    n: int
    hash: str
    signature: str

    def __str__(self) -> str:
        return f"{self.n}:{self.hash}:{self.signature}"

    def signed_by(self, key: bytes) -> bool:
        """Whether this key signed it."""
        return hmac.compare_digest(self.signature, signature_of(self.n, self.hash, key))


def signature_of(n: int, hash: str, key: bytes) -> str:
    """The signature of a head: HMAC-SHA-256."""
    return hmac.new(key, f"packetflow audit {n} {hash}".encode(), hashlib.sha256).hexdigest()


def parse_head(text: str) -> Head:
    """A head as it is written in a log or an anchor. Raises ValueError."""
    parts = text.strip().split(":")
    if len(parts) not in (2, 3) or not parts[0].isdecimal() or any(len(part) != 64 for part in parts[1:]):
        raise ValueError(
            f"{text.strip()[:80]!r} is no head; expected number:hash:signature, as the node's log writes it"
        )
    return Head(int(parts[0]), parts[1], parts[2] if len(parts) == 3 else "")


def sealed(record: Mapping[str, Any], n: int, previous: str) -> tuple[bytes, str]:
    """A record as its line, and its hash."""
    text = json.dumps(
        {"n": n, "prev": previous, **record}, ensure_ascii=True, separators=(",", ":"), allow_nan=False
    )
    hash = hashlib.sha256(text.encode()).hexdigest()
    return f'{text[:-1]}{_HASH}{hash}"}}\n'.encode(), hash


def opened(line: bytes) -> dict[str, Any]:
    """A line as its record, its own hash checked. Raises ValueError."""
    text = line.decode("ascii")
    body, mark, hash = text.rstrip("\n").rpartition(_HASH)
    if not mark or hashlib.sha256(f"{body}}}".encode()).hexdigest() != hash.removesuffix('"}'):
        raise ValueError("its hash is not that of what it says")
    record = json.loads(text)
    if (
        not isinstance(record, dict)
        or not isinstance(record.get("n"), int)
        or not isinstance(record.get("prev"), str)
    ):
        raise ValueError("it is no record")
    return record


def files_of(folder: Path) -> list[Path]:
    """The audit files of a folder, in the order of their records."""
    return sorted(folder.glob("*.jsonl"))


def file_name(first: int) -> str:
    """The name of the file that begins with this record."""
    return f"{first:012d}.jsonl"


@dataclass(slots=True)
class Verdict:
    """What a check found. broken: the first place that does not hold, or empty. notes: what else is worth saying.

    torn: bytes of a record at the end that was being written. open: intents without an outcome, by trace.
    """

    records: int = 0
    first: int = 0
    last: int = 0
    hash: str = FIRST
    broken: str = ""
    broken_at: int | None = None
    torn: int = 0
    open: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def verify(folder: Path, *, head: Head | None = None, key: bytes | None = None) -> Verdict:
    """Check the whole chain. head: one that was noted elsewhere, which must be in it. key: to check signatures by.

    Raises OSError if a file can't be read.
    """
    verdict = Verdict()
    seen: dict[int, str] = {}
    checkpoint, fault = read_checkpoint(folder)
    wanted = {one.n for one in (head, checkpoint) if one is not None}
    expected, previous = 1, FIRST
    files = files_of(folder)
    for place, file in enumerate(files):
        for number, line in _lines(file):
            where = f"{file.name}:{number}"
            if not line.endswith(b"\n"):
                if place == len(files) - 1:
                    verdict.torn = len(line)
                    break
                return _broken(verdict, expected, where, "the file ends within a record")
            try:
                record = opened(line)
            except ValueError as error:
                return _broken(verdict, expected, where, str(error))
            if record["n"] != expected:
                missing = (
                    f"record {expected} is missing"
                    if record["n"] > expected
                    else f"record {record['n']} is there twice"
                )
                return _broken(verdict, expected, where, missing)
            if record["prev"] != previous:
                return _broken(
                    verdict,
                    expected,
                    where,
                    f"it does not follow record {expected - 1}, which was changed or replaced",
                )
            previous = str(record["hash"])
            if expected in wanted:
                seen[expected] = previous
            _count(verdict, record)
            expected += 1
    verdict.hash = previous
    if fault:
        verdict.notes.append(fault)
    for one, what in ((checkpoint, "the checkpoint"), (head, "the given head")):
        if one is None or verdict.broken:
            continue
        if one.n > verdict.last:
            _broken(
                verdict,
                verdict.last + 1,
                "the end",
                f"{what} says that there were {one.n} records, and there are {verdict.last}",
            )
        elif one.n and seen.get(one.n) != one.hash:
            _broken(
                verdict,
                one.n,
                f"record {one.n}",
                f"it is not the one of {what}: the chain up to there was written anew",
            )
        elif key is not None and one.signature and not one.signed_by(key):
            _broken(verdict, one.n, what, "it was not signed by this node's key")
    return verdict


def _count(verdict: Verdict, record: Mapping[str, Any]) -> None:
    n = int(record["n"])
    verdict.records += 1
    verdict.first = verdict.first or n
    verdict.last = n
    if record.get("event") == "intent":
        verdict.open[str(record.get("trace"))] = n
    elif record.get("event") == "outcome":
        verdict.open.pop(str(record.get("trace")), None)


def _broken(verdict: Verdict, n: int, where: str, why: str) -> Verdict:
    verdict.broken = f"record {n} ({where}): {why}"
    verdict.broken_at = n
    return verdict


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as stream:
        yield from enumerate(stream, 1)


def read_checkpoint(folder: Path) -> tuple[Head | None, str]:
    """The signed head of a folder, and what is wrong with it."""
    try:
        text = (folder / CHECKPOINT).read_text()
    except FileNotFoundError:
        return None, "there is no checkpoint" if files_of(folder) else ""
    try:
        return parse_head(str(json.loads(text)["head"])), ""
    except (ValueError, KeyError, TypeError):
        return None, f"{CHECKPOINT} can't be read"


def write_checkpoint(folder: Path, head: Head, time: str) -> None:
    """Put a signed head in the place of the one before. Raises OSError."""
    fresh = folder / f"{CHECKPOINT}.new"
    with fresh.open("w") as stream:
        json.dump({"head": str(head), "time": time}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(folder / CHECKPOINT)


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records, the newest first; what can't be read is passed over (`verify` tells it). Raises OSError."""
    for file in reversed(files_of(folder)):
        for line in reversed(file.read_bytes().splitlines(keepends=True)):
            if not line.endswith(b"\n"):
                continue
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record
