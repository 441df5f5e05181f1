"""PacketFlow: a supervised capability node. The common names by one import; each is loaded when it is first asked for."""

from importlib import import_module
from typing import Any

from packetflow._version import __version__

_HOMES = {
    "capability": "packetflow.capabilities.definition",
    "audit": "packetflow.capabilities.effects",
    "counter": "packetflow.capabilities.effects",
    "effect": "packetflow.capabilities.effects",
    "emit": "packetflow.capabilities.effects",
    "gauge": "packetflow.capabilities.effects",
    "histogram": "packetflow.capabilities.effects",
    "notify": "packetflow.capabilities.effects",
    "all_of": "packetflow.capabilities.authorisation",
    "any_of": "packetflow.capabilities.authorisation",
    "not_": "packetflow.capabilities.authorisation",
    "roles": "packetflow.capabilities.authorisation",
    "EffectBackend": "packetflow.capabilities.backends.backend",
    "resource": "packetflow.capabilities.resources",
    "ResourceSettings": "packetflow.capabilities.resources",
    "Context": "packetflow.capabilities.context",
    "Pool": "packetflow.capabilities.options",
    "ttl": "packetflow.capabilities.options",
    "Module": "packetflow.intelligence.module",
    "Change": "packetflow.intelligence.answers",
    "Continue": "packetflow.intelligence.answers",
    "Intercept": "packetflow.intelligence.answers",
    "Optimize": "packetflow.intelligence.answers",
    "Reject": "packetflow.intelligence.answers",
    "Respond": "packetflow.intelligence.answers",
    "Transform": "packetflow.intelligence.answers",
    "Node": "packetflow.node.node",
    "Client": "packetflow.client",
    "Request": "packetflow.wire.values",
    "Response": "packetflow.wire.values",
    "Progress": "packetflow.wire.stream",
    "Stream": "packetflow.wire.stream",
    "Secret": "packetflow.node.config.secrets",
}

__all__ = [
    "Change",
    "Client",
    "Context",
    "Continue",
    "EffectBackend",
    "Intercept",
    "Module",
    "Node",
    "Optimize",
    "Pool",
    "Progress",
    "Reject",
    "Request",
    "ResourceSettings",
    "Respond",
    "Response",
    "Secret",
    "Stream",
    "Transform",
    "__version__",
    "all_of",
    "any_of",
    "audit",
    "capability",
    "counter",
    "effect",
    "emit",
    "gauge",
    "histogram",
    "not_",
    "notify",
    "resource",
    "roles",
    "ttl",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'packetflow' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
