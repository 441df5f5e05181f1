"""The lines of an input, JSON Lines or CSV: numbered, digested, and never read more than one block ahead."""

from __future__ import annotations

import csv
import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packetflow.cli.failures import usage
from packetflow.cli.typed import NotThatType, Schema, parse, strict_json

BLOCK = 1 << 18
LONGEST = 1 << 24  # bytes of a line; more is no record but a mistake
ROWS_OF_A_RECORD = 1000  # lines that one quoted CSV record may span


@dataclass(frozen=True, slots=True)
class Line:
    """A line (of CSV: a record) of the input.

    number: of its first line, from 1. end: bytes of the input up to its end. text: without the line's end; None if it
    was longer than LONGEST. digest: of the text. history: of the input up to and including this line.
    """

    number: int
    end: int
    text: bytes | None
    digest: str
    history: str


class Malformed(ValueError):
    """A line that is no payload; the message says why."""


class Input:
    """The raw lines of an input. read: up to that many bytes, b"" at the end; it may block its greenlet, not the hub."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read = read
        self.history = hashlib.sha256()

    def raw(self) -> Iterator[tuple[int, int, bytes | None]]:
        """(number, end, text) of each line; the text is None where the line is too long to be kept."""
        rest = b""
        number = end = dropped = 0
        while block := self.read(BLOCK):
            pieces = (rest + block).split(b"\n")
            rest = pieces.pop()
            for piece in pieces:
                number += 1
                end += dropped + len(piece) + 1
                yield number, end, None if dropped or len(piece) > LONGEST else tidy(piece, number)
                dropped = 0
            if len(rest) > LONGEST:
                dropped, rest = dropped + len(rest), b""
        if rest or dropped:
            number += 1
            yield number, end + dropped + len(rest), None if dropped else tidy(rest, number)

    def line(self, number: int, end: int, text: bytes | None) -> Line:
        """The line with its digests; called once a line, in order."""
        digest = hashlib.sha256(text if text is not None else b"").hexdigest()[:16]
        self.history.update(f"{number}:{digest}\n".encode())
        return Line(number, end, text, digest, self.history.copy().hexdigest())


def tidy(text: bytes, number: int) -> bytes:
    """A line without its carriage return, and the first one without a byte order mark."""
    if number == 1:
        text = text.removeprefix(b"\xef\xbb\xbf")
    return text.removesuffix(b"\r")


class JsonLines:
    """JSON Lines: each line a payload object; blank lines don't count."""

    def __init__(self, source: Input) -> None:
        self.source = source

    def __iter__(self) -> Iterator[Line]:
        for number, end, text in self.source.raw():
            if text is None or text.strip():
                yield self.source.line(number, end, text)

    def payload(self, line: Line) -> Mapping[str, Any]:
        """The payload that a line holds. Raises Malformed."""
        text = decoded(line)
        try:
            value = strict_json(text)
        except ValueError as error:
            raise Malformed(f"not JSON: {error}") from None
        if not isinstance(value, dict):
            raise Malformed(f"expected a JSON object, given {type(value).__name__}")
        return value


class CsvRecords:
    """CSV (RFC 4180): the first record names the fields, the cells are typed by the contract.

    An empty cell leaves its field out. A quote that is never closed spoils its own line only.
    """

    def __init__(self, source: Input, schema: Schema | None) -> None:
        self.source = source
        self.schema: Schema = schema or {}
        properties = self.schema.get("properties")
        self.properties = properties if isinstance(properties, Mapping) else {}
        self.header: Sequence[str] = ()

    def __iter__(self) -> Iterator[Line]:
        records = self.records()
        for number, end, text in records:
            if text is None:
                raise usage(
                    "the first line of a CSV file has to name the fields; this one is too long for that"
                )
            if text.strip():
                self.header = self.fields(self.source.line(number, end, text))
                break
        else:
            raise usage("the input is empty: a CSV file begins with the names of its fields")
        for number, end, text in records:
            if text is None or text.strip():
                yield self.source.line(number, end, text)

    def records(self) -> Iterator[tuple[int, int, bytes | None]]:
        """Records: lines joined while a quote is open."""
        lines = self.source.raw()
        again: deque[tuple[int, int, bytes | None]] = deque()
        while True:
            first = again.popleft() if again else next(lines, None)
            if first is None:
                return
            if first[2] is None or first[2].count(b'"') % 2 == 0:
                yield first
                continue
            parts = [first[2]]
            taken: list[tuple[int, int, bytes | None]] = []
            closed, size = False, len(first[2])
            while not closed and len(taken) < ROWS_OF_A_RECORD and size < LONGEST:
                more = again.popleft() if again else next(lines, None)
                if more is None:
                    break
                taken.append(more)
                if more[2] is None:
                    break
                parts.append(more[2])
                size += len(more[2])
                closed = more[2].count(b'"') % 2 == 1
            if closed:
                yield first[0], taken[-1][1], b"\n".join(parts)
            else:
                # The quote is never closed: the line is reported as it stands, and what follows is read anew.
                yield first
                again.extendleft(reversed(taken))

    def fields(self, line: Line) -> Sequence[str]:
        """The field names of the first record. Raises Failure."""
        try:
            names = [name.strip() for name in self.cells(line)]
        except Malformed as error:
            raise usage(f"line {line.number} has to name the fields: {error}") from None
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or "" in names:
            what = f"names {', '.join(twice)} twice" if twice else "leaves a column without a name"
            raise usage(f"line {line.number}, the CSV header, {what}")
        return names

    def cells(self, line: Line) -> list[str]:
        """The cells of a record. Raises Malformed."""
        text = decoded(line)
        if text.count('"') % 2:
            raise Malformed("a quote is opened and never closed")
        csv.field_size_limit(LONGEST)
        try:
            rows = list(csv.reader(text.splitlines(keepends=True), strict=True))
        except csv.Error as error:
            raise Malformed(f"not CSV: {error}") from None
        if len(rows) != 1:
            raise Malformed(f"not one record but {len(rows)}")
        return rows[0]

    def payload(self, line: Line) -> Mapping[str, Any]:
        """The payload of a record. Raises Malformed."""
        cells = self.cells(line)
        if len(cells) != len(self.header):
            raise Malformed(f"{len(cells)} cells, the header names {len(self.header)} fields")
        payload = {}
        for name, cell in zip(self.header, cells, strict=True):
            if cell == "":
                continue
            try:
                payload[name] = parse(cell, self.properties.get(name, {}), self.schema)
            except NotThatType as error:
                raise Malformed(f"{name}: {error}") from None
        return payload


def decoded(line: Line) -> str:
    """A line's text. Raises Malformed for one too long or not UTF-8."""
    if line.text is None:
        raise Malformed(f"longer than {LONGEST} bytes")
    try:
        return line.text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8 at byte {error.start + 1}") from None
