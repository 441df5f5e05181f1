"""Values laid over each other, each with where it came from; and the names of keys in variables, flags and the overlay."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from packetflow.documents.document import Document
from packetflow.documents.faults import KeyPath, Place, nearest, path_text
from packetflow.documents.toml import read_value
from packetflow.node.config.schema import NodeConfig, model_in

Kind = Literal["default", "user file", "file", "overlay", "environment", "flag"]

PREFIX = "PACKETFLOW_"
#: Variables that are no keys: which node, and which file.
OTHER_VARIABLES = frozenset({"PACKETFLOW_NODE", "PACKETFLOW_CONFIG"})
#: Lists of tables, which later files of one layer extend.
LISTS = ("capabilities", "channels", "effects", "modules")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a value was written. `key` and `value` are places, the same where the source has no lines."""

    kind: Kind
    key: Place
    value: Place
    note: str = ""

    def __str__(self) -> str:
        if self.kind in ("file", "user file"):
            return f"{self.key.file}:{self.key.line}"
        return f"{self.kind} {self.note}".rstrip()


class Layers:
    """Plain nested values, the later laid over the earlier, and a Mark for each key."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.marks: dict[KeyPath, Mark] = {}

    def copy(self) -> Layers:
        """An independent copy."""
        made = Layers()
        made.values = copy.deepcopy(self.values)
        made.marks = dict(self.marks)
        return made

    def extend(self, document: Document, kind: Kind) -> None:
        """Lay a file over what is there: tables are merged, other values replaced.

        `[[modules]]` and `[[capabilities]]` are put behind those that are there.
        """
        self._extend(document.values, _DocumentMarks(document, kind))

    def extend_layers(self, other: Layers) -> None:
        """Like `extend`, with other layers instead of a file."""
        self._extend(other.values, other.marks)

    def _extend(self, values: Mapping[str, Any], marks: Any) -> None:
        rest = dict(values)
        for name in LISTS:
            there, more = self.values.get(name), rest.get(name)
            if isinstance(there, list) and isinstance(more, list):
                for index, item in enumerate(more):
                    there.append(copy.deepcopy(item))
                    self._mark_all((name, len(there) - 1), item, marks, (name, index))
                del rest[name]
        self._merge(self.values, rest, (), marks)

    def lay_over(self, other: Layers) -> None:
        """Lay other layers over these; lists are replaced."""
        self._merge(self.values, other.values, (), other.marks)

    def put(self, path: KeyPath, value: object, mark: Mark) -> None:
        """Set one value; tables on the way are made, what is there and no table is replaced."""
        at: Any = self.values
        for part in path[:-1]:
            if isinstance(part, int):
                at = at[part]
                continue
            inner = at.get(part)
            if not isinstance(inner, dict | list):
                at[part] = inner = {}
            at = inner
        at[path[-1]] = copy.deepcopy(value)
        self._forget(path)
        self._mark_all(path, value, _OneMark(mark), path)

    def get(self, path: KeyPath, default: object = None) -> Any:
        """The value at a path, or the default."""
        at: Any = self.values
        for part in path:
            inside = part in at if isinstance(at, dict) else _is_index(part, at)
            if not inside:
                return default
            at = at[part]
        return at

    def mark(self, path: KeyPath) -> Mark | None:
        """The mark of a path or, where it has none of its own, of what holds it.

        Steps that a validator added (the name of a union's branch, the table behind a list) are passed over.
        """
        at: KeyPath = ()
        found = None
        for part in path:
            way = (*at, part)
            if way in self.marks:
                at, found = way, self.marks[way]
            elif isinstance(self.get(way, _MISSING), dict | list):
                at = way
        return found

    def written(self, path: KeyPath) -> KeyPath:
        """A validator's path without the steps that only the validator knows (the table behind a list)."""
        at: KeyPath = ()
        for part in path:
            here = self.get(at)
            if isinstance(here, dict if isinstance(part, str) else list):
                at = (*at, part)
        return at

    def origin(self, path: KeyPath) -> Mark | None:
        """The mark of the very value at a path; None where the value is a default."""
        at: Any = self.values
        part: Any
        for depth, part in enumerate(path):
            if not isinstance(at, dict | list):
                return self.marks.get(path[:depth])
            if isinstance(at, list) and isinstance(
                part, str
            ):  # `match = [...]`: the list is its capabilities
                return self.marks.get(path[:depth]) if part == "capabilities" else None
            if not (part in at if isinstance(at, dict) else _is_index(part, at)):
                return None
            at = at[part]
        return self.marks.get(path)

    def _merge(self, under: dict[str, Any], over: Mapping[str, Any], path: KeyPath, marks: Any) -> None:
        for key, value in over.items():
            way = (*path, key)
            there = under.get(key)
            if isinstance(there, dict) and isinstance(value, dict) and value:
                mark = marks.get(way)
                if mark is not None:
                    self.marks[way] = mark
                self._merge(there, value, way, marks)
                continue
            if key in under:
                self._forget(way)
            under[key] = copy.deepcopy(value)
            self._mark_all(way, value, marks, way)

    def _forget(self, path: KeyPath) -> None:
        depth = len(path)
        for way in [way for way in self.marks if way[:depth] == path]:
            del self.marks[way]

    def _mark_all(self, path: KeyPath, value: object, marks: Any, source: KeyPath) -> None:
        mark = marks.get(source)
        if mark is not None:
            self.marks[path] = mark
        items: Any = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, item in items:
            self._mark_all((*path, key), item, marks, (*source, key))


_MISSING = object()


def _is_index(part: str | int, value: object) -> bool:
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


class _DocumentMarks:
    """A document's places as marks."""

    def __init__(self, document: Document, kind: Kind) -> None:
        self.document = document
        self.kind = kind

    def get(self, path: KeyPath) -> Mark | None:
        key, value = self.document.keys.get(path), self.document.places.get(path)
        first, second = key or value, value or key
        return Mark(self.kind, first, second) if first is not None and second is not None else None


class _OneMark:
    """The same mark for everything."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark

    def get(self, path: KeyPath) -> Mark:
        return self.mark


# Names of keys


class UnknownKey(Exception):
    """A dotted key or a variable that names no key; `nearest` is the one that was probably meant."""

    def __init__(self, key: str, nearest: str) -> None:
        super().__init__(key)
        self.nearest = nearest


_STEP = re.compile(r"""([A-Za-z0-9_-]+)|"((?:[^"\\]|\\.)*)"|\[(\d{1,6})\]""")


