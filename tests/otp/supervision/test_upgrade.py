"""New specifications for a running supervisor, as OTP's code change of one; and what it tells of its children."""

from __future__ import annotations

from typing import Any

import pytest

from packetflow.otp import (
    IGNORE,
    ChildNotFound,
    ChildSpec,
    DynamicSupervisor,
    NoProcess,
    PartitionSupervisor,
    Router,
    SpecError,
    Stop,
    Supervisor,
    System,
    TooManyChildren,
    call,
    cast,
    change_code,
    kill,
    monitor,
    resume,
    stop,
    suspend,
)
from tests.otp.actors import Puppet, failure_of, until
from tests.otp.supervision.test_supervisor import Journal, fall, ids, journals, settle


def significant(*names: str, auto_shutdown: Any = None, **options: Any) -> list[ChildSpec]:
    return [ChildSpec(Puppet, id=name, name=name, restart="transient", significant=True) for name in names]


# ---- upgrade ----------------------------------------------------------------------------------------------------------


def test_a_known_child_goes_on_under_its_new_specification(system: System) -> None:
    log: list[Any] = []
    tree = Supervisor.start(journals(log, "ab"), system=system)
    before = system.find("a")
    Supervisor.upgrade(tree, [ChildSpec(Journal, "new a", log, id="a", name="a", shutdown=1.0)])
    assert system.find("a") == before
    assert Supervisor.get_childspec(tree, "a").shutdown == 1.0
    fall(system, "a")
    assert log == ["+a", "+b", "+new a"]


def test_a_new_child_is_there_and_not_started(system: System) -> None:
    log: list[Any] = []
    tree = Supervisor.start([], system=system)
    Supervisor.upgrade(tree, journals(log, "ab"))
    assert ids(tree) == {"a": "undefined", "b": "undefined"}
    assert log == []
    for name in "ab":
        Supervisor.restart_child(tree, name)
    assert log == ["+a", "+b"]


def test_a_child_that_is_not_named_any_more_stays_after_the_others(system: System) -> None:
    log: list[Any] = []
    tree = Supervisor.start(journals(log, "abc"), system=system)
    Supervisor.upgrade(tree, journals(log, "cd"))
    assert [line.id for line in Supervisor.which_children(tree)] == ["c", "d", "a", "b"]
    stop(tree, "shutdown")
    assert log == ["+a", "+b", "+c", "-b", "-a", "-c"]


def test_options_change_and_what_is_not_given_stays(system: System) -> None:
    log: list[Any] = []
    tree = Supervisor.start(journals(log, "ab"), max_restarts=0, max_seconds=60, system=system)
    Supervisor.upgrade(tree, strategy="one_for_all", max_restarts=1)
    fall(system, "a")
    assert log == ["+a", "+b", "-b", "+a", "+b"], "one_for_all now"
    watch = monitor(tree)
    kill(system.find("b"))
    assert watch.wait(5).reason == "shutdown", "the restart before counts within the window"


@pytest.mark.parametrize(
    ("children", "options", "field"),
    [
        (["no spec"], {}, "child"),
        ("text", {}, "children"),
        ([ChildSpec(Puppet, id="x"), ChildSpec(Puppet, id="x")], {}, "id"),
        (significant("x"), {}, "significant"),
        (None, {"strategy": "none_for_one"}, "strategy"),
        (None, {"max_restarts": -1}, "max_restarts"),
        (None, {"max_seconds": 0}, "max_seconds"),
        (None, {"auto_shutdown": "sometimes"}, "auto_shutdown"),
    ],
)
def test_a_wrong_upgrade_changes_nothing(system: System, children: Any, options: Any, field: str) -> None:
    tree = Supervisor.start(journals([], "a"), system=system)
    before = Supervisor.get_childspec(tree, "a")
    with pytest.raises(SpecError) as refused:
        Supervisor.upgrade(tree, children, **{"strategy": "one_for_all", **options})
    assert refused.value.field == field
    assert Supervisor.get_childspec(tree, "a") is before
    assert tree._process.server._strategy == "one_for_one"  # type: ignore[attr-defined]


