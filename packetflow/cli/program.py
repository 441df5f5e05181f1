"""The program around the commands: runs one, turns what it raises into lines or JSON, and answers the exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, NoReturn

import click

from packetflow.cli.exits import Exit
from packetflow.cli.failures import Failure
from packetflow.cli.invocation import show_failure
from packetflow.cli.leaf import usage_failure
from packetflow.cli.screen.painter import painter_for

COMPLETE = "_PACKETFLOW_COMPLETE"


def main() -> NoReturn:
    """The entry of the console script: runs what the command line says and ends the process."""
    signal.signal(signal.SIGINT, interrupted)
    sys.excepthook = own_fault
    for stream in (sys.stdout, sys.stderr):
        # What a terminal can't show is written as an escape rather than ending the command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if COMPLETE in os.environ:
        from packetflow.cli.completing import complete

        sys.exit(complete(os.environ[COMPLETE]))
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout.fileno())
    sys.exit(code)


def interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """Ctrl-C in a command that has nothing to put in order: ends at once, from the handler itself."""
    if "--json" in sys.argv:
        os.write(1, b'{"error": {"code": "interrupted", "message": "interrupted", "exit": 130}}\n')
    else:
        os.write(2, b"\ninterrupted\n")
    os._exit(Exit.INTERRUPTED)


def own_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A fault of this program: one line with its place; the traceback with -v. The exit code is 1."""
    if issubclass(kind, KeyboardInterrupt):
        return
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = ""
    if trace is not None:
        place = f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
    failure = Failure(
        "internal",
        f"a fault of this program: {kind.__name__}: {error}{place}",
        next=["the same with -v shows where it came from", "please report it"],
    )
    fail(failure, sys.argv[1:])
    if any(
        word == "--verbose" or (word[:1] == "-" and word[1:2] != "-" and "v" in word) for word in sys.argv[1:]
    ):
        sys.__excepthook__(kind, error, error.__traceback__)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line (without the program's name) and answers its exit code. Raises nothing of its own."""
    from packetflow.cli.tree import root

    program = root()
    try:
        result: Any = program.main(list(arguments), prog_name="packetflow", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        # A noun alone: its help is the answer, and yet nothing was done.
        sys.stdout.write(error.message + "\n")
        return int(Exit.INPUT)
    except click.UsageError as error:
        return fail(usage_failure(error), arguments)
    except Failure as failure:
        return fail(failure, arguments)
    except (click.Abort, KeyboardInterrupt):
        return int(Exit.INTERRUPTED)
    except (BrokenPipeError, SystemExit):
        # The reader has what it wanted (`| head`). click answers that by SystemExit, and nothing else raises it here.
        silence(1)
        return int(Exit.DONE)
    return result if isinstance(result, int) else int(Exit.DONE)


def fail(failure: Failure, arguments: Sequence[str]) -> int:
    """Tells a failure and answers its exit code."""
    import json

    words = list(arguments)
    words = words[: words.index("--")] if "--" in words else words
    try:
        if "--json" in words:
            sys.stdout.write(json.dumps(failure.document(), ensure_ascii=False, default=str) + "\n")
            sys.stdout.flush()
        else:
            choice = next((word[8:] for word in words if word.startswith("--color=")), "auto")
            if "--color" in words[:-1]:
                choice = words[words.index("--color") + 1]
            sys.stdout.flush()
            show_failure(failure, painter_for(sys.stderr, choice, os.environ))
    except BrokenPipeError:
        silence(1)
    return int(failure.exit)


def silence(descriptor: int) -> None:
    """Points a closed pipe's descriptor at nothing, so that the interpreter's last flush does not complain."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
