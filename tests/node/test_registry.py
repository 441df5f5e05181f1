"""The registry on a running node: versions that come and go, retiring, watched folders, changes from the command line."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import gevent
import pytest
from gevent.event import Event

from packetflow import Node, Pool, ResourceSettings, capability, resource
from packetflow.capabilities.changes import CatalogueChange
from packetflow.capabilities.registry import CapabilityRegistry
from packetflow.composition.building import composition, step
from packetflow.errors import DefinitionError
from packetflow.node import capability_files
from packetflow.node.config import load_with_overlay
from packetflow.node.supervision import FILES
from packetflow.otp import GenServer
from packetflow.otp.clock import Clock
from packetflow.wire.values import Response

FILE = '''
from packetflow import capability


@capability("{id}", version="{version}")
def one() -> str:
    """Say which."""
    return "{text}"
'''

CONFIG = """
[node]
data_folder = "run"
[tcp]
enabled = false
[http]
enabled = false
[catalogue]
folders = ["watched"]
"""


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = Clock().monotonic() + seconds
    while not condition():
        assert Clock().monotonic() < end, "it did not come to that"
        gevent.sleep(0.01)


def code_of(response: Response) -> str:
    assert response.error is not None
    return response.error.code


class Folder:
    """A project with a watched folder, and nodes of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = io.StringIO()
        (path / "watched").mkdir()
        (path / "node.toml").write_text(CONFIG)

    def write(
        self, name: str, id: str, text: str = "first", version: str = "1.0.0", where: str = "watched"
    ) -> Path:
        return self.raw(name, FILE.format(id=id, text=text, version=version), where)

    def raw(self, name: str, text: str, where: str = "watched") -> Path:
        file = self.path / where / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    def node(self) -> Node:
        return Node(load_with_overlay(self.path / "node.toml", environment={})[0], log_stream=self.log)

    @property
    def overlay(self) -> dict[str, Any]:
        entries: dict[str, Any] = json.loads((self.path / "run" / "overlay.json").read_text())["entries"]
        return entries


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability_files, "EACH", 0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# ---- versions and retiring ----------------------------------------------------------------------------------------------


class Held:
    """A version of a capability whose runs wait until the test lets them go."""

    def __init__(self, version: str, **options: Any) -> None:
        self.go, self.entered = Event(), Event()

        @capability("a.held", version=version, **options)
        def held() -> str:
            """Say which version ran."""
            self.entered.set()
            self.go.wait()
            return version

        self.function = held


def test_new_requests_go_to_the_new_version_and_running_ones_finish_on_the_old() -> None:
    old, new = Held("1.0.0", pool=Pool(1, name="old")), Held("2.0.0")
    new.go.set()
    with Node(capabilities=[], log_stream=io.StringIO()) as node:
        node.register(old.function)
        running = gevent.spawn(node.call, "a.held")
        old.entered.wait()
        node.register(new.function)
        assert node.call("a.held") == "2.0.0"
        assert node.call("a.held@2") == "2.0.0"
        node.unregister("a.held@1.0.0")
        assert code_of(node.request("a.held@1")) == "not_found"
        gevent.sleep(0.05)
        assert [pool.name for pool in node.surroundings.pools] == ["old"], "its pool is there while it runs"
        old.go.set()
        assert running.get(timeout=5) == "1.0.0"
        until(lambda: not list(node.surroundings.pools))
        node.unregister("a.held")
        assert code_of(node.request("a.held")) == "not_found"


RESOURCE = '''
from collections.abc import Iterator
from typing import Annotated

import gevent

from packetflow import ResourceSettings, capability, resource


@resource
def book(settings: ResourceSettings) -> Iterator[list[str]]:
    """Says when it is closed."""
    opened = ["open"]
    yield opened
    opened.append("closed")


@capability("a.job", background=True)
def job(book: Annotated[list[str], book]) -> list[str]:
    """Outlive the file."""
    gevent.sleep(0.4)
    return list(book)
'''


def test_a_resource_stays_open_while_a_job_of_a_retired_file_uses_it(folder: Folder) -> None:
    file = folder.raw("jobs.py", RESOURCE)
    with folder.node() as node:
        node.routes.timeout = 0.01  # requests end long before the job does
        id = node.call("a.job", timeout=5)["job"]
        file.unlink()
        assert node.take_on_files() == ["capability a.job@1.0.0 removed"]
        until(lambda: node.jobs.find(id, node.session()).status != "running")
        assert node.call("job.show", {"id": id}, timeout=5)["value"] == ["open"]