def split_key(text: str) -> tuple[str | int, ...]:
    """`modules.rate_limit.config."a.b"` or `modules[0].priority` in its parts. Raises UnknownKey for what is no key."""
    parts: list[str | int] = []
    offset = 0
    while offset < len(text):
        if parts and text[offset] == ".":
            offset += 1
        elif parts and text[offset] != "[":
            raise UnknownKey(text, "")
        found = _STEP.match(text, offset)
        if found is None:
            raise UnknownKey(text, "")
        if found[3] is not None:
            parts.append(int(found[3]))
        elif found[2] is not None:
            parts.append(str(read_value(f'"{found[2]}"')))
        else:
            parts.append(found[1])
        offset = found.end()
    if not parts or text.endswith("."):
        raise UnknownKey(text, "")
    return tuple(parts)


def find_key(
    parts: tuple[str | int, ...], layers: Layers, fold: bool = False
) -> tuple[KeyPath, FieldInfo | None]:
    """The path in the values that a dotted key means, and its field (None inside of free tables).

    A module is found by its name as well as by its index. `fold`: letters' case and `-` for `_` do not matter.
    Raises UnknownKey.
    """

    def folded(name: object) -> str:
        return str(name).replace("-", "_").casefold() if fold else str(name)

    path: list[str | int] = []
    model: type[BaseModel] | None = NodeConfig
    field: FieldInfo | None = None
    pending = list(parts)
    while pending:
        part = pending.pop(0)
        if model is None:  # inside of a free table: an existing key, or a new one
            if field is not None and get_origin(_plain(field.annotation)) is not Mapping:
                raise UnknownKey(dotted(parts), dotted(tuple(path)))
            there = layers.get(tuple(path))
            names = there if isinstance(there, dict) else {}
            path.append(next((name for name in names if folded(name) == folded(part)), _lowered(part, fold)))
            field = None
            continue
        fields = {info.alias or name: info for name, info in model.model_fields.items()}
        name = next((name for name in fields if folded(name) == folded(part)), None)
        if name is None or name == "include":
            word = nearest(str(part).casefold() if fold else str(part), [f for f in fields if f != "include"])
            raise UnknownKey(dotted(parts), dotted((*path, word)) if word else "")
        path.append(name)
        field = fields[name]
        model = model_in(field.annotation)
        if name in LISTS and model is not None:
            if not pending:
                raise UnknownKey(dotted(parts), "")
            path.append(_entry(str(name), pending.pop(0), layers, folded))
            if not pending:
                raise UnknownKey(dotted(parts), "")
    if model is not None and path[-1] not in ("match", "not"):
        raise UnknownKey(dotted(parts), dotted((*path, next(iter(model.model_fields)))))
    return tuple(path), field


