"""Where capabilities come from, and what one source gave on a node: its capabilities and their open resources."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import gevent

from packetflow.capabilities.catalogue import Registered
from packetflow.capabilities.contract import DefinitionError
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.loader import LoadedCapabilities, describe, load_module, load_path
from packetflow.capabilities.resources import OpenResource, Resource, ResourceSettings
from packetflow.capabilities.source import digest_of
from packetflow.capabilities.surroundings import Surroundings

T = TypeVar("T")


@dataclass(frozen=True)
class CapabilitySource:
    """Where capabilities come from: a file or folder, an importable module, or definitions at hand. config: for resources.

    lenient: a file of a watched folder, or such a folder that is not there, whose faults are told while what it gave before is
    served on. added: a file that was added at run time; if it can't be loaded when the node starts, that is told, and holds
    nobody up.
    """

    path: Path | None = None
    module: str | None = None
    definitions: tuple[Capability, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    lenient: bool = False
    added: bool = False

    def load(self) -> LoadedCapabilities:
        """Raises DefinitionError if it can't be loaded or defines nothing."""
        if self.path is not None:
            return load_path(self.path)
        if self.module is not None:
            return load_module(self.module)
        return LoadedCapabilities(list(self.definitions), Path.cwd(), [])

    def digest(self) -> str:
        """A digest of the files it is made of, neighbours included; empty where there are none."""
        if self.path is None:
            return ""
        return digest_of(self.path, alone=self.lenient)

    def stood_in(self, folder: CapabilitySource) -> bool:
        """Whether this is a file of a watched folder."""
        return self.lenient and folder.lenient and self.path is not None and self.path.parent == folder.path

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return str(self.path or self.module or f"{len(self.definitions)} definitions")


class Group:
    """What one source gave on this node: its registered capabilities and its open resources."""

    def __init__(self, source: CapabilitySource, data_folder: Path, surroundings: Surroundings) -> None:
        """Load the source and open its resources. Raises DefinitionError; then nothing stays open."""
        self.source = source
        self.added = False  # at run time, by a program: a reload of the configuration leaves it
        self.digest = source.digest()
        self._loaded = _in_time(source.load, surroundings.start, f"{source.name}: does not load")
        self._open: dict[Resource[Any], OpenResource[Any]] = {}
        settings = ResourceSettings(data_folder, self._loaded.folder, source.config)
        self.registered: list[Registered] = []
        try:
            for definition in self._loaded.definitions:
                for resource in definition.contract.resources.values():
                    if resource not in self._open:
                        self._open[resource] = _opened(resource, settings, source, surroundings.start)
                values = {resource: opened.value for resource, opened in self._open.items()}
                self.registered.append(Registered(definition, values, surroundings, source.name))
        except BaseException:
            self.close(None)
            raise

    def serves(self, source: CapabilitySource) -> bool:
        """Whether this is what the source would give now."""
        return self.source == source and self.digest == source.digest()

    def part_with(self, name: str) -> Group | None:
        """Takes a capability (`id`, or `id@version`) out of this group and gives it as a group of its own, which has the
        resources too if nobody here needs them any more. None if there is none.
        """

        def meant(one: Registered) -> bool:
            return name in (one.definition.id, f"{one.definition.id}@{one.definition.version}")

        gone = [one for one in self.registered if meant(one)]
        if not gone:
            return None
        part = copy.copy(self)
        part.registered = gone
        self.registered = [one for one in self.registered if not meant(one)]
        if self.registered:
            part._open, part._loaded = {}, LoadedCapabilities([], self._loaded.folder, [])
        return part

    def close(self, log: Any) -> None:
        """Close its resources, the last opened first, and forget its code. A resource that fails to close is logged."""
        for registered in self.registered:
            registered.close()
        for resource, opened in reversed(self._open.items()):
            try:
                opened.close()
            except Exception as error:  # an author's code; the others still have to be closed
                if log is not None:
                    log.error("resource did not close", resource=resource.name, exc_info=error)
        self._loaded.unload()


def _opened(
    resource: Resource[Any], settings: ResourceSettings, source: CapabilitySource, seconds: float
) -> OpenResource[Any]:
    what = f"{source.name}: resource {resource.name} does not open"
    try:
        return _in_time(lambda: resource.open(settings), seconds, what)
    except DefinitionError:
        raise
    except (Exception, SystemExit) as error:  # an author's code: told as the source's fault
        raise DefinitionError(f"{what}: {describe(error)}") from error


def _in_time(work: Callable[[], T], seconds: float, what: str) -> T:
    """What the work gives. Raises DefinitionError if it waits for longer: others would wait for it."""
    late = gevent.Timeout(seconds)
    try:
        with late:
            return work()
    except gevent.Timeout as passed:
        if passed is not late:
            raise
        raise DefinitionError(f"{what} within {seconds:g} s (timeouts.start)") from None
