from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from pydantic import ValidationError as Invalid

from packetflow.capabilities.definition import definition_of
from packetflow.capabilities.loader import load_path
from packetflow.capabilities.resources import ResourceSettings
from packetflow.errors import Conflict, NotFound, ValidationFailed
from tests.examples.loading import FOLDER, Calendar, capabilities, load

IDS = [
    "customer.lookup",
    "ticket.close",
    "ticket.export",
    "ticket.find",
    "ticket.open",
    "ticket.reply",
    "ticket.summary",
]


def open_ticket(desk: Any, text: str = "My card was stolen", customer_id: str = "C-1001", **more: Any) -> Any:
    return capabilities.open_ticket(customer_id=customer_id, text=text, desk=desk, **more)


def found(desk: Any, **what: Any) -> list[str]:
    return [ticket.id for ticket in capabilities.find_tickets(desk=desk, **what).tickets]


# ---- as capabilities -----------------------------------------------------------------------------------------------------


def test_a_node_finds_the_seven_capabilities_in_the_file_and_in_the_folder() -> None:
    for path in (FOLDER / "capabilities.py", FOLDER):
        loaded = load_path(path)
        assert sorted(one.id for one in loaded.definitions) == IDS
        loaded.unload()


def test_the_resource_opens_a_desk_in_the_nodes_data_folder_and_closes_it(tmp_path: Path) -> None:
    opened = capabilities.desk.open(ResourceSettings(tmp_path, FOLDER))
    assert capabilities.lookup_customer("C-1001", opened.value).name == "Ana Petrovic"
    opened.close()
    assert (tmp_path / "support_desk.sqlite").exists()


@pytest.mark.parametrize(
    ("function", "payload", "path"),
    [
        ("open_ticket", {"customer_id": "1001", "text": "x"}, "customer_id"),
        ("open_ticket", {"customer_id": "C-1001", "text": " \n"}, "text"),
        ("open_ticket", {"customer_id": "C-1001", "text": "x" * 4001}, "text"),
        ("open_ticket", {"customer_id": "C-1001", "text": "x", "topic": "No Topic"}, "topic"),
        ("find_tickets", {"limit": 101}, "limit"),
        ("find_tickets", {"status": "shut"}, "status"),
        ("find_tickets", {"cursor": "T-0"}, "cursor"),
        ("reply_to_ticket", {"ticket_id": "T-1", "text": "x", "author": "robot"}, "author"),
        ("summarise_tickets", {"since": "yesterday"}, "since"),
    ],
)
def test_the_contract_refuses_what_makes_no_sense(function: str, payload: dict[str, Any], path: str) -> None:
    definition = definition_of(getattr(capabilities, function))
    assert definition is not None
    with pytest.raises(Invalid) as refused:
        definition.contract.validate_input(payload)
    assert [error["loc"] for error in refused.value.errors()] == [(path,)]


@pytest.mark.parametrize("id", IDS)
def test_what_a_capability_gives_survives_its_way_through_json(id: str, desk: Any) -> None:
    definition = next(one for one in load_path(FOLDER / "capabilities.py").definitions if one.id == id)
    open_ticket(desk)
    function = definition.function.__name__
    fields = {"desk": desk, **definition.contract.validate_input(definition.examples[0])[1]}
    if definition.contract.context_name is not None:
        fields[definition.contract.context_name] = Listening()
    answer = getattr(capabilities, function)(**fields)
    values = list(answer) if definition.streams else [answer]
    assert values
    for value in values:
        model = TypeAdapter(type(value))
        assert model.validate_json(model.dump_json(value)) == value


class Listening:
    """A context, as far as a capability of the desk needs one."""

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        assert done >= 0


# ---- a ticket's life -----------------------------------------------------------------------------------------------------


