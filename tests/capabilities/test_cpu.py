"""cpu=True: in another process, by file and content; what crosses, what is refused, and what a cancel does."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import gevent
import pytest

from packetflow import Context, Node, Pool, ResourceSettings, capability, resource
from packetflow.capabilities.catalogue import Registered
from packetflow.capabilities.definition import definition_of
from packetflow.capabilities.pools import Processes
from packetflow.capabilities.registry import CapabilitySource
from packetflow.capabilities.surroundings import Surroundings
from packetflow.errors import DefinitionError
from packetflow.node.config import LoadedConfig, load_with_overlay
from packetflow.otp.clock import Clock

FILE = '''
import os
from datetime import date
from enum import Enum
from typing import Any

from pydantic import BaseModel

from packetflow import capability
from packetflow.errors import NotFound

from .neighbour import Kind


class Wanted(BaseModel):
    """A class of this file's own."""

    day: date
    data: bytes
    kind: Kind


class Odd(Exception):
    """An error of this file's own."""


@capability("cpu.change", cpu=True)
def change(wanted: Wanted, words: list[str]) -> Wanted:
    """Give it back with the words."""
    assert isinstance(wanted, Wanted)
    assert isinstance(wanted.kind, Kind)
    return Wanted(day=wanted.day, data=wanted.data + " ".join(words).encode(), kind=Kind.SOFT)


@capability("cpu.process", cpu=True)
def process() -> int:
    """Where it runs."""
    return os.getpid()


@capability("cpu.fail", cpu=True)
def fail(how: str) -> int:
    """Fail somehow."""
    if how == "ours":
        raise NotFound("no such thing", {"nearest": ["a"]}, retry_after=2.0)
    if how == "odd":
        raise Odd("very")
    if how == "exit":
        raise SystemExit(3)
    if how == "die":
        os.kill(os.getpid(), 9)
    return "no number"


@capability("cpu.odd", cpu=True)
def odd(how: str) -> Any:
    """Give back something odd, or do something odd to the process."""
    if how == "lambda":
        return lambda: 1
    if how == "deep":
        deep = []
        for _ in range(100_000):
            deep = [deep]
        return deep
    if how == "large":
        return b"x" * 20_000_000
    if how == "prints":
        print("to stdout")
        os.write(1, b"raw\\n")
        return "printed"
    if how == "closes":
        os.closerange(3, 100)
        return "closed"
    if how == "forks":
        if os.fork() == 0:
            os._exit(0)
        return "forked"
    if how == "recursion":
        return odd_again(how)
    raise Unspeakable


def odd_again(how):
    return odd_again(how)


class Unspeakable(BaseException):
    """An error that tells nothing."""

    def __str__(self):
        raise RuntimeError("no text")


@capability("cpu.forever", cpu=True)
def forever(note: str) -> int:
    """Compute without an end."""
    with open(note, "w") as file:
        file.write(str(os.getpid()))
    while True:
        pass
'''

NEIGHBOUR = '''
from enum import Enum


class Kind(Enum):
    """A class of a neighbour's own."""

    HARD = "hard"
    SOFT = "soft"
