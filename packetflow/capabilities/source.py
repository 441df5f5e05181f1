"""Loads authors' Python files as fresh namespaces: no `importlib.reload`, no cached bytecode, old and new side by side.

A file is loaded as a member of a package of its own whose folder is the file's, so `from .store import Desk` finds its
neighbour, fresh too. `unload()` forgets the whole package.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

PREFIX = "_packetflow_source_"
_numbers = itertools.count(1)


class _FreshLoader(SourceFileLoader):
    """Compiles from the source each time: cached bytecode goes by whole seconds and can be stale."""

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.get_data(self.path), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        """Run it, without a frame of Python's import system in between, in which a watchdog would not break it off."""
        exec(self.get_code(module.__name__), module.__dict__)


class _NeighbourFinder(MetaPathFinder):
    """Finds the neighbours of loaded files, by their packages' names. Python's import system knows finders only globally."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(PREFIX) or not path:
            return None
        stem = fullname.rpartition(".")[2]
        for folder in map(Path, path):
            for file in (folder / f"{stem}.py", folder / stem / "__init__.py"):
                if file.is_file():
                    return _spec(fullname, file)
        return None


def _spec(name: str, file: Path) -> ModuleSpec | None:
    folders = [str(file.parent)] if file.name == "__init__.py" else None
    return spec_from_file_location(
        name, file, loader=_FreshLoader(name, str(file)), submodule_search_locations=folders
    )


class Source:
    """A file loaded as a namespace of its own."""

    def __init__(self, file: Path) -> None:
        """Load and run the file. Raises what compiling or running it raises; then nothing is left behind."""
        if not any(isinstance(finder, _NeighbourFinder) for finder in sys.meta_path):
            sys.meta_path.append(_NeighbourFinder())
        self.file = file
        self._package = f"{PREFIX}{next(_numbers)}"
        package = ModuleType(self._package)
        package.__path__ = [str(file.parent)]
        name = f"{self._package}.{file.stem}"
        spec = _spec(name, file)
        assert spec is not None, "a .py file always has a spec"
        assert spec.loader is not None, "and a loader"
        self.namespace = module_from_spec(spec)
        sys.modules[self._package] = package
        sys.modules[name] = self.namespace
        try:
            spec.loader.exec_module(self.namespace)
        except BaseException:
            self.unload()
            raise

    def unload(self) -> None:
        """Forget the namespace and its neighbours; what still uses them keeps them."""
        for name in [
            name for name in sys.modules if name == self._package or name.startswith(self._package + ".")
        ]:
            del sys.modules[name]


def digest_of(path: Path, alone: bool = False) -> str:
    """A digest of a Python file and its neighbours, or of all Python files of a folder.

    alone: of the neighbours only those whose name begins with `_`, which are there to be shared.
    """
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.glob("*.py"))
    return digest_of_files(file for file in files if not alone or file == path or file.name.startswith("_"))


def digest_of_files(files: Iterable[Path]) -> str:
    """A digest of the names and contents of files. One that can't be read counts as empty; who loads it tells that.

    So does what is no file: to read a pipe is to wait for who writes to it.
    """
    digest = hashlib.sha256()
    for file in files:
        try:
            content = file.read_bytes() if file.is_file() else b""
        except OSError:
            content = b""
        digest.update(file.name.encode() + b"\x00" + content + b"\x00")
    return digest.hexdigest()


def files_with(module: str) -> tuple[str, ...]:
    """The files of a loaded module and of the neighbours that it has loaded, its own first."""
    package = module.partition(".")[0] + "."
    own = getattr(sys.modules.get(module), "__file__", None)
    others = {
        str(file)
        for name, loaded in list(sys.modules.items())
        if module.startswith(PREFIX)
        and name.startswith(package)
        and (file := getattr(loaded, "__file__", None))
    }
    return (str(own), *sorted(others - {str(own)})) if own else ()
