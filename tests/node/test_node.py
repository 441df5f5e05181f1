"""A whole node: started from files, asked, changed while it serves, stopped in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from packetflow import Context, Module, Node, Reject, capability
from packetflow.errors import ConfigError, DataFolderError, DefinitionError, ModuleError, RequestError
from packetflow.node.config import load_with_overlay
from tests.node.conftest import SHOUT, Project

Start = Callable[..., Node]


def operator(node: Node) -> Any:
    return node.open_session("admin", "test", operator=True)


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    with gevent.Timeout(seconds):
        while not condition():
            gevent.sleep(0.005)


# ---- life ------------------------------------------------------------------------------------------------------------


def test_a_node_from_files_serves_through_its_chain(project: Project, started: Start) -> None:
    project.add(SHOUT)
    node = started()
    assert node.call("word.echo", {"text": "hi"}) == "HI?"
    assert node.call("word.note", {"text": "hi"}) == 2
    assert node.call("word.later", {"text": "hi"}) == "HI?"


def test_a_node_starts_with_exactly_the_listed_modules(project: Project, started: Start) -> None:
    project.add(SHOUT + SHOUT.replace('"shout"', '"again"').replace("priority", 'module = "shout"\npriority'))
    rows = started().modules()
    assert [(row["name"], row["module"], row["version"], row["status"]) for row in rows] == [
        ("shout", "shout", "1.2.3", "running"),
        ("again", "shout", "1.2.3", "running"),
    ]


def test_a_node_with_zero_modules_loads_no_module_code(started: Start) -> None:
    import sys

    node = started()
    assert node.modules() == []
    assert not [name for name in sys.modules if name.startswith("_packetflow_source_") and "shout" in name]


def test_the_supervision_tree_has_the_shape_that_was_designed(project: Project, started: Start) -> None:
    project.add(SHOUT)

    def shape(row: dict[str, Any]) -> Any:
        children = [shape(child) for child in row["children"]]
        return {row["id"]: children} if children else row["id"]

    tree = started().tree()
    core = {"core": ["capabilities", {"intelligence": [{"modules": [{"shout": ["host"]}]}, "chain"]}, "files",
                     "runs", {"transports": ["admin", "tcp", "http"]}]}  # fmt: skip
    assert [shape(child) for child in tree["children"]] == [
        "telemetry", "storage", "publisher", "traces", "audit", {"notices": ["effects"]}, core,
    ]  # fmt: skip


def test_resources_close_and_modules_terminate_at_the_stop(project: Project) -> None:
    project.write_module("bye", "Bye", BYE.format(file=project.folder / "terminated"))
    project.add('[[modules]]\nname = "bye"\n')
    node = project.node().start()
    node.stop()
    assert (project.folder / "run" / "closed").read_text() == "bye"
    assert (project.folder / "terminated").read_text() == "shutdown"


BYE = """
from pathlib import Path
from packetflow import Module

class Bye(Module):
    def handle_response(self, response, context): ...
    def terminate(self, reason):
        file = Path("{file}")
        assert not file.exists(), "terminated twice"
        file.write_text(str(reason))
