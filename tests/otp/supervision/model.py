"""A plain reference model of a tree of supervisors: lists and loops, no processes, nothing clever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Spec:
    """A child: a leaf, or a supervisor with children of its own."""

    id: str
    restart: str = "permanent"
    significant: bool = False
    tree: Tree | None = None


@dataclass(frozen=True)
class Tree:
    """A supervisor."""

    strategy: str
    max_restarts: int
    max_seconds: float
    auto_shutdown: str
    specs: tuple[Spec, ...]


class ModelChild:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.running = False
        self.supervisor: ModelSupervisor | None = None  # while it runs, if it is one


class ModelSupervisor:
    def __init__(self, tree: Tree, world: ModelWorld) -> None:
        self.tree = tree
        self.world = world
        self.children = [ModelChild(spec) for spec in tree.specs]
        self.restarts: list[float] = []
        self.place: tuple[ModelSupervisor, ModelChild] | None = None

    def find(self, id: str) -> ModelChild | None:
        return next((child for child in self.children if child.spec.id == id), None)

    # ---- starting and stopping -------------------------------------------------------------------------------------

    def start_all(self) -> bool:
        for child in list(self.children):
            if not self.start(child):
                self.stop(self.children)
                return False
            if not child.running and child.spec.restart == "temporary":
                self.children.remove(child)
        return True

    def start(self, child: ModelChild) -> bool:
        """Returns whether that worked; a child that ignores has worked and does not run."""
        if child.spec.tree is not None:
            supervisor = ModelSupervisor(child.spec.tree, self.world)
            supervisor.place = (self, child)
            if not supervisor.start_all():
                return False
            child.supervisor = supervisor
            child.running = True
            return True
        outcome = self.world.next_outcome(child.spec.id)
        self.world.log.append(outcome + child.spec.id)
        child.running = outcome == "+"
        return outcome != "!"

    def stop(self, children: list[ModelChild]) -> None:
        """In reverse order, and in order each."""
        for child in reversed(children):
            if child.running:
                if child.supervisor is not None:
                    child.supervisor.stop(child.supervisor.children)
                else:
                    self.world.log.append("-" + child.spec.id)
            child.running = False
            child.supervisor = None

    # ---- what follows from an end ----------------------------------------------------------------------------------

    def child_ended(self, child: ModelChild, reason: object) -> None:
        child.running = False
        child.supervisor = None
        restart = child.spec.restart
        orderly = reason in ("normal", "shutdown") or (isinstance(reason, tuple) and reason[0] == "shutdown")
        if restart == "permanent" or (restart == "transient" and not orderly):
            self.bring_back(child)
            return
        if restart == "temporary":
            self.children.remove(child)
        if child.spec.significant and self.tree.auto_shutdown != "never":
            left = [other for other in self.children if other.spec.significant and other.running]
            if self.tree.auto_shutdown == "any_significant" or not left:
                self.end()

    def bring_back(self, child: ModelChild) -> None:
        while True:
            now = self.world.now
            self.restarts = [time for time in [*self.restarts, now] if time >= now - self.tree.max_seconds]
            if len(self.restarts) > self.tree.max_restarts:
                self.end()
                return
            failed = self.start_again(child)
            if failed is None:
                return
            child = failed

    def start_again(self, child: ModelChild) -> ModelChild | None:
        """By the strategy. Returns the one that did not start."""
        affected = [child]
        if self.tree.strategy == "one_for_all":
            affected = list(self.children)
        if self.tree.strategy == "rest_for_one":
            affected = self.children[self.children.index(child) :]
        if self.tree.strategy != "one_for_one":
            self.stop(affected)
            self.children = [
                other for other in self.children if other not in affected or other.spec.restart != "temporary"
            ]
            affected = [other for other in affected if other.spec.restart != "temporary"]
        for other in affected:
            if not self.start(other):
                return other
        return None

    def end(self) -> None:
        self.stop(self.children)
        if self.place is None:
            self.world.root = None
        else:
            above, child = self.place
            above.child_ended(child, "shutdown")

    # ---- requests: each gives OTP's word ---------------------------------------------------------------------------

    def start_child(self, spec: Spec) -> str:
        if spec.significant and self.tree.auto_shutdown == "never":
            return "refused"
        there = self.find(spec.id)
        if there is not None:
            return "already_started" if there.running else "already_present"
        child = ModelChild(spec)
        if not self.start(child):
            return "not started"
        if child.running or spec.restart != "temporary":
            self.children.append(child)
        return "ok"

    def terminate_child(self, id: str) -> str:
        child = self.find(id)
        if child is None:
            return "not_found"
        self.stop([child])
        if child.spec.restart == "temporary":
            self.children.remove(child)
        return "ok"

    def restart_child(self, id: str) -> str:
        child = self.find(id)
        if child is None:
            return "not_found"
        if child.running:
            return "running"
        return "ok" if self.start(child) else "not started"

    def delete_child(self, id: str) -> str:
        child = self.find(id)
        if child is None:
            return "not_found"
        if child.running:
            return "running"
        self.children.remove(child)
        return "ok"


@dataclass
class ModelWorld:
    """The tree, its time, what the next starts of each leaf will come to, and what happened: "+" started, "!" failed,
    "~" ignored, "-" stopped in order."""

    tree: Tree
    now: float = 100.0
    outcomes: dict[str, list[str]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    root: ModelSupervisor | None = None

    def start(self) -> None:
        self.root = ModelSupervisor(self.tree, self)
        assert self.root.start_all()

    def next_outcome(self, id: str) -> str:
        planned = self.outcomes.get(id)
        return planned.pop(0) if planned else "+"

    def supervisors(self) -> list[ModelSupervisor]:
        """Those that live, the root first."""
        if self.root is None:
            return []
        below = [child.supervisor for child in self.root.children if child.supervisor is not None]
        return [self.root, *below]

    def leaves(self) -> list[tuple[ModelSupervisor, ModelChild]]:
        """Those that run."""
        return [
            (supervisor, child)
            for supervisor in self.supervisors()
            for child in supervisor.children
            if child.running and child.supervisor is None
        ]

    def shape(self) -> list[Any]:
        """What can be seen of it: each supervisor's children, in their order."""
        return [
            [(child.spec.id, "running" if child.running else "undefined") for child in supervisor.children]
            for supervisor in self.supervisors()
        ]

    def leaf_ends(self, number: int, reason: object, terminates: bool) -> str | None:
        """Returns the id of the leaf that ended; None if there is none."""
        leaves = self.leaves()
        if not leaves:
            return None
        supervisor, child = leaves[number % len(leaves)]
        if terminates:
            self.log.append("-" + child.spec.id)
        supervisor.child_ended(child, reason)
        return child.spec.id

    def supervisor_killed(self, number: int) -> str | None:
        """Its leaves die with it, at once. Returns its id; the root is not killed."""
        inner = self.supervisors()[1:]
        if not inner:
            return None
        above, child = inner[number % len(inner)].place or (None, None)
        assert above is not None
        assert child is not None
        above.child_ended(child, "killed")
        return child.spec.id

    def ask(self, number: int, request: Callable[[ModelSupervisor], str]) -> str | None:
        """A request to one of the supervisors that live."""
        supervisors = self.supervisors()
        return request(supervisors[number % len(supervisors)]) if supervisors else None
