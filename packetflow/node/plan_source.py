"""Compositions in files: a `[[capabilities]]` entry whose path is a TOML, JSON or YAML file, or a folder of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from packetflow.capabilities.contract import DefinitionError
from packetflow.capabilities.groups import CapabilitySource
from packetflow.capabilities.loader import LoadedCapabilities
from packetflow.capabilities.source import digest_of_files

SUFFIXES = (".toml", ".json", ".yaml", ".yml")


def holds_plans(path: Path) -> bool:
    """Whether a path is a plan's file, or a folder that has some and no Python."""
    if path.is_dir():
        return not any(path.glob("*.py")) and any(file.suffix in SUFFIXES for file in path.iterdir())
    return path.suffix in SUFFIXES


@dataclass(frozen=True)
class PlanSource(CapabilitySource):
    """Where compositions come from, served as capabilities."""

    def load(self) -> LoadedCapabilities:
        """Raises DefinitionError with every fault of every file, each with file and place."""
        from packetflow.composition.files import read_file
        from packetflow.composition.nodes import PlanError

        definitions, faults = [], []
        for file in self._files():
            try:
                definitions.append(read_file(file).definition)
            except PlanError as error:
                faults.append(str(error))
        if faults:
            raise DefinitionError("\n".join(faults))
        assert self.path is not None
        return LoadedCapabilities(definitions, self.path if self.path.is_dir() else self.path.parent, [])

    def digest(self) -> str:
        """A digest of the files."""
        return digest_of_files(self._files())

    def _files(self) -> list[Path]:
        assert self.path is not None
        if self.path.is_dir():
            return sorted(file for file in self.path.iterdir() if file.suffix in SUFFIXES)
        if not self.path.exists():
            raise DefinitionError(f"{self.path}: no such file; expected a composition in TOML, JSON or YAML")
        return [self.path]