"""


def test_the_same_folder_serves_again_after_a_stop(project: Project) -> None:
    for _ in range(2):
        with project.node() as node:
            assert node.call("word.echo", {"text": "hi"}) == "hi"


def test_a_second_node_on_the_folder_is_told_who_holds_it(project: Project, started: Start) -> None:
    started()
    with pytest.raises(DataFolderError, match="belongs to node test"):
        project.node().start()


def test_several_nodes_in_one_process_are_strangers() -> None:
    def make(word: str) -> Node:
        @capability("who.am")
        def who() -> str:
            """Say who."""
            return word

        return Node(capabilities=[who])

    with make("one") as one, make("two") as two:
        assert (one.call("who.am"), two.call("who.am")) == ("one", "two")
        one.register_module(Refuser, "refuser")
        assert one.request("who.am").error is not None
        assert two.request("who.am").ok


class Refuser(Module):
    """Says no."""

    def handle_request(self, request: Any, context: Context) -> Reject:
        return Reject("no")


def test_a_node_asked_from_another_thread_says_so() -> None:
    with Node() as node:
        caught: list[BaseException] = []

        def ask() -> None:
            try:
                node.request("system.health")
            except RuntimeError as error:
                caught.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert "another thread" in str(caught[0])


def test_a_stop_finishes_what_is_in_flight_and_refuses_what_comes() -> None:
    @capability("slow.work")
    def work() -> str:
        """Take a moment."""
        gevent.sleep(0.1)
        return "done"

    node = Node(capabilities=[work]).start()
    running = gevent.spawn(node.request, "slow.work")
    gevent.sleep(0.01)
    stopping = gevent.spawn(node.stop)
    gevent.sleep(0.01)
    refused = node.request("slow.work").error
    assert refused is not None
    assert refused.code == "unavailable"
    assert running.get(timeout=5).value == "done"
    stopping.get(timeout=5)


def test_a_stop_cancels_what_does_not_end_in_time() -> None:
    @capability("slow.work")
    def work() -> str:
        """Take an hour."""
        gevent.sleep(3600)
        return "done"

    node = Node(capabilities=[work]).start()
    running = gevent.spawn(node.request, "slow.work")
    gevent.sleep(0.01)
    node.stop(0.05)
    assert running.get(timeout=5).error.code == "cancelled"


# ---- what does not start -----------------------------------------------------------------------------------------------

FAULTY_MODULES = {
    "raises": (
        "class Bad(Module):\n    def init(self, config): raise ValueError('no key')",
        "ValueError: no key",
    ),
    "syntax": ("class Bad(Module:\n", "does not import"),
    "import": ("import nowhere_at_all\nclass Bad(Module): ...", "No module named 'nowhere_at_all'"),
    "missing": ("class Other(Module): ...", "no class Bad"),
    "wrong": ("class Bad: ...", "not a class derived from packetflow.Module"),
    "misspelt": ("class Bad(Module):\n    def handle_reqest(self, r, c): ...", "nearest handle_request"),
}


@pytest.mark.parametrize("fault", FAULTY_MODULES)
def test_a_faulty_module_keeps_the_node_from_starting_and_leaves_nothing(
    project: Project, fault: str
) -> None:
    code, words = FAULTY_MODULES[fault]
    project.write_module("bad", "Bad", "from packetflow import Module\n" + code)
    project.add(SHOUT + '[[modules]]\nname = "bad"\n')
    with pytest.raises(ModuleError) as caught:
        project.node().start()
    assert words in str(caught.value)
    assert "bad" in str(caught.value)
    with project.node(without=["bad"]) as node:  # the folder is free again, and it starts without it
        assert node.call("word.echo", {"text": "hi"}) == "HI?"


HANGS = """
import gevent
from packetflow import Module


class Bad(Module):
    def init(self, config):
        gevent.sleep(99)
