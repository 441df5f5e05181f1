"""Operating-system processes under supervision: the parent's side.

A worker process is an actor here (`WorkerProcess`) that stands for it: its start returns when the process says ready, its
end is the process's end, with the exit status as the reason. So the ordinary supervisors restart it by the ordinary
rules; `WorkerSupervisor` adds what concerns all workers together. The process's own side is process.py.
"""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import gevent
from gevent.event import AsyncResult

from packetflow.otp import calls
from packetflow.otp.answers import NoReply, Stop
from packetflow.otp.errors import NoProcess, SpecError
from packetflow.otp.process import DEAD, SIGNAL, Failed
from packetflow.otp.ref import Ref
from packetflow.otp.server import GenServer
from packetflow.otp.signals import at_death, log
from packetflow.otp.supervision.child_spec import Backoff, ChildSpec, Restart
from packetflow.otp.supervision.children import Overseer, stop_children
from packetflow.otp.supervision.supervisor import Supervisor
from packetflow.otp.workers.channel import ChannelClosed, Settle
from packetflow.otp.workers.os_process import OSProcess
from packetflow.otp.workers.process import CALL, CAST, METRICS, SEND

TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

Answers = Callable[[str, Any], Any] | Ref | str


class WorkerSpec:
    """What a worker process runs. Raises SpecError if something is wrong with it.

    target: "package.module:function", called in the process with a WorkerContext and the arguments, which are pickled.
    id: what the process is called in logs. answers: who answers what the worker calls: a function of (id, request), or an
    actor that gets the request as a call. cancel: ends a greenlet that runs that function for a worker that has given up or is
    gone; by default it is killed. heartbeat: seconds between two signs of life. unresponsive_after: seconds without
    a turn of the worker's hub after which it is killed (and then restarted by the rules); None: never, it is only told.
    log_level: what of its logging comes to this process's; None: nothing. drain_request: given to the worker when it is to
    drain, as `worker.drain_request`; a function is called for it then. environment: variables besides this process's own.
    """

    __slots__ = (
        "answers", "arguments", "cancel", "drain_request", "environment", "heartbeat", "id", "log_level", "pickled", "target",
        "unresponsive_after",
    )  # fmt: skip

    def __init__(
        self,
        target: str,
        *arguments: Any,
        id: str = "worker",
        answers: Answers | None = None,
        cancel: Callable[[gevent.Greenlet[..., Any]], object] | None = None,
        heartbeat: float = 1.0,
        unresponsive_after: float | None = None,
        log_level: int | None = logging.INFO,
        drain_request: Any = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(target, str) or not TARGET.fullmatch(target):
            raise SpecError("target", target, '"package.module:function"')
        if not isinstance(id, str) or not id:
            raise SpecError("id", id, "a text that is not empty")
        if answers is not None and not isinstance(answers, Ref | str) and not callable(answers):
            raise SpecError("answers", answers, "a function of (id, request), a Ref, a name, or None")
        if cancel is not None and not callable(cancel):
            raise SpecError("cancel", cancel, "a function of a greenlet, or None")
        for field, value in (("heartbeat", heartbeat), ("unresponsive_after", unresponsive_after)):
            if (value is not None or field == "heartbeat") and (
                isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9
            ):
                raise SpecError(field, value, "a number of seconds above 0")
        for field, given in (("arguments", arguments), ("drain_request", drain_request)):
            try:
                data = b"" if callable(given) else pickle.dumps(given, pickle.HIGHEST_PROTOCOL)
            except Exception as error:
                raise SpecError(field, given, f"what pickle takes ({error})") from error
            if field == "arguments":
                self.pickled = data
        self.target = target
        self.arguments = arguments
        self.id = id
        self.answers = answers
        self.cancel = cancel
        self.heartbeat = heartbeat
        self.unresponsive_after = unresponsive_after
        self.log_level = log_level
        self.drain_request = drain_request
        self.environment = dict(environment or {})

    def __repr__(self) -> str:
        return f"<WorkerSpec {self.id} {self.target}>"


class WorkerInfo(NamedTuple):
    """A worker process as it is seen from here.

    status: "starting"; "running"; "blocked": its hub has had no turn for more than two heartbeats, says its native thread;
    "silent": no sign of life for as long, though the process is there (stopped, or C code holds the interpreter);
    "draining". blocked, silent: for how many seconds. age: seconds since its start.
    """

    id: str
    pid: int
    status: Literal["starting", "running", "blocked", "silent", "draining"]
    blocked: float
    silent: float
    age: float


class Exited(NamedTuple):
    """To a WorkerProcess: its process is gone."""

    reason: object


class WorkerProcess(GenServer):
    """Stands for one operating-system process: calls, casts and sends to it go to that process.

    It starts when the process says ready. It ends when the process does: with "normal" if the exit status was 0,
    ("exit_status", n), ("signal", "SIGKILL"), ("unresponsive", seconds), or a WorkerFailed with what main raised. Stopping
    it drains the process: it is asked by the channel and by SIGTERM, and killed when the supervisor's patience is over.
    """

    def init(self, spec: WorkerSpec) -> Any:
        """Starts the process and waits until it is ready. Fails with what the process ends of."""
        self._spec = spec
        parent = self._process.parent
        overseer = parent.server if parent is not None else None
        launched = overseer.take(spec) if isinstance(overseer, WorkerSupervisor) else None
        worker = launched or OSProcess(spec, self.system)
        self._worker = worker
        self._asked: dict[Any, Settle] = {}
        at_death(worker.kill)
        reason = worker.wait_ready()
        if reason is not None:
            return Stop(reason)
        worker.on_exit = self._exited
        if worker.exited:
            self._exited(worker.reason)
        return None

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Passes a call on; the answer comes when the process has it."""
        self._worker.channel.wait_for_room()

        def settle(worked: bool, value: Any) -> None:
            self._asked.pop(caller, None)
            # Where the process is gone, the caller learns of what, as soon as that is known: with this actor's end.
            if not isinstance(value, ChannelClosed):
                calls.reply(caller, value if worked else Failed(lambda timeout: value))

        try:
            self._worker.channel.ask((CALL, request), settle)
            self._asked[caller] = settle
        except ChannelClosed:
            return NoReply()
        except Exception as error:  # noqa: BLE001 - what can't be pickled is the caller's fault, and no crash
            return Failed(lambda timeout, error=error: error)  # type: ignore[misc]
        return NoReply()

    def _caller_gone(self, caller: Any) -> None:
        settle = self._asked.pop(caller, None)
        if settle is not None:
            self._worker.channel.forget(settle)

    def handle_cast(self, message: Any) -> None:
        """Passes a cast on."""
        self._tell(CAST, message)

    def handle_info(self, message: Any) -> Any:
        """The end of the process, or something to pass on."""
        if isinstance(message, Exited):
            return Stop(message.reason)
        self._tell(SEND, message)
        return None

    def terminate(self, reason: object) -> None:
        """Drains the process, and waits for its end."""
        worker = self._worker
        try:
            if not worker.exited:
                asked = self._spec.drain_request
                worker.drain(asked() if callable(asked) else asked)
                worker.wait_exit()
        finally:
            worker.kill()

    def get_state(self) -> dict[str, Any]:
        """What is known of the process."""
        return worker_info(self.ref)._asdict()

    def info(self) -> WorkerInfo:
        """How the process is doing."""
        return WorkerInfo(self._spec.id, *self._worker.health())

    def metrics(self, settle: Callable[[bool, Any], None]) -> None:
        """Asks the process for its metrics; settle is called with them."""
        self._worker.channel.ask((METRICS,), settle)

    def forget(self, settle: Callable[[bool, Any], None]) -> None:
        """Nobody waits for them any more."""
        self._worker.channel.forget(settle)

    def _tell(self, kind: str, message: Any) -> None:
        channel = self._worker.channel
        channel.wait_for_room()
        try:
            channel.tell((kind, message))
        except Exception as error:  # noqa: BLE001 - a cast never fails, but it is not lost without a word
            log.error("%s: a message can't be sent to the process", self.ref, exc_info=error)

    def _exited(self, reason: object) -> None:
        self._process.scheduler.deliver(self._process, (SIGNAL, Exited(reason)))

    # ---- specifications ------------------------------------------------------------------------------------------------

    @classmethod
    def child(
        cls,
        target: str,
        *arguments: Any,
        id: str = "worker",
        name: str | None = None,
        restart: Restart = "permanent",
        shutdown: float | Literal["brutal_kill", "infinity"] = 30.0,
        significant: bool = False,
        start_timeout: float | None = 30.0,
        backoff: Backoff | None = None,
        **options: Any,
    ) -> ChildSpec:
        """The ChildSpec of a worker process, for any supervisor. options: of WorkerSpec. Raises SpecError."""
        return ChildSpec(
            cls,
            WorkerSpec(target, *arguments, id=id, **options),
            id=id,
            name=name,
            restart=restart,
            shutdown=shutdown,
            significant=significant,
            start_timeout=start_timeout,
            backoff=backoff,
        )


def worker_info(ref: Ref) -> WorkerInfo:
    """How a worker process is doing, read where it lies: also while it is starting, blocked or draining. Raises NoProcess;
    SpecError for a ref that is none of a WorkerProcess."""
    process = ref._process
    if process.current is DEAD:
        raise NoProcess(ref)
    if not isinstance(process.server, WorkerProcess):
        raise SpecError("ref", ref, "the ref of a WorkerProcess")
    return process.server.info()


class Merged(NamedTuple):
    """Metrics of all workers together. values: by name. missing: the ids of workers that gave none."""

    values: dict[str, float]
    missing: tuple[Any, ...]


class WorkerSupervisor(Supervisor):
    """A Supervisor of worker processes: `WorkerSupervisor.start([WorkerProcess.child(...), ...])`.

    The same strategies, restarts and intensity. Its workers are launched side by side and waited for in order, and when it
    ends they drain all at once.
    """

    def _prepared(self, specs: Sequence[ChildSpec]) -> Sequence[ChildSpec]:
        self._launched: dict[WorkerSpec, OSProcess] = {}
        try:
            for spec in specs:
                if _is_worker(spec):
                    (worker,) = spec.arguments
                    self._launched[worker] = OSProcess(worker, self.system)
        except BaseException:
            self._drop_launched()
            raise
        return specs

    def init(self, *arguments: Any, **options: Any) -> Any:
        """Launches the workers, then starts them in order."""
        try:
            return super().init(*arguments, **options)
        finally:
            self._drop_launched()

    def terminate(self, reason: object) -> None:
        """Drains all workers at once."""
        stop_children(self.ref, reversed(list(self._children.values())), together=True)

    def take(self, spec: WorkerSpec) -> OSProcess | None:
        """A process that was launched for this worker and that nobody has taken; its taker sees to its end."""
        return self._launched.pop(spec, None)

    def _drop_launched(self) -> None:
        for one in getattr(self, "_launched", {}).values():
            one.kill()
        self._launched = {}

    # ---- all together --------------------------------------------------------------------------------------------------

    @staticmethod
    def workers(supervisor: Ref) -> dict[Hashable, WorkerInfo | None]:
        """Each worker by its child's id, in the order of their start; None for one that does not run. Never waits.

        Raises NoProcess.
        """
        found: dict[Hashable, WorkerInfo | None] = {}
        for id, ref in _workers(supervisor):
            found[id] = None if ref is None else worker_info(ref)
        return found

    @staticmethod
    def call_all(supervisor: Ref, request: Any, timeout: float | None = 5.0) -> dict[Hashable, Any]:
        """Calls every worker at the same time. Gives each one's answer by its id, or the exception in its place.

        Raises NoProcess if the supervisor is dead.
        """
        asked = {id: gevent.spawn(_outcome, id, ref, request, timeout) for id, ref in _workers(supervisor)}
        try:
            gevent.joinall(list(asked.values()))
        finally:
            gevent.killall(list(asked.values()), block=False)
        return {id: greenlet.value for id, greenlet in asked.items()}

    @staticmethod
    def metrics(supervisor: Ref, largest: Iterable[str] = (), timeout: float = 1.0) -> Merged:
        """The metrics of all workers: summed, those named in `largest` the largest of all. They begin anew with a restart.

        timeout: seconds for all together; who gives none by then is in `missing`. Raises NoProcess.
        """
        return merge_metrics(_ask_metrics(supervisor, timeout), largest)


def merge_metrics(
    metrics: Mapping[Hashable, Mapping[str, float] | None], largest: Iterable[str] = ()
) -> Merged:
    """Numbers by name, of several, as one: the sums, or the largest of those named."""
    highest = frozenset(largest)
    values: dict[str, float] = {}
    for each in metrics.values():
        for name, value in (each or {}).items():
            if name not in values:
                values[name] = value
            elif name in highest:
                values[name] = max(values[name], value)
            else:
                values[name] += value
    return Merged(values, tuple(id for id, each in metrics.items() if each is None))


def _ask_metrics(supervisor: Ref, timeout: float) -> dict[Hashable, Mapping[str, float] | None]:
    asked: dict[Hashable, tuple[WorkerProcess, AsyncResult[Any], Any] | None] = {}
    for id, ref in _workers(supervisor):
        server = None if ref is None else ref._process.server
        asked[id] = None
        if isinstance(server, WorkerProcess):
            outcome: AsyncResult[Any] = AsyncResult()

            def settle(worked: bool, value: Any, outcome: AsyncResult[Any] = outcome) -> None:
                outcome.set(value if worked else None)

            try:
                server.metrics(settle)
            except ConnectionError:
                continue
            asked[id] = (server, outcome, settle)
    pending = [one[1] for one in asked.values() if one is not None]
    gevent.wait(pending, timeout=timeout)
    found: dict[Hashable, Mapping[str, float] | None] = {}
    for id, one in asked.items():
        found[id] = one[1].value if one is not None and one[1].ready() else None
        if one is not None:
            one[0].forget(one[2])
    return found


def _is_worker(spec: ChildSpec) -> bool:
    return isinstance(spec.start, type) and issubclass(spec.start, WorkerProcess)


def _workers(supervisor: Ref) -> list[tuple[Hashable, Ref | None]]:
    """The workers below a supervisor, read where they lie: it may be waiting for one that starts."""
    process = supervisor._process
    if process.current is DEAD:
        raise NoProcess(supervisor)
    server = process.server
    if not isinstance(server, Overseer):
        raise SpecError("supervisor", supervisor, "the ref of a supervisor")
    found: list[tuple[Hashable, Ref | None]] = []
    for child in server.list_children():
        if _is_worker(child.spec):
            alive = child.process is not None and child.process.current is not DEAD
            found.append((child.spec.id, child.process.ref if alive and child.process else None))
    return found


def _outcome(id: Hashable, ref: Ref | None, request: Any, timeout: float | None) -> Any:
    if ref is None:
        return NoProcess(str(id))
    try:
        return calls.call(ref, request, timeout)
    except Exception as error:  # noqa: BLE001 - told in its place
        return error
