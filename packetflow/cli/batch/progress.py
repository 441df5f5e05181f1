"""The progress of a batch on a terminal: one line, redrawn a few times a second, from the first second on."""

from __future__ import annotations

from collections.abc import Callable

from packetflow.cli.batch.tally import Tally
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.units import number, seconds

FIRST = 1.0  # seconds before anything is drawn
AGAIN = 0.2
BAR = 24


class Progress:
    """Draws until it is told to stop. total: bytes of the input, 0 if nobody knows."""

    def __init__(self, err: Painter, tally: Tally, total: int, monotonic: Callable[[], float]) -> None:
        self.err = err
        self.tally = tally
        self.total = total
        self.monotonic = monotonic
        self.drawn = False

    def run(self) -> None:
        """Draws for ever; its greenlet is killed when the batch ends."""
        import gevent

        gevent.sleep(FIRST)
        while True:
            self.draw()
            gevent.sleep(AGAIN)

    def draw(self) -> None:
        """The line as of now."""
        text = progress_text(self.tally, self.total, self.monotonic() - self.tally.begun, self.err.unicode)
        width = (self.err.width or 80) - 1
        self.err.stream.write("\r\x1b[K" + self.err.cut(text, width))
        self.err.flush()
        self.drawn = True

    def hide(self) -> None:
        """Takes the line off, so that something else can be written."""
        if self.drawn:
            self.err.stream.write("\r\x1b[K")
            self.err.flush()
            self.drawn = False


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
    filled = int(share * BAR)
    full, empty = ("━", "╌") if unicode else ("#", "-")
    left = passed / share - passed if share > 0 else None
    parts.append(f"{seconds(float(round(left)))} left" if left is not None else "")
    return f"{full * filled}{empty * (BAR - filled)} {share:4.0%}  {'  '.join(parts)}"
