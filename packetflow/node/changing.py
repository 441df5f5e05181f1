"""A change of what a node serves, in two steps: what is new is loaded and started beside what runs, then put in place.

The first step may fail and then leaves everything as it was; the second can't. So several processes can do it together
or not at all.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent
from gevent.lock import BoundedSemaphore

from packetflow.capabilities.contract import DefinitionError
from packetflow.node.blueprint import Blueprint
from packetflow.node.config import LoadedConfig
from packetflow.node.supervision import CAPABILITIES, FILES, MODULES

if TYPE_CHECKING:
    from packetflow.node.node import Node


class ModuleSwitch(NamedTuple):
    """enable, disable, reload or restart a module. Its answer: whether anything changed."""

    action: str
    name: str


class Reconfiguration(NamedTuple):
    """Another reading of the configuration. Its answer: what changed, in words."""

    loaded: LoadedConfig


class FilesChanged(NamedTuple):
    """Capability files are not what they were; the configuration is. Its answer: what changed, in words."""


Change = ModuleSwitch | Reconfiguration | FilesChanged


class Changing:
    """Changes one node, its own process alone."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._before: Blueprint | None = None
        self._files = False  # whether only capability files are being changed
        self.alone = BoundedSemaphore()  # one change at a time; the others wait

    def run(self, change: Change, dry_run: bool) -> Any:
        """The change as a whole; dry_run: only what it would be. Raises what refuses it; then everything is as it was.

        It goes on to its end where the one who asked is ended meanwhile: half a change is what nobody must leave.
        """
        context = contextvars.copy_context()
        worked, outcome = gevent.spawn(context.run, self._to_its_end, change, dry_run).get()
        if worked:
            return outcome
        raise outcome

    def _to_its_end(self, change: Change, dry_run: bool) -> tuple[bool, Any]:
        try:
            with self.alone:
                return True, self.do(change, dry_run)
        except Exception as error:  # noqa: BLE001 - raised by `run`
            return False, error

    def do(self, change: Change, dry_run: bool) -> Any:
        """The change, while no other is made."""
        if dry_run:
            return self.rehearse(change)
        answer = self.prepare(change)
        self.commit()
        return answer

    def rehearse(self, change: Change) -> Any:
        """Whether it could be done, by the node's own checks, without starting anything. Raises what refuses it."""
        node = self._node
        if isinstance(change, ModuleSwitch):
            return node.ask(MODULES, (change.action, change.name, True))
        if isinstance(change, FilesChanged):
            return node.ask(CAPABILITIES, ("apply", *node.sources(), True))
        before = node.blueprint
        node.blueprint = new = before.with_config(change.loaded)  # module configurations are checked by it
        try:
            words = list(node.ask(MODULES, ("apply", new.placements(), True)))
            return words + list(node.ask(CAPABILITIES, ("apply", *node.sources(), True)))
        finally:
            node.blueprint = before

    def prepare(self, change: Change) -> Any:
        """The first step. Raises what refuses it."""
        node = self._node
        if isinstance(change, ModuleSwitch):
            return node.ask(MODULES, ("prepare", change.action, change.name))
        if isinstance(change, FilesChanged):
            words = self._prepare_capabilities()
            self._files = True
            return words
        before = node.blueprint
        node.blueprint = new = before.with_config(change.loaded)
        try:
            words = list(node.ask(MODULES, ("prepare", "apply", new.placements())))
            try:
                words += self._prepare_capabilities()
            except BaseException:
                node.ask(MODULES, ("abort",))
                raise
        except BaseException:
            node.blueprint = before
            raise
        self._before = before
        return words

    def _prepare_capabilities(self) -> list[str]:
        node = self._node
        try:
            return list(node.ask(CAPABILITIES, ("prepare", *node.sources())))
        except DefinitionError:
            raise
        except BaseException:
            # Who asked may have been ended, or have waited for too long: it hears this when it comes to that.
            node.system.cast(CAPABILITIES, "abort")
            raise

    def commit(self) -> None:
        """The second step: what was prepared is in place when this returns."""
        node = self._node
        if self._files:
            self._conclude_files("commit")
            return
        before, self._before = self._before, None
        if before is not None:
            node.ask(CAPABILITIES, ("commit",))
        node.ask(MODULES, ("commit",))
        if before is not None:
            config = node.config
            node.routes.timeout = config.timeouts.request
            node.door.admit(config.access)
            node.routes.swap()
            node.system.cast(FILES, "look")

    def abort(self) -> None:
        """Instead of the second step: what was prepared is ended, and everything is as it was."""
        node = self._node
        if self._files:
            self._conclude_files("abort")
            return
        before, self._before = self._before, None
        if before is not None:
            node.ask(CAPABILITIES, ("abort",))
        node.ask(MODULES, ("abort",))
        if before is not None:
            node.blueprint = before

    def _conclude_files(self, how: str) -> None:
        self._files = False
        self._node.ask(CAPABILITIES, (how,))
