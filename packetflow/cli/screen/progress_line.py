"""How far something is, as one line on a terminal: redrawn when there is news, taken off before anything else is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packetflow.cli.screen.painter import Painter, clean

if TYPE_CHECKING:
    from packetflow.wire.stream import Progress

BAR = 24


class LiveLine:
    """The line."""

    def __init__(self, err: Painter) -> None:
        self.err = err
        self.drawn = False

    def redraw(self, text: str) -> None:
        """Put another text there, as much of it as fits."""
        self.err.stream.write("\r\x1b[K" + self.err.cut(text, (self.err.width or 80) - 1))
        self.err.flush()
        self.drawn = True

    def hide(self) -> None:
        """Take it off."""
        if self.drawn:
            self.err.stream.write("\r\x1b[K")
            self.err.flush()
            self.drawn = False


class ProgressLine(LiveLine):
    """How far a request is. `show` is what a client's `progress` wants."""

    def show(self, progress: Progress) -> None:
        """Draw it as of now."""
        self.redraw(progress_text(progress, self.err.unicode))


def progress_text(progress: Progress, unicode: bool) -> str:
    """`[####----] 48%  12 of 25  reading`; without a total, how much is done."""
    words = [f"{progress.done:,.12g}"]
    bar = ""
    if progress.total:
        bar = bar_of(progress.done / progress.total, unicode)
        words = [f"{progress.done:,.12g} of {progress.total:,.12g}"]
    if progress.text:
        words.append(clean(progress.text))
    return bar + "  ".join(words)


def bar_of(share: float, unicode: bool) -> str:
    """A bar and the share of it that is done, 0 to 1, with the room before what follows."""
    share = min(1.0, max(0.0, share))
    filled = int(share * BAR)
    full, empty = ("━", "╌") if unicode else ("#", "-")
    return f"{full * filled}{empty * (BAR - filled)} {share:4.0%}  "