def test_what_a_program_registered_outlives_a_reload(folder: Folder) -> None:
    @capability("a.added")
    def added() -> int:
        """Added by the program."""
        return 1

    with folder.node() as node:
        node.register(added)
        assert node.reload()["faults"] == []
        assert node.call("a.added") == 1


# ---- watched folders ------------------------------------------------------------------------------------------------------


def test_a_file_that_comes_changes_or_goes_is_taken_on_within_seconds(folder: Folder) -> None:
    with folder.node() as node:
        folder.write("one.py", "a.one")
        until(lambda: node.request("a.one").value == "first")
        folder.write("one.py", "a.one", "second")
        until(lambda: node.request("a.one").value == "second")
        (folder.path / "watched" / "one.py").unlink()
        until(lambda: not node.request("a.one").ok)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("this is no python", r"invalid syntax.*one\.py:1"),
        ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
        ("x = 1", "defines no capability"),
        (FILE.format(id="Bad", text="", version="1.0.0"), r"one\.py:\d+: id 'Bad'"),
        (
            FILE.format(id="a.two", text="", version="1.0.0"),
            r"a\.two@1\.0\.0 is there already, from .*two\.py",
        ),
        (
            FILE.format(id="system.health", text="", version="1.0.0"),
            r"system\.health@1\.0\.0 is there already",
        ),
    ],
)
def test_a_broken_file_leaves_what_it_gave_before_and_health_says_so(
    folder: Folder, broken: str, why: str
) -> None:
    folder.write("one.py", "a.one")
    folder.write("two.py", "a.two")
    with folder.node() as node:
        folder.raw("one.py", broken)
        node.take_on_files()
        assert node.call("a.one") == "first"
        assert node.call("a.two") == "first"
        (finding,) = node.health()["findings"]
        assert finding["severity"] == "warning"
        assert re.search(why, finding["what"]), finding
        assert "capabilities were not taken on" in folder.log.getvalue()
        folder.write("one.py", "a.one", "mended")
        node.take_on_files()
        assert node.call("a.one") == "mended"
        assert node.health()["findings"] == []


def test_a_file_that_is_broken_from_the_start_holds_nobody_up(folder: Folder) -> None:
    folder.raw("one.py", "this is no python")
    folder.write("two.py", "a.two")
    with folder.node() as node:
        assert node.call("a.two") == "first"
        assert len(node.health()["findings"]) == 1


def test_a_change_of_one_file_loads_no_other_and_one_of_a_shared_file_loads_all(folder: Folder) -> None:
    shared = folder.raw("_shared.py", "WORD = 'old'\n")
    text = FILE.replace("import capability", "import capability\n\nfrom ._shared import WORD").replace(
        '"{text}"', "WORD"
    )
    for name in ("one", "two"):
        folder.raw(f"{name}.py", text.format(id=f"a.{name}", version="1.0.0"))
    with folder.node() as node:
        before = {name: node.routes.catalogue.find(name) for name in ("a.one", "a.two")}
        folder.write("one.py", "a.one", "changed")
        node.take_on_files()
        assert node.routes.catalogue.find("a.one") is not before["a.one"]
        assert node.routes.catalogue.find("a.two") is before["a.two"]
        shared.write_text("WORD = 'new'\n")
        node.take_on_files()
        assert node.call("a.two") == "new"


def test_a_folder_that_vanishes_takes_nothing_with_it_and_health_says_so(folder: Folder) -> None:
    folder.write("one.py", "a.one")
    folder.write("two.py", "a.two")
    watched, aside = folder.path / "watched", folder.path / "aside"
    with folder.node() as node:
        watched.rename(aside)
        until(lambda: node.health()["findings"])
        assert f"{watched}: no such file or folder" in node.health()["findings"][0]["what"]
        assert [node.call("a.one"), node.call("a.two")] == ["first", "first"]
        (aside / "two.py").unlink()
        folder_again = aside.rename(watched)
        folder.write("one.py", "a.one", "second")
        until(lambda: node.request("a.one").value == "second")
        assert folder_again == watched
        assert not node.request("a.two").ok
        assert node.health()["findings"] == []


