"""How close a call is to what it stands on: calls a second over pairs of switches a second of two bare greenlets, which is
what a call can't do without. From the main greenlet, as in `call.py`.

python bench/otp/floor.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from greenlet import getcurrent, greenlet

from bench.otp._peers import figure, in_turn, warm
from bench.otp.call import one_caller

COUNT = 300_000


def switches(count: int) -> float:
    main = getcurrent()

    def back_and_forth() -> None:
        switch = main.switch
        while True:
            switch()

    other = greenlet(back_and_forth)

    def work(count: int) -> None:
        switch = other.switch
        for _ in range(count):
            switch()

    return warm(work, count)


def main() -> None:
    took = in_turn(
        {
            "ours": lambda: {"seconds": one_caller(COUNT)},
            "bare": lambda: {"seconds": switches(COUNT)},
        }
    )
    rate = {name: COUNT / found["seconds"] for name, found in took.items()}
    figure(
        "otp: call over its floor", rate["ours"], rate["bare"], "pairs of bare greenlet switches", "1/s", 0.6
    )


if __name__ == "__main__":
    main()
