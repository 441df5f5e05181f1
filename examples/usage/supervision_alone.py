"""The supervision runtime alone, in a program that knows nothing else of PacketFlow.

python examples/usage/supervision_alone.py
"""

import gevent

from packetflow.otp import ChildSpec, GenServer, Supervisor, System


class Counter(GenServer):
    """Counts; crashes on what it can't add."""

    def init(self, start):
        self.value = start

    def handle_call(self, request, caller):
        self.value += request
        return self.value


def main():
    system = System()
    tree = Supervisor.start([ChildSpec(Counter, 10, name="counter")], strategy="one_for_one", system=system)
    print("10 + 5 =", system.call("counter", 5))
    try:
        system.call("counter", "five")
    except Exception as error:
        print("it crashed:", error)
    while system.whereis("counter") is None:
        gevent.sleep(0)  # its supervisor has its turn
    print("its supervisor started it anew: 10 + 1 =", system.call("counter", 1))
    system.stop_process(tree)


if __name__ == "__main__":
    main()