"""


def test_a_module_that_hangs_in_init_is_given_up(project: Project) -> None:
    project.write_module("bad", "Bad", HANGS)
    project.add('[[modules]]\nname = "bad"\n[timeouts]\nstart = 0.2\n')
    with pytest.raises(ModuleError, match="bad does not start"):
        project.node().start()


def test_a_module_nobody_has_is_told_with_the_nearest(project: Project) -> None:
    project.add('[[modules]]\nname = "shuot"\n')
    with pytest.raises(ModuleError, match="nearest shout"):
        project.node().start()


def test_a_fault_in_a_modules_config_has_its_place(project: Project) -> None:
    project.add(SHOUT.replace("suffix", "sufix"))
    with pytest.raises(ConfigError) as caught:
        project.node().start()
    fault = caught.value.faults[0]
    assert fault.file.endswith("node.toml")
    assert fault.line > 10
    assert "sufix" in str(fault.key)


def test_a_faulty_capability_file_keeps_the_node_from_starting(project: Project) -> None:
    (project.folder / "capabilities.py").write_text("def broken(:")
    with pytest.raises(DefinitionError, match="invalid syntax"):
        project.node().start()


def test_a_resource_that_does_not_open_is_told_and_the_others_close(project: Project) -> None:
    code = (project.folder / "capabilities.py").read_text()
    code += (
        "\n@resource\ndef bad(settings: ResourceSettings) -> Iterator[int]:\n    raise OSError('no disk')\n    yield 1\n"
        "\n@capability('word.bad')\ndef use(bad: Annotated[int, bad]) -> int:\n    'Use.'\n    return bad\n"
    )
    (project.folder / "capabilities.py").write_text(code)
    with pytest.raises(DefinitionError, match="resource bad does not open: OSError: no disk"):
        project.node().start()
    assert (project.folder / "run" / "closed").exists()


# ---- changed while it serves -------------------------------------------------------------------------------------------


def ask(node: Node, capability: str, **payload: Any) -> Any:
    return node.request(capability, payload, session=operator(node)).unwrap()


def test_disable_and_enable_are_seen_and_survive_a_restart(project: Project, started: Start) -> None:
    project.add(SHOUT)
    node = started()
    change = ask(node, "system.module.disable", name="shout")
    assert (change["changed"], change["chain"], change["module"]["status"]) == (True, [], "disabled")
    assert node.call("word.echo", {"text": "hi"}) == "hi"
    assert ask(node, "system.module.disable", name="shout")["changed"] is False
    node.stop()
    node = started()
    assert node.call("word.echo", {"text": "hi"}) == "hi"
    ask(node, "system.module.enable", name="shout")
    assert node.call("word.echo", {"text": "hi"}) == "HI?"


def test_a_dry_run_changes_nothing(project: Project, started: Start) -> None:
    project.add(SHOUT)
    node = started()
    before = node.modules()
    assert ask(node, "system.module.disable", name="shout", dry_run=True)["changed"] is True
    assert ask(node, "system.module.reload", name="shout", dry_run=True)["module"]["name"] == "shout"
    assert node.modules() == before


def test_a_reload_takes_new_code_and_a_faulty_one_leaves_all_as_it_was(
    project: Project, started: Start
) -> None:
    project.add(SHOUT)
    node = started()
    folder = project.write_module("shout", "Shout", "class Broken(")
    with pytest.raises(RequestError, match="the chain is as it was"):
        ask(node, "system.module.reload", name="shout")
    assert node.call("word.echo", {"text": "hi"}) == "HI?"
    code = (folder / "shout.py").read_text()
    assert code == "class Broken("
    from tests.node.conftest import MODULE

    project.write_module("shout", "Shout", MODULE.replace(".upper()", ".title()"))
    assert ask(node, "system.module.reload", name="shout")["changed"] is True
    assert node.call("word.echo", {"text": "hi"}) == "Hi?"


def test_reloads_under_load_fail_no_request(project: Project, started: Start) -> None:
    project.add(SHOUT)
    node = started()
    answers: list[Any] = []
    stop = gevent.event.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(node.request("word.later", {"text": "hi"}))

    clients = [gevent.spawn(load) for _ in range(8)]
    for _ in range(30):
        ask(node, "system.module.reload", name="shout")
        gevent.sleep(0.002)
    stop.set()
    gevent.joinall(clients)
    assert len(answers) > 50
    assert {answer.value if answer.ok else answer.error.code for answer in answers} == {"HI?"}


def test_an_unknown_module_offers_the_nearest(project: Project, started: Start) -> None:
    project.add(SHOUT)
    node = started()
    error = node.request("system.module.disable", {"name": "shuot"}, session=operator(node)).error
    assert error is not None
    assert (error.code, error.details["nearest"]) == ("not_found", ["shout"])


def test_adding_five_lines_to_a_running_nodes_file_activates_a_module(
    project: Project, started: Start
) -> None:
    node = started()
    assert node.call("word.echo", {"text": "hi"}) == "hi"
    project.add(SHOUT)
    assert ask(node, "system.reload")["changed"] == ["module shout added"]
    assert node.call("word.echo", {"text": "hi"}) == "HI?"


def test_a_faulty_file_changes_nothing_at_a_reload(project: Project, started: Start) -> None:
    node = started()
    good = project.config.read_text()
    project.add(SHOUT + "piority = 3\n")
    answer = ask(node, "system.reload")
    assert answer["changed"] == []
    assert answer["faults"]
    project.config.write_text(good + SHOUT.replace('"shout"', '"nobody"'))
    assert "no module 'nobody'" in ask(node, "system.reload")["faults"][0]["message"]
    assert node.call("word.echo", {"text": "hi"}) == "hi"
    assert node.modules() == []


def test_a_reload_takes_new_capabilities_and_says_what_needs_a_restart(
    project: Project, started: Start
) -> None:
    node = started()
    code = (project.folder / "capabilities.py").read_text()
    (project.folder / "capabilities.py").write_text(code.replace("word.echo", "word.again"))
    project.config.write_text(project.config.read_text().replace("[http]\nport = 0", "[http]\nport = 17421"))
    answer = ask(node, "system.reload")
    assert sorted(answer["changed"]) == [
        "capability word.again@1.0.0 added",
        "capability word.echo@1.0.0 removed",
    ]
    assert answer["kept"] == ["http.port: takes a restart"]
    assert node.call("word.again", {"text": "hi"}) == "hi"
    assert node.request("word.echo", {"text": "hi"}).error.code == "not_found"  # type: ignore[union-attr]
    until(lambda: (project.folder / "run" / "closed").exists())  # the old ones' resources


def test_modules_and_capabilities_can_be_registered_at_run_time(started: Start) -> None:
    node = started()

    @capability("late.comer")
    def late() -> str:
        """Come late."""
        return "here"

    assert node.register(late) == ["late.comer@1.0.0"]
    assert node.call("late.comer") == "here"
    node.register_module(Refuser, "refuser", match=["late.*"], priority=150)
    assert [(row["name"], row["priority"], row["status"]) for row in node.list_active_modules()] == [
        ("refuser", 150, "running")
    ]
    assert node.request("late.comer").error.code == "rejected"  # type: ignore[union-attr]
    with pytest.raises(ModuleError, match="is there already"):
        node.register_module(Refuser, "refuser")
    node.unregister_module("refuser")
    assert node.call("late.comer") == "here"
    node.unregister("late.comer")
    assert node.request("late.comer").error.code == "not_found"  # type: ignore[union-attr]


# ---- faults of modules ---------------------------------------------------------------------------------------------------


class Fragile(Module):
    """Hangs when asked to; counts what it saw since its start."""

    starts = 0

    def init(self, config: Any) -> None:
        Fragile.starts += 1
        self.seen = 0
        if Fragile.starts in self.bad_starts:
            raise RuntimeError("not this time")

    bad_starts: frozenset[int] = frozenset()

    def handle_request(self, request: Any, context: Context) -> None:
        self.seen += 1
        if request.payload["text"] == "hang":
            gevent.sleep(99)
        if request.payload["text"] == "crash":
            raise RuntimeError("boom")


@capability("word.echo")
def echo(text: str) -> str:
    """Say it again."""
    return text


@pytest.fixture
def fragile() -> Any:
    Fragile.starts = 0
    Fragile.bad_starts = frozenset()
    placement = {"timeout": 0.05, "on_error": "fail"}
    with Node(capabilities=[echo]) as node:
        node.register_module(Fragile, "fragile", **placement)
        yield node


def say(node: Node, text: str) -> str:
    response = node.request("word.echo", {"text": text})
    return str(response.value) if response.error is None else response.error.code


def test_a_crash_of_a_hook_keeps_the_instance_and_its_state(fragile: Node) -> None:
    assert [say(fragile, word) for word in ("hi", "crash", "hi")] == ["hi", "internal", "hi"]
    assert Fragile.starts == 1
    row = fragile.module("fragile")
    assert (row["errors"], row["restarts"], row["last_error"]) == (1, 0, "RuntimeError: boom")


def test_a_module_that_overruns_is_broken_off_and_started_anew(fragile: Node) -> None:
    assert say(fragile, "hang") == "unavailable"
    until(lambda: Fragile.starts == 2)
    until(lambda: say(fragile, "hi") == "hi")
    assert fragile.module("fragile")["restarts"] == 1


def test_while_a_module_is_down_its_on_error_answers_and_past_its_restarts_it_is_quarantined(
    fragile: Node,
) -> None:
    Fragile.bad_starts = frozenset(range(2, 100))
    say(fragile, "hang")
    until(lambda: fragile.module("fragile")["status"] == "quarantined")
    response = fragile.request("word.echo", {"text": "hi"})
    assert response.error is not None
    assert response.error.code == "unavailable"
    assert response.error.details["module"] == "fragile"
    health = fragile.health()
    assert health["status"] == "ill"
    assert health["findings"][0]["next"] == "packetflow module restart fragile"
    Fragile.bad_starts = frozenset()
    fragile.change_module("restart", "fragile", "test", False)
    assert say(fragile, "hi") == "hi"
    assert fragile.health()["status"] == "ok"


def test_twenty_faults_in_a_minute_start_a_module_anew(fragile: Node) -> None:
    for _ in range(20):
        say(fragile, "crash")
    until(lambda: Fragile.starts == 2)
    until(lambda: say(fragile, "hi") == "hi")


def test_a_dead_host_does_not_lose_a_request(fragile: Node) -> None:
    """Given requests all the while, when the module's host is killed again and again, then each request gets an answer."""
    from packetflow.otp import kill

    for _ in range(3):
        kill(next(one.hosted.host for one in fragile.placed()))
        assert say(fragile, "hi") in ("hi", "unavailable")
        until(lambda: say(fragile, "hi") == "hi")


