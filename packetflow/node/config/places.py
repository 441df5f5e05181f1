"""Where a configuration file lies, and what its relative paths begin at."""

from __future__ import annotations

from pathlib import Path

FILE_NAMES = (Path("config", "node.toml"), Path("node.toml"))


def find_config(folder: Path) -> Path | None:
    """The nearest `config/node.toml` or `node.toml` in a folder or above it."""
    for above in (folder, *folder.parents):
        for name in FILE_NAMES:
            if (above / name).is_file():
                return above / name
    return None


def project_folder(file: Path) -> Path:
    """What relative paths begin at: the parent of the file's folder if that is called `config`, else the folder."""
    return file.parent.parent if file.parent.name == "config" else file.parent
