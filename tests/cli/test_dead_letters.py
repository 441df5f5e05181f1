"""`packetflow dead-letter` against a node as a process."""

from __future__ import annotations

from .conftest import Desk, put_dead_letter


def test_a_dead_letter_is_listed_shown_and_replayed(desk: Desk) -> None:
    put_dead_letter(desk, "beef0123" * 4)
    listed = desk("dead-letter", "list")
    assert "beef0123" in listed.out
    assert "the mail server is away" in listed.out
    assert "ticket.open" in desk("dead-letter", "list", "--what", "ticket.open").out
    assert desk("dead-letter", "list", "--kind", "riddle", "--json").document == {"dead_letters": []}
    shown = desk("dead-letter", "show", "beef")
    assert "unavailable: the mail server is away" in shown.out
    assert '"customer_id": "C-1"' in shown.out
    replayed = desk("dead-letter", "replay", "beef")
    assert (replayed.code, replayed.out) == (0, "replayed: beef0123, ticket.open\n")
    gone = desk("dead-letter", "show", "beef")
    assert gone.code == 5
    assert "no dead letter 'beef'" in gone.err


def test_removing_wants_consent(desk: Desk) -> None:
    put_dead_letter(desk, "cafe0123" * 4)
    refused = desk("dead-letter", "remove", "cafe")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert desk("dead-letter", "remove", "cafe", "--yes").out == "removed: cafe0123, ticket.open\n"
    assert desk("dead-letter", "remove", "cafe", "--yes").code == 5
