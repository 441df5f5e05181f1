"""Changing a running node by its configuration: read again, checked as a whole, put in place, or nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packetflow.node.changing import Reconfiguration
from packetflow.node.config import ConfigError, Overlay, OverlayEntry, load_config
from packetflow.node.config.show import diff
from packetflow.node.system import shapes
from packetflow.otp.errors import PacketFlowError
from packetflow.wire.errors import Rejected, Unavailable

if TYPE_CHECKING:
    from packetflow.node.node import Node

# What a running node takes on; the rest of the configuration is read at the start.
LIVE = ("modules", "capabilities", "catalogue", "timeouts.request", "access")


class Reloading:
    """Reads a node's configuration again, and keeps what was changed at run time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._overlay: Overlay | None = None

    def run(self, dry_run: bool) -> shapes.Reload:
        """Put what changed in place. A faulty configuration, a module or capability that does not load: nothing changes."""
        old = self._node.blueprint
        if old.loaded is None:
            return {"changed": [], "kept": ["the configuration was given in code"], "faults": []}
        try:
            loaded, self._overlay = old.loaded.again(self._node.disk)
            self._overlay.remove(*(dropped.key for dropped in loaded.dropped))
        except PacketFlowError as error:
            return {"changed": [], "kept": [], "faults": faults_of(error)}
        try:
            changed = list(self._node.changing.run(Reconfiguration(loaded), dry_run))
        except PacketFlowError as error:
            return {"changed": [], "kept": [], "faults": faults_of(error)}
        kept = [
            f"{change.key}: takes a restart"
            for change in diff(old.loaded, loaded)
            if not _is_live(change.key)
        ]
        if changed and not dry_run:
            self._node.log.info("configuration reloaded", changed=changed, kept=kept)
        return {"changed": changed, "kept": kept, "faults": []}

    def change_setting(self, key: str, value: Any, who: str, dry_run: bool) -> list[str]:
        """Change one setting at run time, put it in place and keep it over restarts. What changed, in words.

        Raises what refuses it, and then nothing has changed; Unavailable if it can't be written: it holds until the end then.
        """
        loaded = self._node.blueprint.loaded
        if loaded is None:
            raise Rejected(
                "the configuration was given in code, so nothing can be kept: use node.register and node.unregister",
                {"reason": "no_configuration"},
            )
        current, overlay = loaded.again()
        file_value = current.file_value(key)
        entry = OverlayEntry(value, who, "", file_value)
        wanted = load_config(
            loaded.file, loaded.environment, loaded.flags, {**overlay, key: entry}, loaded.start
        )
        words = list(self._node.changing.run(Reconfiguration(wanted), dry_run))
        if dry_run:
            return words
        try:
            overlay.set(key, value, who=who, when=self._node.clock.utc(), file_value=file_value)
        except PacketFlowError as error:
            raise Unavailable(
                f"{key} is changed until the next start, and could not be kept for longer: {error}"
            ) from error
        self._overlay = overlay
        return words

    def remember(self, action: str, name: str, who: str) -> None:
        """Keep a change made at run time over restarts. Raises Unavailable if it can't be written; it holds until
        the end then."""
        loaded = self._node.blueprint.loaded
        if action not in ("enable", "disable") or loaded is None:
            return
        if not any(entry.name == name for entry in loaded.config.modules):
            return
        key = f"modules.{name}.enabled"
        try:
            if self._overlay is None:
                self._overlay = Overlay(self._node.data_folder.path / "overlay.json", self._node.disk)
            self._overlay.set(
                key,
                action == "enable",
                who=who,
                when=self._node.clock.utc(),
                file_value=loaded.file_value(key),
            )
        except PacketFlowError as error:
            text = (
                f"module {name} is {action}d until the next start, and could not be kept for longer: {error}"
            )
            raise Unavailable(text, {"module": name}) from error


def _is_live(key: str) -> bool:
    return key.startswith(LIVE)


def faults_of(error: PacketFlowError) -> list[dict[str, object]]:
    """What is wrong with a configuration, fault by fault."""
    if isinstance(error, ConfigError):
        return [fault.as_dict() for fault in error.faults]
    told = getattr(error, "details", {}).get("faults")
    return list(told) if told else [{"message": str(error), "severity": "error"}]
