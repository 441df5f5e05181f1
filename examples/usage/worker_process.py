"""An actor in a process of its own, supervised like any other. The worker is the first ten lines.

python examples/usage/worker_process.py
"""

from packetflow.otp import GenServer


class Counter(GenServer):
    def init(self):
        self.value = 0

    def handle_call(self, request, caller):
        self.value += request
        return self.value


def main(worker):
    worker.serve(Counter)


def supervise():
    import os
    import signal

    import gevent

    from packetflow.otp import Supervisor, System, WorkerProcess, WorkerSupervisor, call, monitor, worker_info

    system = System()
    specs = [WorkerProcess.child("worker_process:main", id=f"counter-{number}") for number in (1, 2)]
    tree = WorkerSupervisor.start(specs, system=system)

    def first():
        return Supervisor.which_children(tree)[0].ref

    worker, other = (child.ref for child in Supervisor.which_children(tree))
    print("0 + 5 =", call(worker, 5), "in a process of its own:", worker_info(worker).pid != os.getpid())

    end = monitor(worker)
    os.kill(worker_info(worker).pid, signal.SIGKILL)
    print("kill -9:", end.wait().reason)
    while first() is None:
        gevent.sleep(0.01)
    print(
        "its supervisor started it anew: 0 + 1 =", call(first(), 1), "and the other lives on:", call(other, 0)
    )

    end = monitor(other)
    os.kill(worker_info(other).pid, signal.SIGTERM)
    print("SIGTERM drains:", end.wait().reason)
    system.shutdown()


if __name__ == "__main__":
    supervise()
