"""The capability registry: loads and unloads capabilities on a running node, and swaps the catalogue in one assignment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gevent

from packetflow.capabilities.catalogue import Catalogue, Registered, pool_kind
from packetflow.capabilities.contract import DefinitionError
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.groups import CapabilitySource, Group
from packetflow.capabilities.surroundings import Surroundings
from packetflow.otp import GenServer, at_death
from packetflow.wire.ids import OWN

RETIREMENT = 2.0  # seconds that a stop waits for what is being retired


def check_pools(registered: Iterable[Registered]) -> None:
    """Raises DefinitionError where capabilities share a pool and say different things of it."""
    seen: dict[Any, Registered] = {}
    for one in registered:
        pool = one.definition.pool
        if pool is None:
            continue
        other = seen.setdefault(pool.name or pool, one).definition
        mine, theirs = (
            (each.pool and (each.pool.size, each.pool.queue), pool_kind(each))
            for each in (one.definition, other)
        )
        if mine != theirs:
            raise DefinitionError(
                f"{one.definition.source}: {one.definition.id} runs in {pool!r} by {mine[1]}, and {other.id} in"
                f" {other.pool!r} by {theirs[1]} ({other.source}); expected the same of both, or another pool"
            )


class Change:
    """What will be served, loaded and not yet served. words: what it changes. faults: of lenient sources, by name."""

    __slots__ = ("catalogue", "faults", "fresh", "groups", "without", "words")

    def __init__(
        self,
        groups: list[Group],
        fresh: list[Group],
        catalogue: Catalogue,
        words: list[str],
        faults: dict[str, str],
        without: frozenset[str],
    ) -> None:
        self.groups = groups
        self.fresh = fresh
        self.catalogue = catalogue
        self.words = words
        self.faults = faults
        self.without = without


class CapabilityRegistry(GenServer):
    """The one that changes the catalogue. Requests:

    ("apply", sources, without, dry_run) -> what changed, in words
    ("prepare", sources, without) -> the same, loaded beside what is served; then ("commit",) serves it and can't fail, or
        ("abort",) closes it again; so does the cast "abort"
    ("digests",) -> what each source's files were when they were loaded
    ("register", definitions) -> their names
    ("unregister", id) -> how many versions went

    without: ids, or id@version, that are not served though a source has them. A DefinitionError is answered to the caller as
    (False, error), and then nothing has changed.
    """

    hub_limit = 30.0  # it loads code and starts what that needs, as long as the usual `timeouts.start`

    def init(
        self,
        sources: Callable[[], tuple[Sequence[CapabilitySource], Collection[str]]],
        data_folder: Path,
        surroundings: Surroundings,
        publish: Callable[[Catalogue, Mapping[str, str]], None],
        settle: Callable[[Collection[Registered]], None],
        log: Any,
        check: Callable[[Catalogue], None] = lambda catalogue: None,
    ) -> None:
        """Load all sources and put the first catalogue in place. Raises DefinitionError.

        publish: takes a new catalogue and the faults of lenient sources. settle: waits until no request is under way in any of
        these. check: looks at a catalogue before it is put in place; raises DefinitionError for one that can't be served.
        """
        self._check = check
        self._data_folder = data_folder
        self._surroundings = surroundings
        self._publish = publish
        self._settle = settle
        self._log = log
        self._groups: list[Group] = []
        self._without: frozenset[str] = frozenset()
        self._faults: dict[str, str] = {}
        self._retiring: dict[gevent.Greenlet[..., None], list[Group]] = {}
        self._prepared: Change | None = None
        self._begun = False
        at_death(self._abandon)
        self._put(self._build_all(*sources()))
        self._begun = True

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
                case ("prepare", sources, without):
                    self._prepared = self._build_all(sources, without)
                    return True, self._prepared.words
                case ("apply", sources, without, dry_run):
                    return True, self._apply(sources, without, dry_run)
                case ("register", definitions):
                    return True, self._register(tuple(definitions))
                case ("unregister", id):
                    return True, self._unregister(id)
        except DefinitionError as error:
            return False, error
        return False, DefinitionError(f"the capability registry can't {request!r}")

    def handle_cast(self, message: Any) -> None:
        """ "abort": whoever had a change prepared does not want it any more."""
        if message == "abort":
            self._conclude(False)

    def terminate(self, reason: object) -> None:
        """Close every resource, of those that are being retired too."""
        gevent.joinall(list(self._retiring), timeout=RETIREMENT)
        self._conclude(False)
        left = [group for groups in self._retiring.values() for group in groups]
        gevent.killall(list(self._retiring))
        self._close([*self._groups, *left])
        self._groups = []

    def _abandon(self) -> None:
        """It was killed: what it had opened is closed, but nobody can wait for that here."""
        left = [*self._groups, *(self._prepared.fresh if self._prepared is not None else [])]
        self._groups, self._prepared = [], None
        if left:
            gevent.spawn(self._close, left)

    def _apply(
        self, sources: Sequence[CapabilitySource], without: Collection[str], dry_run: bool
    ) -> list[str]:
        """Load beside what runs the sources that are new or changed, and swap."""
        change = self._build_all(sources, without)
        if dry_run:
            self._close(change.fresh)
        else:
            self._put(change)
        return change.words

    # ---- loading ----------------------------------------------------------------------------------------------------------

    def _build_all(self, sources: Sequence[CapabilitySource], without: Collection[str]) -> Change:
        fresh: list[Group] = []
        groups: list[Group] = []
        faults: dict[str, str] = {}
        gone = frozenset(without)
        added = [group for group in self._groups if group.added]
        try:
            strict = [source for source in sources if not self._is_tolerated(source)]
            for source in strict:
                groups.append(self._kept_or_built(source, groups, fresh))
            groups += added
            catalogue = self._catalogue(groups, gone)
            # What is as it was stays before what is new: of two files with one id the one that had it first keeps it.
            lenient = [source for source in sources if source not in strict]
            known = [source for source in lenient if any(group.serves(source) for group in self._groups)]
            for source in [*known, *(source for source in lenient if source not in known)]:
                catalogue = self._join(source, groups, fresh, faults, gone) or catalogue
        except BaseException:
            self._close(fresh)
            raise
        before, after = _names(self._catalogue(self._groups, self._without)), _names(catalogue)
        words = [f"capability {name} added" for name in sorted(after - before)]
        words += [f"capability {name} removed" for name in sorted(before - after)]
        if not words and self._groups:
            words = [f"capabilities of {group.source.name} loaded again" for group in fresh]
        words += [f"not taken on: {text}" for name, text in faults.items() if self._faults.get(name) != text]
        return Change(groups, fresh, catalogue, words, faults, gone)

    def _is_tolerated(self, source: CapabilitySource) -> bool:
        """Whether its faults hold nobody up."""
        return source.lenient or (source.added and (not self._begun or source.name in self._faults))

    def _kept_or_built(
        self, source: CapabilitySource, groups: Collection[Group], fresh: list[Group]
    ) -> Group:
        for group in self._groups:
            if group not in groups and group.serves(source):
                return group
        built = Group(source, self._data_folder, self._surroundings)
        fresh.append(built)
        return built

    def _join(
        self,
        source: CapabilitySource,
        groups: list[Group],
        fresh: list[Group],
        faults: dict[str, str],
        without: frozenset[str],
    ) -> Catalogue | None:
        """A source whose faults hold nobody up: what it gave before is served on then. Gives the catalogue with it, or None."""
        had = [
            group
            for group in self._groups
            if group not in groups and (group.source == source or group.source.stood_in(source))
        ]
        try:
            built = self._kept_or_built(source, groups, fresh)
        except DefinitionError as error:
            faults[source.name] = str(error)
        else:
            had = [group for group in had if group is not built]
            catalogue = self._with(built, groups, without, source, faults)
            if catalogue is not None:
                return catalogue
            if built in fresh:
                fresh.remove(built)
                self._close([built])
        served = [self._with(group, groups, without, source, faults) for group in had]
        return next((catalogue for catalogue in reversed(served) if catalogue is not None), None)

    def _with(
        self,
        group: Group,
        groups: list[Group],
        without: Collection[str],
        source: CapabilitySource,
        faults: dict[str, str],
    ) -> Catalogue | None:
        """Adds a group, if it stands with the others, and gives the catalogue with it; else its fault is the source's."""
        try:
            catalogue = self._catalogue([*groups, group], without)
        except DefinitionError as error:
            faults.setdefault(source.name, str(error))
            return None
        groups.append(group)
        return catalogue

    def _catalogue(self, groups: Iterable[Group], without: Collection[str]) -> Catalogue:
        served = [
            one
            for group in groups
            for one in group.registered
            if one.definition.id not in without
            and f"{one.definition.id}@{one.definition.version}" not in without
        ]
        check_pools(served)
        made = Catalogue(served)
        self._check(made)
        return made

    # ---- serving ----------------------------------------------------------------------------------------------------------

    def _put(self, change: Change) -> None:
        gone = [group for group in self._groups if group not in change.groups]
        for name, text in change.faults.items():
            if self._faults.get(name) != text:
                self._log.error("capabilities were not taken on", source=name, error=text)
        for name in self._faults.keys() - change.faults.keys():
            self._log.info("capabilities are whole again", source=name)
        for name in change.without - self._without:
            if not any(_is_meant(one, name) for group in change.groups for one in group.registered):
                self._log.warning("a capability that nobody serves is withheld", capability=name)
        self._groups, self._without, self._faults = change.groups, change.without, change.faults
        self._publish(change.catalogue, change.faults)
        self._retire(gone)

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
        group = Group(CapabilitySource(definitions=definitions), self._data_folder, self._surroundings)
        group.added = True
        groups = [*self._groups, group]
        try:
            catalogue = self._catalogue(groups, self._without)
        except BaseException:
            group.close(self._log)
            raise
        self._groups = groups
        self._publish(catalogue, self._faults)
        return [f"{one.id}@{one.version}" for one in definitions]

    def _unregister(self, id: str) -> int:
        if isinstance(id, str) and id.startswith(OWN):
            raise DefinitionError(f"{id} is the node's own and stays")
        parted = [(group, group.part_with(id)) for group in self._groups]
        gone = [part for _, part in parted if part is not None]
        if not gone:
            raise DefinitionError(f"no capability {id!r} to unregister")
        self._groups = [group for group in self._groups if group.registered]
        self._publish(self._catalogue(self._groups, self._without), self._faults)
        self._retire(gone)
        return sum(len(part.registered) for part in gone)

    def _retire(self, gone: list[Group]) -> None:
        """Requests under way finish on the old ones; then their resources close."""
        if gone:
            retiring = gevent.spawn(self._settle_and_close, gone)
            self._retiring[retiring] = gone
            retiring.link(lambda ended: self._retiring.pop(ended, None))

    def _settle_and_close(self, gone: list[Group]) -> None:
        self._settle([one for group in gone for one in group.registered])
        self._close(gone)

    def _close(self, groups: list[Group]) -> None:
        for group in reversed(groups):
            group.close(self._log)


def _is_meant(one: Registered, name: str) -> bool:
    return name in (one.definition.id, f"{one.definition.id}@{one.definition.version}")


def _names(catalogue: Catalogue) -> set[str]:
    return {f"{one.definition.id}@{one.definition.version}" for one in catalogue}
