"""What contradicts itself in a configuration: values that are each well-formed and can't stand together."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packetflow.documents.faults import KeyPath
from packetflow.node.config.effect_sections import channel_faults
from packetflow.wire.ids import OWN


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Values that are each well-formed and can't stand together."""

    path: KeyPath
    message: str
    expected: str
    next: str = ""
    other: KeyPath | None = None


def is_loopback(host: str) -> bool:
    """Whether an address or name reaches this machine only. Names other than localhost are not looked up: no."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def contradictions(values: Mapping[str, Any]) -> Iterator[Contradiction]:
    """What contradicts itself in plain values of any shape: what is malformed is passed over, others tell that."""

    def part(name: str) -> Mapping[str, Any]:
        found = values.get(name)
        return found if isinstance(found, Mapping) else {}

    def entries(name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        found = values.get(name)
        for index, entry in enumerate(found if isinstance(found, list | tuple) else ()):
            if isinstance(entry, Mapping):
                yield index, entry

    doors: dict[tuple[str, int], str] = {}
    for door, default in (("tcp", 7420), ("http", 7421)):
        section = part(door)
        if section.get("enabled", True) is not True:
            continue
        host, port = section.get("host", "127.0.0.1"), section.get("port", default)
        if (
            isinstance(host, str)
            and host
            and not is_loopback(host)
            and part("access").get("insecure") is not True
        ):
            yield Contradiction(
                (door, "host"),
                f"{door} would listen elsewhere than on loopback, and callers are not authenticated",
                'a loopback address, for example "127.0.0.1"',
                "put a proxy that authenticates in front, or set insecure = true in [access] if the network is trusted",
            )
        if isinstance(host, str) and isinstance(port, int) and port:
            other = doors.setdefault((host, port), door)
            if other != door:
                yield Contradiction(
                    (door, "port"),
                    f"{door} and {other} have the same port",
                    "a port of its own",
                    "",
                    (other, "port"),
                )
    for index, entry in entries("channels"):
        for key, wrong, expected in channel_faults(entry):
            yield Contradiction(("channels", index, key), wrong, expected)
    for table, key in (("channels", "name"), ("effects", "kind")):
        names: dict[str, int] = {}
        for index, entry in entries(table):
            name = entry.get(key)
            if isinstance(name, str) and names.setdefault(name, index) != index:
                message = f'two {table} are called "{name}"'
                yield Contradiction(
                    (table, index, key), message, "a name of its own for each", "", (table, names[name], key)
                )
    seen: dict[str, int] = {}
    for index, entry in entries("modules"):
        name = entry.get("name")
        if isinstance(name, str):
            first = seen.setdefault(name, index)
            if first != index:
                yield Contradiction(
                    ("modules", index, "name"),
                    f'two modules are called "{name}"',
                    "a name of its own for each",
                    f'name = "{name}_2" and module = "{entry.get("module", name)}" run the same module twice',
                    ("modules", first, "name"),
                )
    yield from _catalogue(part("catalogue"))
    sources: dict[tuple[str, str], int] = {}
    for index, entry in entries("capabilities"):
        for key in ("path", "module"):
            if entry.get(key) is not None and sources.setdefault((key, _normal(entry[key])), index) != index:
                yield Contradiction(
                    ("capabilities", index, key),
                    f'"{entry[key]}" is named twice',
                    "each source once",
                    "",
                    ("capabilities", sources[key, _normal(entry[key])], key),
                )
        given = [key for key in ("path", "module") if entry.get(key) is not None]
        if len(given) != 1:
            yield Contradiction(
                ("capabilities", index, "module") if given else ("capabilities", index),
                "both path and module are given" if given else "neither path nor module is given",
                'one of the two, for example path = "examples/support_desk/capabilities.py"',
            )


def _catalogue(section: Mapping[str, Any]) -> Iterator[Contradiction]:
    for key in ("files", "folders"):
        found = section.get(key)
        first: dict[str, int] = {}
        for index, path in enumerate(found if isinstance(found, list | tuple) else ()):
            before = first.setdefault(_normal(path), index)
            if before != index:
                yield Contradiction(
                    ("catalogue", key, index),
                    f'"{path}" is named twice',
                    "each path once",
                    "",
                    ("catalogue", key, before),
                )
    withheld = section.get("without")
    for index, name in enumerate(withheld if isinstance(withheld, list | tuple) else ()):
        if isinstance(name, str) and name.startswith(OWN):
            yield Contradiction(
                ("catalogue", "without", index),
                f"{name} is the node's own and stays",
                "capabilities of your own",
                "what a caller may ask for is in [access]",
            )


def _normal(path: object) -> str:
    return os.path.normpath(str(path))
