"""The watchdog is begun and ended: nothing stays armed, and what can't be is told."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent.hub import get_hub
from gevent.monkey import get_original

from packetflow.otp import SpecError, Watchdog
from packetflow.otp.watchdog import watchdog as watchdog_file

LIMIT = 0.1
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def dog() -> Iterator[Watchdog]:
    with Watchdog(LIMIT) as watchdog:
        yield watchdog


def test_stop_leaves_nothing_armed() -> None:
    dog = Watchdog(LIMIT).start()
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[1] > 0
    dog.stop()
    dog.stop()
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(watchdog_file.SIGNAL) is signal.SIG_DFL
    assert not watchdog_file._watched
    with dog:  # and it can be begun again
        assert dog.breaks


def test_a_hub_that_is_destroyed_meanwhile_ends_the_watch() -> None:
    ended: list[bool] = []

    def run() -> None:
        dog = Watchdog(LIMIT).start()
        get_hub().destroy()
        ended.append(dog._ended.acquire(timeout=10))
        dog._ended.release()
        dog.stop()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ended == [True]
    assert not watchdog_file._watched


def test_a_hub_has_one_watchdog(dog: Watchdog) -> None:
    with pytest.raises(SpecError, match="without a watchdog"):
        Watchdog().start()
    with pytest.raises(SpecError, match="without a watchdog"):
        dog.start()


def test_a_signal_that_somebody_else_handles_is_left_to_him() -> None:
    def mine(*_: Any) -> None: ...

    signal.signal(watchdog_file.SIGNAL, mine)
    try:
        with pytest.raises(SpecError, match="breaks"):
            Watchdog().start()
        assert signal.getsignal(watchdog_file.SIGNAL) is mine
        with Watchdog(breaks=False) as dog:
            assert not dog.breaks
            assert signal.getsignal(watchdog_file.SIGNAL) is mine
    finally:
        signal.signal(watchdog_file.SIGNAL, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("field", "options"),
    [("limit", {"limit": 0}), ("limit", {"limit": True}), ("limit", {"limit": "1s"}), ("keep", {"keep": 0})],
)
def test_wrong_options_are_told(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=field):
        Watchdog(**options)


def test_what_can_not_begin_leaves_nothing_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="dump"):
        Watchdog(dump=io.StringIO()).start()

    def refuse(module: str, name: str) -> Any:
        if name == "start_new_thread":
            raise RuntimeError("can't start new thread")
        return get_original(module, name)

    monkeypatch.setattr(watchdog_file, "get_original", refuse)
    with pytest.raises(RuntimeError):
        Watchdog().start()
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(watchdog_file.SIGNAL) is signal.SIG_DFL
    assert not watchdog_file._watched


def run(program: str) -> subprocess.CompletedProcess[str]:
    same = ["-P"] if sys.flags.safe_path else []  # the form of the core that is tested here
    return subprocess.run(
        [sys.executable, *same, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_c_code_that_keeps_the_interpreter_is_named_by_faulthandler_while_it_runs() -> None:
    done = run("""
        import os, sys
        from packetflow.otp import GenServer, System, Watchdog, call

        class Stuck(GenServer):
            def handle_call(self, request, caller):
                sum(range(10**12))

        system = System()
        with Watchdog(0.1, dump=sys.stderr):
            ref = Stuck.start(system=system)
            # Nobody but the kernel can end this process: no Python code runs any more.
            import signal
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            call(ref, None, None)
    """)
    assert done.returncode == -signal.SIGALRM
    assert "Timeout" in done.stderr
    assert "in handle_call" in done.stderr


@pytest.mark.parametrize("patch", ["", "import gevent.monkey; gevent.monkey.patch_all()"])
def test_it_works_with_and_without_gevents_patches_and_the_interpreter_ends_in_peace(patch: str) -> None:
    done = run(f"""
        {patch}
        import logging, time
        logging.basicConfig(level=logging.INFO)
        from gevent.monkey import get_original
        from packetflow.otp import GenServer, HandlerOverrun, ServerExited, System, Watchdog, call

        class Stuck(GenServer):
            def handle_call(self, request, caller):
                request()

        def spin():
            while True:
                pass

        def sleep():
            get_original("time", "sleep")(30)

        dog = Watchdog(0.1).start()
        assert dog.breaks
        system = System()
        for request in (spin, sleep):
            try:
                call(Stuck.start(system=system), request, None)
            except ServerExited as error:
                assert isinstance(error.reason, HandlerOverrun)
                print("broken", request.__name__)
        # Ends without stop, busy, while the timer is armed.
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["broken", "spin", "broken", "sleep"]
    assert done.stderr.count("held the hub for") >= 2