def test_a_folder_that_is_not_there_at_the_start_is_told_and_taken_on_when_it_comes(folder: Folder) -> None:
    (folder.path / "watched").rmdir()
    with folder.node() as node:
        assert "no such file or folder" in node.health()["findings"][0]["what"]
        folder.write("one.py", "a.one")
        until(lambda: node.request("a.one").ok)
        assert node.health()["findings"] == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        (
            "import sys; sys.setrecursionlimit(10**6) if 0 else None; (lambda f: f(f))(lambda f: f(f))",
            "Recursion",
        ),
        ("\0", "null bytes"),
        ("x = '\udcff'", "utf-8|surrogate"),
        ("(" * 1000, "too many nested|never closed"),
        ("", "defines no capability"),
    ],
)
def test_a_hostile_file_is_a_broken_file(folder: Folder, text: str, why: str) -> None:
    folder.write("one.py", "a.one")
    with folder.node() as node:
        (folder.path / "watched" / "two.py").write_bytes(text.encode("utf-8", "surrogateescape"))
        node.take_on_files()
        (finding,) = node.health()["findings"]
        assert re.search(why, finding["what"]), finding
        assert node.call("a.one") == "first"


def test_what_is_no_file_is_not_waited_for(folder: Folder) -> None:
    folder.write("one.py", "a.one")
    watched = folder.path / "watched"
    os.mkfifo(watched / "_pipe.py")
    os.mkfifo(watched / "pipe.py")
    (watched / "folder.py").mkdir()
    (watched / "nowhere.py").symlink_to(watched / "gone")
    with folder.node() as node:
        assert node.take_on_files() == []
        assert node.call("a.one") == "first"


def test_a_file_that_waits_for_ever_is_given_up(folder: Folder) -> None:
    folder.write("one.py", "a.one")
    with folder.node() as node:
        node.surroundings.start = 0.05
        file = folder.raw("two.py", "import gevent\ngevent.sleep(1000)")
        node.take_on_files()
        (finding,) = node.health()["findings"]
        assert f"{file}: does not load within 0.05 s" in finding["what"]
        folder.write("two.py", "a.two")
        node.take_on_files()
        assert node.call("a.two") == "first"


def test_a_file_that_computes_for_ever_is_broken_off(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CapabilityRegistry, "hub_limit", 0.5)
    folder.write("one.py", "a.one")
    text = CONFIG + "[timeouts]\nhub = 0.3\n"
    (folder.path / "node.toml").write_text(text)
    with folder.node() as node:
        registry = node.routes.catalogue
        folder.raw("two.py", "while True: pass")
        node.take_on_files()
        told = " ".join(one["what"] for one in node.health()["findings"])
        assert "two.py: does not come to an end when it is imported: the handler held the hub for" in told
        assert node.routes.catalogue is not registry
        assert node.call("a.one") == "first"


def test_a_change_that_nobody_waits_for_any_more_holds_up_no_other(folder: Folder) -> None:
    folder.write("one.py", "a.one")
    with folder.node() as node:
        folder.raw(
            "two.py",
            "import gevent\ngevent.sleep(0.3)\n" + FILE.format(id="a.two", text="2", version="1.0.0"),
        )
        real, patience = node.ask, 0.05

        def hasty(name: str, request: Any) -> Any:
            if request[0] != "prepare":
                return real(name, request)
            return node.system.call(name, request, timeout=patience)

        node.ask = hasty  # type: ignore[method-assign]
        with pytest.raises(Exception, match="did not answer within"):
            node.take_on_files()
        node.ask = real  # type: ignore[method-assign]
        assert node.take_on_files() == ["capability a.two@1.0.0 added"]