def test_a_ticket_lives_from_opening_to_closing_and_back(desk: Any, calendar: Calendar) -> None:
    ticket = open_ticket(desk, topic="report_lost_card")
    assert (ticket.id, ticket.status, ticket.topic, ticket.replies) == ("T-1", "open", "report_lost_card", ())
    calendar.turn(minutes=5)
    ticket = capabilities.reply_to_ticket("T-1", "Which card is it?", desk)
    assert (ticket.status, ticket.changed - ticket.opened) == ("pending", calendar.now - ticket.opened)
    ticket = capabilities.reply_to_ticket("T-1", "The blue one", desk, author="customer")
    assert ticket.status == "open"
    ticket = capabilities.close_ticket("T-1", desk, resolution="Blocked, and a new one sent")
    assert ticket.status == "closed"
    assert [(reply.author, reply.text) for reply in ticket.replies] == [
        ("agent", "Which card is it?"),
        ("customer", "The blue one"),
        ("agent", "Blocked, and a new one sent"),
    ]
    ticket = capabilities.reply_to_ticket("T-1", "It never came", desk, author="customer", reopen=True)
    assert (ticket.status, ticket.reply_count, ticket.text) == ("open", 4, "My card was stolen")


def test_a_closed_ticket_takes_no_reply_and_can_not_be_closed_again(desk: Any) -> None:
    open_ticket(desk)
    capabilities.close_ticket("T-1", desk)
    with pytest.raises(Conflict, match="T-1 is closed; reply with reopen=true to reopen it"):
        capabilities.reply_to_ticket("T-1", "hello?", desk)
    with pytest.raises(Conflict, match="T-1 is closed already, since 2026-03-01 12:00 UTC"):
        capabilities.close_ticket("T-1", desk)
    assert found(desk, query="hello") == []


def test_a_ticket_shows_its_latest_replies_and_counts_all(desk: Any) -> None:
    open_ticket(desk)
    for number in range(25):
        ticket = capabilities.reply_to_ticket("T-1", f"reply {number}", desk)
    assert ticket.reply_count == 25
    assert [reply.text for reply in ticket.replies] == [f"reply {number}" for number in range(5, 25)]


def test_an_unknown_customer_is_told_with_the_nearest_ids(desk: Any) -> None:
    with pytest.raises(NotFound, match="no customer C-10011; nearest: C-1011, C-1001") as error:
        open_ticket(desk, customer_id="C-10011")
    assert error.value.details["nearest"][0] == "C-1011"
    with pytest.raises(NotFound, match="no customer C-10011; nearest: C-1011, C-1001"):
        capabilities.lookup_customer("C-10011", desk)
    assert found(desk) == []


def test_an_unknown_ticket_is_told_with_the_newest_ids(desk: Any) -> None:
    with pytest.raises(NotFound, match="no ticket T-7; there are no tickets yet"):
        capabilities.close_ticket("T-7", desk)
    open_ticket(desk)
    with pytest.raises(NotFound, match="no ticket T-7; nearest: T-1"):
        capabilities.reply_to_ticket("T-7", "x", desk)


def test_a_customer_shows_how_many_tickets_are_unsettled(desk: Any) -> None:
    for _ in range(3):
        open_ticket(desk)
    capabilities.close_ticket("T-2", desk)
    assert capabilities.lookup_customer("C-1001", desk).unsettled == 2


# ---- finding and counting ------------------------------------------------------------------------------------------------


def test_tickets_are_found_by_words_in_any_form_and_in_replies_too(desk: Any) -> None:
    open_ticket(desk, "My cards were stolen in Málaga")
    open_ticket(desk, "where is my luggage")
    capabilities.reply_to_ticket("T-2", "It was put on the next flight", desk)
    assert found(desk, query="stolen card") == ["T-1"]
    assert found(desk, query="MALAGA") == ["T-1"]
    assert found(desk, query="flights") == ["T-2"]
    assert found(desk, query="lugg*") == ["T-2"]
    assert found(desk, query="lugg") == []
    assert found(desk, query="stolen luggage") == []


@pytest.mark.parametrize(
    "query", ['"', "card OR luggage", "NEAR(card", "card*luggage", "text:card", "-card", "card'; --"]
)
def test_a_query_is_words_whatever_they_mean_to_the_database(desk: Any, query: str) -> None:
    open_ticket(desk, "my card")
    if query == '"':
        with pytest.raises(ValidationFailed, match="query: expected at least one word"):
            found(desk, query=query)
    else:
        assert found(desk, query=query) in ([], ["T-1"])


