"""A module's manifest, `module.toml`: what it is called, where it starts, and what it needs beside it."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from packetflow.intelligence.module import HOOKS
from packetflow.intelligence.versions import VersionRange
from packetflow.otp.errors import PacketFlowError

FILE = "module.toml"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]


class ModuleError(PacketFlowError):
    """A module can't be found, loaded, started or changed; the message names it and says why and what to do."""

    code = "module"

    def __init__(self, message: str, module: str | None = None) -> None:
        super().__init__(message)
        self.module = module

    @property
    def details(self) -> dict[str, str]:
        """For programs: the module's name in the chain, where one is at fault."""
        return {"module": self.module} if self.module is not None else {}


class Dependencies(BaseModel):
    """Other modules by name: that must be there, must not, and must stand before or after this one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requires: tuple[Name, ...] = ()
    conflicts: tuple[Name, ...] = ()
    after: tuple[Name, ...] = ()
    before: tuple[Name, ...] = ()


class Manifest(BaseModel):
    """What `module.toml` says. entry: `file:Class` in the folder. hooks: what it overrides, for who reads before loading."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = "0.0.0"
    entry: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*:[A-Za-z_]\w*$")]
    description: str = ""
    requires_packetflow: str = ""
    hooks: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    dependencies: Dependencies = Dependencies()

    @field_validator("requires_packetflow")
    @classmethod
    def _range(cls, text: str) -> str:
        VersionRange(text)
        return text

    @field_validator("hooks")
    @classmethod
    def _known(cls, hooks: tuple[str, ...]) -> tuple[str, ...]:
        for hook in hooks:
            if hook not in HOOKS:
                nearest = difflib.get_close_matches(hook, HOOKS, n=1)
                raise ValueError(f"unknown hook {hook!r}" + (f", nearest {nearest[0]}" if nearest else ""))
        return hooks


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a module's folder. Raises ModuleError naming the file and each fault."""
    file = folder / FILE
    try:
        data: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModuleError(f"{folder}: no {FILE}; expected one with at least name and entry") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModuleError(f"{file}: {error}") from error
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        faults = [_fault(item) for item in error.errors(include_url=False)]
        raise ModuleError(f"{file}: {'; '.join(faults)}") from error


def _fault(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, Manifest.model_fields, n=1)
        known = ", ".join(Manifest.model_fields)
        return f"unknown key {key!r}" + (f", nearest {nearest[0]}" if nearest else "") + f"; expected {known}"
    if item["type"] == "missing":
        return f"{key} is required"
    return f"{key}: {item['msg']}, given {item['input']!r}"
