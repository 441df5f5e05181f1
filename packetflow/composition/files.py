"""Plans in files: TOML, JSON and YAML by one schema, and one way of telling what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from packetflow.composition.data import Plan, read_data
from packetflow.composition.nodes import PlanError
from packetflow.composition.plan import Composition
from packetflow.documents.document import Document, UnreadableFile, read_text
from packetflow.documents.faults import render
from packetflow.documents.json import parse_json
from packetflow.documents.toml import parse_toml
from packetflow.documents.yaml import parse_yaml

DEEPEST = 400  # levels of tables and lists: a node takes up to four
SUFFIXES: Mapping[str, tuple[str, Callable[..., Document]]] = {
    ".toml": ("a TOML file", parse_toml),
    ".json": ("a JSON file", parse_json),
    ".yaml": ("a YAML file", parse_yaml),
    ".yml": ("a YAML file", parse_yaml),
}


def read_file(path: Path) -> Composition:
    """The composition in a file. Raises PlanError with all faults, each with file, line and column."""
    return read_plan(path).composition


def read_plan(path: Path) -> Plan:
    """The same, with where each node stands in the file."""
    name = str(path)
    try:
        kind, parse = SUFFIXES.get(path.suffix, ("a .toml, .json or .yaml file", parse_toml))
        text = read_text(
            path,
            name,
            kind,
            "a plan",
            folder="name a file in it",
            large="make subflows of parts of it, in files of their own",
        )
        document = parse(text, name, path, deepest=DEEPEST)
    except UnreadableFile as error:
        raise PlanError(render([error.fault]), (error.fault,)) from None
    return read_data(document.values, document)