def test_tickets_are_found_by_status_and_customer_together(desk: Any) -> None:
    open_ticket(desk)
    open_ticket(desk, customer_id="C-1002")
    open_ticket(desk, customer_id="C-1002")
    capabilities.close_ticket("T-2", desk)
    assert found(desk, status="open") == ["T-3", "T-1"]
    assert found(desk, customer_id="C-1002") == ["T-3", "T-2"]
    assert found(desk, status="closed", customer_id="C-1002", query="card") == ["T-2"]


def test_pages_join_without_gap_or_repetition_while_tickets_are_opened(desk: Any) -> None:
    for _ in range(7):
        open_ticket(desk)
    seen, cursor = [], None
    while True:
        page = capabilities.find_tickets(desk=desk, limit=3, cursor=cursor)
        seen += [ticket.id for ticket in page.tickets]
        open_ticket(desk)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"T-{number}" for number in range(7, 0, -1)]


def test_a_summary_counts_a_period_whose_days_are_both_included(desk: Any, calendar: Calendar) -> None:
    for topic, customer in [
        ("transfer", "C-1001"),
        ("pin_change", "C-1002"),
        ("transfer", "C-1002"),
        ("new_card", "C-1003"),
    ]:
        open_ticket(desk, customer_id=customer, topic=topic)
        calendar.turn(days=1)  # opened on the 1st, 2nd, 3rd and 4th of March
    capabilities.close_ticket("T-1", desk)
    capabilities.reply_to_ticket("T-2", "x", desk)
    everything = capabilities.summarise_tickets(desk)
    assert everything.by_status == {"open": 2, "pending": 1, "closed": 1}
    assert [(share.name, share.tickets) for share in everything.by_topic] == [
        ("transfer", 2),
        ("new_card", 1),
        ("pin_change", 1),
    ]
    assert everything.oldest_open.id == "T-3"
    middle = capabilities.summarise_tickets(desk, since=date(2026, 3, 2), until=date(2026, 3, 3), top=1)
    assert (middle.total, middle.by_status["closed"]) == (2, 0)
    assert [(share.name, share.tickets) for share in middle.busiest_customers] == [("C-1002", 2)]
    assert capabilities.summarise_tickets(desk, until=date.max, since=date(2026, 3, 5)).total == 0
    with pytest.raises(ValidationFailed, match="until: expected a day not before 2026-03-03"):
        capabilities.summarise_tickets(desk, since=date(2026, 3, 3), until=date(2026, 3, 2))


# ---- the data that comes with it -----------------------------------------------------------------------------------------


def test_every_query_that_comes_with_the_example_can_be_opened(desk: Any) -> None:
    lines = [
        json.loads(line)
        for line in (FOLDER / "data" / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    definition = definition_of(capabilities.open_ticket)
    assert definition is not None
    assert len(lines) == 600
    for line in lines:
        capabilities.open_ticket(desk=desk, **definition.contract.validate_input(line)[1])
    summary = capabilities.summarise_tickets(desk, top=100)
    assert summary.total == 600
    assert {share.tickets for share in summary.by_topic} == {20}
    assert len(summary.busiest_customers) > 30


def test_queries_are_chosen_the_same_way_each_time() -> None:
    make_queries: Any = load("make_queries")
    queries = [(f"{topic} {number}", topic) for number in range(50) for topic in make_queries.TOPICS]
    chosen = make_queries.choose(queries, ["C-1001", "C-1002"])
    assert chosen == make_queries.choose(queries * 2, ["C-1001", "C-1002"])
    assert len({line["text"] for line in chosen}) == 600
    with pytest.raises(ValueError, match="account_blocked: expected at least 20 queries, got 19"):
        make_queries.choose(queries[: 19 * len(make_queries.TOPICS)], ["C-1001"])


def test_the_attribution_names_source_author_and_licence() -> None:
    text = (FOLDER / "data" / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for part in ("CLINC150", "clinc/oos-eval", "CC BY 3.0", "Larson"):
        assert part in text