'''

CONFIG = """
[node]
data_folder = "run"
[tcp]
enabled = false
[http]
enabled = false
[[capabilities]]
path = "work/computing.py"
"""


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = Clock().monotonic() + seconds
    while not condition():
        assert Clock().monotonic() < end, "it did not come to that"
        gevent.sleep(0.005)


def is_dead(pid: int) -> bool:
    file = Path(f"/proc/{pid}/cmdline")
    return not file.exists() or not file.read_bytes()


def loaded(folder: Path) -> LoadedConfig:
    (folder / "work").mkdir()
    (folder / "work" / "computing.py").write_text(FILE)
    (folder / "work" / "neighbour.py").write_text(NEIGHBOUR)
    (folder / "node.toml").write_text(CONFIG)
    return load_with_overlay(folder / "node.toml", environment={})[0]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(loaded(tmp_path_factory.mktemp("cpu")), log_stream=io.StringIO()) as node:
        yield node


def test_it_runs_in_another_process_and_classes_of_its_file_and_neighbours_cross(node: Node) -> None:
    assert node.call("cpu.process") != os.getpid()
    wanted = {"day": "2026-02-03", "data": "x", "kind": "hard"}
    answer = node.call("cpu.change", {"wanted": wanted, "words": ["a", "b"]})
    registered = node.routes.catalogue.find("cpu.change")
    assert registered is not None
    assert answer.__class__ is registered.definition.contract.returns
    assert (str(answer.day), answer.data, answer.kind.value) == ("2026-02-03", b"xa b", "soft")


@pytest.mark.parametrize(
    ("how", "code", "kind"),
    [
        ("ours", "not_found", None),
        ("odd", "execution_failed", "Odd"),
        ("exit", "execution_failed", "SystemExit"),
        ("die", "execution_failed", "ProcessDied"),
        ("lie", "contract_violated", None),
    ],
)
def test_its_failures_are_those_of_any_capability(node: Node, how: str, code: str, kind: str | None) -> None:
    error = node.request("cpu.fail", {"how": how}).error
    assert error is not None
    assert error.code == code
    assert kind is None or error.details["type"] == kind
    if how == "ours":
        assert (str(error), error.details, error.retry_after) == ("no such thing", {"nearest": ["a"]}, 2.0)


def test_a_cancel_kills_the_process_and_the_next_has_a_warm_one(node: Node, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    asking = gevent.spawn(node.request, "cpu.forever", {"note": str(note)})
    until(lambda: note.exists() and note.read_text())
    pid = int(note.read_text())
    node.door.cancel(asking)
    assert asking.get(timeout=5).error.code == "cancelled"
    until(lambda: is_dead(pid))
    assert node.call("cpu.process") != pid


def test_a_process_that_is_killed_from_outside_in_the_midst_costs_its_request_alone(
    node: Node, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    asking = gevent.spawn(node.request, "cpu.forever", {"note": str(note)})
    until(lambda: note.exists() and note.read_text())
    os.kill(int(note.read_text()), signal.SIGKILL)
    error = asking.get(timeout=10).error
    assert (error.code, error.details["type"]) == ("execution_failed", "ProcessDied")
    assert node.call("cpu.process") != int(note.read_text())
    assert all(pool.statistics()["running"] == 0 for pool in node.surroundings.pools)


def test_a_warm_process_that_was_killed_meanwhile_costs_nobody_anything(node: Node) -> None:
    (pool,) = node.surroundings.pools
    slots = pool._slots
    assert isinstance(slots, Processes)
    for _ in range(3):
        pid: int = node.call("cpu.process")
        os.kill(pid, signal.SIGKILL)
        while pid in slots.processes():  # till it is seen: else nobody can know what it has begun
            gevent.sleep(0.002)
        assert node.call("cpu.process") != pid


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("lambda", "execution_failed"),
        ("deep", "execution_failed"),
        ("recursion", "execution_failed"),
        ("unspeakable", "execution_failed"),
        ("closes", "execution_failed"),
        ("large", ""),
        ("prints", ""),
        ("forks", ""),
    ],
)
def test_whatever_it_does_to_its_process_the_next_one_is_served(node: Node, how: str, code: str) -> None:
    response = node.request("cpu.odd", {"how": how}, timeout=20)
    assert (response.error.code if response.error is not None else "") == code
    assert node.call("cpu.process") > 0


def test_a_file_that_never_ends_its_import_in_the_process_is_a_timeout(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    neighbour = tmp_path / "work" / "neighbour.py"
    # Only in the process of the pool, whose parent this one is.
    neighbour.write_text(NEIGHBOUR + "import os\nwhile os.getppid() == " + str(os.getpid()) + ":\n    pass\n")
    with Node(config, log_stream=io.StringIO()) as node:
        error = node.request("cpu.process", timeout=1.0).error
        assert error is not None
        assert error.code == "timeout"
        until(lambda: all(pool.statistics()["running"] == 0 for pool in node.surroundings.pools))


def test_a_timeout_kills_the_process(node: Node, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    error = node.request("cpu.forever", {"note": str(note)}, timeout=1.0).error
    assert error is not None
    assert error.code == "timeout"
    until(lambda: all(pool.statistics()["running"] == 0 for pool in node.surroundings.pools))


def test_it_shares_one_pool_of_the_node_unless_it_names_another(node: Node) -> None:
    node.call("cpu.process")
    assert [(pool.name, pool.kind) for pool in node.surroundings.pools] == [("cpu", "processes")]


def test_a_file_that_was_changed_on_disk_is_not_run_as_what_was_loaded(tmp_path: Path) -> None:
    with Node(loaded(tmp_path), log_stream=io.StringIO()) as node:
        file = tmp_path / "work" / "computing.py"
        file.write_text(FILE.replace("return os.getpid()", "return -1"))
        error = node.request("cpu.process").error
        assert error is not None
        assert error.code == "unavailable"
        assert "packetflow reload" in str(error)
        assert node.reload()["faults"] == []
        assert node.call("cpu.process") == -1


@capability("cpu.here", cpu=True, pool=Pool(1, name="mine"))
def here(number: int) -> int:
    """A function of an importable module."""
    return number + 1


class Holder:
    """Has a method."""

    @staticmethod
    @capability("cpu.method", cpu=True)
    def method(number: int) -> int:
        """A function of a class."""
        return number


def test_a_function_of_an_importable_module_is_found_by_its_name() -> None:
    with Node(capabilities=[here], log_stream=io.StringIO()) as node:
        assert node.call("cpu.here", {"number": 1}) == 2
        assert [pool.name for pool in node.surroundings.pools] == ["mine"]


def plain(number: int) -> int:
    """A function that its module does not declare to be a capability."""
    return number + 2


def test_a_function_that_somebody_else_declared_is_found_by_its_own_name() -> None:
    with Node(capabilities=[capability("cpu.plain", cpu=True)(plain)], log_stream=io.StringIO()) as node:
        assert node.call("cpu.plain", {"number": 1}) == 3


def test_closures_and_methods_are_refused_when_they_are_registered() -> None:
    @capability("cpu.closure", cpu=True)
    def closure(number: int) -> int:
        """Stands inside a function."""
        return number

    for function, why in ((closure, "inside a function"), (Holder.method, "a method")):
        definition = definition_of(function)
        assert definition is not None
        with pytest.raises(DefinitionError, match=rf"test_cpu\.py:\d+: cpu\.\w+ has cpu=True.*{why}"):
            Registered(definition, {}, Surroundings(lambda coroutine: None))


@resource
def thing(settings: ResourceSettings) -> Iterator[str]:
    """Something that is here only."""
    yield "thing"


def test_what_is_not_to_be_had_in_another_process_is_refused_where_it_is_declared() -> None:
    def with_context(context: Context) -> int:
        """Take the context."""
        return 1

    def with_resource(it: Annotated[str, thing]) -> int:
        """Take a resource."""
        return 1

    for function, name in ((with_context, "context"), (with_resource, "it")):
        with pytest.raises(
            DefinitionError, match=rf"test_cpu\.py:\d+: cpu\.x has cpu=True and takes '{name}'"
        ):
            capability("cpu.x", cpu=True)(function)


def test_an_unpicklable_field_is_the_capabilitys_failure(tmp_path: Path) -> None:
    from packetflow.capabilities.elsewhere import pack_fields
    from packetflow.errors import ExecutionFailed

    with pytest.raises(ExecutionFailed, match="can't be given to another process"):
        pack_fields({"field": lambda: 1})


def test_a_source_is_known_by_its_content(tmp_path: Path) -> None:
    loaded(tmp_path)
    source = CapabilitySource(path=tmp_path / "work" / "computing.py")
    before = source.digest()
    (tmp_path / "work" / "neighbour.py").write_text(NEIGHBOUR + "\n")
    assert source.digest() != before
