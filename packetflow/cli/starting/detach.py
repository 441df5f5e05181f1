"""`start --detach`: the node as a process of its own; returns when it is ready, or with what kept it from that."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packetflow.cli.exits import Exit
from packetflow.cli.failures import Failure
from packetflow.otp.clock import Clock

LOG = "node.log"
TAIL = 12  # lines of the log that a failed start shows


def start_detached(arguments: Sequence[str], data_folder: Path, patience: float) -> dict[str, Any]:
    """Starts the node in the background and answers its document when it is ready.

    Raises Failure: what the node's own start failed with, or timeout with the process still there.
    """
    log = data_folder / LOG
    try:
        data_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(
            "unavailable", f"{log}: {error.strerror}", next=["choose another node.data_folder"]
        ) from error
    begun = os.lseek(output, 0, os.SEEK_END)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "packetflow.cli", "start", *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    finally:
        os.close(output)
    text = first_line(process, patience)
    if text is None:
        raise Failure(
            "timeout",
            f"the node (pid {process.pid}) is not ready yet; it goes on starting",
            next=["packetflow health", f"tail {log}", f"kill {process.pid}"],
            details={"pid": process.pid, "log": str(log)},
        )
    try:
        document = json.loads(text)
    except ValueError:
        document = {}
    if "error" not in document and document.get("pid") == process.pid:
        # The process outlives this one; nobody waits for it here.
        process.returncode = 0
        return {**document, "log": str(log)}
    raise start_failure(process, document.get("error") or {}, log, begun)


def first_line(process: subprocess.Popen[bytes], patience: float) -> str | None:
    """The first line of the process's stdout, empty if it ended without one; None when the time is over."""
    clock = Clock()
    end = clock.monotonic() + patience
    pipe = process.stdout
    data = b""
    while pipe is not None and b"\n" not in data:
        left = end - clock.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return None
        block = os.read(pipe.fileno(), 65536)
        if not block:
            break
        data += block
    return data.decode("utf-8", "replace")


def start_failure(process: subprocess.Popen[bytes], error: dict[str, Any], log: Path, begun: int) -> Failure:
    """What a node in the background failed with: its own word, else the end of its log."""
    code = process.wait()
    if error:
        return Failure(
            str(error.get("code", "internal")),
            str(error.get("message", "the node did not start")),
            next=error.get("next") or (),
            details=error.get("details") or {},
            text=str((error.get("details") or {}).get("text", "")),
            exit=Exit(error["exit"]) if error.get("exit") in set(Exit) else None,
        )
    with log.open("rb") as file:
        file.seek(begun)
        lines = file.read().decode("utf-8", "replace").splitlines()[-TAIL:]
    return Failure(
        "internal",
        f"the node ended with {code} before it was ready",
        rows=[("", line) for line in lines],
        next=[f"less {log}"],
        details={"log": lines},
    )
