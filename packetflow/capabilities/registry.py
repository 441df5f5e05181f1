"""The capability registry: loads and unloads capabilities on a running node, and swaps the catalogue in one assignment."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent

from packetflow.capabilities.catalogue import Catalogue, Registered
from packetflow.capabilities.contract import DefinitionError
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.loader import LoadedCapabilities, describe, load_module, load_path
from packetflow.capabilities.resources import OpenResource, Resource, ResourceSettings
from packetflow.otp import GenServer, at_death


@dataclass(frozen=True)
class CapabilitySource:
    """Where capabilities come from: a file or folder, an importable module, or definitions at hand. config: for resources."""

    path: Path | None = None
    module: str | None = None
    definitions: tuple[Capability, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

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
        folder = self.path if self.path.is_dir() else self.path.parent
        return digest_of(sorted(folder.glob("*.py")))

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return str(self.path or self.module or f"{len(self.definitions)} definitions")


def digest_of(files: Iterable[Path]) -> str:
    """A digest of files, their names included."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\x00" + file.read_bytes() + b"\x00")
    return digest.hexdigest()


class Group:
    """What one source gave on this node: its registered capabilities and its open resources."""

    def __init__(self, source: CapabilitySource, data_folder: Path, run_async: Callable[[Any], Any]) -> None:
        """Load the source and open its resources. Raises DefinitionError; then nothing stays open."""
        self.source = source
        self.digest = source.digest()
        self._loaded = source.load()
        self._open: dict[Resource[Any], OpenResource[Any]] = {}
        settings = ResourceSettings(data_folder, self._loaded.folder, source.config)
        self.registered: list[Registered] = []
        try:
            for definition in self._loaded.definitions:
                for resource in definition.contract.resources.values():
                    if resource not in self._open:
                        self._open[resource] = _opened(resource, settings, source)
                values = {resource: opened.value for resource, opened in self._open.items()}
                self.registered.append(Registered(definition, values, run_async, source.name))
        except BaseException:
            self.close(None)
            raise

    def serves(self, source: CapabilitySource) -> bool:
        """Whether this is what the source would give now."""
        return self.source == source and self.digest == source.digest()

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
    resource: Resource[Any], settings: ResourceSettings, source: CapabilitySource
) -> OpenResource[Any]:
    try:
        return resource.open(settings)
    except Exception as error:  # an author's code: told as the source's fault
        raise DefinitionError(
            f"{source.name}: resource {resource.name} does not open: {describe(error)}"
        ) from error


RETIREMENT = 2.0  # seconds that a stop waits for what is being retired


class Change:
    """What will be served, loaded and not yet served. words: what it changes."""

    __slots__ = ("catalogue", "fresh", "groups", "words")

    def __init__(
        self, groups: list[Group], fresh: list[Group], catalogue: Catalogue, words: list[str]
    ) -> None:
        self.groups = groups
        self.fresh = fresh
        self.catalogue = catalogue
        self.words = words


