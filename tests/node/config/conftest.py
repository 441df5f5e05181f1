"""A project folder to write configurations into, and the text of what `config check` would show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from packetflow.node.config import ConfigError, Fault, LoadedConfig, load_config


class Project:
    """A folder with `config/node.toml`; loads hermetically: nothing of the real environment or home counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "config" / "node.toml"
        self.file.parent.mkdir(parents=True)

    def write(self, text: str | bytes, name: str = "config/node.toml") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
        return path

    def load(
        self,
        text: str | bytes | None = None,
        environment: Mapping[str, str] | None = None,
        flags: Mapping[str, Any] | None = None,
        overlay: Mapping[str, Any] | None = None,
        path: str | Path | None = None,
    ) -> LoadedConfig:
        if text is not None:
            self.write(text)
        return load_config(path, environment or {}, flags, overlay, folder=self.folder)

    def faults(self, *args: Any, **kwargs: Any) -> tuple[Fault, ...]:
        with pytest.raises(ConfigError) as raised:
            self.load(*args, **kwargs)
        return raised.value.faults

    def refused(self, *args: Any, **kwargs: Any) -> str:
        """What people see."""
        with pytest.raises(ConfigError) as raised:
            self.load(*args, **kwargs)
        return str(raised.value)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "desk")


@pytest.fixture
def shows() -> Callable[[str], str]:
    """An expected screen, written indented in a test."""
    return lambda text: dedent(text).strip("\n")
