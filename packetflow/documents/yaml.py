"""YAML with places, read and written: the one file that knows PyYAML, of whose reader it uses the events only.

The values are those of YAML 1.2's core schema: `on`, `no` and `1:30` are texts, as people expect, and no tag makes an object.
What is named once (`&a`) may stand again (`*a`), within bounds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from packetflow.documents.document import Document, Source, UnreadableFile, deep_fault, digits_fault
from packetflow.documents.faults import Fault, KeyPath, Place, key_text, shown

MOST_VALUES = 100_000  # with each alias counted as what it stands for: a few lines can name millions

_TAG = "tag:yaml.org,2002:"
_HALF = re.compile("[\ud800-\udfff]")
_NULL = re.compile(r"(?:|~|null|Null|NULL)")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def parse_yaml(text: str, name: str, path: Path, *, deepest: int) -> Document:
    """Read YAML from a text. name: what people are shown for the file. deepest: how deep it may go. Raises UnreadableFile."""
    source = Source(text.replace("\r\n", "\n"), name)
    document = Document(name, path, None, source.lines)
    reading = _Reading(source, document, deepest)
    try:
        for event in yaml.parse(source.text, Loader=yaml.SafeLoader):
            reading.take(event)
    except yaml.reader.ReaderError as error:
        place = source.place(error.position, error.position + 1)
        raise UnreadableFile(Fault.at(place, "syntax: a character that YAML does not allow")) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        offset = mark.index if mark is not None else 0
        message = shown(" ".join(filter(None, (error.context, error.problem))))
        hint = "spaces, not tabs, before a key" if "'\\t'" in message else ""
        raise UnreadableFile(
            Fault.at(source.place(offset, offset + 1), f"syntax: {message}", expected=hint)
        ) from None
    return document


class _Open:
    """A list or mapping that is being read. key: the one whose value comes next, if it is known. size: of what it holds."""

    __slots__ = ("anchor", "key", "keys", "size", "start", "value", "way")

    def __init__(
        self, value: list[Any] | dict[str, Any], way: KeyPath, start: int, anchor: str | None
    ) -> None:
        self.value = value
        self.way = way
        self.start = start
        self.anchor = anchor
        self.key: str | None = None
        self.keys: dict[str, Place] = {}
        self.size = 1


class _Reading:
    """Builds the values out of events, without recursion."""

    def __init__(self, source: Source, document: Document, deepest: int) -> None:
        self._source = source
        self._document = document
        self._deepest = deepest
        self._around: list[_Open] = []
        self._named: dict[str, tuple[Any, int]] = {}
        self._documents = 0

    def take(self, event: Event) -> None:
        """The next event of the parser."""
        match event:
            case StreamStartEvent() | StreamEndEvent() | DocumentEndEvent():
                pass
            case DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise self._refuse(event, "a second document begins", "one document in a file")
            case ScalarEvent():
                self._scalar(event)
            case AliasEvent():
                self._alias(event)
            case SequenceStartEvent() | MappingStartEvent():
                self._open(event)
            case _:
                self._close(event)

    def _scalar(self, event: ScalarEvent) -> None:
        value = self._value_of(event)
        here = self._around[-1] if self._around else None
        if here is not None and isinstance(here.value, dict) and here.key is None:
            self._key(here, event, value)
            return
        if event.anchor:
            self._named[event.anchor] = (value, 1)
        self._put(value, event, 1)

    def _key(self, here: _Open, event: ScalarEvent, key: Any) -> None:
        if not isinstance(key, str):
            raise self._refuse(
                event, f"the key {shown(event.value)} is no text", f'"{shown(event.value)}" in quotes'
            )
        if key in here.keys:
            first = here.keys[key].line
            raise self._refuse(
                event, f"syntax: key {key_text(key)} stands twice, first in line {first}", "each key once"
            )
        here.key = key
        here.keys[key] = self._document.keys[*here.way, key] = self._place(event)

    def _alias(self, event: AliasEvent) -> None:
        if event.anchor not in self._named:
            raise self._refuse(
                event, f"*{shown(event.anchor)} stands for nothing that is whole before it", ""
            )
        here = self._around[-1] if self._around else None
        if here is not None and isinstance(here.value, dict) and here.key is None:
            raise self._refuse(event, "an alias as a key", "a text")
        value, size = self._named[event.anchor]
        self._put(value, event, size)

    def _open(self, event: SequenceStartEvent | MappingStartEvent) -> None:
        here = self._around[-1] if self._around else None
        if here is not None and isinstance(here.value, dict) and here.key is None:
            raise self._refuse(event, "a list or mapping as a key", "a text")
        if event.tag not in (None, "!", _TAG + "seq", _TAG + "map"):
            raise self._tag(event)
        if len(self._around) >= self._deepest:
            raise UnreadableFile(deep_fault(self._place(event), self._deepest))
        value: list[Any] | dict[str, Any] = [] if isinstance(event, SequenceStartEvent) else {}
        self._around.append(_Open(value, self._way(), event.start_mark.index, event.anchor))

    def _close(self, event: Event) -> None:
        done = self._around.pop()
        if done.anchor:
            self._named[done.anchor] = (done.value, done.size)
        self._put(done.value, event, done.size, done.start)

    def _put(self, value: Any, event: Event, size: int, start: int | None = None) -> None:
        """A value that is whole, where it belongs."""
        way = self._way()
        first = event.start_mark.index if start is None else start
        self._document.places[way] = self._source.place(first, max(first, event.end_mark.index))
        here = self._around[-1] if self._around else None
        if here is None:
            self._document.values = value
            return
        here.size += size
        if here.size > MOST_VALUES:
            raise self._refuse(
                event, f"more than {MOST_VALUES:,} values, aliases counted", f"at most {MOST_VALUES:,}"
            )
        if isinstance(here.value, list):
            here.value.append(value)
        else:
            assert here.key is not None
            here.value[here.key] = value
            here.key = None

    def _way(self) -> KeyPath:
        """Where the next value belongs."""
        if not self._around:
            return ()
        here = self._around[-1]
        if isinstance(here.value, list):
            return (*here.way, len(here.value))
        assert here.key is not None
        return (*here.way, here.key)

    def _value_of(self, event: ScalarEvent) -> Any:
        text: str = event.value
        tag = event.tag
        if _HALF.search(text):  # JSON's way of writing what is beyond 16 bits, which PyYAML leaves as it is
            try:
                text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError:
                raise self._refuse(event, "an escape that is half a character", "both halves") from None
        if tag in ("!", _TAG + "str") or (tag is None and event.style is not None):
            return text
        if tag is not None and tag.removeprefix(_TAG) not in ("null", "bool", "int", "float"):
            raise self._tag(event)
        try:
            value = _plain(text)
        except ValueError:  # an integer of more digits than Python converts
            raise UnreadableFile(digits_fault(self._source)) from None
        wanted = {None: object, "null": type(None), "bool": bool, "int": int, "float": (int, float)}[
            None if tag is None else tag.removeprefix(_TAG)
        ]
        if not isinstance(value, wanted):  # type: ignore[arg-type]  # a mapping of types and a tuple of them
            raise self._refuse(event, f"{shown(text)} is no {tag.removeprefix(_TAG)}", "a value of its tag")
        return float(value) if tag == _TAG + "float" else value

    def _tag(self, event: Any) -> UnreadableFile:
        return self._refuse(
            event,
            f"the tag {shown(event.tag)} is not read",
            "plain values: texts, numbers, true, false, null",
        )

    def _place(self, event: Event) -> Place:
        return self._source.place(event.start_mark.index, event.end_mark.index)

    def _refuse(self, event: Event, message: str, expected: str) -> UnreadableFile:
        return UnreadableFile(Fault.at(self._place(event), message, expected=expected))


def _plain(text: str) -> Any:
    """What a plain word means in YAML 1.2's core schema. Raises ValueError for an integer that is too long."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Writes texts in quotes where they would be read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Everything is written out."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> Any:
    # What is not printable has escapes in double quotes only: other styles fold what YAML 1.1 takes for the end of a line.
    quoted = not text.isprintable() or len(text) > 1_000 or not isinstance(_plain(text), str)
    return dumper.represent_scalar(_TAG + "str", text, style='"' if quoted else None)


_Dumper.add_representer(str, _text)


def write_yaml(data: Any) -> str:
    """Plain values as YAML, which `parse_yaml` reads as the same."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text
