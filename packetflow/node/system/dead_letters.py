"""Defines the `system.dead_letter.*` capabilities of one node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from packetflow.capabilities.context import Context
from packetflow.capabilities.definition import capability as declare
from packetflow.node.system import shapes

if TYPE_CHECKING:
    from packetflow.node.letters import Letters

Id = Annotated[str, Field(description="The letter's id, or its first letters (4 or more).", max_length=64)]


def dead_letter_functions(letters: Letters) -> list[Callable[..., Any]]:
    """The functions, to be made capabilities."""

    @declare("system.dead_letter.list", tags=["system"])
    def list_(
        limit: Annotated[int, Field(ge=1, le=1000)] = 20,
        kind: Annotated[str | None, Field(description="Only of this kind.", max_length=64)] = None,
        what: Annotated[
            str | None, Field(description="Only of this capability or topic.", max_length=200)
        ] = None,
    ) -> shapes.DeadLetters:
        """What failed for good, the newest first."""
        return {"dead_letters": letters.rows(limit, kind, what)}

    @declare("system.dead_letter.show", tags=["system"])
    def show(id: Id) -> shapes.DeadLetterDetail:
        """One dead letter in full."""
        return {"dead_letter": letters.show(id)}

    @declare("system.dead_letter.replay", tags=["system"])
    def replay(id: Id, context: Context) -> shapes.DeadLetterDone:
        """Do again what failed for good; if it works, the letter is removed."""
        return letters.replay(id, context.principal)

    @declare("system.dead_letter.remove", tags=["system"])
    def remove(id: Id, context: Context) -> shapes.DeadLetterDone:
        """Forget a dead letter."""
        return letters.remove(id, context.principal)

    return [list_, show, replay, remove]
