"""The connection to a node: questions to its `system.*` capabilities, and its errors as failures of the command."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from packetflow.cli.failures import Failure, usage
from packetflow.cli.finding import Place, find_node, no_node

if TYPE_CHECKING:
    from packetflow.cli.invocation import Invocation
    from packetflow.client import Client, Reply
    from packetflow.wire.errors import RequestError
    from packetflow.wire.stream import Progress


def open_link(run: Invocation, greenlets: bool = False) -> Link:
    """A link to the node that the invocation means. Raises Failure if none can be found."""
    return Link(find_node(run.node, os.environ, Path.cwd()), run.patience, greenlets)


class Link:
    """A node, as a command talks to it. It connects with the first question.

    patience: seconds that a question may take unless it says otherwise. greenlets: it is used by several at once.
    """

    def __init__(self, place: Place, patience: float, greenlets: bool = False) -> None:
        from packetflow.client import Client

        self.place = place
        self.patience = patience
        try:
            self.client: Client = Client(
                place.url, connect_timeout=min(5.0, patience), concurrency="gevent" if greenlets else None
            )
        except ValueError as error:
            raise usage(f'{place.why} "{place.url}" names no node: {error}') from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def ask(
        self, capability: str, payload: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Any:
        """The value of a question. Raises Failure: the node's error, or that nobody answers."""
        reply = self.request(capability, payload or {}, timeout)
        if reply.error is not None:
            raise self.failure(reply.error, capability, reply.trace_id)
        return reply.value

    def request(
        self,
        capability: str,
        payload: Mapping[str, Any],
        timeout: float | None = None,
        key: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Reply:
        """The whole answer to a request, an error in it included. Raises Failure only if no node can be reached."""
        patience = self.patience if timeout is None else timeout
        return self.client.request(
            capability, payload, timeout=patience, idempotency_key=key, progress=progress
        )

    def failure(self, error: RequestError, capability: str, trace: str = "") -> Failure:
        """A node's error as the command's failure: each fault a row, and what to do next."""
        details = error.details
        if is_lost(error) and details.get("sent") is False:
            return no_node(error.message, self.place.why)
        rows = [*fault_rows(details)]
        near = details.get("nearest")
        if isinstance(near, list | tuple) and near:
            rows.append(("nearest", ", ".join(str(word) for word in near)))
        candidates = details.get("candidates")
        if isinstance(candidates, list | tuple) and candidates:
            rows.append(("candidates", ", ".join(str(word) for word in candidates)))
        for key, label in (("module", "module"), ("reason", "reason"), ("cause", "cause"), ("where", "at")):
            if isinstance(details.get(key), str):
                rows.append((label, details[key]))
        if error.retry_after is not None:
            rows.append(("again in", f"{error.retry_after:g} s"))
        if trace:
            rows.append(("trace", trace[:8]))
        return Failure(
            error.code,
            error.message,
            rows=rows,
            next=next_steps(error, capability, trace),
            details=details,
            retry_after=error.retry_after,
            trace=trace,
        )


def fault_rows(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each fault of a payload: its path, and what is wrong there."""
    faults = details.get("faults")
    rows = []
    for fault in faults if isinstance(faults, list | tuple) else ():
        if not isinstance(fault, Mapping):
            rows.append(("", str(fault)))
            continue
        path = fault.get("path", fault.get("loc", ""))
        if isinstance(path, list | tuple):
            path = ".".join(str(part) for part in path)
        text = str(fault.get("message", fault.get("msg", "")))
        if "given" in fault:
            text += f" (given {fault['given']})"
        if fault.get("nearest"):
            near = fault["nearest"]
            text += f"; nearest {', '.join(near) if isinstance(near, list | tuple) else near}"
        rows.append((str(path), text))
    return rows


def next_steps(error: RequestError, capability: str, trace: str) -> list[str]:
    """What helps with an error."""
    system = capability.startswith(("system.", "job."))
    steps = []
    if error.details.get("streams") is True:
        steps.append(f"packetflow stream {capability}")
    elif error.code == "validation_failed" and not system:
        steps.append(f"packetflow capability show {capability}")
    elif error.code == "not_found" and "job" in error.details:
        steps.append("packetflow job list")
    elif error.code == "not_found" and not system:
        near = error.details.get("nearest")
        if isinstance(near, list | tuple) and near:
            steps.append(f"packetflow capability show {near[0]}")
        steps.append("packetflow capability list")
    elif error.code == "forbidden" and system:
        steps.append("ask by the admin socket: --node DATA_FOLDER, on the node's machine, as its user")
    elif error.code in ("execution_failed", "rejected", "contract_violated", "internal") and trace:
        steps.append(f"packetflow trace {trace[:8]}")
    elif error.code == "timeout" and not system:
        steps.append("packetflow tree, to see what is busy")
    return steps


def is_lost(error: RequestError) -> bool:
    """Whether an error says that the node can't be reached, rather than that the node refused."""
    return error.code == "protocol_error" or (error.code == "unavailable" and "sent" in error.details)


def was_sent(error: RequestError) -> bool:
    """Whether a request that was lost may have reached the node."""
    return error.details.get("sent") is not False
