"""The plans of durable runs, as they are stored with them: a run finishes on the plan that it began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json

from packetflow.composition.data import from_data
from packetflow.composition.durable.interpreting import Interpreter
from packetflow.composition.durable.strands import Operation
from packetflow.composition.nodes import Node, PlanError, Step
from packetflow.composition.plan import Composition, walk
from packetflow.composition.writing import node_to_data
from packetflow.storage.runs.records import RunRow
from packetflow.wire.errors import Unavailable

KEPT = 256  # plans that stay compiled


class StoredPlan(NamedTuple):
    """A plan, ready to run. provides: the names that its runs answer with; None: what its body gives."""

    digest: str
    body: bytes
    node: Node
    provides: tuple[str, ...] | None
    operation: Operation

    @property
    def capabilities(self) -> set[str]:
        """What its steps ask for."""
        return {node.capability for _, node in walk(self.node) if isinstance(node, Step)}


class Plans:
    """read: gives the stored text of a digest."""

    def __init__(self, interpreter: Callable[[], Interpreter], read: Callable[[str], bytes | None]) -> None:
        self._interpreter = interpreter
        self._read = read
        self._by_digest: dict[str, StoredPlan] = {}
        self._by_plan: dict[int, tuple[Any, StoredPlan]] = {}

    def of(self, composition: Composition) -> StoredPlan:
        """The plan of a composition. Raises PlanError where it can't be written out."""
        known = self._by_plan.get(id(composition))
        if known is None:
            provides = None if composition.provides is None else tuple(composition.provides)
            data = {"plan": node_to_data(composition.body), "provides": provides}
            body = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
            digest = hashlib.sha256(body).hexdigest()
            stored = self._by_digest.get(digest) or self._compiled(digest, body, composition.body, provides)
            self._bound(self._by_plan)
            known = self._by_plan[id(composition)] = (composition, stored)
        return known[1]

    def stored(self, row: RunRow) -> StoredPlan:
        """The plan that a run began with. Raises Unavailable if this version can't read it."""
        known = self._by_digest.get(row.plan)
        if known is None:
            body = self._read(row.plan)
            try:
                data: Mapping[str, Any] = from_json(body or b"null")
                names = data["provides"]
                whole = {"id": "stored.plan", "intent": "as it was stored", "plan": data["plan"]}
                node = from_data(whole).body
            except (PlanError, ValueError, KeyError, TypeError) as error:
                raise Unavailable(f"the plan of run {row.id[:8]} can't be read: {error}") from error
            known = self._compiled(row.plan, body or b"", node, None if names is None else tuple(names))
        return known

    def _compiled(self, digest: str, body: bytes, node: Node, provides: tuple[str, ...] | None) -> StoredPlan:
        self._bound(self._by_digest)
        operation = self._interpreter().whole(node)
        made = self._by_digest[digest] = StoredPlan(digest, body, node, provides, operation)
        return made

    @staticmethod
    def _bound(kept: dict[Any, Any]) -> None:
        while len(kept) >= KEPT:
            del kept[next(iter(kept))]
