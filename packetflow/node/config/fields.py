"""The kinds of values that a configuration holds, each with what a fault says was expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, StringConstraints, WithJsonSchema

from packetflow.node.config.quantities import parse_duration, parse_size

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Expect:
    """What a fault says was expected of a field, with an example to copy. Stands in the field's annotation."""

    words: str
    example: str = ""
    unit: Literal["", "bytes", "seconds"] = ""

    def __str__(self) -> str:
        return f"{self.words}, for example {self.example}" if self.example else self.words


def listed(value: object) -> object:
    """A list as the tuple that an immutable configuration holds."""
    return tuple(value) if isinstance(value, list) else value


def _path(value: object) -> object:
    if isinstance(value, str) and (not value or "\0" in value):
        raise ValueError("no path")
    return value


_SIZE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? *(B|KB|MB|GB|KiB|MiB|GiB)?$"},
    ]
}
_DURATION_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? *(us|ms|s|min|m|h|d)?$"},
    ]
}

Switch = Annotated[bool, Strict(), Expect("true or false", "true")]
Port = Annotated[
    int, Strict(), Field(ge=0, le=65535), Expect("a port from 0 to 65535 (0: any free one)", "7420")
]
Count = Annotated[int, Strict(), Field(ge=1, le=10**9), Expect("an integer of at least 1", "64")]
Size = Annotated[
    int,
    Strict(),
    BeforeValidator(parse_size),
    Field(ge=1, le=2**50),
    WithJsonSchema(_SIZE_SCHEMA),
    Expect("a size: bytes, or a number with B, KB, MB, GB, KiB, MiB or GiB", '"64 MiB"', "bytes"),
]
Duration = Annotated[
    float,
    Strict(),
    BeforeValidator(parse_duration),
    Field(gt=0, le=10**9, allow_inf_nan=False),
    WithJsonSchema(_DURATION_SCHEMA),
    Expect("a duration over 0: seconds, or a number with us, ms, s, m, h or d", '"500ms"', "seconds"),
]
Wait = Annotated[
    float,
    Strict(),
    BeforeValidator(parse_duration),
    Field(ge=0, le=10**9, allow_inf_nan=False),
    WithJsonSchema(_DURATION_SCHEMA),
    Expect("a duration: seconds, or a number with us, ms, s, m, h or d", '"30s"', "seconds"),
]
Name = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"),
    Expect("a name: a letter, then letters, digits, _ and - (64 at most)", '"desk"'),
]
Word = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x20\x7f]+$"),
    Expect("a text without spaces, not empty", '"*"'),
]
Words = Annotated[tuple[Word, ...], BeforeValidator(listed), Expect("a list of texts", '["*"]')]
File = Annotated[
    Path,
    BeforeValidator(_path, json_schema_input_type=Annotated[str, Field(min_length=1)]),
    Expect("the path of a file or folder", '"examples/support_desk/capabilities.py"'),
]
Files = Annotated[tuple[File, ...], BeforeValidator(listed), Expect("a list of paths", '["modules"]')]
Table = Annotated[Mapping[str, Any], Expect("a table", "{ rate = 50.0 }")]


class Section(BaseModel):
    """The base of all parts: immutable, unknown keys refused, input never repeated in pydantic's own messages."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True)
