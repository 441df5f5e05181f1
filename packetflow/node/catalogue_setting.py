"""What a change of the catalogue from the command line means as a setting, `catalogue.files` or `catalogue.without`."""

from __future__ import annotations

from pathlib import Path

from packetflow.capabilities.catalogue import Catalogue
from packetflow.node.config.schema import CatalogueSection
from packetflow.wire.errors import Conflict, NotFound, Rejected, ValidationFailed
from packetflow.wire.ids import OWN

FILES, WITHOUT = "catalogue.files", "catalogue.without"


def catalogue_setting(
    settings: CatalogueSection, catalogue: Catalogue, action: str, name: str
) -> tuple[str, list[str]]:
    """The key and its new value. Raises RequestError for what can't be."""
    if _is_path(name):
        return FILES, _files(settings, action, Path(name))
    return WITHOUT, _without(settings, catalogue, action, name)


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith(".py")


def _files(settings: CatalogueSection, action: str, path: Path) -> list[str]:
    if not path.is_absolute():
        raise ValidationFailed(f"{path}: expected an absolute path", {"faults": []})
    files = [str(file) for file in settings.files]
    there = str(path) in files
    if action == "add":
        if there:
            raise Conflict(
                f"{path} was added already; `packetflow reload` takes on what changed in it",
                {"file": str(path)},
            )
        return [*files, str(path)]
    if not there:
        raise NotFound(
            f"{path} was not added at run time; what [[capabilities]] names is removed there",
            {"file": str(path)},
        )
    return [file for file in files if file != str(path)]


def _without(settings: CatalogueSection, catalogue: Catalogue, action: str, name: str) -> list[str]:
    removed = list(settings.without)
    if action == "add":
        if name not in removed:
            raise NotFound(
                f"{name} is no file, and no capability that was removed",
                {"removed": removed, "nearest": catalogue.nearest(name)},
            )
        return [one for one in removed if one != name]
    if name.startswith(OWN):
        raise Rejected(f"{name} is the node's own and stays", {"reason": "own_capability"})
    id, _, version = name.partition("@")
    found = [one for one in catalogue.versions(id) if not version or one.definition.version == version]
    if not found:
        known = [one.definition.version for one in catalogue.versions(id)]
        hint = f"; there is {', '.join(known)}" if known else ""
        raise NotFound(
            f"no capability {name!r}{hint}", {"capability": name, "nearest": catalogue.nearest(id)}
        )
    return [*removed, name]
