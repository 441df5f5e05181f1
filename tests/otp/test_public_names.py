"""What `packetflow.otp` shows: the list changes only on purpose; it is typed, documented, and costs little to import."""

from __future__ import annotations

import gzip
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import packetflow.otp

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "packetflow" / "otp"

NAMES = """
IGNORE
TRACE
Actor
ActorContext
ActorFactory
ActorSystem
Agent
AlreadyAwaited
AlreadyPresent
AlreadyRegistered
AlreadyStarted
AwaitTimeout
Backoff
BadAction
BadReturn
Behaviour
Blocked
Branch
Call
CallCycle
CallFailed
CallTimeout
ChangeCallback
ChildCount
ChildError
ChildInfo
ChildNotFound
ChildRestarting
ChildRunning
ChildSpec
Clock
Continue
Down
DynamicSupervisor
Envelope
EventKind
EventTimeout
Exit
Exited
Future
GenServer
GenericTimeout
HandlerOverrun
Hosting
HubBlocked
KeepState
KeepStateAndData
MailboxFull
Member
Message
Monitor
NameTaken
NextEvent
NextState
NoProcess
NoReply
NotASimulation
NotAnActor
NotRegistered
NotTheOwner
OffloadError
OffloadFailed
OffloadTimeout
Ok
PacketFlowError
PartitionSupervisor
PoolClosed
PoolFull
PoolServer
PoolStatistics
PopCallback
Postpone
ProcessDied
ProcessPool
PushCallback
Receive
Ref
Registered
Registry
Remote
RepeatState
RepeatStateAndData
Reply
ReplyTo
RequestId
RequestIds
RequestResult
Response
Router
Send
ServerExited
SpecError
StartFailed
StateMachine
StateResult
StateTimeout
Statistics
Status
Stop
StopAndReply
Supervisor
SupervisorReport
System
Task
TaskExited
TaskSupervisor
ThreadGone
ThreadPool
Timer
TooManyChildren
TraceEvent
Transition
Unregistered
Via
Watchdog
WorkerContext
WorkerFailed
WorkerInfo
WorkerProcess
WorkerSpec
WorkerSupervisor
WrongThread
actor_context
at_death
call
cast
change_code
check_response
demonitor
exit_signal
get_state
get_status
kill
link
listen_shared
monitor
multi_call
offload
receive_response
replace_state
reply
reserve_port
resume
send
send_request
start_actor
statistics
stop
suspend
trace
tree
unlink
untrace
wait_response
worker_info
"""


def test_the_public_names_are_these() -> None:
    assert sorted(packetflow.otp.__all__) == sorted(NAMES.split())


def test_each_can_be_had_and_says_what_it_is() -> None:
    values = [
        "IGNORE",
        "TRACE",
        "Actor",
        "ActorFactory",
        "Behaviour",
        "EventKind",
        "Receive",
        "StateResult",
    ]  # no docstring of their own
    for name in packetflow.otp.__all__:
        value = getattr(packetflow.otp, name)
        assert name in values or inspect.getdoc(value), name
    assert dir(packetflow.otp) == sorted(packetflow.otp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Mailbox'"):
        packetflow.otp.Mailbox  # noqa: B018


def test_the_stub_and_the_lazy_root_name_the_same_from_the_same_homes() -> None:
    stub = (PACKAGE / "__init__.pyi").read_text()
    typed = re.findall(r"^from packetflow\.otp\.([\w.]+) import (\w+) as (\w+)$", stub, re.MULTILINE)
    lazy = [(home, name, name) for home, names in packetflow.otp._HOMES.items() for name in names]
    assert sorted(typed) == sorted(lazy)


def test_a_public_class_shows_no_attribute_of_the_runtimes_that_is_not_meant_for_users() -> None:
    """What is private begins with an underscore: the slots of every value that users hold."""
    for name in ("Ref", "RequestId", "Monitor", "Future", "Send", "Member", "ActorContext", "Timer"):
        slots = getattr(packetflow.otp, name).__slots__
        public = {slot for slot in slots if not slot.startswith("_")}
        assert public <= {"node", "id", "incarnation", "ref", "due"}, name


# ---- what an import costs: modules are asserted, times and sizes only told ----------------------------------------------


def fresh(code: str) -> Any:
    """What a fresh interpreter says, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


TELL = """
import json, resource, sys, time
begin = time.perf_counter()
import gevent.event, gevent.hub, gevent.monkey
gevent_there = time.perf_counter()
import packetflow.otp
%s
there = time.perf_counter()
ours = sorted(name for name in sys.modules if name.split(".")[0] == "packetflow")
known = sys.stdlib_module_names
others = sorted({name.split(".")[0] for name in sys.modules if not name.startswith("_")} - set(known))
print(json.dumps({"ours": ours, "others": others, "gevent_ms": (gevent_there - begin) * 1000,
    "ours_ms": (there - gevent_there) * 1000, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""
CORE = [
    "answers",
    "calls",
    "clock",
    "errors",
    "ordered",
    "process",
    "ref",
    "requests",
    "scheduler",
    "server",
    "signals",
    "start",
    "supervision",
    "supervision.child_spec",
    "supervision.children",
    "supervision.supervisor",
    "system",
    "threads",
    "timeouts",
    "timers",
    "turn",
    "via",
]
LIBRARIES = {"gevent", "greenlet", "zope", "packetflow", "cython_runtime"}


def told(what: dict[str, Any]) -> None:
    figures = {key: round(value, 1) for key, value in what.items() if isinstance(value, float)}
    sys.stdout.write(f"{figures}\n")  # pytest -s shows it


def test_importing_the_package_loads_nothing_of_it_yet() -> None:
    found = fresh(TELL % "")
    assert found["ours"] == ["packetflow", "packetflow._version", "packetflow.otp"]
    told(found)


def test_servers_and_supervisors_load_the_core_and_gevent_only() -> None:
    """Who uses servers and supervisors does not carry routers, envelopes, or the small face."""
    found = fresh(TELL % "from packetflow.otp import ChildSpec, GenServer, Supervisor, System, call, cast")
    prefix = ["packetflow", "packetflow._version", "packetflow.otp"]
    assert found["ours"] == prefix + [f"packetflow.otp.{name}" for name in CORE]
    assert set(found["others"]) <= LIBRARIES
    told(found)


def test_all_of_it_loads_gevent_and_the_standard_library_only() -> None:
    found = fresh(TELL % "[getattr(packetflow.otp, name) for name in packetflow.otp.__all__]")
    assert set(found["others"]) <= LIBRARIES
    told(found)


def test_the_errors_alone_load_no_gevent() -> None:
    code = "import json, sys, packetflow.otp.errors; print(json.dumps(sorted(sys.modules)))"
    assert not {"gevent", "greenlet"} & set(fresh(code))


def test_the_core_stays_small() -> None:
    """A budget of 50 KB for what servers and supervisors need, compressed as a package is."""
    paths = [PACKAGE / name.replace(".", "/") for name in CORE]
    files = [path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for path in paths]
    size = len(gzip.compress(b"".join(file.read_bytes() for file in files), mtime=0))
    sys.stdout.write(f"core: {size:,} bytes gzipped\n")
    assert size < 50_000