def test_a_suspended_supervisor_is_upgraded_when_it_is_resumed(system: System) -> None:
    tree = Supervisor.start(journals([], "a"), system=system)
    suspend(tree)
    assert failure_of(Supervisor.upgrade, tree, journals([], "ab"), timeout=0.01).reason == "timeout"
    resume(tree)
    assert ids(tree) == {"a": "running"}, "who gave up has upgraded nothing"
    Supervisor.upgrade(tree, journals([], "ab"))
    assert ids(tree) == {"a": "running", "b": "undefined"}


@pytest.mark.parametrize(
    ("before", "after", "ends"),
    [
        ("never", "any_significant", [True]),
        ("never", "all_significant", [False, True]),
        ("any_significant", "all_significant", [False, True]),
        ("all_significant", "any_significant", [True]),
    ],
)
def test_auto_shutdown_can_be_upgraded(system: System, before: Any, after: Any, ends: list[bool]) -> None:
    tree = Supervisor.start([], auto_shutdown=before, system=system)
    specs = significant("a", "b")
    if before == "never":
        assert failure_of(Supervisor.start_child, tree, specs[0]).field == "significant"
        Supervisor.upgrade(tree, auto_shutdown=after)
    for spec in specs:
        Supervisor.start_child(tree, spec)
    if before != "never":
        Supervisor.upgrade(tree, auto_shutdown=after)
    for name, over in zip("ab", ends, strict=False):
        stop(system.find(name))
        settle(system)
        until(lambda: (tree not in system.processes()) is over)  # noqa: B023


@pytest.mark.parametrize("before", ["any_significant", "all_significant"])
def test_auto_shutdown_can_be_upgraded_to_never(system: System, before: Any) -> None:
    tree = Supervisor.start(significant("a"), auto_shutdown=before, system=system)
    Supervisor.upgrade(tree, auto_shutdown="never")
    assert failure_of(Supervisor.start_child, tree, significant("b")[0]).field == "significant"
    stop(system.find("a"))
    settle(system)
    assert ids(tree) == {"a": "undefined"}
    assert Supervisor.restart_child(tree, "a") is not None


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_a_child_can_be_upgraded_to_significant_and_back(system: System, before: bool, after: bool) -> None:
    def child(is_significant: bool) -> list[ChildSpec]:
        return [ChildSpec(Puppet, name="a", restart="transient", significant=is_significant)]

    tree = Supervisor.start(child(before), auto_shutdown="any_significant", system=system)
    Supervisor.upgrade(tree, child(after))
    stop(system.find("a"))
    settle(system)
    until(lambda: (tree not in system.processes()) is after)


# ---- change of the class ----------------------------------------------------------------------------------------------


class First(Supervisor):
    version = 1

    def children(self, log: list[Any]) -> Any:
        return journals(log, "ab")


def test_change_code_upgrades_a_supervisor_to_the_children_and_options_of_its_new_class(
    system: System,
) -> None:
    class Second(First):
        strategy = "rest_for_one"
        max_restarts = 10

        def children(self, log: list[Any]) -> Any:
            return journals(log, "abc")

    log: list[Any] = []
    tree = First.start(log, max_seconds=60.0, system=system)
    change_code(tree, Second)
    assert ids(tree) == {"a": "running", "b": "running", "c": "undefined"}
    Supervisor.restart_child(tree, "c")
    fall(system, "b")
    assert log == ["+a", "+b", "+c", "-c", "+b", "+c"]
    server: Any = tree._process.server
    assert (server._intensity.limit, server._intensity.seconds) == (10, 60.0), (
        "what was given at the start stays"
    )


def test_a_new_class_that_ignores_changes_nothing_but_the_class(system: System) -> None:
    class Second(First):
        def children(self, log: list[Any]) -> Any:
            return IGNORE

    tree = First.start([], system=system)
    change_code(tree, Second)
    assert ids(tree) == {"a": "running", "b": "running"}
    assert type(tree._process.server) is Second