# ---- seen ------------------------------------------------------------------------------------------------------------------


NO = """
from packetflow import Module, Reject


class No(Module):
    def handle_request(self, request, context):
        return Reject("no")
"""


def test_the_operator_can_disable_a_module_that_refuses_everything(project: Project, started: Start) -> None:
    project.write_module("no", "No", NO)
    project.add('[[modules]]\nname = "no"\nmatch = ["*", "system.*"]\n')
    node = started()
    refused = node.request("system.health", session=operator(node)).error
    assert refused is not None
    assert refused.code == "rejected"
    assert ask(node, "system.module.disable", name="no")["changed"] is True
    assert ask(node, "system.health")["status"] == "ok"


def test_callers_see_only_what_they_may_call(started: Start) -> None:
    node = started()
    mine = node.session("ana", ["word.echo", "system.*"])
    rows = node.request("system.catalogue", session=mine).value["capabilities"]
    assert [row["id"] for row in rows if not row["id"].startswith("system.")] == ["word.echo"]
    assert node.request("system.capability", {"id": "word.note"}, session=mine).error.code == "not_found"  # type: ignore[union-attr]


def test_the_log_is_structured_and_carries_the_trace(project: Project, started: Start) -> None:
    import json

    (project.folder / "capabilities.py").write_text(
        "from packetflow import Context, capability\n@capability('word.log')\ndef log(context: Context) -> str:\n"
        "    'Log.'\n    context.log.info('noted', answer=42)\n    return context.trace_id\n"
    )
    trace = started().call("word.log")
    lines = [json.loads(line) for line in project.log.getvalue().splitlines()]
    line = next(line for line in lines if line["event"] == "noted")
    assert line["trace"] == trace[:8]
    assert (line["answer"], line["level"], line["capability"], line["node"]) == (
        42,
        "info",
        "word.log",
        "test",
    )


