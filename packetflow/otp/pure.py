"""The way past the compiled core: with PACKETFLOW_PURE=1 the Python files are loaded that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

_PACKAGE = __package__
_FOLDER = Path(__file__).parent


class PureFinder(MetaPathFinder):
    """Finds the modules of this package by their Python files alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of this package; None for every other."""
        package, _, name = fullname.rpartition(".")
        file = _FOLDER / f"{name}.py"
        if package != _PACKAGE or not file.exists():
            return None
        return spec_from_file_location(fullname, file)