def test_half_a_file_is_not_loaded(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that goes on: a file counts when two looks have seen the same."""
    monkeypatch.setattr(capability_files, "EACH", 3600.0)  # the test says when it looks
    text = FILE.format(id="a.one", text="whole", version="1.0.0")
    file = folder.path / "watched" / "one.py"
    with folder.node() as node:
        (watcher,) = [
            process.server
            for process in node.system.scheduler.processes.values()
            if isinstance(process.server, capability_files.CapabilityFiles)
        ]

        def look() -> None:
            node.system.send(FILES, "look")
            until(lambda: watcher._before == capability_files.look([folder.path / "watched"]))

        for end in range(20, len(text), 20):
            file.write_text(text[:end])
            look()
        file.write_text(text)
        look()
        assert not node.request("a.one").ok
        look()
        until(lambda: node.request("a.one").ok)
        assert "not taken on" not in folder.log.getvalue()


def test_an_added_file_that_is_gone_at_the_next_start_holds_nobody_up(folder: Folder) -> None:
    folder.write("one.py", "a.one")
    file = folder.write("more.py", "b.more", where="elsewhere")
    with folder.node() as node:
        ask(node, "add", name=str(file)).unwrap()
    file.unlink()
    with folder.node() as node:
        assert node.call("a.one") == "first"
        assert f"{file}: no such file" in node.health()["findings"][0]["what"]
        folder.write("two.py", "a.two")
        assert node.take_on_files() == ["capability a.two@1.0.0 added"], "others are changed all the same"
        assert ask(node, "remove", name=str(file)).unwrap()["dry_run"] is False
        assert node.health()["findings"] == []
    with folder.node() as node:
        assert node.health()["findings"] == []


POOLED = '''
from packetflow import Pool, capability, ttl

from ._shared import WORD


@capability("a.one", pool=Pool(4, name="files"), cache=ttl(60), blocking=True)
def one(number: int) -> str:
    """Say which, with everything that has to be given back."""
    return "{text}" + WORD
'''


def test_a_file_is_loaded_again_and_again_under_load_and_nobody_notices(folder: Folder) -> None:
    folder.raw("_shared.py", "WORD = '!'\n")
    folder.raw("one.py", POOLED.format(text="0"))
    with folder.node() as node:
        ended = False
        answers: list[list[str]] = []

        def keep_asking(who: int) -> None:
            mine: list[str] = []
            answers.append(mine)
            while not ended:
                mine.append(node.call("a.one", {"number": len(mine) % 7}))
                gevent.sleep(0)

        asking = [gevent.spawn(keep_asking, who) for who in range(4)]
        until(lambda: len(answers) == 4 and all(answers))
        before = len(sys.modules), threading.active_count()
        for version in range(1, 41):
            folder.raw("one.py", POOLED.format(text=version))
            assert node.take_on_files() == [
                f"capabilities of {folder.path / 'watched' / 'one.py'} loaded again"
            ]
            wanted = f"{version}!"
            until(lambda wanted=wanted: all(mine[-1] == wanted for mine in answers))
        ended = True
        gevent.joinall(asking, raise_error=True)
        for mine in answers:
            versions = [int(answer.rstrip("!")) for answer in mine]
            assert versions == sorted(versions), "nobody gets an older one after a newer one"
        until(lambda: len(list(node.surroundings.pools)) == 1)
        loaded = [
            name for name in sys.modules if name.startswith("_packetflow_source_") and name.endswith(".one")
        ]
        assert len(loaded) == 1
        assert len(sys.modules) <= before[0] + 3
        until(lambda: threading.active_count() <= before[1] + 4)


# ---- changes at run time ----------------------------------------------------------------------------------------------------


@pytest.fixture
def node(folder: Folder) -> Iterator[Node]:
    folder.write("one.py", "a.one")
    with folder.node() as node:
        yield node


def ask(node: Node, action: str, /, **fields: Any) -> Response:
    return node.request(
        f"system.capability.{action}", fields, session=node.open_session("admin", "", operator=True)
    )


def test_a_file_is_added_and_kept_over_a_restart(node: Node, folder: Folder) -> None:
    file = str(folder.write("more.py", "b.more", where="elsewhere"))
    tried = ask(node, "add", name=file, dry_run=True).unwrap()
    assert tried == {"changed": ["capability b.more@1.0.0 added"], "dry_run": True}
    assert code_of(node.request("b.more")) == "not_found"
    assert ask(node, "add", name=file).unwrap()["changed"] == ["capability b.more@1.0.0 added"]
    assert node.call("b.more") == "first"
    assert folder.overlay["catalogue.files"]["value"] == [file]
    assert folder.overlay["catalogue.files"]["who"] == "operator"
    assert code_of(ask(node, "add", name=file)) == "conflict"
    node.stop(0.0)
    with folder.node() as again:
        assert again.call("b.more") == "first"
        assert ask(again, "remove", name=file).unwrap()["changed"] == ["capability b.more@1.0.0 removed"]
        assert code_of(again.request("b.more")) == "not_found"


def test_a_capability_is_removed_and_added_again(node: Node, folder: Folder) -> None:
    assert ask(node, "remove", name="a.one", dry_run=True).unwrap()["changed"] == [
        "capability a.one@1.0.0 removed"
    ]
    assert node.call("a.one") == "first"
    ask(node, "remove", name="a.one").unwrap()
    assert code_of(node.request("a.one")) == "not_found"
    assert node.reload()["faults"] == []
    assert code_of(node.request("a.one")) == "not_found"
    assert ask(node, "add", name="a.one").unwrap()["changed"] == ["capability a.one@1.0.0 added"]
    assert node.call("a.one") == "first"


def test_of_several_versions_one_is_removed(node: Node, folder: Folder) -> None:
    folder.write("two.py", "a.one", "second", "2.0.0")
    node.take_on_files()
    assert node.call("a.one") == "second"
    ask(node, "remove", name="a.one@2.0.0").unwrap()
    assert node.call("a.one") == "first"


@pytest.mark.parametrize(
    ("action", "name", "code", "why"),
    [
        ("add", "relative.py", "validation_failed", "expected an absolute path"),
        ("add", "/nowhere/at/all.py", "rejected", "no such file or folder"),
        ("add", "a.nothing", "not_found", "no file, and no capability that was removed"),
        ("remove", "a.onee", "not_found", "no capability 'a.onee'"),
        ("remove", "a.one@7.0.0", "not_found", "there is 1.0.0"),
        ("remove", "/nowhere.py", "not_found", "was not added at run time"),
        ("remove", "system.health", "rejected", "the node's own"),
        ("remove", "job.list", "rejected", "the node's own"),
    ],
)
def test_what_can_not_be_changed_is_refused_and_nothing_is_kept(
    node: Node, folder: Folder, action: str, name: str, code: str, why: str
) -> None:
    response = ask(node, action, name=name)
    assert code_of(response) == code
    assert why in str(response.error)
    assert not (folder.path / "run" / "overlay.json").exists()
    assert node.call("a.one") == "first"


def test_a_file_that_clashes_or_is_broken_is_not_added(node: Node, folder: Folder) -> None:
    for name, text in (
        ("clash.py", FILE.format(id="system.health", text="", version="1.0.0")),
        ("broken.py", "no python"),
    ):
        file = folder.raw(name, text, "elsewhere")
        assert code_of(ask(node, "add", name=str(file))) == "rejected"
    assert not (folder.path / "run" / "overlay.json").exists()
    assert node.reload()["faults"] == []


def test_only_an_operator_changes_the_catalogue(node: Node) -> None:
    assert code_of(node.request("system.capability.remove", {"name": "a.one"})) == "forbidden"


# ---- who wants to know ------------------------------------------------------------------------------------------------------


def one_of(version: str) -> Callable[[], int]:
    @capability("c.one", version=version)
    def one() -> int:
        """One."""
        return 1

    return one


def test_a_function_is_told_what_came_went_and_was_loaded_anew(node: Node, folder: Folder) -> None:
    told: list[CatalogueChange] = []
    subscription = node.on_catalogue_change(told.append)
    node.register(one_of("1.0.0"))
    gevent.sleep(0)
    folder.write("one.py", "a.one", "again")
    node.take_on_files()
    gevent.sleep(0)
    node.unregister("c.one")
    gevent.sleep(0)
    assert told == [
        CatalogueChange(("c.one@1.0.0",), (), ()),
        CatalogueChange((), (), ("a.one@1.0.0",)),
        CatalogueChange((), ("c.one@1.0.0",), ()),
    ]
    subscription.close()
    node.register(one_of("1.0.0"))
    gevent.sleep(0)
    assert len(told) == 3


def test_what_changes_while_a_listener_is_busy_is_told_at_once_afterwards(node: Node) -> None:
    told: list[CatalogueChange] = []
    go = Event()

    def listen(change: CatalogueChange) -> None:
        told.append(change)
        go.wait()

    node.on_catalogue_change(listen)
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        node.register(one_of(version))
        gevent.sleep(0)
    node.unregister("c.one@2.0.0")
    go.set()
    until(lambda: len(told) == 2)
    gevent.sleep(0.01)
    assert told == [CatalogueChange(("c.one@1.0.0",), (), ()), CatalogueChange(("c.one@3.0.0",), (), ())]


def test_a_listener_that_fails_is_logged_and_told_the_next_time(node: Node, folder: Folder) -> None:
    told: list[CatalogueChange] = []

    def listen(change: CatalogueChange) -> None:
        told.append(change)
        raise KeyError("listener")

    node.on_catalogue_change(listen)
    for version in ("1.0.0", "2.0.0"):
        node.register(one_of(version))
        gevent.sleep(0.01)
    assert len(told) == 2
    assert "a listener of the catalogue failed" in folder.log.getvalue()


def test_an_actor_is_told_as_a_message(node: Node) -> None:
    heard: list[Any] = []

    class Listens(GenServer):
        def init(self) -> None:
            pass

        def handle_info(self, message: Any) -> None:
            heard.append(message)

    actor = Listens.start(system=node.system)
    node.on_catalogue_change(actor)
    node.register(one_of("1.0.0"))
    until(lambda: heard)
    assert heard == [CatalogueChange(("c.one@1.0.0",), (), ())]


def test_an_unknown_id_to_unregister_is_refused(node: Node) -> None:
    with pytest.raises(DefinitionError, match=r"no capability 'c\.nothing'"):
        node.unregister("c.nothing")


# ---- what a program may give wrongly --------------------------------------------------------------------------------------


def undeclared(number: int) -> int:
    """No capability."""
    return number


@pytest.mark.parametrize("given", [None, 5, "a.b", [undeclared], undeclared, Node])
def test_what_is_no_capability_is_not_registered(node: Node, given: Any) -> None:
    with pytest.raises(DefinitionError, match="no capability; expected a function with @capability"):
        node.register(given)
    assert node.call("a.one") == "first"


@pytest.mark.parametrize(
    ("id", "why"),
    [
        ("system.health", "the node's own and stays"),
        ("job.list@1.0.0", "the node's own and stays"),
        (None, "no capability None"),
        ("a.one@9.0.0", "no capability 'a.one@9.0.0'"),
        ("", "no capability ''"),
    ],
)
def test_what_can_not_be_unregistered_is_refused(node: Node, id: Any, why: str) -> None:
    with pytest.raises(DefinitionError, match=why):
        node.unregister(id)
    assert node.call("a.one") == "first"
    assert node.health()["status"] == "ok"


def test_a_listener_has_to_be_one(node: Node) -> None:
    with pytest.raises(TypeError, match="expected a function of one CatalogueChange"):
        node.on_catalogue_change(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "options", "why"),
    [
        (None, {}, "expected an id"),
        (["a.one"], {}, "expected an id"),
        (b"a.one", {}, "expected an id"),
        ("a.one", {"timeout": "5"}, "expected seconds"),
        ("a.one", {"timeout": float("nan")}, "expected seconds"),
    ],
)
def test_a_request_that_is_none_says_so(node: Node, asked: Any, options: dict[str, Any], why: str) -> None:
    with pytest.raises((TypeError, ValueError), match=why):
        node.request(asked, **options)


SLOW_RESOURCE = '''
from collections.abc import Iterator
from typing import Annotated

import gevent

from packetflow import ResourceSettings, capability, resource


@resource
def store(settings: ResourceSettings) -> Iterator[int]:
    """Never there."""
    {open}
    yield 1


@capability("a.needs")
def needs(store: Annotated[int, store]) -> int:
    """Need it."""
    return store
'''


@pytest.mark.parametrize(
    ("opening", "why"),
    [
        ("gevent.sleep(1000)", r"resource store does not open within 0\.05 s"),
        ("raise SystemExit(3)", "resource store does not open: SystemExit: 3"),
        ("return", "resource store does not open"),
    ],
)
def test_a_resource_that_does_not_open_is_told_and_holds_nobody_up(
    folder: Folder, opening: str, why: str
) -> None:
    folder.write("one.py", "a.one")
    with folder.node() as node:
        node.surroundings.start = 0.05
        folder.raw("two.py", SLOW_RESOURCE.replace("{open}", opening))
        node.take_on_files()
        (finding,) = node.health()["findings"]
        assert re.search(why, finding["what"]), finding
        assert node.call("a.one") == "first"


closed: list[str] = []


@resource
def book(settings: ResourceSettings) -> Iterator[str]:
    """Says when it is closed."""
    yield "open"
    closed.append("closed")


@capability("a.read")
def read(book: Annotated[str, book]) -> str:
    """Read."""
    return book


def test_a_durable_run_keeps_no_other_capability_from_being_retired(folder: Folder) -> None:
    held, goes_on = Event(), Event()

    @capability("a.hold")
    def hold() -> int:
        """Hold."""
        held.set()
        goes_on.wait()
        return 1

    plan = composition("a.flow", "Hold", step("a.hold", outputs={"result": "n"}), durable=True)
    with folder.node() as node:
        node.register(hold, plan.definition)
        node.register(read)
        running = gevent.spawn(node.call, "a.flow", {})
        held.wait()
        node.unregister("a.read")
        until(lambda: closed)
        goes_on.set()
        running.get()