def test_a_new_class_whose_children_are_wrong_leaves_the_old_one_going(system: System) -> None:
    class Second(First):
        def children(self, log: list[Any]) -> Any:
            return ["faulty"]

    class Raising(First):
        def children(self, log: list[Any]) -> Any:
            raise OSError("no file")

    tree = First.start([], system=system)
    with pytest.raises(SpecError):
        change_code(tree, Second)
    with pytest.raises(OSError, match="no file"):
        change_code(tree, Raising)
    assert type(tree._process.server) is First
    fall(system, "a")
    assert ids(tree) == {"a": "running", "b": "running"}


@pytest.mark.parametrize("cls", [Puppet, DynamicSupervisor, int])
def test_a_supervisors_place_takes_a_supervisor_of_its_kind_only(system: System, cls: Any) -> None:
    tree = Supervisor.start([], system=system)
    with pytest.raises(SpecError, match="cls"):
        change_code(tree, cls)
    with pytest.raises(SpecError, match="cls"):
        change_code(Puppet.start(system=system), Supervisor)


# ---- dynamic ----------------------------------------------------------------------------------------------------------


def test_a_dynamic_supervisors_options_can_be_upgraded_and_its_children_stay(system: System) -> None:
    pool = DynamicSupervisor.start(system=system)
    DynamicSupervisor.start_child(pool, ChildSpec(Puppet, id="a"))
    DynamicSupervisor.upgrade(pool, max_children=1)
    assert DynamicSupervisor.count_children(pool).active == 1
    assert isinstance(
        failure_of(DynamicSupervisor.start_child, pool, ChildSpec(Puppet, id="b")), TooManyChildren
    )
    DynamicSupervisor.upgrade(pool, max_children=None, extra_arguments=(None, ["extra"]))
    other = DynamicSupervisor.start_child(pool, ChildSpec(Puppet, id="b"))
    assert call(other, lambda server, caller: server.seen) == ["extra"]


@pytest.mark.parametrize(
    "option", [{"max_children": -1}, {"max_restarts": -1}, {"max_seconds": 0}, {"extra_arguments": -1}]
)
def test_a_wrong_option_of_a_dynamic_supervisor_changes_nothing(
    system: System, option: dict[str, Any]
) -> None:
    pool = DynamicSupervisor.start(max_children=1, system=system)
    with pytest.raises(SpecError) as refused:
        DynamicSupervisor.upgrade(pool, **option)
    assert [refused.value.field] == list(option)
    assert pool._process.server._max_children == 1  # type: ignore[attr-defined]
    assert DynamicSupervisor.start_child(pool, ChildSpec(Puppet)) is not None


def test_a_dynamic_supervisor_takes_a_new_class(system: System) -> None:
    class Second(DynamicSupervisor):
        version = 2

    pool = DynamicSupervisor.start(system=system)
    child = DynamicSupervisor.start_child(pool, ChildSpec(Puppet))
    change_code(pool, Second)
    assert [line.ref for line in DynamicSupervisor.which_children(pool)] == [child]


def test_the_children_of_a_partition_supervisor_and_of_a_router_are_not_upgraded(system: System) -> None:
    for pool in (
        PartitionSupervisor.start(ChildSpec(Puppet), partitions=2, system=system),
        Router.start(ChildSpec(Puppet), size=2, system=system),
    ):
        with pytest.raises(SpecError, match="resize it"):
            Supervisor.upgrade(pool, [ChildSpec(Puppet, id=0)])
        Supervisor.upgrade(pool, max_restarts=0)
        assert Supervisor.count_children(pool).active == 2


# ---- asking of one child ----------------------------------------------------------------------------------------------


def test_which_child_tells_of_one(system: System) -> None:
    tree = Supervisor.start(journals([], "ab"), system=system)
    for name in "ab":
        assert Supervisor.which_child(tree, name) == (name, system.find(name), "worker", "running")
    Supervisor.terminate_child(tree, "a")
    assert Supervisor.which_child(tree, "a") == ("a", None, "worker", "undefined")
    Supervisor.delete_child(tree, "a")
    assert isinstance(failure_of(Supervisor.which_child, tree, "a"), ChildNotFound)


