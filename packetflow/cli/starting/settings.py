"""The configuration that a command means: its file, and what flags lay over it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packetflow.cli.failures import Failure, usage
from packetflow.cli.nearest import nearest

if TYPE_CHECKING:
    from packetflow.node.config import ConfigError, Fault, LoadedConfig

ALL = "all"


def load_settings(config: Path | None, sets: Sequence[str] = ()) -> LoadedConfig:
    """Reads the configuration: CONFIG or the project's, and `--set key=value` over it.

    Raises Failure (config_invalid) with every fault at its place.
    """
    from packetflow.node.config import ConfigError, load_with_overlay

    try:
        loaded, _ = load_with_overlay(config, os.environ, flags_of(sets))
    except ConfigError as error:
        raise config_failure(error) from error
    return loaded


def check_without(loaded: LoadedConfig, without: Sequence[str]) -> None:
    """Refuses names of --without that the configuration does not have: leaving nothing out is not what was meant."""
    names = [module.name for module in loaded.config.modules]
    unknown = [name for name in without if name != ALL and name not in names]
    if unknown:
        near = sorted({word for name in unknown for word in nearest(name, [*names, ALL])})
        raise usage(
            f"--without {unknown[0]}: the configuration has no such module",
            rows=[("nearest", ", ".join(near)) if near else ("known", ", ".join([*names, ALL]))],
        )


def flags_of(sets: Sequence[str]) -> dict[str, Any]:
    """`--set http.port=8080` as flags by dotted key. Raises Failure (usage) for a word without `=`."""
    flags: dict[str, Any] = {}
    for word in sets:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise usage(
                f'--set "{word}" is no setting', rows=[("expected", "KEY=VALUE, for example http.port=8080")]
            )
        flags[key] = value
    return flags


def config_failure(error: ConfigError, ending: str = "nothing was started") -> Failure:
    """The faults of a configuration as the command's failure: for people as the config's own rendering shows them."""
    from packetflow.node.config import render

    count = sum(fault.severity == "error" for fault in error.faults)
    text = render(error.faults, ending)
    return Failure(
        "config_invalid",
        f"{count} error{'' if count == 1 else 's'} in the configuration",
        details={"faults": [fault.as_dict() for fault in error.faults], "text": text},
        text=text,
    )


def faults_of(config: Path | None) -> list[Fault]:
    """All faults and warnings of a configuration; none if it is right."""
    from packetflow.node.config import ConfigError, load_with_overlay

    try:
        loaded, _ = load_with_overlay(config, os.environ)
    except ConfigError as error:
        return list(error.faults)
    return list(loaded.warnings)
