"""Where a configuration comes from: files, overlay, environment and flags, in this order, the later winning.

`load_config` is the way in. It reports all faults at once, and knows of each value where it was written.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from packetflow.documents.document import Document, UnreadableFile
from packetflow.documents.faults import (
    MASK,
    Fault,
    KeyPath,
    Place,
    kind_text,
    nearest,
    path_text,
    shown,
    value_text,
)
from packetflow.documents.toml import read_toml
from packetflow.node.config.checks import (
    contradiction_faults,
    key_place,
    literal_faults,
    missing_file_faults,
    validation_faults,
    value_place,
)
from packetflow.node.config.faults import ConfigError
from packetflow.node.config.layers import (
    OTHER_VARIABLES,
    PREFIX,
    Kind,
    Layers,
    Mark,
    UnknownKey,
    find_key,
    known_variables,
    name_of,
    read_text,
    split_key,
    variable_of,
)
from packetflow.node.config.overlay import FILE, Overlay, OverlayEntry, plain
from packetflow.node.config.places import find_config, project_folder
from packetflow.node.config.schema import NodeConfig
from packetflow.node.config.secrets import (
    is_literal_secret,
    looks_secret,
    masked,
    may_be_secret,
    secrets_in,
    with_secrets,
)
from packetflow.storage.disk import Disk

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Dropped:
    """An overlay entry that no longer holds, and why."""

    key: str
    entry: OverlayEntry
    reason: str


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration without faults, and where each value came from.

    config: the typed values, paths absolute. values: what was written, as plain tables (defaults left out).
    origins: dotted key -> `config/node.toml:14`, `environment PACKETFLOW_HTTP__PORT`, `flag http.port`, `overlay by ...`
    (defaults left out). files: what was read, the weakest first. file: the project's file, None where there is none.
    folder: the project folder. start: the folder that names
    were relative to. variables: the environment variables that count. warnings: faults that are no errors.
    dropped: overlay entries that no longer hold (their owner removes them from the overlay).
    """

    config: NodeConfig
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    files: tuple[Path, ...]
    file: Path | None
    folder: Path
    start: Path = Path()
    variables: tuple[str, ...] = ()
    warnings: tuple[Fault, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    flags: Mapping[str, Any] = field(default_factory=dict, repr=False)
    layers: Layers = field(default_factory=Layers, repr=False)
    below: Layers = field(default_factory=Layers, repr=False)  # without overlay, environment and flags

    def again(self, disk: Disk | None = None) -> tuple[LoadedConfig, Overlay]:
        """The same files, environment and flags, read anew. Raises ConfigError, OverlayError."""
        return load_with_overlay(self.file, self.environment, self.flags, self.start, disk)

    def file_value(self, key: str) -> Any:
        """What the files say for a dotted key, None if nothing: an overlay entry is made with it.

        Raises UnknownKey for what is no key of this configuration.
        """
        return plain(self.below.get(find_key(split_key(key), self.below)[0]))


def load_config(
    path: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    overlay: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> LoadedConfig:
    """Read a node's configuration. Later ones win: defaults, user file, project file, overlay, environment, flags.

    path: the project file, which must exist. Without one: PACKETFLOW_CONFIG, else the first `config/node.toml` or
    `node.toml` in `folder` (default: the current one) or above it, else no file. flags: by dotted key; None means not
    given. overlay: an `Overlay`, or plain values by dotted key. Raises ConfigError with every fault there is.
    """
    environment = os.environ if environment is None else environment
    return _Loading(path, environment, flags or {}, overlay or {}, folder or Path.cwd()).load()


def load_with_overlay(
    path: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    disk: Disk | None = None,
) -> tuple[LoadedConfig, Overlay]:
    """Like `load_config`, with the overlay of the data folder that the rest of the configuration names.

    disk: what the overlay is written by. Raises ConfigError, and OverlayError for an overlay that can't be read.
    """
    first = load_config(path, environment, flags, None, folder)
    overlay = Overlay(first.config.node.data_folder / FILE, disk)
    if not overlay:
        return first, overlay
    return load_config(path, environment, flags, overlay, folder), overlay


def check_module_config(loaded: LoadedConfig, index: int, model: type[M]) -> M | list[Fault]:
    """The validated config of `config.modules[index]` by the module's own class, or its faults at their places.

    Secrets are looked for, not revealed. Warnings (a secret's file that others can read) are left out: `module_config`
    has them too.
    """
    config, faults = module_config(loaded, index, model)
    return faults if config is None else config


def module_config(loaded: LoadedConfig, index: int, model: type[M]) -> tuple[M | None, list[Fault]]:
    """Like `check_module_config`, with both: the instance (None if there is an error) and all faults and warnings."""
    layers, prefix = loaded.layers, ("modules", index, "config")
    values = copy.deepcopy(dict(loaded.config.modules[index].config))
    context = {"folder": loaded.folder, "environment": loaded.environment}
    try:
        made = model.model_validate(values, context=context)
    except ValidationError as error:
        return None, sorted(validation_faults(error, model, layers, prefix), key=_order)
    except Exception as error:  # noqa: BLE001 - an author's validator may raise anything: it is a fault of this config
        name = loaded.config.modules[index].name
        message = f'the Config of module "{name}" raised {type(error).__name__}: {shown(str(error))[:200]}'
        return None, [Fault.at(key_place(layers, prefix), message, key=path_text(prefix))]
    faults = _secret_faults(made, layers, prefix)
    return (None if any(fault.severity == "error" for fault in faults) else made), faults


def _secret_faults(value: object, layers: Layers, prefix: KeyPath) -> list[Fault]:
    return [
        Fault.at(
            value_place(layers, path),
            message,
            key=path_text(path),
            given=value_text(masked(layers.get(path), path)) if layers.get(path) is not None else "",
            next=cure,
            severity="error" if is_error else "warning",
        )
        for path, secret in secrets_in(value, prefix)
        for is_error, message, cure in secret.check()
    ]


def _order(fault: Fault) -> tuple[int, int]:
    return fault.line, fault.column


class _Loading:
    """One run of `load_config`."""

    def __init__(
        self,
        path: str | Path | None,
        environment: Mapping[str, str],
        flags: Mapping[str, Any],
        overlay: Mapping[str, Any],
        folder: Path,
    ) -> None:
        self.asked = path
        self.environment = environment
        self.flags = flags
        self.overlay = overlay
        self.start = folder.absolute()
        self.layers = Layers()
        self.faults: list[Fault] = []
        self.files: list[Path] = []
        self.dropped: list[Dropped] = []
        self.variables: list[str] = []

    def load(self) -> LoadedConfig:
        file = self._project_file()
        user = self._user_file()
        if user is not None:
            self.layers.lay_over(self._read(user, "user file"))
        if file is not None:
            self.layers.lay_over(self._read(file, "file"))
        below = self.layers.copy()
        unreadable = bool(self.faults)
        self._lay_overlay(below)
        # A key that only an unreadable file has is not unknown; the file's own fault is told first.
        if not unreadable:
            self._lay_environment()
            self._lay_flags()
        folder = project_folder(file) if file is not None else self.start
        config = self._validated(folder)
        errors = [fault for fault in self.faults if fault.severity == "error"]
        if config is None or errors:
            raise ConfigError(self._sorted())
        return LoadedConfig(
            config=config,
            values=copy.deepcopy(self.layers.values),
            origins=dict(self._origins()),
            files=tuple(self.files),
            file=file,
            folder=folder,
            start=self.start,
            variables=tuple(self.variables),
            warnings=tuple(self._sorted()),
            dropped=tuple(self.dropped),
            environment=self.environment,
            flags=dict(self.flags),
            layers=self.layers,
            below=below,
        )

    # Files

    def _project_file(self) -> Path | None:
        asked = self.asked
        if asked is None:
            asked = self.environment.get("PACKETFLOW_CONFIG") or None
            if asked is not None:
                self.variables.append("PACKETFLOW_CONFIG")
        if asked is None:
            return find_config(self.start)
        return Path(os.path.normpath(self.start / Path(asked).expanduser()))

    def _user_file(self) -> Path | None:
        home = self.environment.get("XDG_CONFIG_HOME")
        if not home and self.environment.get("HOME"):
            home = str(Path(self.environment["HOME"], ".config"))
        file = Path(home, "packetflow", "config.toml") if home else None
        try:
            return file if file is not None and file.exists() else None
        except (OSError, ValueError):
            return file  # reading it tells what is wrong

    def _name(self, path: Path) -> str:
        """How people are shown a file: relative where it lies below the current folder."""
        return str(path.relative_to(self.start)) if path.is_relative_to(self.start) else str(path)

    def _read(self, path: Path, kind: Kind, on_the_way: tuple[Path, ...] = ()) -> Layers:
        """A file with what it includes. A fault is noted, and the file then counts as empty."""
        layers = Layers()
        try:
            document = read_toml(path, self._name(path), may_be_secret)
        except UnreadableFile as unreadable:
            self.faults.append(unreadable.fault)
            return layers
        for name, place in self._included(document):
            further = Path(os.path.normpath(path.parent / Path(name).expanduser()))
            way = (*on_the_way, path)
            if further in way:
                circle = " > ".join(self._name(step) for step in (*way[way.index(further) :], further))
                self.faults.append(
                    Fault.at(
                        place,
                        f"files include each other: {shown(circle)}",
                        key="include",
                        given=value_text(name),
                    )
                )
            elif further not in self.files and not self._is_missing(further, name, place):
                layers.extend_layers(self._read(further, kind, way))
        layers.extend(document, kind)
        self.files.append(path)
        return layers

    def _is_missing(self, path: Path, name: str, place: Place) -> bool:
        try:
            if path.exists():
                return False
            near = nearest(path.name, [item.name for item in path.parent.iterdir()][:1000])
        except (OSError, ValueError):
            near = ""
        self.faults.append(
            Fault.at(
                place,
                f"no such file: {shown(str(path))}",
                key="include",
                given=value_text(name),
                expected=f"an existing file; relative paths begin at {shown(str(path.parent))}",
                nearest=near,
            )
        )
        return True

    def _included(self, document: Document) -> list[tuple[str, Place]]:
        """The names under `include`, with their places. What is malformed is noted and taken out."""
        value = document.values.get("include")
        if value is None:
            return []
        way: KeyPath = ("include",)
        if isinstance(value, dict) and set(value) == {"files"}:
            way, value = ("include", "files"), value["files"]
        if isinstance(value, list) and all(isinstance(name, str) and name for name in value):
            return [(name, document.places[(*way, index)]) for index, name in enumerate(value)]
        del document.values["include"]
        place = document.places.get(way) or document.keys[way]
        self.faults.append(
            Fault.at(
                place,
                "wrong type",
                key="include",
                given=f"{value_text(masked(value, way))} ({kind_text(value)})",
                expected='a list of files, for example include = ["modules.toml"], or [include] with files = [...]',
            )
        )
        return []

    # What is no file

    def _lay_overlay(self, below: Layers) -> None:
        for key, given in self.overlay.items():
            entry = given if isinstance(given, OverlayEntry) else None
            value = entry.value if entry is not None else given
            place = Place(f"overlay {key}")
            try:
                path, _ = find_key(split_key(key), below)
            except UnknownKey as error:
                if entry is not None:
                    self.dropped.append(Dropped(key, entry, "the files no longer have it"))
                else:
                    self._unknown(place, "unknown key", value, key, error.nearest)
                continue
            if entry is not None and plain(below.get(path)) != entry.file_value:
                self.dropped.append(Dropped(key, entry, "the file was edited since"))
                continue
            note = entry.note() if entry is not None else key
            self.layers.put(path, value, Mark("overlay", place, place, note))

    def _lay_environment(self) -> None:
        for name in sorted(self.environment):
            if not name.startswith(PREFIX) or name in OTHER_VARIABLES:
                continue
            text, place = self.environment[name], Place(f"environment {name}")
            try:
                path, info = find_key(tuple(name.removeprefix(PREFIX).split("__")), self.layers, fold=True)
            except UnknownKey:
                known = {variable.removeprefix(PREFIX): variable for variable in known_variables(self.layers)}
                near = nearest(name.removeprefix(PREFIX), known)
                self._unknown(place, "unknown variable", text, name, known.get(near, ""))
                continue
            value = read_text(text, info)
            if is_literal_secret(path, value):
                value = {"env": name}  # a secret in the environment is where it should be
            self.layers.put(path, value, Mark("environment", place, place, name))
            self.variables.append(name)

    def _lay_flags(self) -> None:
        for key, given in self.flags.items():
            if given is None:
                continue
            place = Place(f"flag {key}")
            try:
                path, info = find_key(split_key(key), self.layers)
            except UnknownKey as error:
                self._unknown(place, "unknown key", given, key, error.nearest)
                continue
            value = read_text(given, info) if isinstance(given, str) else plain(given)
            self.layers.put(path, value, Mark("flag", place, place, key))

    def _unknown(self, place: Place, message: str, value: object, key: str, near: str) -> None:
        given = MASK if looks_secret(key) else value_text(masked(value, (key,)))
        hint = (
            f"a key's variable, for example {variable_of(('http', 'port'))}" if "variable" in message else ""
        )
        self.faults.append(
            Fault.at(
                place,
                message,
                key="" if hint else shown(key),
                given=given,
                expected=hint or "a dotted key, for example http.port or modules.rate_limit.priority",
                nearest=near,
                next="" if near else "packetflow config schema",
            )
        )

    # Checks

    def _validated(self, folder: Path) -> NodeConfig | None:
        layers = self.layers
        told = {fault.key for fault in self.faults if fault.key}
        config = None
        found: list[Fault] = []
        try:
            known = {"folder": folder, "environment": self.environment}
            config = NodeConfig.model_validate(copy.deepcopy(layers.values), context=known)
        except ValidationError as error:
            found += validation_faults(error, NodeConfig, layers)
        told |= {fault.key for fault in found}
        for more in (
            contradiction_faults(layers),
            literal_faults(layers),
            missing_file_faults(layers.values, layers, folder),
        ):
            # One fault a key: the first says more than those that follow from it.
            found += [fault for fault in more if not any(_is_under(fault.key, key) for key in told)]
            told |= {fault.key for fault in found}
        self.faults += found
        if config is None:
            return None
        return self._with_secrets(config.resolved(folder), folder)

    def _with_secrets(self, config: NodeConfig, folder: Path) -> NodeConfig:
        """Capabilities' configs have no schema: what looks like a secret's reference becomes one here."""
        self.faults += _secret_faults(config.channels, self.layers, ("channels",))
        entries = []
        for index, entry in enumerate(config.capabilities):
            prefix: KeyPath = ("capabilities", index, "config")

            def refuse(path: KeyPath, why: str, prefix: KeyPath = prefix) -> None:
                way = (*prefix, *path)
                self.faults.append(Fault.at(value_place(self.layers, way), why, key=path_text(way)))

            table = with_secrets(entry.config, folder, self.environment, refuse)
            self.faults += _secret_faults(table, self.layers, prefix)
            entries.append(entry.model_copy(update={"config": table}))
        return config.model_copy(update={"capabilities": tuple(entries)})

    def _sorted(self) -> list[Fault]:
        """In the order of the files, then of the lines; variables and flags behind."""
        names = [self._name(path) for path in self.files]
        return sorted(
            self.faults,
            key=lambda fault: (
                not fault.line,
                names.index(fault.file) if fault.file in names else -1,
                fault.file,
                *_order(fault),
            ),
        )

    def _origins(self) -> Iterator[tuple[str, str]]:
        for path, mark in self.layers.marks.items():
            value = self.layers.get(path)
            if not isinstance(value, dict) and not (
                isinstance(value, list) and value and isinstance(value[0], dict)
            ):
                if path and isinstance(path[-1], int):
                    continue  # a list is shown as one value
                yield name_of(path, self.layers), str(mark)


def _is_under(key: str, other: str) -> bool:
    return key == other or key.startswith((f"{other}.", f"{other}["))