def _lowered(part: str | int, fold: bool) -> str:
    return str(part).lower() if fold else str(part)


def _entry(name: str, part: str | int, layers: Layers, folded: Any) -> int:
    entries = layers.get((name,))
    entries = entries if isinstance(entries, list) else []
    if isinstance(part, int) or part.isdecimal():
        if int(part) < len(entries) and isinstance(entries[int(part)], dict):
            return int(part)
        raise UnknownKey(f"{name}[{part}]", "")
    names = [entry.get("name") for entry in entries if isinstance(entry, dict)]
    for index, entry in enumerate(entries):
        if (
            isinstance(entry, dict)
            and isinstance(entry.get("name"), str)
            and folded(entry["name"]) == folded(part)
        ):
            return index
    word = nearest(part, [known for known in names if isinstance(known, str)])
    raise UnknownKey(f"{name}.{part}", f"{name}.{word}" if word else "")


def dotted(parts: tuple[str | int, ...]) -> str:
    """A key's name for flags, the overlay and `config show`."""
    return path_text(parts)


def name_of(path: KeyPath, layers: Layers) -> str:
    """The dotted key of a path, modules by name where they have one of their own: it stays when their order changes."""
    if len(path) >= 2 and path[0] == "modules" and isinstance(path[1], int):
        entries = layers.get(("modules",))
        names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries or ()]
        name = names[path[1]] if path[1] < len(names) else None
        if isinstance(name, str) and names.count(name) == 1:
            return dotted(("modules", name, *path[2:]))
    return dotted(path)


def variable_of(parts: tuple[str | int, ...]) -> str:
    """The environment variable that sets a key."""
    return PREFIX + "__".join(str(part).replace("-", "_").upper() for part in parts)


def known_variables(layers: Layers) -> Iterator[str]:
    """The variables that set keys of this configuration (those of free tables left out)."""

    def below(model: type[BaseModel], at: tuple[str | int, ...]) -> Iterator[str]:
        for name, info in model.model_fields.items():
            key = info.alias or name
            inner = model_in(info.annotation)
            if key in LISTS and inner is not None:
                entries = layers.get((key,))
                for index, entry in enumerate(entries if isinstance(entries, list) else ()):
                    named = entry.get("name") if isinstance(entry, dict) else None
                    yield from below(inner, (*at, key, named if isinstance(named, str) else index))
            elif inner is not None and key != "match":
                yield from below(inner, (*at, key))
            elif key != "include":
                yield variable_of((*at, key))

    yield from OTHER_VARIABLES
    yield from below(NodeConfig, ())


def read_text(text: str, field: FieldInfo | None) -> object:
    """What a variable's or flag's text means for a field: a number, a list (`a, b` or TOML's) or the text itself."""
    if field is None:
        return read_value(text)
    kind = _plain(field.annotation)
    if get_origin(kind) is tuple:
        return read_value(text) if text.lstrip().startswith("[") else _split(text)
    if kind in (bool, int, float):
        value = read_value(text)
        return value if isinstance(value, bool | int | float) else text
    if get_origin(kind) is Mapping:
        return read_value(text)
    if model_in(field.annotation) is not None:  # match: patterns, or a table
        return read_value(text) if text.lstrip().startswith(("[", "{")) else _split(text)
    return text


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _plain(annotation: Any) -> Any:
    """An annotation without Annotated and None."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    if len(arguments) == 1 and type(None) in get_args(annotation):
        return _plain(arguments[0])
    return annotation