class CapabilityRegistry(GenServer):
    """The one that changes the catalogue. Requests:

    ("apply", sources, dry_run) -> what changed, in words
    ("prepare", sources) -> the same, loaded beside what is served; then ("commit",) serves it and can't fail, or ("abort",)
        closes it again
    ("digests",) -> what each source's files were when they were loaded
    ("register", definitions) -> their names
    ("unregister", id) -> how many versions went

    A DefinitionError is answered to the caller as (False, error), and then nothing has changed.
    """

    hub_limit = 30.0  # it loads code and starts what that needs, as long as the usual `timeouts.start`

    def init(
        self,
        sources: Callable[[], Sequence[CapabilitySource]],
        data_folder: Path,
        run_async: Callable[[Any], Any],
        swap: Callable[[Catalogue], None],
        settle: Callable[[], None],
        log: Any,
        check: Callable[[Catalogue], None] = lambda catalogue: None,
    ) -> None:
        """Load all sources and put the first catalogue in place. Raises DefinitionError.

        check: looks at a catalogue before it is put in place; raises DefinitionError for one that can't be served.
        """
        self._check = check
        self._data_folder = data_folder
        self._run_async = run_async
        self._publish = swap
        self._settle = settle
        self._log = log
        self._groups: list[Group] = []
        self._retiring: set[gevent.Greenlet[..., None]] = set()
        self._prepared: Change | None = None
        at_death(self._abandon)
        self._put(self._build_all(sources()))

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Answer one request; a DefinitionError is the caller's, and no crash."""
        try:
            match request:
                case ("commit",) | ("abort",):
                    return True, self._conclude(request[0] == "commit")
                case ("digests",):
                    return True, {
                        f"capabilities of {one.source.name}": one.digest for one in self._groups if one.digest
                    }
                case _ if self._prepared is not None:
                    return False, DefinitionError(
                        "another change of the capabilities is under way; try again"
                    )
                case ("prepare", sources):
                    self._prepared = self._build_all(sources)
                    return True, self._prepared.words
                case ("apply", sources, dry_run):
                    return True, self._apply(sources, dry_run)
                case ("register", definitions):
                    return True, self._register(tuple(definitions))
                case ("unregister", id):
                    return True, self._unregister(id)
        except DefinitionError as error:
            return False, error
        return False, DefinitionError(f"the capability registry can't {request!r}")

    def terminate(self, reason: object) -> None:
        """Close every resource, of those that are being retired too."""
        gevent.joinall(list(self._retiring), timeout=RETIREMENT)
        self._conclude(False)
        self._close(self._groups)
        self._groups = []

    def _abandon(self) -> None:
        """It was killed: what it had opened is closed, but nobody can wait for that here."""
        left = [*self._groups, *(self._prepared.fresh if self._prepared is not None else [])]
        self._groups, self._prepared = [], None
        if left:
            gevent.spawn(self._close, left)

    def _apply(self, sources: Sequence[CapabilitySource], dry_run: bool) -> list[str]:
        """Load beside what runs the sources that are new or changed, and swap."""
        change = self._build_all(sources)
        if dry_run:
            self._close(change.fresh)
        else:
            self._put(change)
        return change.words

    def _build_all(self, sources: Sequence[CapabilitySource]) -> Change:
        fresh: list[Group] = []
        groups: list[Group] = []
        try:
            for source in sources:
                kept = next(
                    (group for group in self._groups if group.serves(source) and group not in groups), None
                )
                if kept is None:
                    kept = self._build(source)
                    fresh.append(kept)
                groups.append(kept)
            catalogue = self._catalogue(groups)
        except BaseException:
            self._close(fresh)
            raise
        before = {
            f"{one.definition.id}@{one.definition.version}"
            for group in self._groups
            for one in group.registered
        }
        after = {f"{one.definition.id}@{one.definition.version}" for one in catalogue}
        words = [f"capability {name} added" for name in sorted(after - before)]
        words += [f"capability {name} removed" for name in sorted(before - after)]
        again = [f"capabilities of {group.source.name} loaded again" for group in fresh]
        return Change(groups, fresh, catalogue, words or (again if self._groups else []))

    def _put(self, change: Change) -> None:
        gone = [group for group in self._groups if group not in change.groups]
        self._groups = change.groups
        self._publish(change.catalogue)
        if gone:
            retiring = gevent.spawn(self._retire, gone)
            self._retiring.add(retiring)
            retiring.link(self._retiring.discard)

    def _conclude(self, commit: bool) -> bool:
        """The end of a prepared change. Returns whether there was one."""
        change, self._prepared = self._prepared, None
        if change is None:
            return False
        if commit:
            self._put(change)
        else:
            self._close(change.fresh)
        return True

    def _register(self, definitions: tuple[Capability, ...]) -> list[str]:
        group = self._build(CapabilitySource(definitions=definitions))
        groups = [*self._groups, group]
        try:
            catalogue = self._catalogue(groups)
        except BaseException:
            group.close(self._log)
            raise
        self._groups = groups
        self._publish(catalogue)
        return [f"{one.id}@{one.version}" for one in definitions]

    def _unregister(self, id: str) -> int:
        gone = 0
        for group in self._groups:
            left = [one for one in group.registered if one.definition.id != id]
            gone += len(group.registered) - len(left)
            group.registered = left
        if not gone:
            raise DefinitionError(f"no capability {id!r} to unregister")
        self._publish(self._catalogue(self._groups))
        return gone

    def _build(self, source: CapabilitySource) -> Group:
        return Group(source, self._data_folder, self._run_async)

    def _catalogue(self, groups: Iterable[Group]) -> Catalogue:
        made = Catalogue(one for group in groups for one in group.registered)
        self._check(made)
        return made

    def _retire(self, gone: list[Group]) -> None:
        """Requests under way finish on the old ones; then their resources close."""
        self._settle()
        self._close(gone)

    def _close(self, groups: list[Group]) -> None:
        for group in reversed(groups):
            group.close(self._log)
