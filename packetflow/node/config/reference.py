"""The table of all keys in docs/configuration.md, made from the schema.

    python -m packetflow.node.config.reference docs/configuration.md

writes it anew between its two marks; a test holds that this would change nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from packetflow.documents.faults import value_text
from packetflow.node.config.checks import expected_of
from packetflow.node.config.quantities import duration_text, size_text
from packetflow.node.config.schema import Match, NodeConfig, model_in

BEGIN = "<!-- keys: made by `python -m packetflow.node.config.reference docs/configuration.md` -->"
END = "<!-- end of keys -->"
LISTS = ("capabilities", "channels", "effects", "modules")


def table() -> str:
    """All keys: a heading and a table for each section."""
    return "\n".join(_sections(NodeConfig, "", "Top level"))


def written_into(text: str) -> str:
    """The document with the table between its marks. Raises ValueError where it lacks them."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN!r} or {END!r}")
    return f"{head}{BEGIN}\n\n{table()}\n{END}{tail}"


def _sections(model: type[BaseModel], at: str, title: str) -> Iterator[str]:
    inner = []
    yield f"### {title}\n"
    if at:
        yield f"{(model.__doc__ or '').strip()}\n"
    yield "| key | meaning | value | default |"
    yield "|---|---|---|---|"
    for name, info in model.model_fields.items():
        key = info.alias or name
        part = model_in(info.annotation)
        if part is not None:
            inner.append((part, f"{at}.{key}" if at else key, key))
        if part is None or key in ("match", "not"):
            yield f"| `{key}` | {_cell(info.description or '')} | {_cell(_value(info))} | {_cell(_default(info))} |"
    yield ""
    for part, way, key in inner:
        yield from _sections(part, way, f"`[[{way}]]`" if key in LISTS else f"`[{way}]`")


def _value(info: FieldInfo) -> str:
    expect = expected_of(info, ())
    if expect is None:
        return ""
    return f"{expect.words}; `{expect.example}`" if expect.example else expect.words


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value: Any = info.get_default(call_default_factory=True)
    expect = expected_of(info, ())
    unit = expect.unit if expect is not None else ""
    if value is None or (value == "" and info.default == ""):
        return ""
    if unit == "bytes":
        return f'`"{size_text(value)}"`'
    if unit == "seconds":
        return f'`"{duration_text(value)}"`'
    if isinstance(value, BaseModel):
        return '`["*"]`' if isinstance(value, Match) else "nothing"
    if isinstance(value, Path):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        value = [str(item) for item in value]
    return f"`{value_text(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(written_into(document.read_text()))
