"""How a batch adapts to a node that asks for patience."""

from gevent.event import Event

from packetflow.cli.batch.pace import LONGEST_WAIT, Pace


class Turned:
    """A clock that the test turns."""

    now = 100.0

    def __call__(self):
        return self.now


def pace(most=8):
    clock = Turned()
    return clock, Pace(most, Event(), clock)


def test_a_refusal_halves_the_room_and_closes_it_for_the_time_asked():
    clock, gate = pace()
    assert gate.enter()
    gate.leave(0.5)
    assert gate.room == 4
    assert gate.closed_until == clock.now + 0.5


def test_the_refusals_of_one_burst_count_once():
    clock, gate = pace()
    for _ in range(8):
        assert gate.enter()
    for _ in range(8):
        gate.leave(0.5)
    assert gate.room == 4
    clock.now += 1
    assert gate.enter()
    gate.leave(0.5)
    assert gate.room == 2


def test_answers_widen_the_room_again_up_to_what_was_asked_for():
    clock, gate = pace()
    assert gate.enter()
    gate.leave(0.5)
    clock.now += 1
    for _ in range(100):
        assert gate.enter()
        gate.leave(None)
    assert gate.room == 8


def test_the_room_never_closes_for_good_and_no_refusal_holds_the_batch_up_for_long():
    clock, gate = pace(most=1)
    for _ in range(5):
        assert gate.enter()
        gate.leave(3600.0)
        assert gate.room == 1
        assert gate.closed_until <= clock.now + LONGEST_WAIT
        clock.now += LONGEST_WAIT + 1


def test_a_batch_that_is_to_stop_lets_nobody_in():
    _, gate = pace()
    gate.stop.set()
    assert not gate.enter()
