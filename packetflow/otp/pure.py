"""The way past the compiled core: with PACKETFLOW_PURE=1 the Python files are loaded that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

_WITHIN = f"{__package__}."
_FOLDER = Path(__file__).parent


class PureFinder(MetaPathFinder):
    """Finds the modules of this package, and of those in it, by their Python files alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of such a module; None for a package and for every other."""
        if not fullname.startswith(_WITHIN):
            return None
        file = _FOLDER.joinpath(*fullname.removeprefix(_WITHIN).split(".")).with_suffix(".py")
        return spec_from_file_location(fullname, file) if file.exists() else None
