"""From what validation says to faults at their places, and the checks that no single value can fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from packetflow.documents.faults import (
    MASK,
    Fault,
    KeyPath,
    Place,
    kind_text,
    nearest,
    path_text,
    reason,
    shown,
    value_text,
)
from packetflow.node.config.contradictions import contradictions
from packetflow.node.config.fields import Expect
from packetflow.node.config.layers import LISTS, Layers, Mark
from packetflow.node.config.schema import NodeConfig, model_in
from packetflow.node.config.secrets import FORMS, is_literal_secret, looks_secret, masked

_RANGES = ("greater_than", "less_than", "too_long", "too_short", "finite_number", "multiple_of")
KEYS_SHOWN = 5
_NOWHERE = Place("the configuration")


def key_place(layers: Layers, path: KeyPath) -> Place:
    """Where a key stands, or what holds it."""
    mark = layers.mark(path)
    return mark.key if mark else _anywhere(layers)


def value_place(layers: Layers, path: KeyPath) -> Place:
    """Where a value stands, or what holds it."""
    mark = layers.mark(path)
    return mark.value if mark else _anywhere(layers)


def _anywhere(layers: Layers) -> Place:
    mark: Mark | None = next(iter(layers.marks.values()), None)
    return Place(mark.key.file) if mark else _NOWHERE


def validation_faults(
    error: ValidationError, model: type[BaseModel], layers: Layers, prefix: KeyPath = ()
) -> Iterator[Fault]:
    """A fault for each error of a validation of the values at `prefix` by `model`."""
    for item in error.errors(include_url=False):
        local: KeyPath = tuple(item["loc"])
        if not local and model is NodeConfig:
            continue  # a contradiction: told by `contradiction_faults`, with its place
        yield _validation_fault(dict(item), local, model, layers, prefix)


def _validation_fault(
    item: dict[str, Any], local: KeyPath, model: type[BaseModel], layers: Layers, prefix: KeyPath
) -> Fault:
    kind, path = item["type"], (*prefix, *local)
    owner, field = owner_of(local, model)
    if kind == "extra_forbidden" and owner is not None:
        return _unknown_key(path, owner, layers, prefix)
    if kind == "missing":
        expect = expected_of(field, local)
        example = f"{local[-1]} = {expect.example}" if expect and expect.example else ""
        return Fault.at(
            key_place(layers, path[:-1]),
            f"missing key{_within(path, layers)}",
            key=path_text(path),
            expected=f"{expect.words}, for example {example}" if expect and example else _words_of(field),
        )
    path = layers.written(path)
    value = layers.get(path, item.get("input"))
    place = value_place(layers, path)
    return Fault.at(
        place,
        _message(item, layers, path),
        key=path_text(path),
        given=_given(path, value, kind),
        expected=_expected(item, field, local),
        nearest=_nearest_word(value, field) if kind == "literal_error" else "",
        next=FORMS_NEXT if kind == "secret_literal" else "",
    )


FORMS_NEXT = "put the secret into a file (chmod 600) and name that file here"


def _message(item: dict[str, Any], layers: Layers, path: KeyPath) -> str:
    kind, text = item["type"], str(item["msg"])
    where = _within(path, layers)
    if kind == "literal_error":
        return f"unknown word{where}"
    if kind.startswith(_RANGES):
        return f"out of range{where}"
    if kind.endswith(("_type", "_parsing")) or kind == "int_from_float":
        return f"wrong type{where}"
    if kind == "secret_literal":
        return f"a secret is written out{where}"
    if kind == "value_error":
        text = text.removeprefix("Value error, ")
    elif kind == "assertion_error":
        text = text.removeprefix("Assertion failed, ")
    elif not kind.startswith("secret"):
        return f"not a fitting value{where}"
    return shown(text) + where


def _given(path: KeyPath, value: object, kind: str) -> str:
    named = next((part for part in reversed(path) if isinstance(part, str)), "")
    if kind == "secret_literal" or (looks_secret(named) and not isinstance(value, Mapping)):
        return MASK
    text = value_text(masked(value, path))
    wrong_type = kind.endswith(("_type", "_parsing")) or kind == "int_from_float"
    return f"{text} ({kind_text(value)})" if wrong_type else text


def _expected(item: dict[str, Any], field: FieldInfo | None, local: KeyPath) -> str:
    if item["type"].startswith("secret"):
        return FORMS
    expect = expected_of(field, local)
    if expect is not None:
        return str(expect)
    if item["type"] in ("value_error", "assertion_error"):
        return _words_of(field)
    text = str(item["msg"])
    for start in ("Input should be ", "Value should have ", "String should ", "Tuple should "):
        if text.startswith(start):
            rest = text.removeprefix(start)
            return shown(rest if start == "Input should be " else f"what should {rest}")
    return shown(text)


def _words_of(field: FieldInfo | None) -> str:
    """A field without an Expect (an author's) by its annotation."""
    if field is None:
        return ""
    expect = expected_of(field, ())
    if expect is not None:
        return str(expect)
    annotation = field.annotation
    name = getattr(annotation, "__name__", "") if not get_args(annotation) else str(annotation)
    words = {
        "str": "a string",
        "int": "an integer",
        "float": "a number",
        "bool": "true or false",
        "Secret": FORMS,
    }
    return words.get(name, shown(name.replace("typing.", "")))


def _nearest_word(value: object, field: FieldInfo | None) -> str:
    words = [str(word) for word in _literals(field.annotation if field else None)]
    return nearest(value, words) if isinstance(value, str) else ""


def _literals(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    for argument in get_args(annotation):
        found = _literals(argument)
        if found:
            return found
    return ()


def _unknown_key(path: KeyPath, owner: type[BaseModel], layers: Layers, prefix: KeyPath) -> Fault:
    name = str(path[-1])
    known = [info.alias or key for key, info in owner.model_fields.items()]
    similar = nearest(name, known)
    if not similar and not prefix:
        similar = _elsewhere(name)
    value = layers.get(path)
    listed = ", ".join(known[:KEYS_SHOWN]) + (", ..." if len(known) > KEYS_SHOWN else "")
    section = ".".join(str(part) for part in path[:-1] if isinstance(part, str))
    more = "" if prefix else f" (packetflow config schema{' ' + section if section else ''})"
    secret = looks_secret(name) or looks_secret(similar)
    hidden = MASK if secret and not isinstance(value, Mapping) else value_text(masked(value, path))
    place = key_place(layers, path)
    if secret and isinstance(value, str):
        place = Place(
            place.file, place.line, place.column, place.end, place.text.replace(value, "*" * len(value))
        )
    return Fault.at(
        place,
        f"unknown key{_within(path, layers)}",
        key=path_text(path),
        given=hidden,
        expected=f"{listed}{more}" if known else "no keys: it has nothing to set",
        nearest=similar,
    )


def _elsewhere(name: str) -> str:
    """A key of this very name in another section."""
    for section, info in NodeConfig.model_fields.items():
        model = model_in(info.annotation)
        if model is not None and section not in LISTS and name in model.model_fields:
            return f"{section}.{name}"
    return ""


def _within(path: KeyPath, layers: Layers) -> str:
    """ " in [http]", " in module "tax"", for messages; nothing at the top level."""
    if len(path) < 2:
        return ""
    if len(path) > 2 and path[0] == "modules" and isinstance(path[1], int):
        name = layers.get((*path[:2], "name"))
        config = "the config of " if len(path) > 3 and path[2] == "config" else ""
        called = value_text(name) if isinstance(name, str) else f"number {path[1] + 1}"
        return f" in {config}module {called}"
    if len(path) > 1 and isinstance(path[1], int):
        return f" in [[{shown(str(path[0]))}]] number {path[1] + 1}" if path[0] in LISTS else ""
    return f" in [{path_text(path[:-1])}]"


def owner_of(path: KeyPath, model: type[BaseModel]) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The model that the last key of a path belongs to, and its field there if it has one."""
    owner: type[BaseModel] | None = model
    field: FieldInfo | None = None
    last = max((index for index, part in enumerate(path) if isinstance(part, str)), default=-1)
    names_an_entry = False  # in a table of models, `overrides = { "ticket.*" = {...} }`
    for index, part in enumerate(path):
        if not isinstance(part, str):
            continue
        if names_an_entry:
            names_an_entry = False
            if index == last:
                return None, field
            continue
        if owner is None:
            return None, field
        found = next((info for key, info in owner.model_fields.items() if part in (key, info.alias)), None)
        if found is None:
            return (owner, None) if index == last else (None, field)
        field = found
        if index == last:
            return owner, field
        owner = model_in(field.annotation)
        names_an_entry = get_origin(field.annotation) in (dict, Mapping)
    return owner, field


def expected_of(field: FieldInfo | None, path: KeyPath) -> Expect | None:
    """What is expected of a field, or of one item of its list where the path ends with an index."""
    if field is None:
        return None
    item = _item_of(field.annotation) if path and isinstance(path[-1], int) else None
    if item is not None and get_origin(item) is Annotated:
        found = [word for word in get_args(item)[1:] if isinstance(word, Expect)]
        if found:
            return found[-1]
    elif item is not None and model_in(item) is not None:
        return Expect("a table")
    here = [word for word in field.metadata if isinstance(word, Expect)]
    if here:
        return here[-1]
    for argument in get_args(field.annotation):
        if get_origin(argument) is Annotated:
            inner = [word for word in get_args(argument)[1:] if isinstance(word, Expect)]
            if inner:
                return inner[-1]
    return Expect("a table") if model_in(field.annotation) is not None else None


def _item_of(annotation: Any) -> Any:
    arguments = get_args(annotation)
    return arguments[0] if get_origin(annotation) is tuple and arguments else None


def contradiction_faults(layers: Layers) -> Iterator[Fault]:
    """Values that can't stand together: equal names, a door beyond loopback, ..."""
    for found in contradictions(layers.values):
        mark = layers.origin(found.path)
        path = found.path
        if mark is None and found.other is not None and layers.origin(found.other) is not None:
            path = found.other  # the other one was written, this one is the default
        other = layers.origin(found.other) if found.other is not None and path is not found.other else None
        also = f", the other at {other.value if other.value.line else other}" if other else ""
        value = layers.get(found.path)
        yield Fault.at(
            value_place(layers, path),
            found.message + also,
            key=path_text(found.path),
            given=""
            if value is None or isinstance(value, Mapping)
            else value_text(masked(value, found.path)),
            expected=found.expected,
            next=found.next,
        )


def literal_faults(layers: Layers) -> Iterator[Fault]:
    """Secrets that are written out."""
    pending: list[tuple[KeyPath, Any]] = [((key,), value) for key, value in reversed(layers.values.items())]
    while pending:
        path, value = pending.pop()
        if is_literal_secret(path, value):
            where = _within(path, layers)
            in_url = (
                "" if looks_secret(str(path[-1])) or isinstance(path[-1], int) else "a URL with a password"
            )
            yield Fault.at(
                value_place(layers, path),
                f"{in_url or 'a secret'} is written out{where}",
                key=path_text(path),
                given=MASK,
                expected=FORMS,
                next=FORMS_NEXT,
            )
        elif isinstance(value, dict):
            pending += [((*path, key), item) for key, item in reversed(value.items())]
        elif isinstance(value, list):
            pending += [((*path, index), item) for index, item in reversed(list(enumerate(value)))]


def missing_file_faults(config_values: Mapping[str, Any], layers: Layers, folder: Path) -> Iterator[Fault]:
    """Files and folders that were written down and are not there. Defaults may be missing."""
    named: list[tuple[KeyPath, object, str]] = []
    paths = config_values.get("module_path")
    if isinstance(paths, list):
        named += [(("module_path", index), path, "folder") for index, path in enumerate(paths)]
    entries = config_values.get("capabilities")
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, Mapping):
            named.append((("capabilities", index, "path"), entry.get("path"), "file or folder"))
    for path, value, what in named:
        if not isinstance(value, str) or not value:
            continue
        full = Path(value).expanduser() if value.startswith("~/") else folder / value
        problem = _missing(full, what)
        if problem:
            yield Fault.at(
                value_place(layers, path),
                f"{problem}: {shown(str(full))}",
                key=path_text(path),
                given=value_text(value),
                expected=f"an existing {what}; relative paths begin at {shown(str(folder))}",
                nearest=_sibling(full),
            )


def _missing(path: Path, what: str) -> str:
    try:
        if what == "folder" and path.exists() and not path.is_dir():
            return "no folder"
        return "" if path.exists() else f"no such {what}"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return reason(error)


def _sibling(path: Path) -> str:
    try:
        return nearest(path.name, [item.name for item in path.parent.iterdir()][:1000])
    except (OSError, ValueError):
        return ""
