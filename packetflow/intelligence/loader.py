"""Finds and loads modules: a folder on the module path, or an importable `package.module:Class`. Each load is fresh."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from packetflow._version import __version__
from packetflow.capabilities.loader import describe
from packetflow.capabilities.source import Source
from packetflow.intelligence.manifest import FILE, Manifest, ModuleError, read_manifest
from packetflow.intelligence.module import CALLBACKS, HOOKS, Module, overrides
from packetflow.intelligence.versions import VersionRange


class LoadedModule:
    """A module's class with its manifest and where it came from. `unload()` forgets the code once nobody runs it."""

    def __init__(
        self, cls: type[Module], manifest: Manifest, origin: str, digest: str, source: Source | None
    ) -> None:
        self.cls = cls
        self.manifest = manifest
        self.origin = origin
        self.digest = digest
        self._source = source

    def unload(self) -> None:
        """Forget the namespace that the code was loaded into."""
        if self._source is not None:
            self._source.unload()


def is_current(loaded: LoadedModule) -> bool:
    """Whether the module's folder still holds what was loaded; what did not come from a folder is."""
    folder = Path(loaded.origin)
    try:
        return not loaded.digest or _digest(folder) == loaded.digest
    except OSError:
        return False


def load(module: str | type[Module], module_path: Sequence[Path]) -> LoadedModule:
    """Load a module by what its entry in the configuration says, or take the class that a program gives.

    Raises ModuleError if it is not found, does not import, or its class is not a module, with file and line where known.
    """
    if not isinstance(module, str):
        return _given(module)
    loaded = _import(module) if ":" in module else _from_folder(_find(module, module_path))
    wanted = loaded.manifest.requires_packetflow
    if wanted and __version__ not in VersionRange(wanted):
        loaded.unload()
        raise ModuleError(
            f"module {module} {loaded.manifest.version} needs packetflow {wanted}; this is {__version__}"
        )
    return loaded


def shipped() -> list[Path]:
    """The folder of the modules that come with PacketFlow: always searched last."""
    spec = importlib.util.find_spec("packetflow_modules")
    if spec is not None and spec.submodule_search_locations:
        return [Path(place) for place in spec.submodule_search_locations]
    beside = Path(__file__).resolve().parents[2] / "modules"  # a checkout that is not installed
    return [beside] if beside.is_dir() else []


def available(module_path: Iterable[Path]) -> list[str]:
    """The names of the module folders on the path."""
    return sorted(
        folder.name
        for place in module_path
        if place.is_dir()
        for folder in place.iterdir()
        if (folder / FILE).is_file()
    )


def _find(name: str, module_path: Sequence[Path]) -> Path:
    for place in module_path:
        folder = place / name
        if folder.is_dir():
            return folder
    known = available(module_path)
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"; nearest {nearest[0]}" if nearest else f"; there are {', '.join(known)}" if known else ""
    places = ", ".join(map(str, module_path)) or "an empty module_path"
    raise ModuleError(
        f"no module {name!r} in {places}{hint}; expected a folder with {FILE}, or package.module:Class"
    )


def _from_folder(folder: Path) -> LoadedModule:
    manifest = read_manifest(folder)
    file_name, _, class_name = manifest.entry.partition(":")
    file = folder / f"{file_name}.py"
    if not file.is_file():
        raise ModuleError(f"{folder / FILE}: entry {manifest.entry!r}, but there is no {file}")
    try:
        source = Source(file)
    except Exception as error:  # whatever an author's file raises is that file's fault, and is told as such
        raise ModuleError(f"module {manifest.name}: {file} does not import: {describe(error)}") from error
    try:
        cls = _checked(getattr(source.namespace, class_name, None), class_name, str(file))
        for hook in HOOKS:
            if manifest.hooks and overrides(cls, hook) != (hook in manifest.hooks):
                says = "is not listed" if overrides(cls, hook) else "is listed but not defined"
                raise ModuleError(
                    f"{folder / FILE}: hooks: {hook} {says}; {class_name} defines {_defined(cls)}"
                )
    except ModuleError:
        source.unload()
        raise
    return LoadedModule(cls, manifest, str(folder), _digest(folder), source)


def _import(path: str) -> LoadedModule:
    module_name, _, class_name = path.partition(":")
    try:
        namespace = importlib.import_module(module_name)
    except Exception as error:  # the same: it is the author's
        raise ModuleError(f"module {path}: {module_name} does not import: {describe(error)}") from error
    cls = _checked(getattr(namespace, class_name, None), class_name, module_name)
    manifest = Manifest(name=_plain_name(class_name), entry=f"{module_name.rpartition('.')[2]}:{class_name}")
    return LoadedModule(cls, manifest, path, "", None)


def _given(cls: type[Module]) -> LoadedModule:
    origin = f"{cls.__module__}:{cls.__qualname__}"
    manifest = Manifest(name=_plain_name(cls.__name__), entry=f"code:{cls.__name__}")
    return LoadedModule(_checked(cls, cls.__name__, cls.__module__), manifest, origin, "", None)


def _plain_name(class_name: str) -> str:
    return re.sub(r"\W", "_", class_name).lower().lstrip("_0123456789") or "module"


def _checked(cls: object, name: str, where: str) -> type[Module]:
    if cls is None:
        raise ModuleError(f"{where}: no class {name}; expected one derived from packetflow.Module")
    if not isinstance(cls, type) or not issubclass(cls, Module):
        raise ModuleError(f"{where}: {name} is not a class derived from packetflow.Module")
    for attribute in vars(cls):
        if attribute.startswith("handle_") and attribute not in CALLBACKS:
            nearest = difflib.get_close_matches(attribute, CALLBACKS, n=1, cutoff=0.0)
            raise ModuleError(
                f"{where}: {name}.{attribute} is no hook; nearest {nearest[0]}; hooks are {', '.join(HOOKS)}"
            )
    return cls


def _defined(cls: type[Module]) -> str:
    return ", ".join(hook for hook in HOOKS if overrides(cls, hook)) or "none"


def _digest(folder: Path) -> str:
    """A digest of the folder's code and manifest: tells whether a reload would change anything."""
    digest = hashlib.sha256()
    for file in sorted([*folder.rglob("*.py"), folder / FILE]):
        digest.update(str(file.relative_to(folder)).encode() + b"\x00" + file.read_bytes() + b"\x00")
    return digest.hexdigest()[:16]
