"""Finds the capabilities in files, folders and importable modules."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from types import ModuleType

import gevent

from packetflow.capabilities.contract import DefinitionError
from packetflow.capabilities.definition import MARK, Capability, definition_of
from packetflow.capabilities.source import Source
from packetflow.otp.errors import HandlerOverrun


class LoadedCapabilities:
    """What one `[[capabilities]]` entry gave: definitions, the folder they stand in, and a way to forget them."""

    def __init__(self, definitions: list[Capability], folder: Path, sources: list[Source]) -> None:
        self.definitions = definitions
        self.folder = folder
        self._sources = sources

    def unload(self) -> None:
        """Forget the namespaces they came from."""
        for source in self._sources:
            source.unload()


def capabilities_in(namespace: ModuleType) -> list[Capability]:
    """The capabilities that a namespace holds, in order of definition, each once."""
    found: dict[int, Capability] = {}
    for value in vars(namespace).values():
        known = callable(value) or hasattr(type(value), MARK)  # a function, or a composition
        definition = definition_of(value) if known else None
        if definition is not None:
            found[id(definition)] = definition
    return list(found.values())


def load_path(path: Path) -> LoadedCapabilities:
    """The capabilities of a file, or of every `.py` file of a folder.

    Raises DefinitionError naming the file, and the line where it is known, if it is not there, does not import, or defines none.
    """
    if not path.exists():
        raise DefinitionError(f"{path}: no such file or folder; expected Python files with capabilities")
    files = sorted(path.glob("*.py")) if path.is_dir() else [path]
    sources: list[Source] = []
    definitions: dict[int, Capability] = {}
    try:
        for file in files:
            source = _load(file)
            sources.append(source)
            definitions.update((id(one), one) for one in capabilities_in(source.namespace))
        if not definitions:
            raise DefinitionError(f"{path}: defines no capability; expected a function with @capability(...)")
    except DefinitionError:
        for source in sources:
            source.unload()
        raise
    folder = path if path.is_dir() else path.parent
    return LoadedCapabilities(list(definitions.values()), folder, sources)


def load_module(name: str) -> LoadedCapabilities:
    """The capabilities of an importable module. Raises DefinitionError if it does not import or defines none."""
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise DefinitionError(f"module {name}: does not import: {describe(error)}") from error
    definitions = capabilities_in(module)
    if not definitions:
        raise DefinitionError(
            f"module {name}: defines no capability; expected a function with @capability(...)"
        )
    return LoadedCapabilities(definitions, Path(module.__file__ or ".").parent, [])


def _load(file: Path) -> Source:
    try:
        return Source(file)
    except DefinitionError:
        raise
    except HandlerOverrun as overrun:
        # Others have waited; and the hub has turned then, so that what comes next has its own time.
        gevent.sleep(0)
        raise DefinitionError(f"{file}: does not come to an end when it is imported: {overrun}") from None
    except (Exception, SystemExit) as error:
        # Whatever an author's file raises is that file's fault, and is told as such.
        raise DefinitionError(f"{file}: does not import: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """What was raised, and the innermost line of it, for people."""
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}:{error.lineno}:{error.offset})"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
