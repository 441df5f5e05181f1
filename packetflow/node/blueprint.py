"""What a node is made from: a configuration, and what a program adds to it in code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from packetflow.capabilities.contract import DefinitionError, place_of
from packetflow.capabilities.definition import Capability, definition_of
from packetflow.capabilities.groups import CapabilitySource
from packetflow.intelligence.host import checked_config
from packetflow.intelligence.module import Module
from packetflow.intelligence.placement import Placement
from packetflow.node.config import ConfigError, LoadedConfig, ModuleEntry, NodeConfig, module_config
from packetflow.node.plan_source import PlanSource, holds_plans

ModuleGiven = type[Module] | tuple[str, type[Module]] | Placement


class Blueprint:
    """The sources of capabilities and the placements of modules of one configuration.

    without: names of modules to leave out, `all` for every one. switched: modules by name that are enabled or not, whatever
    this reading of the configuration says.
    """

    def __init__(
        self,
        loaded: LoadedConfig | NodeConfig,
        capabilities: Iterable[Callable[..., Any] | Capability] = (),
        modules: Iterable[ModuleGiven] = (),
        without: Iterable[str] = (),
        switched: Mapping[str, bool] | None = None,
    ) -> None:
        self.loaded = loaded if isinstance(loaded, LoadedConfig) else None
        self.config = loaded.config if isinstance(loaded, LoadedConfig) else loaded
        self._capabilities = tuple(definition_given(one) for one in capabilities)
        self._modules = tuple(_placement(one) for one in modules)
        self._without = frozenset(without)
        self._switched = dict(switched or {})

    def with_config(self, loaded: LoadedConfig) -> Blueprint:
        """The same, by another reading of the configuration."""
        made = Blueprint(loaded, without=self._without)
        made._capabilities, made._modules = self._capabilities, self._modules
        return made

    def sources(self) -> list[CapabilitySource]:
        """Where the capabilities come from, those given in code last, then the files of watched folders as they are now."""
        catalogue = self.config.catalogue
        found = [
            PlanSource(path=entry.path)
            if entry.path is not None and holds_plans(entry.path)
            else CapabilitySource(path=entry.path, module=entry.module, config=dict(entry.config))
            for entry in self.config.capabilities
        ]
        found += [CapabilitySource(path=path, added=True) for path in catalogue.files]
        found += [CapabilitySource(definitions=self._capabilities)] if self._capabilities else []
        return found + [
            CapabilitySource(path=path, lenient=True) for path in watched_files(catalogue.folders)
        ]

    @property
    def parts(self) -> int:
        """How many modules and sources of capabilities there are, each of which may take `timeouts.start` to start."""
        return len(self.config.modules) + len(self.sources())

    @property
    def patience(self) -> float:
        """Seconds that a change may take, if every part that is new takes all its time to start, and what it replaces to end."""
        timeouts = self.config.timeouts
        return timeouts.start * (1 + self.parts) + 2 * timeouts.shutdown

    def placements(self) -> Sequence[Placement]:
        """The modules as the registry takes them, those given in code last."""
        found = [*(_from_entry(entry) for entry in self.config.modules), *self._modules]
        if "all" in self._without:
            return []
        left = [one for one in found if one.name not in self._without]
        return [replace(one, enabled=self._switched.get(one.name, one.enabled)) for one in left]

    def module_config(self, placement: Placement, cls: type[Module]) -> BaseModel:
        """A module's checked configuration. Raises ConfigError with the place of each fault, or ModuleError."""
        if self.loaded is not None:
            for index, entry in enumerate(self.config.modules):
                if entry.name == placement.name:
                    made, faults = module_config(self.loaded, index, cls.Config)
                    if made is None:
                        raise ConfigError(faults)
                    return made
        return checked_config(cls, placement.name, placement.config)


def watched_files(folders: Iterable[Path]) -> list[Path]:
    """The capability files of watched folders: every Python file whose name does not begin with `_`. A folder that is not
    there stands for itself, and can't be loaded.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            found.append(folder)
            continue
        files = sorted(folder.glob("*.py"))
        # What is no file, such as a pipe, would be waited for.
        found += [file for file in files if not file.name.startswith("_") and file.is_file()]
    return found


def definition_given(given: Callable[..., Any] | Capability) -> Capability:
    """The definition behind a function with `@capability`. Raises DefinitionError for anything else."""
    if isinstance(given, Capability):
        return given
    found = definition_of(given)
    if found is None:
        raise DefinitionError(f"{place_of(given)}: no capability; expected a function with @capability(...)")
    return found


def _placement(given: ModuleGiven) -> Placement:
    if isinstance(given, Placement):
        return given
    name, cls = given if isinstance(given, tuple) else (given.__name__.lower(), given)
    return Placement(name=name, module=cls)


def _from_entry(entry: ModuleEntry) -> Placement:
    return Placement(
        name=entry.name,
        module=entry.module or entry.name,
        priority=entry.priority,
        match=entry.match.model_dump(by_alias=True),
        scope=entry.scope,
        on_error=entry.on_error,
        timeout=entry.timeout,
        max_concurrency=entry.max_concurrency,
        enabled=entry.enabled,
        config=dict(entry.config),
    )
