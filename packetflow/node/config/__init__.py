"""A node's configuration: read from files, environment and flags, checked with places, shown with origins."""

from packetflow.documents.faults import Fault, render, render_fault
from packetflow.node.config.faults import ConfigError
from packetflow.node.config.json_schema import json_schema
from packetflow.node.config.layers import UnknownKey
from packetflow.node.config.overlay import Overlay, OverlayEntry, OverlayError
from packetflow.node.config.schema import CapabilityEntry, Match, ModuleEntry, NodeConfig
from packetflow.node.config.secrets import Secret, SecretError
from packetflow.node.config.sources import (
    Dropped,
    LoadedConfig,
    check_module_config,
    load_config,
    load_with_overlay,
    module_config,
)

__all__ = [
    "CapabilityEntry",
    "ConfigError",
    "Dropped",
    "Fault",
    "LoadedConfig",
    "Match",
    "ModuleEntry",
    "NodeConfig",
    "Overlay",
    "OverlayEntry",
    "OverlayError",
    "Secret",
    "SecretError",
    "UnknownKey",
    "check_module_config",
    "json_schema",
    "load_config",
    "load_with_overlay",
    "module_config",
    "render",
    "render_fault",
]
