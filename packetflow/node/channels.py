"""The channels and backends of effects that a configuration names, and the processes that deliver."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from packetflow.capabilities.backends.audit import Trail
from packetflow.capabilities.backends.backend import EffectBackend
from packetflow.capabilities.contract import DefinitionError
from packetflow.node.config import NodeConfig
from packetflow.node.config.effect_sections import ChannelEntry
from packetflow.node.config.secrets import Secret
from packetflow.node.effects import Effects
from packetflow.node.outgoing import OutboxLine
from packetflow.notices.channel import Channel, Delivery
from packetflow.notices.mail import Mail
from packetflow.notices.webhook import Webhook
from packetflow.otp import ChildSpec, GenServer, Supervisor, Task
from packetflow.otp.clock import Clock
from packetflow.telemetry.masking import Mask

if TYPE_CHECKING:
    from packetflow.node.stores import Stores


def effects_of(
    config: NodeConfig,
    clock: Clock,
    log: Any,
    trail: Trail,
    backends: Mapping[str, EffectBackend],
    stores: Callable[[], Stores],
) -> Effects:
    """The effects of a node. backends: given in code. stores: where its notices wait. Raises DefinitionError."""
    return Effects(
        clock,
        log,
        trail=trail,
        mask=Mask(config.audit.mask),
        refusals=config.audit.refusals,
        channels=channels_of(config, clock, log, stores),
        backends={**backends_of(config), **backends},
    )


def channels_of(config: NodeConfig, clock: Clock, log: Any, stores: Callable[[], Stores]) -> list[Channel]:
    """The channels, each with its line in the outbox."""
    return [
        Channel(
            entry.name,
            _delivery(entry, clock),
            clock,
            log,
            queue=entry.queue,
            attempts=entry.attempts,
            timeout=entry.timeout,
            line=OutboxLine(entry.name, stores),
            lasting=lambda: stores().lasting,
        )
        for entry in config.channels
    ]


def _delivery(entry: ChannelEntry, clock: Clock) -> Delivery:
    if entry.kind == "webhook":
        secret, address = entry.url_secret, entry.url or ""
        return Webhook(
            secret.reveal if secret is not None else lambda: address,
            secret=entry.signing_key.reveal if entry.signing_key is not None else None,
            timeout=entry.timeout,
        )
    user, password = entry.user, entry.password
    return Mail(
        entry.host or "",
        entry.port,
        sender=entry.sender or "",
        recipients=entry.recipients,
        clock=clock,
        security=entry.security,
        login=None if user is None or password is None else _Login(user, password),
        timeout=entry.timeout,
    )


class _Login:
    """Reads the password when it is needed."""

    def __init__(self, user: str, password: Secret) -> None:
        self._user, self._password = user, password

    def __call__(self) -> tuple[str, str]:
        return self._user, self._password.reveal()


def backends_of(config: NodeConfig) -> dict[str, EffectBackend]:
    """The backends, made. Raises DefinitionError for a class that can't be had, or does not take its configuration."""
    found = {}
    for entry in config.effects:
        module, _, name = entry.backend.partition(":")
        try:
            made = getattr(importlib.import_module(module), name)(**entry.config)
        except Exception as error:
            raise DefinitionError(
                f"effects {entry.kind!r}: {entry.backend} can't be made: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(made, EffectBackend):
            raise DefinitionError(f"effects {entry.kind!r}: {entry.backend} is no EffectBackend")
        found[entry.kind] = made
    return found


class ChannelProcess(GenServer):
    """Has a channel deliver for as long as the node lives."""

    def init(self, channel: Channel, seconds: float) -> None:
        """Begin to deliver."""
        self._channel, self._seconds = channel, seconds
        Task.start_link(channel.run)

    def terminate(self, reason: object) -> None:
        """Give what waits some time."""
        self._channel.close(self._seconds)


def channel_processes(channels: list[Channel], seconds: float) -> ChildSpec:
    """A process for each channel, which delivers; at the end, `seconds` for what still waits."""
    children = [
        ChildSpec(ChannelProcess, channel, seconds, id=channel.name, shutdown=seconds + 1.0)
        for channel in channels
    ]
    return Supervisor.child(
        children, id="notices", strategy="one_for_one", max_restarts=100, max_seconds=60.0
    )
