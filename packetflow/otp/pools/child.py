"""What runs in a process of a pool: reads a request, does the work, writes the answer; ends when the other side is gone.

Imports little, because a process that is waited for should be there soon.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import pickle
import signal
import socket
import sys
from functools import partial
from typing import Any

CHANNEL = 3  # a socket: requests and answers, each with its length in eight bytes before it
LIFELINE = 4  # the reading end of a pipe into which nobody writes
SMALL = 65_536


def main() -> None:
    """The life of the process."""
    end_with_parent()
    for descriptor in (CHANNEL, LIFELINE):
        os.set_inheritable(descriptor, False)
    # Whatever the work forks must not keep the channel open: its closing is how the death of this process shows.
    os.register_at_fork(after_in_child=lambda: os.closerange(CHANNEL, LIFELINE + 1))
    channel = socket.socket(fileno=CHANNEL)
    channel.setblocking(True)
    path = receive(channel)
    if path is None:
        return
    sys.path[:] = pickle.loads(path)
    while (request := receive(channel)) is not None:
        answer = do(request)
        del request
        try:
            send(channel, answer)
        except OSError:
            return
        del answer


def end_with_parent() -> None:
    """Has the kernel end this process when the parent is gone, even if C code never returns to the interpreter."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(LIFELINE, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(LIFELINE, fcntl.F_GETFL)
    fcntl.fcntl(LIFELINE, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
    try:
        os.read(LIFELINE, 1)
    except BlockingIOError:
        return  # the other end is open: the parent lives
    os._exit(0)


def send(channel: socket.socket, message: bytes) -> None:
    """Sends a message with its length: in one piece, unless that would copy much."""
    head = len(message).to_bytes(8, "big")
    if len(message) < SMALL:
        channel.sendall(head + message)
    else:
        channel.sendall(head)
        channel.sendall(message)


def receive(channel: socket.socket) -> bytearray | None:
    """The next message; None when the other side is gone."""
    head = exactly(channel, 8)
    return None if head is None else exactly(channel, int.from_bytes(head, "big"))


def exactly(channel: socket.socket, size: int) -> bytearray | None:
    """So many bytes."""
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        try:
            got = channel.recv_into(view)
        except OSError:
            return None
        if not got:
            return None
        view = view[got:]
    return buffer


def do(request: bytearray) -> bytes:
    """Does what a request says: (module, name, arguments, keywords). The answer is (True, value), or (False, error or
    None, its text, the traceback)."""
    try:
        module, name, arguments, keywords = pickle.loads(request)
        function = find(module, name)
        value = function(*arguments, **keywords)
        try:
            return pickle.dumps((True, value), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise TypeError(f"the result, a {type(value).__name__}, can't be pickled: {error}") from error
    except BaseException as error:  # noqa: BLE001 - the caller in the other process gets it
        return failure(error)


def find(module: str, name: str) -> Any:
    """The function that module:name means."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def failure(error: BaseException) -> bytes:
    """An error as an answer."""
    import traceback

    # The first frame is `do`, which is nobody's business.
    trace = error.__traceback__
    told = "".join(traceback.format_exception(type(error), error, trace.tb_next if trace else None))
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    kept: bytes | None = None
    if isinstance(error, Exception):
        try:
            kept = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
            pickle.loads(kept)  # some can be written and not be read
        except Exception:  # noqa: BLE001 - then its text has to do
            kept = None
    return pickle.dumps((False, kept, text, told), pickle.HIGHEST_PROTOCOL)


def address(function: Any) -> tuple[str, str, tuple[Any, ...], dict[str, Any]] | str:
    """(module, name, arguments, keywords) of a function, those of a `partial` too; or why no other process can find it."""
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    while isinstance(function, partial):
        arguments = (*function.args, *arguments)
        keywords = {**function.keywords, **keywords}
        function = function.func
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return "it has no module and name"
    if "<lambda>" in name:
        return "a lambda has no name"
    if "<locals>" in name:
        return "it is made inside a function, where no other process can find it"
    if module == "__main__":
        return "it stands in the script that was started (__main__), which the process does not run; move it to a module"
    bound = getattr(function, "__self__", None)
    if bound is not None and bound is not sys.modules.get(module):
        return "it is a bound method; give a function, and the object as its argument"
    try:
        found = find(module, name)
    except (ImportError, AttributeError):
        found = None
    if found is not function:
        return f"{module}:{name} leads to something else (is it decorated?)"
    return module, name, arguments, keywords


if __name__ == "__main__":
    main()
