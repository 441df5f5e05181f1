"""The progress of a batch on a terminal: one line, redrawn a few times a second, from the first second on."""

from __future__ import annotations

from collections.abc import Callable

from packetflow.cli.batch.tally import Tally
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.progress_line import LiveLine, bar_of
from packetflow.cli.screen.units import number, seconds

FIRST = 1.0  # seconds before anything is drawn
AGAIN = 0.2


class Progress(LiveLine):
    """Draws until it is told to stop. total: bytes of the input, 0 if nobody knows."""

    def __init__(self, err: Painter, tally: Tally, total: int, monotonic: Callable[[], float]) -> None:
        super().__init__(err)
        self.tally = tally
        self.total = total
        self.monotonic = monotonic

    def run(self) -> None:
        """Draws for ever; its greenlet is killed when the batch ends."""
        import gevent

        gevent.sleep(FIRST)
        while True:
            self.draw()
            gevent.sleep(AGAIN)

    def draw(self) -> None:
        """The line as of now."""
        passed = self.monotonic() - self.tally.begun
        self.redraw(progress_text(self.tally, self.total, passed, self.err.unicode))


def progress_text(tally: Tally, total: int, passed: float, unicode: bool) -> str:
    """`[####----] 48%  4,120 done  12 failed  1,204/s  3 s left`."""
    parts = [
        f"{number(tally.lines + tally.skipped)} done",
        f"{number(tally.failed)} failed",
        f"{tally.rate(passed):,.0f}/s",
    ]
    if not total:
        return "  ".join([seconds(float(int(passed))), *parts])
    share = min(1.0, tally.bytes / total)
    left = passed / share - passed if share > 0 else None
    parts.append(f"{seconds(float(round(left)))} left" if left is not None else "")
    return bar_of(share, unicode) + "  ".join(parts)
