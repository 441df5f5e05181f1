"""Random programs for a tree of supervisors, in turned time, run by the real one and by the reference model.

After each step both have to agree on everything that can be seen: who runs under whom and in which order, which start
and which orderly stop happened when, what a request was answered, who is alive at all.

A few hundred programs in the usual run. For 10,000:

    PACKETFLOW_OTP_PROGRAMS=10000 python -m pytest tests/otp/supervision/test_against_model.py
"""

from __future__ import annotations

import logging
from typing import Any

import gevent
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from packetflow.otp import (
    IGNORE,
    ChildError,
    ChildSpec,
    Clock,
    GenServer,
    NoProcess,
    Ref,
    SpecError,
    StartFailed,
    Stop,
    Supervisor,
    System,
    cast,
    exit_signal,
    kill,
)
from tests.otp.actors import programs, until
from tests.otp.supervision.model import ModelWorld, Spec, Tree


class Broken(Exception):
    pass


class Leaf(GenServer):
    """Starts as planned, writes down what happened to it, and ends as it is told."""

    def init(self, world: World, id: str) -> Any:
        self.world, self.id = world, id
        planned = world.outcomes.get(id)
        outcome = planned.pop(0) if planned else "+"
        world.log.append(outcome + id)
        if outcome == "!":
            raise Broken(id)
        return IGNORE if outcome == "~" else None

    def handle_cast(self, message: Any) -> Any:
        if message == "crash":
            raise Broken(self.id)
        return Stop(message)

    def terminate(self, reason: object) -> None:
        self.world.log.append("-" + self.id)


class World:
    """The real tree."""

    def __init__(self, tree: Tree) -> None:
        self.now = 100.0
        self.system = System("world", Clock(monotonic=lambda: self.now))
        self.log: list[str] = []
        self.outcomes: dict[str, list[str]] = {}
        self.root = Supervisor.start(
            [self.spec(spec) for spec in tree.specs],
            strategy=tree.strategy,
            max_restarts=tree.max_restarts,
            max_seconds=tree.max_seconds,
            auto_shutdown=tree.auto_shutdown,
            system=self.system,
        )

    def spec(self, spec: Spec) -> ChildSpec:
        tree = spec.tree
        options: Any = {"id": spec.id, "restart": spec.restart, "significant": spec.significant}
        if tree is None:
            return ChildSpec(Leaf, self, spec.id, **options)
        return Supervisor.child(
            [self.spec(below) for below in tree.specs],
            strategy=tree.strategy,
            max_restarts=tree.max_restarts,
            max_seconds=tree.max_seconds,
            auto_shutdown=tree.auto_shutdown,
            **options,
        )

    def alive(self, ref: Ref) -> bool:
        return ref in self.system.processes()

    def supervisors(self) -> list[Ref]:
        if not self.alive(self.root):
            return []
        lines = Supervisor.which_children(self.root)
        return [self.root, *(line.ref for line in lines if line.type == "supervisor" and line.ref)]

    def shape(self) -> list[Any]:
        return [
            [(line.id, line.status) for line in Supervisor.which_children(ref)] for ref in self.supervisors()
        ]

    def leaf(self, supervisor: int, id: str) -> Ref:
        """A leaf of one of the supervisors that live."""
        ref = Supervisor.which_child(self.supervisors()[supervisor], id).ref
        assert ref is not None
        return ref

    def settle(self) -> None:
        """Until nobody has anything to do."""
        scheduler = self.system.scheduler

        def idle() -> bool:
            return not scheduler.run_queue and all(p.current is None for p in scheduler.processes.values())

        for _ in range(100):
            gevent.idle()
            if idle():
                return
        until(idle)


def answer_of(request: Any, *arguments: Any) -> str:
    """What a request came to, in OTP's word."""
    try:
        request(*arguments)
    except ChildError as error:
        return error.reason
    except StartFailed:
        return "not started"
    except SpecError:
        return "refused"
    except NoProcess:
        return "noproc"
    return "ok"


# ---- programs ---------------------------------------------------------------------------------------------------------

RESTART = st.sampled_from(["permanent", "permanent", "transient", "temporary"])
STRATEGY = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
AUTO_SHUTDOWN = st.sampled_from(["never", "never", "any_significant", "all_significant"])
REASON = st.sampled_from(["normal", "shutdown", ("shutdown", "x"), "odd"])
NUMBER = st.integers(0, 7)


@st.composite
def trees(draw: Any, ids: list[str], inner: bool) -> Tree:
    """A supervisor of these children; inner: some of them are supervisors of leaves."""
    auto_shutdown = draw(AUTO_SHUTDOWN)
    specs = []
    for id in ids:
        restart = draw(RESTART)
        significant = restart != "permanent" and auto_shutdown != "never" and draw(st.booleans())
        below = None
        if inner and draw(st.booleans()):
            below = draw(trees([f"{id}{number}" for number in range(draw(st.integers(0, 3)))], False))
        specs.append(Spec(id, restart, significant, below))
    return Tree(
        draw(STRATEGY),
        draw(st.sampled_from([0, 1, 2, 3, 8])),
        draw(st.sampled_from([1.0, 5.0])),
        auto_shutdown,
        tuple(specs),
    )


