"""Runs a capability in another process: by its file and content, with its payload; and what comes back."""

from __future__ import annotations

import io
import pickle
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from packetflow.capabilities.source import PREFIX, Source, digest_of_files, files_with
from packetflow.otp.pools.child import address
from packetflow.otp.pools.processes import RemoteTraceback
from packetflow.wire.errors import ExecutionFailed, RequestError, Unavailable, error_from_dict

if TYPE_CHECKING:
    from packetflow.capabilities.definition import Capability

MAIN = "__main__"
KEPT = 4  # sources that a process keeps loaded


class Place(NamedTuple):
    """Where another process finds a capability: by a file and its neighbours, with their digest, or by an importable module's
    name. function: its name there, in case that somebody else declared it to be a capability.
    """

    module: str
    files: tuple[str, ...]
    digest: str
    id: str
    version: str
    function: str


class RaisedElsewhere(Exception):
    """What a capability raised in another process, if it is none of our errors. type_name: its class."""

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(f"{type_name}: {text}" if text else type_name)
        self.type_name = type_name


class SourceChanged(Exception):
    """The file is not what the node has loaded any more."""


def place_for(definition: Capability) -> Place:
    """Where another process finds this capability now. Raises ValueError that says why it can't."""
    function = definition.function
    name = getattr(function, "__qualname__", "")
    module = getattr(function, "__module__", "") or ""
    if "<locals>" in name or "<lambda>" in name:
        raise ValueError("it is made inside a function, where no other process can find it")
    if "." in name or hasattr(function, "__self__"):
        raise ValueError("it is a method; another process has no such object")
    if module == MAIN or module.startswith(PREFIX):
        files = files_with(module)
        if not files or not Path(files[0]).is_file():
            raise ValueError(f"its file {files[:1]} is not there, so no other process can load it")
        return Place("", files, digest_of_files(map(Path, files)), definition.id, definition.version, name)
    found = address(function)
    if isinstance(found, str):
        raise ValueError(found)
    return Place(module, (), "", definition.id, definition.version, name)


def pack_fields(fields: dict[str, Any]) -> bytes:
    """A payload for another process. Raises ExecutionFailed if it can't be written."""
    try:
        return pickle.dumps(fields, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # whatever a class of somebody's does when it is written
        raise ExecutionFailed(f"a field can't be given to another process: {error}") from error


def unpack_outcome(data: bytes, definition: Capability) -> Any:
    """What a run in another process came to. Raises what it raised."""
    what, *told = pickle.loads(data)
    match what:
        case "value":
            home = getattr(definition.function, "__module__", "")
            return _Reader(told[0], lambda module: _here(module, home)).load()
        case "error":
            raise error_from_dict(told[0])
        case "changed":
            raise Unavailable(
                f"{definition.id} was changed on disk since the node loaded it; `packetflow reload` takes it on",
                {"capability": definition.id},
                retry_after=1.0,
            )
    name, text, frames = told
    raise RaisedElsewhere(name, text) from RemoteTraceback(frames)


def type_name_of(failure: BaseException) -> str:
    """The class of what a capability raised, in whichever process."""
    return failure.type_name if isinstance(failure, RaisedElsewhere) else type(failure).__name__


def run_here(place: tuple[str, tuple[str, ...], str, str, str, str], data: bytes) -> bytes:
    """In the other process: run a capability, and its outcome as bytes. Never raises for the capability's own failure."""
    try:
        function, home = _loaded(*place)
        fields = _Reader(data, lambda module: _there(module, home)).load()
        value = function(**fields)
        return pickle.dumps(("value", pickle.dumps(value, pickle.HIGHEST_PROTOCOL)))
    except SourceChanged:
        return pickle.dumps(("changed",))
    except RequestError as error:
        return pickle.dumps(("error", error.as_dict()))
    except BaseException as error:  # noqa: BLE001  # the capability's crash, whatever it is, is its caller's to hear of
        frames = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return pickle.dumps(("raised", type(error).__name__, _text(error), frames))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as fault:  # noqa: BLE001  # the text is the author's code too
        return f"(its text can't be read: {type(fault).__name__})"


@lru_cache(maxsize=KEPT)  # of a process that serves pools: what it has loaded it need not load again
def _loaded(
    module: str, files: tuple[str, ...], digest: str, id: str, version: str, function: str
) -> tuple[Callable[..., Any], str]:
    from importlib import import_module

    from packetflow.capabilities.loader import capabilities_in

    namespace = _source(files, digest).namespace if files else import_module(module)
    for definition in capabilities_in(namespace):
        if (definition.id, definition.version) == (id, version):
            return definition.function, namespace.__name__
    found = getattr(namespace, function, None)
    if not callable(found):
        raise SourceChanged(id)
    return found, namespace.__name__


@lru_cache(maxsize=KEPT)
def _source(files: tuple[str, ...], digest: str) -> Source:
    if digest_of_files(map(Path, files)) != digest:
        raise SourceChanged(files[0])
    return Source(Path(files[0]))


class _Reader(pickle.Unpickler):
    """Reads values of classes whose module has another name in the process that wrote them."""

    def __init__(self, data: bytes, name: Callable[[str], str]) -> None:
        super().__init__(io.BytesIO(data))
        self._name = name

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(self._name(module), name)


def _there(module: str, home: str) -> str:
    """The node's name of a module, as the process that runs the capability has it. home: where that stands."""
    if module == MAIN:
        return home
    if module.startswith(PREFIX) and home.startswith(PREFIX):
        return f"{home.partition('.')[0]}.{module.partition('.')[2]}"
    return module


def _here(module: str, home: str) -> str:
    """The other way round."""
    if not module.startswith(PREFIX):
        return module
    if home == MAIN:
        return MAIN
    return f"{home.partition('.')[0]}.{module.partition('.')[2]}"
