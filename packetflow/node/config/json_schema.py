"""The JSON Schema of a configuration file, as a whole or a section of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from packetflow.documents.faults import nearest
from packetflow.node.config.schema import NodeConfig, model_in


def json_schema(section: str | None = None) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a whole configuration file, or of a section of it ("http", "modules", "modules.match").

    Raises KeyError for a section that does not exist; its text offers the nearest.
    """
    model: type[BaseModel] = NodeConfig
    for part in section.split(".") if section else ():
        known = sections_of(model)
        if part not in known:
            word = nearest(part, known)
            raise KeyError(
                f"no section {section!r}" + (f", nearest {word}" if word else f", known: {', '.join(known)}")
            )
        model = known[part]
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def sections_of(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The parts of a model that are models themselves (or lists of them), by key."""
    found = {}
    for name, info in model.model_fields.items():
        kind = model_in(info.annotation)
        if kind is not None:
            found[info.alias or name] = kind
    return found