END = st.one_of(
    st.tuples(st.just("end"), NUMBER, REASON),
    st.tuples(st.just("crash"), NUMBER),
    st.tuples(st.just("kill"), NUMBER),
    st.tuples(st.just("signal"), NUMBER, REASON),
    st.tuples(st.just("kill supervisor"), NUMBER),
)
REQUEST = st.one_of(
    st.tuples(st.just("terminate_child"), NUMBER, NUMBER),
    st.tuples(st.just("restart_child"), NUMBER, NUMBER),
    st.tuples(st.just("delete_child"), NUMBER, NUMBER),
    st.tuples(st.just("start_child"), NUMBER, NUMBER, RESTART, st.booleans()),
)
PLAN = st.tuples(st.just("plan"), NUMBER, st.lists(st.sampled_from("!!~+"), min_size=1, max_size=4))
WAIT = st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 1.25, 6.0]))
STEP = st.one_of(END, END, REQUEST, REQUEST, PLAN, WAIT)


def apply(step: tuple[Any, ...], model: ModelWorld, world: World) -> None:
    kind, *rest = step
    match kind:
        case "wait":
            model.now += rest[0]
            world.now += rest[0]
        case "plan":
            leaves = [child.spec.id for _, child in model.leaves()] + ["new0", "new1", "new2"]
            id = leaves[rest[0] % len(leaves)]
            model.outcomes[id], world.outcomes[id] = list(rest[1]), list(rest[1])
        case "kill supervisor":
            refs = world.supervisors()[1:]
            if refs and model.supervisor_killed(rest[0]):
                kill(refs[rest[0] % len(refs)])
        case "end" | "crash" | "kill" | "signal":
            end_a_leaf(kind, rest, model, world)
        case _:
            request(kind, rest, model, world)


def end_a_leaf(kind: str, rest: list[Any], model: ModelWorld, world: World) -> None:
    leaves = model.leaves()
    if not leaves:
        return
    supervisor, child = leaves[rest[0] % len(leaves)]
    ref = world.leaf(model.supervisors().index(supervisor), child.spec.id)
    match kind:
        case "end":
            model.leaf_ends(rest[0], rest[1], terminates=True)
            cast(ref, rest[1])
        case "crash":
            model.leaf_ends(rest[0], "crash", terminates=True)
            cast(ref, "crash")
        case "kill":
            model.leaf_ends(rest[0], "killed", terminates=False)
            kill(ref)
        case _:
            if rest[1] != "normal":
                model.leaf_ends(rest[0], rest[1], terminates=False)
            exit_signal(ref, rest[1])


def request(kind: str, rest: list[Any], model: ModelWorld, world: World) -> None:
    supervisors = world.supervisors()
    if not supervisors:
        return
    ref = supervisors[rest[0] % len(supervisors)]
    if kind == "start_child":
        spec = Spec(f"new{rest[1] % 3}", rest[2], rest[3] and rest[2] != "permanent")
        expected = model.ask(rest[0], lambda supervisor: supervisor.start_child(spec))
        got = answer_of(Supervisor.start_child, ref, world.spec(spec))
    else:
        supervisor = model.supervisors()[rest[0] % len(supervisors)]
        ids = [*(child.spec.id for child in supervisor.children), "nobody"]
        id = ids[rest[1] % len(ids)]
        expected = model.ask(rest[0], lambda supervisor: getattr(supervisor, kind)(id))
        got = answer_of(getattr(Supervisor, kind), ref, id)
    event(f"{kind}: {got}")
    assert got == expected


@settings(max_examples=programs(400), deadline=None, suppress_health_check=list(HealthCheck))
@given(trees(["A", "B", "C"], True), st.lists(STEP, min_size=5, max_size=40))
def test_random_programs_end_as_the_model_says(tree: Tree, program: list[tuple[Any, ...]]) -> None:
    logging.getLogger("packetflow.otp").setLevel(logging.CRITICAL)
    model, world = ModelWorld(tree), World(tree)
    model.start()
    for step in program:
        apply(step, model, world)
        world.settle()
        compare(model, world)
    if world.alive(world.root):
        model.supervisors()[0].end()
        world.system.stop_process(world.root, "shutdown")
        world.settle()
        compare(model, world)
    world.system.shutdown()
    assert world.system.processes() == []


def compare(model: ModelWorld, world: World) -> None:
    assert world.log == model.log
    assert world.alive(world.root) is (model.root is not None)
    assert world.shape() == model.shape()
    assert len(world.system.processes()) == len(model.supervisors()) + len(model.leaves()), "an orphan"
