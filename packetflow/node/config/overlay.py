"""Changes made at run time: a JSON file in the data folder, laid over the files and under the environment.

Each entry knows who changed it, when, and what the files said then: when the files say something else later, the
entry is dropped by name (see `load_config`). The user's own files are never written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from packetflow.documents.faults import shown
from packetflow.node.config.layers import split_key
from packetflow.node.config.secrets import looks_secret
from packetflow.otp.errors import PacketFlowError
from packetflow.storage.disk import Disk

FILE = "overlay.json"
VERSION = 1
LARGEST = 4 * 1024 * 1024  # bytes


class OverlayError(PacketFlowError):
    """The overlay can't be read or written; the message names the file and says what to do. What was there stays."""

    code = "unavailable"


@dataclass(frozen=True, slots=True)
class OverlayEntry:
    """One change: the value, by whom and when (RFC 3339), and the files' value then (None: they had none)."""

    value: Any
    who: str
    when: str
    file_value: Any = None

    def note(self) -> str:
        """For people: by whom and when."""
        return f"by {self.who} at {self.when}"


def plain(value: object) -> Any:
    """A value as the overlay keeps it: dates as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value


class Overlay(Mapping[str, OverlayEntry]):
    """The overlay of a data folder, by dotted key. A change is on disk when `set` or `remove` returns.

    When they raise OverlayError it did not happen, or, where the error says so, it holds until the next loss of power. One
    node has it at a time (the data folder's lock sees to that). disk: what writes it, the machine's own by default.
    """

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        """Raises OverlayError for a file that is there and is no overlay."""
        self.path = path
        self._disk = disk or Disk()
        self._entries: dict[str, OverlayEntry] = self._read()

    def __getitem__(self, key: str) -> OverlayEntry:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def set(
        self, key: str, value: object, *, who: str, when: datetime, file_value: object = None
    ) -> OverlayEntry:
        """Set a key (`modules.tax.priority`). `file_value` is what the files say now: `LoadedConfig.file_value(key)`.

        Raises OverlayError if it can't be written or holds a secret, UnknownKey if the key is malformed.
        """
        last = split_key(key)[-1]
        if isinstance(value, str) and isinstance(last, str) and looks_secret(last):
            raise OverlayError(
                f"{shown(key)} looks like a secret, which the overlay does not hold: use a reference"
            )
        entry = OverlayEntry(plain(value), who, when.isoformat(), plain(file_value))
        self._write({**self._entries, key: entry})
        return entry

    def remove(self, *keys: str) -> None:
        """Take entries out; keys that are not there are passed over. Raises OverlayError if it can't be written."""
        left = {key: entry for key, entry in self._entries.items() if key not in keys}
        if len(left) != len(self._entries):
            self._write(left)

    def _read(self) -> dict[str, OverlayEntry]:
        name = shown(str(self.path))
        cure = f"move {name} away (run-time changes are lost) and start again"
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise OverlayError(f"can't read {name}: {error.strerror or error}") from error
        if len(data) > LARGEST:
            raise OverlayError(f"{name} is larger than {LARGEST // 1024 // 1024} MiB; {cure}")
        try:
            document = json.loads(data)
        except json.JSONDecodeError as error:
            raise OverlayError(
                f"{name}:{error.lineno}:{error.colno}: not JSON, {error.msg}; {cure}"
            ) from None
        except (ValueError, RecursionError):
            raise OverlayError(f"{name}: not JSON; {cure}") from None
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise OverlayError(
                f'{name}: no overlay of version {VERSION} (expected {{"version": {VERSION}}}); {cure}'
            )
        entries = document.get("entries")
        if not isinstance(entries, dict):
            raise OverlayError(f'{name}: expected "entries" to be an object; {cure}')
        found = {}
        for key, entry in entries.items():
            whole = isinstance(entry, dict) and {"value", "who", "when"} <= entry.keys()
            if not whole or not isinstance(entry["who"], str) or not isinstance(entry["when"], str):
                raise OverlayError(f"{name}: entry {shown(key)} expected value, who and when; {cure}")
            found[key] = OverlayEntry(entry["value"], entry["who"], entry["when"], entry.get("file_value"))
        return found

    def _write(self, entries: dict[str, OverlayEntry]) -> None:
        document = {
            "version": VERSION,
            "entries": {
                key: {"value": e.value, "who": e.who, "when": e.when, "file_value": e.file_value}
                for key, e in entries.items()
            },
        }
        try:
            data = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise OverlayError(f"a value that JSON does not know: {error}") from None
        name = shown(str(self.path))
        try:
            self._disk.make_folder(self.path.parent)
            self._disk.replace(self.path, data)
        except OSError as error:
            raise OverlayError(
                f"can't write {name}: {error.strerror or error}; nothing was changed, "
                f"make room or choose another node.data_folder"
            ) from error
        self._entries = entries
        try:
            self._disk.sync_folder(self.path.parent)
        except OSError as error:
            raise OverlayError(
                f"{name} was written, but may not outlive a loss of power: {error.strerror or error}; check its disk"
            ) from error
