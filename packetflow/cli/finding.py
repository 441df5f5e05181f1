"""Which node a command means: never a guess. Says how it came to that, so that errors can say it too."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packetflow.cli.failures import Failure, usage

CONFIG_PLACES = ("config/node.toml", "node.toml")
DEFAULT_DATA_FOLDER = "run"


@dataclass(frozen=True)
class Place:
    """Where a node should answer. url: for the client. why: what named it. data_folder: if that is known."""

    url: str
    why: str
    data_folder: Path | None = None


def find_node(option: str | None, environment: Mapping[str, str], here: Path) -> Place:
    """The node of --node, else of PACKETFLOW_NODE, else of the project around `here`.

    Raises Failure: usage for a word that names nothing, unavailable where no node has its socket.
    """
    if option is not None:
        return named(option, "--node")
    word = environment.get("PACKETFLOW_NODE", "")
    if word:
        return named(word, "PACKETFLOW_NODE")
    folder, why = project_data_folder(environment, here)
    return of_data_folder(folder, why)


def named(word: str, why: str) -> Place:
    """The place that a person wrote: a URL, a socket, a data folder, or the folder of a project."""
    if word.startswith(("tcp://", "unix://")):
        return Place(word, why)
    path = Path(word).expanduser()
    if path.is_socket():
        return Place(f"unix://{path.absolute()}", why, path.parent)
    if path.is_dir():
        config = config_in(path)
        if config is not None:
            return of_data_folder(data_folder_of(config, {}), f"{why} {word}")
        return of_data_folder(path, why)
    rows = [("expected", "tcp://host:port, unix:///path, a data folder, its socket, or a project's folder")]
    raise usage(f'{why} "{word}" names no node', rows=rows)


def of_data_folder(folder: Path, why: str) -> Place:
    """The node that holds a data folder. Raises Failure (unavailable) if none has its socket there."""
    from packetflow.storage.data_folder import find_admin_socket

    socket = find_admin_socket(folder)
    if socket is None:
        raise no_node(f"no node runs on the data folder {shown(folder)}", why)
    return Place(f"unix://{socket.absolute()}", why, folder)


def no_node(message: str, why: str) -> Failure:
    """The failure when nothing answers, with how the place was found and what may help."""
    return Failure(
        "unavailable",
        message,
        rows=[("looked", why)],
        next=["packetflow start", "or name a node by --node or PACKETFLOW_NODE"],
    )


def project_data_folder(environment: Mapping[str, str], here: Path) -> tuple[Path, str]:
    """The data folder of the project around a folder, and what said so."""
    config = chosen_config(environment, here)
    if config is None:
        chosen = environment.get("PACKETFLOW_NODE__DATA_FOLDER", "")
        if chosen:
            return here / chosen, "PACKETFLOW_NODE__DATA_FOLDER"
        return (
            here / DEFAULT_DATA_FOLDER,
            f"no config/node.toml in {shown(here)} or above, so its folder {DEFAULT_DATA_FOLDER}",
        )
    return data_folder_of(config, environment), f"node.data_folder of {shown(config)}"


def chosen_config(environment: Mapping[str, str], here: Path) -> Path | None:
    """The config file of PACKETFLOW_CONFIG, which must exist, else of the project around a folder. Raises Failure."""
    word = environment.get("PACKETFLOW_CONFIG", "")
    if not word:
        return find_config(here)
    path = here / word
    if not path.is_file():
        raise usage(f"PACKETFLOW_CONFIG names {word}, and there is no such file")
    return path


def find_config(here: Path) -> Path | None:
    """The config file of the project: config/node.toml or node.toml here or in a folder above."""
    for folder in (here, *here.parents):
        config = config_in(folder)
        if config is not None:
            return config
    return None


def config_in(folder: Path) -> Path | None:
    """A project's config file, if the folder is a project's."""
    return next((folder / place for place in CONFIG_PLACES if (folder / place).is_file()), None)


def project_of(config: Path) -> Path:
    """The folder that paths in a config file are relative to."""
    folder = config.absolute().parent
    return folder.parent if folder.name == "config" else folder


def data_folder_of(config: Path, environment: Mapping[str, str]) -> Path:
    """A config file's node.data_folder, read without the schema: whether the rest is right is not asked here."""
    chosen: object = environment.get("PACKETFLOW_NODE__DATA_FOLDER") or None
    if chosen is None:
        try:
            with config.open("rb") as file:
                document = tomllib.load(file)
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise Failure(
                "config_invalid",
                f"{shown(config)}: {error}",
                next=[f"packetflow config check {shown(config)}", "or name the node by --node"],
            ) from error
        table = document.get("node")
        chosen = table.get("data_folder") if isinstance(table, dict) else None
    return project_of(config) / (chosen if isinstance(chosen, str) else DEFAULT_DATA_FOLDER)


def shown(path: Path) -> str:
    """A path as a person in the current folder would write it."""
    try:
        relative = path.absolute().relative_to(Path.cwd())
    except (ValueError, OSError):
        return os.fspath(path)
    return os.fspath(relative)