def test_a_configuration_shows_no_secret(project: Project, started: Start) -> None:
    project.write_module(
        "keyed", "Keyed",
        "from packetflow import Module, Secret\nclass Keyed(Module):\n    class Config(Module.Config):\n        api_key: Secret\n"
        "    def init(self, config): assert config.api_key.reveal() == 'hunter2'\n",
    )  # fmt: skip
    (project.folder / "key").write_text("hunter2")
    (project.folder / "key").chmod(0o600)
    project.add('[[modules]]\nname = "keyed"\n[modules.config]\napi_key = { file = "key" }\n')
    node = started()
    for shown in (ask(node, "system.config"), ask(node, "system.module.show", name="keyed")):
        assert "hunter2" not in str(shown)
    assert load_with_overlay(project.config, environment={})


def test_each_example_of_the_catalogue_can_be_called(project: Project, started: Start) -> None:
    node = started()
    for one in node.routes.catalogue:
        for example in one.definition.examples:
            assert node.request(one.definition.id, example).ok


def test_a_node_keeps_its_data_where_it_was_told(project: Project, started: Start) -> None:
    assert Path(started().status()["data_folder"]) == project.folder / "run"


def test_flags_hold_over_a_reload(project: Project) -> None:
    project.config.write_text(project.config.read_text().replace("port = 0", "port = 17420", 1))
    flags = {"tcp.port": 0}
    with Node(
        load_with_overlay(project.config, environment={}, flags=flags)[0], log_stream=project.log
    ) as node:
        assert ask(node, "system.reload") == {"changed": [], "kept": [], "faults": []}
        assert node.config.tcp.port == 0