def test_which_child_of_a_dynamic_supervisor_goes_by_ref(system: System) -> None:
    pool = DynamicSupervisor.start(system=system)
    ref = DynamicSupervisor.start_child(pool, ChildSpec(Puppet, id="a"))
    assert DynamicSupervisor.which_child(pool, ref) == ("a", ref, "worker", "running")
    assert isinstance(failure_of(DynamicSupervisor.which_child, pool, pool), ChildNotFound)
    DynamicSupervisor.terminate_child(pool, ref)
    assert isinstance(failure_of(DynamicSupervisor.which_child, pool, ref), ChildNotFound)
    for ask in (
        DynamicSupervisor.which_child,
        DynamicSupervisor.get_childspec,
        DynamicSupervisor.terminate_child,
    ):
        with pytest.raises(SpecError, match="Ref"):
            ask(pool, "a")  # type: ignore[arg-type]
    assert DynamicSupervisor.which_children(pool) == []


def test_a_childs_specification_can_be_read_with_its_defaults(system: System) -> None:
    specs = [
        ChildSpec(Puppet, id="plain"),
        ChildSpec(Puppet, id="brutal", shutdown="brutal_kill"),
        Supervisor.child([], id="inner"),
    ]
    tree = Supervisor.start(specs, system=system)
    read = {spec.id: Supervisor.get_childspec(tree, spec.id) for spec in specs}
    assert [(spec.restart, spec.shutdown, spec.type, spec.significant) for spec in read.values()] == [
        ("permanent", 5.0, "worker", False),
        ("permanent", "brutal_kill", "worker", False),
        ("permanent", "infinity", "supervisor", False),
    ]
    assert isinstance(failure_of(Supervisor.get_childspec, tree, "other"), ChildNotFound)
    with pytest.raises(SpecError, match="hashable"):
        Supervisor.get_childspec(tree, [])  # type: ignore[arg-type]


def test_a_dynamic_childs_specification_can_be_read_by_its_ref(system: System) -> None:
    pool = DynamicSupervisor.start(system=system)
    spec = ChildSpec(Puppet, restart="transient")
    refs = [DynamicSupervisor.start_child(pool, spec) for _ in range(3)]
    assert all(DynamicSupervisor.get_childspec(pool, ref) is spec for ref in refs)
    assert isinstance(failure_of(DynamicSupervisor.get_childspec, pool, pool), ChildNotFound)


def test_specifications_can_be_checked_without_a_supervisor() -> None:
    Supervisor.check_childspecs([ChildSpec(Puppet, id="a"), ChildSpec(Puppet, id="b")])
    Supervisor.check_childspecs(significant("a"), "any_significant")
    for specs, auto_shutdown, field in (
        ("text", "never", "children"),
        (ChildSpec(Puppet), "never", "children"),
        (["text"], "never", "child"),
        ([ChildSpec(Puppet, id="a")] * 2, "never", "id"),
        (significant("a"), "never", "significant"),
        ([], "sometimes", "auto_shutdown"),
    ):
        with pytest.raises(SpecError) as refused:
            Supervisor.check_childspecs(specs, auto_shutdown)  # type: ignore[arg-type]
        assert refused.value.field == field


def test_a_supervisor_that_is_dead_or_unknown_is_noproc(system: System) -> None:
    tree = Supervisor.start([], system=system)
    stop(tree)
    for ask in (Supervisor.which_children, Supervisor.count_children):
        assert isinstance(failure_of(ask, tree), NoProcess)
    for ask in (Supervisor.terminate_child, Supervisor.delete_child, Supervisor.restart_child):
        assert isinstance(failure_of(ask, tree, "a"), NoProcess)
    assert isinstance(failure_of(Supervisor.start_child, tree, ChildSpec(Puppet)), NoProcess)
    assert isinstance(failure_of(system.find, "foo"), NoProcess)


# ---- what is no request -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [lambda system: Supervisor.start([], system=system), None])
def test_a_stray_message_ends_no_supervisor(system: System, start: Any) -> None:
    tree = DynamicSupervisor.start(system=system) if start is None else start(system)
    for stray in ("hello", ("no such request",), (), 5):
        with pytest.raises(SpecError, match="request"):
            call(tree, stray)
    cast(tree, "stray")
    system.send(tree, "stray")
    assert Supervisor.which_children(tree) == []
    cast(tree, lambda server: Stop("normal"))
    assert Supervisor.which_children(tree) == []
