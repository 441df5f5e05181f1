"""The tcp door: what a well-behaved peer sees."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable

import gevent
import pydantic
import pytest

from packetflow.transports.errors import AddressInUse, ListenFailed
from packetflow.transports.tcp import TcpListener
from packetflow.wire.limits import Limits
from tests.transports.peers import JsonMessages, Messages, until
from tests.transports.small_door import TRACE_ID, SmallDoor

Make = Callable[..., TcpListener]


def test_hello_is_answered_with_version_shared_features_and_limits(tcp: Make) -> None:
    listener = tcp(
        Limits(depth=7), in_flight=5, features=("cancel", "heartbeat", "idempotency"), software="desk/1"
    )
    with Messages(listener.address) as peer:
        welcome = peer.greet("cancel", "idempotency", "time_travel")
    assert welcome["version"] == 1
    assert welcome["payload"]["features"] == ["cancel", "idempotency"]
    assert welcome["payload"]["software"] == "desk/1"
    assert welcome["payload"]["limits"] == {
        "frame": 1 << 20, "payload": 1 << 20, "depth": 7, "string": 1 << 18, "collection": 10_000, "in_flight": 5,
    }  # fmt: skip


def test_a_request_is_answered_with_value_trace_and_time(tcp: Make, door: SmallDoor) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.ask(1, "echo", {"text": "grüße"})
        assert peer.answer() == {
            "type": "capability_response",
            "id": 1,
            "payload": {"text": "grüße"},
            "context": {"trace_id": TRACE_ID},
            "metadata": {"execution_time": 1.25},
        }
    assert door.sessions[0].door == "tcp"


def test_an_untraced_answer_has_an_empty_trace_id(tcp: Make, door: SmallDoor) -> None:
    door.trace = None
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.ask(1, "echo", {})
        assert peer.answer()["context"] == {"trace_id": ""}


def test_a_failed_request_is_answered_with_its_typed_error(tcp: Make) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.ask("a-1", "nope", {})
        answer = peer.answer()
    assert answer["type"] == "capability_error"
    assert answer["id"] == "a-1"
    assert answer["payload"] == {"code": "not_found", "message": "no capability 'nope'"}


def test_metadata_and_context_reach_the_door_in_seconds(tcp: Make, door: SmallDoor) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.ask(
            1,
            "echo",
            {},
            intent="say it back",
            metadata={"timeout": 1500, "idempotency_key": "k", "later": True},
            context={"traceparent": parent, "user": "x"},
            unknown_field=1,
        )
        assert peer.answer()["type"] == "capability_response"
    _, _, _, metadata, intent = door.seen[0]
    assert (metadata.timeout, metadata.idempotency_key, metadata.traceparent) == (1.5, "k", parent)
    assert intent == "say it back"


def test_whatever_pydantic_can_serialise_crosses(tcp: Make, door: SmallDoor) -> None:
    class Ticket(pydantic.BaseModel):
        id: uuid.UUID
        opened: datetime.datetime
        price: decimal.Decimal

    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    ticket = Ticket(id=uuid.UUID(int=1), opened=moment, price=decimal.Decimal("1.20"))
    door.value = {"ticket": ticket, "when": moment, "tags": {"a"}, "raw": b"\xff\x00"}
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.ask(1, "value")
        value = peer.answer()["payload"]
    assert value["ticket"] == {"id": str(uuid.UUID(int=1)), "opened": "2026-01-02T03:04:05Z", "price": "1.20"}
    assert value["when"] == "2026-01-02T03:04:05Z"
    assert value["tags"] == ["a"]
    assert value["raw"] == b"\xff\x00"


def test_json_is_spoken_to_a_peer_that_says_hello_in_json(tcp: Make) -> None:
    with JsonMessages(tcp().address) as peer:
        peer.greet()
        peer.ask("x", "echo", {"n": 1.5})
        assert peer.answer()["payload"] == {"n": 1.5}
        peer.ask("y", "nope")
        assert peer.answer()["payload"]["code"] == "not_found"


def test_64_requests_in_flight_are_answered_as_they_finish(tcp: Make, door: SmallDoor) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        for number in range(64):
            peer.ask(number, "wait", {"name": str(number)})
        until(lambda: len(door.waiting) == 64)
        order = [*range(63, -1, -2), *range(0, 64, 2)]
        for number in order:
            door.release(str(number))
            assert peer.answer()["id"] == number


def test_requests_that_do_not_block_share_one_greenlet(tcp: Make, door: SmallDoor) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        for number in range(200):
            peer.ask(number, "echo", {})
        assert [peer.answer()["id"] for _ in range(200)] == list(range(200))
    assert len(door.greenlets) == 1


def test_more_blocked_requests_than_greenlets_are_kept_leave_the_door_sound(
    tcp: Make, door: SmallDoor
) -> None:
    listener = tcp()
    peers = [Messages(listener.address) for _ in range(4)]
    for turn in range(2):
        for number, peer in enumerate(peers):
            if turn == 0:
                peer.greet()
            for id in range(64):
                peer.ask(id, "wait", {"name": f"{turn} {number} {id}"})
        until(lambda: len(door.waiting) == 256)
        for name in list(door.waiting):
            door.release(name)
        for peer in peers:
            assert sorted(peer.answer()["id"] for _ in range(64)) == list(range(64))
        until(lambda: len(listener.workers.parked) == 64)
    for peer in peers:
        peer.close()


def test_a_blocked_request_holds_up_neither_its_connection_nor_others(tcp: Make, door: SmallDoor) -> None:
    listener = tcp()
    with Messages(listener.address) as peer, Messages(listener.address) as other:
        peer.greet()
        other.greet()
        peer.ask(1, "wait", {"name": "w"})
        peer.ask(2, "echo", {})
        other.ask(3, "echo", {})
        assert peer.answer()["id"] == 2
        assert other.answer()["id"] == 3
        door.release("w")
        assert peer.answer()["id"] == 1


def test_more_in_flight_than_a_session_may_have_is_overloaded_and_says_when(
    tcp: Make, door: SmallDoor
) -> None:
    with Messages(tcp(in_flight=2).address) as peer:
        peer.greet()
        for number in range(3):
            peer.ask(number, "wait", {"name": "w"})
        refusal = peer.answer()
        assert refusal["id"] == 2
        assert refusal["payload"]["code"] == "overloaded"
        assert refusal["payload"]["retry_after"] > 0
        door.release("w")
        assert {peer.answer()["id"], peer.answer()["id"]} == {0, 1}
        peer.ask(9, "echo", {})
        assert peer.answer()["id"] == 9


def test_a_duplicate_id_in_flight_is_a_conflict_and_the_first_goes_on(tcp: Make, door: SmallDoor) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.ask(1, "wait", {"name": "w"})
        peer.ask(1, "echo", {})
        refusal = peer.answer()
        assert (refusal["id"], refusal["payload"]["code"]) == (1, "conflict")
        door.release("w")
        assert peer.answer() == {**peer_ok(1, "w")}
        peer.ask(1, "echo", {"again": True})  # answered, so the id is free
        assert peer.answer()["payload"] == {"again": True}


def peer_ok(id: int, value: object) -> dict[str, object]:
    return {
        "type": "capability_response",
        "id": id,
        "payload": value,
        "context": {"trace_id": TRACE_ID},
        "metadata": {"execution_time": 1.25},
    }


def test_cancel_ends_a_request_which_is_answered_cancelled(tcp: Make, door: SmallDoor) -> None:
    with Messages(tcp(in_flight=1).address) as peer:
        peer.greet("cancel")
        peer.ask(1, "wait", {"name": "w"})
        peer.say(type="cancel", id=1)
        answer = peer.answer()
        assert (answer["id"], answer["payload"]["code"]) == (1, "cancelled")
        assert door.ended == [("w", "cancelled")]
        peer.say(type="cancel", id=1)  # answered already: nothing happens
        peer.say(type="cancel", id=[])
        peer.ask(2, "echo", {})
        assert peer.answer()["id"] == 2


def test_a_disconnect_cancels_what_is_in_flight(tcp: Make, door: SmallDoor) -> None:
    listener = tcp()
    with Messages(listener.address) as peer:
        peer.greet()
        peer.ask(1, "wait", {"name": "a"})
        peer.ask(2, "wait", {"name": "b"})
        until(lambda: door.waiting == {"a", "b"})
    until(lambda: sorted(door.ended) == [("a", "cancelled"), ("b", "cancelled")])
    assert not listener.connections


def test_a_heartbeat_is_echoed_with_its_id(tcp: Make) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.say(type="heartbeat", id=7)
        assert peer.answer() == {"type": "heartbeat", "id": 7}
        peer.say(type="heartbeat")
        assert peer.answer() == {"type": "heartbeat"}


def test_after_a_peers_goodbye_what_is_in_flight_is_answered_and_then_it_ends(
    tcp: Make, door: SmallDoor
) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.ask(1, "wait", {"name": "w"})
        peer.say(type="goodbye")
        peer.ask(2, "echo", {})
        assert peer.answer()["payload"]["code"] == "unavailable"
        door.release("w")
        assert peer.answer()["id"] == 1
        assert peer.hear() is None


def test_a_draining_door_says_goodbye_and_waits_for_what_is_in_flight(tcp: Make, door: SmallDoor) -> None:
    listener = tcp()
    with Messages(listener.address) as busy, Messages(listener.address) as idle:
        busy.greet()
        idle.greet()
        busy.ask(1, "wait", {"name": "w"})
        until(lambda: door.waiting)
        drained = gevent.spawn(listener.drain, 30.0)
        for peer in (busy, idle):
            goodbye = peer.answer()
            assert goodbye["type"] == "goodbye"
            assert goodbye["payload"]["code"] == "unavailable"
        assert idle.hear() is None
        with pytest.raises(ConnectionRefusedError):
            Messages(listener.address)
        busy.ask(2, "echo", {})
        assert busy.answer()["payload"]["code"] == "unavailable"
        door.release("w")
        assert busy.answer()["payload"] == "w"
        assert busy.hear() is None
        assert drained.get(timeout=10) is True


def test_what_is_not_done_when_a_drain_ends_is_cancelled_and_answered(tcp: Make, door: SmallDoor) -> None:
    listener = tcp()
    with Messages(listener.address) as peer:
        peer.greet()
        peer.ask(1, "wait", {"name": "w"})
        until(lambda: door.waiting)
        drained = gevent.spawn(listener.drain, 0.01)
        assert peer.answer()["type"] == "goodbye"
        answer = peer.answer()
        assert (answer["id"], answer["payload"]["code"]) == (1, "cancelled")
        assert drained.get(timeout=10) is False


def test_a_port_in_use_is_told_with_the_address_and_what_to_do(tcp: Make, door: SmallDoor) -> None:
    first = tcp()
    port = int(first.address.rpartition(":")[2])
    with pytest.raises(AddressInUse) as caught:
        tcp(port=port)
    assert str(caught.value) == (
        f"tcp can't listen on 127.0.0.1:{port}: another program listens there; "
        "stop it, or set another port ([tcp] port = 0 takes any free one)"
    )
    assert caught.value.address == f"127.0.0.1:{port}"


def test_an_address_that_this_machine_does_not_have_is_told(tcp: Make) -> None:
    with pytest.raises(
        ListenFailed, match=r"198\.51\.100\.7:0: this machine has no such address; set \[tcp\] host"
    ):
        tcp(host="198.51.100.7")


def test_a_port_is_free_again_after_stop_accepting(tcp: Make) -> None:
    first = tcp()
    first.stop_accepting()
    again = tcp(port=int(first.address.rpartition(":")[2]))
    assert again.address == first.address