def test_a_reload_of_the_node_takes_changed_code_of_modules(project: Project, started: Start) -> None:
    from tests.node.conftest import MODULE

    project.add(SHOUT)
    node = started()
    project.write_module("shout", "Shout", MODULE.replace(".upper()", ".title()"))
    assert ask(node, "system.reload")["changed"] == ["module shout changed"]
    assert node.call("word.echo", {"text": "hi"}) == "Hi?"
    assert ask(node, "system.reload")["changed"] == []


LATER = """
import asyncio
from packetflow import Intercept, Module, Transform


class Later(Module):
    async def handle_request(self, request, context):
        await asyncio.sleep(30 if request.payload["text"] == "hang" else 0.001)
        return Intercept(request.with_payload(text=request.payload["text"] + ", later"))

    async def handle_response(self, response, context):
        await asyncio.sleep(0.001)
        if response.ok:
            return Transform(response.with_value(response.value + " and later"))
"""


def test_hooks_may_be_async(project: Project, started: Start) -> None:
    project.write_module("later", "Later", LATER)
    project.add('[[modules]]\nname = "later"\n')
    node = started()
    assert node.call("word.echo", {"text": "hi"}) == "hi, later and later"
    hung = node.request("word.echo", {"text": "hang"}, timeout=0.05)
    assert hung.error is not None
    assert hung.error.code == "timeout"
    assert node.call("word.echo", {"text": "hi"}) == "hi, later and later"


def test_system_exit_out_of_a_coroutine_is_its_crash_and_the_loop_goes_on() -> None:
    @capability("later.exit")
    async def leave() -> str:
        """Ask the process to end."""
        raise SystemExit(3)

    @capability("later.fine")
    async def fine() -> str:
        """Be fine."""
        return "fine"

    with Node(capabilities=[leave, fine]) as node:
        left = node.request("later.exit")
        assert left.error is not None
        assert left.error.code == "execution_failed"
        assert node.call("later.fine") == "fine"
