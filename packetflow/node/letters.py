"""The node's dead letters as an operator sees and replays them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from packetflow.node.outgoing import LINE, NOTICE
from packetflow.node.system import shapes
from packetflow.security.access import Session
from packetflow.storage.dead_letters import DeadLetter
from packetflow.storage.outbox import Event
from packetflow.telemetry.traces import SHORTEST
from packetflow.wire.errors import NotFound, RequestError, Unavailable, ValidationFailed
from packetflow.wire.values import Metadata

if TYPE_CHECKING:
    from packetflow.node.node import Node

Replay = Callable[[DeadLetter], object]


def letter_of_request(
    id: str,
    capability: str,
    payload: Mapping[str, Any],
    error: RequestError,
    session: Session,
    *,
    origin: str = "",
    details: Mapping[str, Any] | None = None,
) -> DeadLetter:
    """The letter of a request that failed for good. It keeps whose rights it had, never a token. id: new (`Door.new_id`)."""
    body = {"payload": dict(payload), "patterns": sorted(session.grants.patterns)}
    return DeadLetter(
        id,
        "request",
        capability,
        body,
        error.code,
        error.message,
        {**error.details, **(details or {})},
        session.principal,
        session.tenant,
        origin,
    )


class Letters:
    """Lists, shows, replays and removes. replays: by the letters' kind, who does one again; it raises if that fails."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.replays: dict[str, Replay] = {
            "request": self._request,
            "event": self._event,
            NOTICE: self._notice,
        }

    def rows(
        self, limit: int, kind: str | None = None, what: str | None = None
    ) -> list[shapes.DeadLetterRow]:
        """The letters, the newest first, in a line each."""
        letters = self._node.stores.dead_letters
        return [_row(letter) for letter in letters.newest(limit, kind=kind, what=what)]

    def show(self, id: str) -> shapes.DeadLetterRow:
        """One in full, with what it holds. Raises NotFound; ValidationFailed with the candidates for an ambiguous id."""
        letter = self._one(id)
        return {**_row(letter), "body": letter.body, "details": dict(letter.details)}

    def replay(self, id: str, who: str) -> shapes.DeadLetterDone:
        """Do again what failed; if that works, the letter is removed. Raises what it fails of, and the letter stays."""
        letter = self._one(id)
        again = self.replays.get(letter.kind)
        if again is None:
            raise Unavailable(
                f"nobody here knows how to replay a dead letter of kind {letter.kind!r}",
                {"dead_letter": letter.id, "kinds": sorted(self.replays)},
            )
        letters = self._node.stores.dead_letters
        try:
            again(letter)
        except RequestError as error:
            letters.replayed(letter.id, f"{error.code}: {error.message}")
            self._node.log.warning(
                "a dead letter failed again", dead_letter=letter.id, who=who, why=str(error)
            )
            raise
        letters.remove(letter.id)
        self._node.log.info("a dead letter was replayed", dead_letter=letter.id, what=letter.what, who=who)
        return {"letter": _row(letter), "done": "replayed"}

    def remove(self, id: str, who: str) -> shapes.DeadLetterDone:
        """Forget one. Raises as `show`."""
        letter = self._one(id)
        self._node.stores.dead_letters.remove(letter.id)
        self._node.log.info("a dead letter was removed", dead_letter=letter.id, what=letter.what, who=who)
        return {"letter": _row(letter), "done": "removed"}

    def _one(self, id: str) -> DeadLetter:
        if len(id) < SHORTEST:
            raise ValidationFailed(
                f"id {id!r} is too short; expected {SHORTEST} letters or more", {"faults": []}
            )
        found = self._node.stores.dead_letters.find(id.lower())
        if not found:
            raise NotFound(f"no dead letter {id!r}", {"dead_letter": id})
        if len(found) > 1:
            candidates = [letter.id for letter in found]
            raise ValidationFailed(
                f"{id!r} begins {len(found)} dead letters", {"candidates": candidates, "faults": []}
            )
        return found[0]

    def _request(self, letter: DeadLetter) -> None:
        """As whom it was, with the rights that it had then and the policy of now; two replays of one letter are one request."""
        node = self._node
        session = Session(
            letter.principal,
            node.routes.grants(letter.body["patterns"]),
            tenant=letter.tenant,
            peer=f"dead letter {letter.id[:8]}",
        )
        key = f"dead-letter-{letter.id}-{letter.replays}"
        node.door.request(
            letter.what, letter.body["payload"], session, Metadata(idempotency_key=key)
        ).unwrap()

    def _event(self, letter: DeadLetter) -> None:
        """Into the outbox again, under its old id."""
        self._node.events.put([Event(letter.id, letter.what, letter.body, letter.origin)])

    def _notice(self, letter: DeadLetter) -> None:
        """Into its channel's line again, under its old id. Raises Unavailable if the channel is gone."""
        if letter.what not in self._node.effects.channels:
            raise Unavailable(f"there is no channel {letter.what!r} in the configuration any more")
        self._node.events.put(
            [Event(letter.id, letter.what, letter.body, letter.origin, line=LINE + letter.what)]
        )


def _row(letter: DeadLetter) -> shapes.DeadLetterRow:
    created = datetime.fromtimestamp(letter.created, UTC).isoformat(timespec="milliseconds")
    return {
        "id": letter.id,
        "kind": letter.kind,
        "what": letter.what,
        "code": letter.code,
        "reason": letter.reason,
        "principal": letter.principal,
        "tenant": letter.tenant,
        "origin": letter.origin,
        "created": created.replace("+00:00", "Z"),
        "replays": letter.replays,
        "last_replay": letter.last_replay,
    }
